"""The machine while it measures: the load of others, heat, clocks held back, and the energy of its processors."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from toolchain.system.processor import allowed_cores, cpu_quota, throttling

NOISY_CORES = 0.15
"""A measurement is in doubt where other programs kept so many cores busy on average."""

HOT_SHARE = 0.1
"""A process is named if it used more than this share of a core."""


@dataclass(frozen=True)
class LoadDuring:
    """The machine while it measured. `others_cores`: cores that other programs kept busy, on average; `steal_cores`
    those that another machine on the same host took; `busiest`: the programs that used most. `temperature_c`: the
    hottest sensor at the end; `throttled`: how often the processor slowed itself down against heat; both null where
    the system does not tell. `quota_waits`: how often the quota of the container was used up, so that all of its
    threads had to wait, and `quota_waited_s` for how long (threads added up); null where there is no quota."""

    seconds: float
    others_cores: float
    steal_cores: float
    busiest: tuple[str, ...]
    temperature_c: float | None
    throttled: int | None
    quota_waits: int | None = None
    quota_waited_s: float | None = None


class Watch:
    """Reads the counters of the machine when it is made, and again in `look`."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._cpu = _cpu_seconds()
        self._own = own_seconds()
        self._throttled = _throttle_count()
        self._quota = throttling()
        self._processes = _by_process()

    def look(self) -> LoadDuring:
        """What happened since."""
        seconds = max(time.monotonic() - self._start, 1e-3)
        busy, steal = (now - before for now, before in zip(_cpu_seconds(), self._cpu, strict=True))
        own = own_seconds() - self._own
        throttled = _throttle_count()
        quota = throttling()
        waited = quota if quota is None or self._quota is None else quota.since(self._quota)
        return LoadDuring(
            seconds=round(seconds, 3),
            others_cores=round(max(busy - own, 0.0) / seconds, 3),
            steal_cores=round(max(steal, 0.0) / seconds, 3),
            busiest=self._busiest(seconds),
            temperature_c=_temperature(),
            throttled=None if throttled is None or self._throttled is None else throttled - self._throttled,
            quota_waits=None if waited is None else waited.times,
            quota_waited_s=None if waited is None else round(waited.seconds, 3),
        )

    def _busiest(self, seconds: float) -> tuple[str, ...]:
        shares = {
            name: (used - self._processes.get((pid, name), 0.0)) / seconds
            for (pid, name), used in _by_process().items()
        }
        ranked = sorted(shares.items(), key=lambda item: -item[1])
        return tuple(f"{name} ({share:.0%} of a core)" for name, share in ranked[:3] if share > HOT_SHARE)


def reasons(load: LoadDuring, spare_cores: float = 0.0) -> list[str]:
    """Why what was measured meanwhile is in doubt; empty on a quiet machine.

    `spare_cores` are those that a quota keeps us from using: others may have them.
    """
    found = []
    if load.quota_waits:
        found.append(
            f"the container's CPU quota was used up {load.quota_waits} times, and its threads waited "
            f"{load.quota_waited_s:.1f} s: measure with fewer --threads, or a larger quota"
        )
    elif load.others_cores - spare_cores > NOISY_CORES:
        who = f": {', '.join(load.busiest)}" if load.busiest else ""
        found.append(f"other programs kept {load.others_cores:.2f} cores busy{who}")
    if load.steal_cores > NOISY_CORES:
        found.append(f"the host gave {load.steal_cores:.2f} of its cores to other machines")
    if load.throttled:
        found.append(f"the processor slowed itself down against heat {load.throttled} times")
    return found


def spare_cores() -> float:
    """Cores that this process could run on, and that a quota keeps it from using."""
    quota = cpu_quota()
    return 0.0 if quota is None else max(0.0, allowed_cores() - quota)


