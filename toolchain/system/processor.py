"""How many threads are worth starting: the cores that the system, and a container's quota, let this process use.

A container may have all cores of its machine and yet a quota of time on them (Docker's `--cpus`, Kubernetes'
limits): so many microseconds in each period, for all its threads together. Once they are used up, all of them sleep
until the next period.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
"""Where PyTorch, NumPy's BLAS and OpenCV look for a number of threads, once, when they are imported."""


@dataclass(frozen=True)
class Throttling:
    """How often a quota made the threads of this container wait, and for how many seconds (threads added up)."""

    times: int
    seconds: float

    def since(self, before: Throttling) -> Throttling:
        return Throttling(self.times - before.times, self.seconds - before.seconds)


@dataclass(frozen=True)
class _Group:
    """A control group with a quota, in `cores`."""

    folder: Path
    cores: float


def cores(root: Path = ROOT) -> int:
    """Threads that can run at once: the cores that this process may use (`taskset`, a container), and no more than
    fit into its quota. A quota of less than two cores gives one thread."""
    allowed = allowed_cores()
    quota = cpu_quota(root)
    # Rounded down: a thread that only now and then fits into the quota makes all of them wait.
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def allowed_cores() -> int:
    """Cores that this process may run on, whatever its quota."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(root: Path = ROOT) -> float | None:
    """The time that this process may use, in cores (0.5: half of one); None where nothing limits it.

    It is the smallest quota of its control group and those above, in version 1 (`cpu.cfs_quota_us`) and 2
    (`cpu.max`) of them. `root` is where `/proc` and the rest are found.
    """
    return min((group.cores for group in _limited(root)), default=None)


def throttling(root: Path = ROOT) -> Throttling | None:
    """What quotas have cost so far; None where there is no quota, or nobody counts."""
    counts = [_statistics(group.folder / "cpu.stat") for group in _limited(root)]
    known = [count for count in counts if "nr_throttled" in count]
    if not known:
        return None
    return Throttling(
        times=sum(count["nr_throttled"] for count in known),
        # Microseconds in version 2, nanoseconds in version 1.
        seconds=sum(count.get("throttled_usec", 0) / 1e6 + count.get("throttled_time", 0) / 1e9 for count in known),
    )


def respect_quota(environment: MutableMapping[str, str], root: Path = ROOT) -> None:
    """Let the libraries that choose their own number of threads, which know of cores only, keep to the quota.

    To be called before they are imported. What somebody has set stays as it is.
    """
    if cores(root) < allowed_cores():
        for name in THREAD_VARIABLES:
            environment.setdefault(name, str(cores(root)))


def _limited(root: Path) -> Iterator[_Group]:
    """The control groups of this process, from its own upwards, that have a quota."""
    for folder, top in _hierarchies(root):
        for group in (folder, *folder.parents):
            limit = _limit(group)
            if limit is not None:
                yield _Group(group, limit)
            if group == top:
                break


def _hierarchies(root: Path) -> Iterator[tuple[Path, Path]]:
    """The folder of this process's control group and the top of what can be seen of its tree, for each hierarchy
    that can limit processors."""
    groups = _groups(_read(root / "proc/self/cgroup"))
    for line in _read(root / "proc/self/mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        words, kind = fields.split(), rest.split()
        if len(words) < 5 or len(kind) < 3:
            continue
        is_cpu = kind[0] == "cgroup" and "cpu" in kind[2].split(",")
        group = groups.get({"cgroup": "cpu", "cgroup2": ""}.get(kind[0], "-"))
        if group is None or not (is_cpu or kind[0] == "cgroup2"):
            continue
        top = root / _unescaped(words[4]).lstrip("/")
        # A container sees its own group as the top, by whatever path the host knows it.
        shown = _unescaped(words[3]).rstrip("/")
        below = group[len(shown) :] if group == shown or group.startswith(f"{shown}/") else ""
        yield (top / below.strip("/") if ".." not in below.split("/") else top), top


def _groups(text: str) -> dict[str, str]:
    """Paths of the groups that may limit processors (/proc/self/cgroup): `cpu` for version 1, "" for version 2."""
    found = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "cpu" in controllers.split(","):
            found["cpu"] = path
        elif number == "0" and not controllers:
            found[""] = path
    return found


def _limit(group: Path) -> float | None:
    words = _read(group / "cpu.max").split() or [
        *_read(group / "cpu.cfs_quota_us").split(),
        *_read(group / "cpu.cfs_period_us").split(),
    ]
    try:
        quota, period = (int(word) for word in words)
    except ValueError:  # "max", or nothing there
        return None
    return quota / period if quota > 0 and period > 0 else None


def _statistics(path: Path) -> dict[str, int]:
    pairs = [line.split() for line in _read(path).splitlines()]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _unescaped(text: str) -> str:
    """Blanks in paths of mountinfo are octal numbers (`\\040`)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