def _cpu_seconds() -> tuple[float, float]:
    """Busy and stolen seconds so far, over the cores that this process may use."""
    times = psutil.cpu_times(percpu=True)
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(times))
    chosen = [times[core] for core in allowed if core < len(times)]
    kinds = ("user", "nice", "system", "irq", "softirq")
    busy = sum(getattr(core, kind, 0.0) for core in chosen for kind in kinds)
    return busy, sum(getattr(core, "steal", 0.0) for core in chosen)


FORGETS_CHILDREN = sys.platform in {"darwin", "win32"}
"""Whether the system does not tell what children have used that have ended."""
_ended_s = 0.0
"""What those had used that `count` was told of."""


def count(pid: int) -> None:
    """Remember what a child has used that is about to be ended."""
    global _ended_s
    if FORGETS_CHILDREN:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            # In a virtual environment on Windows the first is a launcher, and its child the interpreter.
            for one in (process, *process.children(recursive=True)):
                times = one.cpu_times()
                _ended_s += times.user + times.system


def own_seconds() -> float:
    """What this process and all its children have used, those that have ended too."""
    total = _ended_s
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
        total += 0.0 if FORGETS_CHILDREN else times.children_user + times.children_system
    return total


def _by_process() -> dict[tuple[int, str], float]:
    """Seconds that each process of others has used."""
    me = psutil.Process()
    own = {me.pid, *(child.pid for child in me.children(recursive=True))}
    found = {}
    for process in psutil.process_iter(("pid", "name", "cpu_times")):
        times = process.info["cpu_times"]
        if process.pid not in own and times is not None:
            found[process.pid, str(process.info["name"])] = float(times.user + times.system)
    return found


def _temperature() -> float | None:
    """The hottest sensor in degrees Celsius."""
    sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
    readings = [sensor.current for group in sensors.values() for sensor in group if sensor.current]
    return max(readings, default=None)


def _throttle_count(folder: Path = Path("/sys/devices/system/cpu")) -> int | None:
    """How often the processor's cores and packages have been throttled since the start of the system."""
    counts: dict[tuple[str, ...], int] = {}
    try:
        for path in folder.glob("cpu[0-9]*/thermal_throttle/*_throttle_count"):
            kind, topology = path.name.partition("_")[0], path.parent.parent / "topology"
            parts = ["physical_package_id"] if kind == "package" else ["physical_package_id", "core_id"]
            # Each of its logical processors tells the same count.
            place = (kind, *((topology / part).read_text().strip() for part in parts))
            counts[place] = max(int(path.read_text()), counts.get(place, 0))
    except (OSError, ValueError):
        return None
    return sum(counts.values()) if counts else None


POWERCAP = Path("/sys/class/powercap")
"""Where Linux counts the energy of processors (RAPL)."""


class Meter:
    """Sums the packages' counters. `available` is false where there are none, or only root may read them."""

    def __init__(self, folder: Path = POWERCAP) -> None:
        # intel-rapl:0 is a package or the platform (`psys`), which holds all packages; intel-rapl:0:1 is a part of
        # a package. AMD's processors are listed by the same names.
        zones = sorted(path for path in folder.glob("*-rapl:*") if path.name.count(":") == 1)
        self._packages = [zone for zone in zones if _name(zone).startswith("package-")]
        self._before = self._read()

    @property
    def available(self) -> bool:
        return bool(self._before)

    def start(self) -> None:
        """Measure from here on."""
        self._before = self._read()

    def joules(self) -> float | None:
        """Energy since `start`; None where it is not counted. A counter may have begun anew once meanwhile."""
        now = self._read()
        if not now or now.keys() != self._before.keys():
            return None
        total = 0
        for path, value in now.items():
            used = value - self._before[path]
            total += used if used >= 0 else used + _number(path / "max_energy_range_uj")
        return total / 1e6

    def _read(self) -> dict[Path, int]:
        try:
            return {path: _number(path / "energy_uj") for path in self._packages}
        except (OSError, ValueError):
            return {}


def _name(zone: Path) -> str:
    try:
        return (zone / "name").read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    return int(path.read_text())
