"""How many threads are worth starting: the cores and the CPU quota that this process may use.

A container may see all cores of its machine and still have a quota of CPU time (Docker's `--cpus`, Kubernetes'
limits): so many microseconds in each period, for all threads together. When they are used up, all threads sleep
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
"""PyTorch, NumPy's BLAS and OpenCV read their number of threads from these, once, when they are imported."""


@dataclass(frozen=True)
class Throttling:
    """How often the quota made threads of this container wait, and for how many seconds, summed over threads."""

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
    """How many threads can run at once: the cores that this process may use (`taskset`, a container), but no more
    than its quota allows. A quota of less than two cores allows one thread."""
    allowed = allowed_cores()
    quota = cpu_quota(root)
    # Rounded down: one thread too many exhausts the quota, and then all threads wait.
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def allowed_cores() -> int:
    """The number of cores that this process may run on, regardless of its quota."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(root: Path = ROOT) -> float | None:
    """The CPU time that this process may use, in cores (0.5 is half a core); None if it is not limited.

    It is the smallest quota of its control group and of those above, in version 1 (`cpu.cfs_quota_us`) or version 2
    (`cpu.max`). `root` is the folder that `/proc` and `/sys` are looked for in.
    """
    return min((group.cores for group in _limited(root)), default=None)


def throttling(root: Path = ROOT) -> Throttling | None:
    """How much the quotas have made threads wait so far; None without a quota, or if nobody counts."""
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
    """Make libraries that choose their number of threads by the number of cores respect the quota.

    Call it before they are imported. Variables that are already set stay as they are.
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
    """For each hierarchy that can limit CPUs: the folder of this process's control group, and the topmost folder of
    the hierarchy that can be seen."""
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
        # A container sees its own group as the topmost, under any path that the host uses.
        shown = _unescaped(words[3]).rstrip("/")
        below = group[len(shown) :] if group == shown or group.startswith(f"{shown}/") else ""
        yield (top / below.strip("/") if ".." not in below.split("/") else top), top


def _groups(text: str) -> dict[str, str]:
    """The groups that may limit CPUs, from /proc/self/cgroup: `cpu` is that of version 1, "" that of version 2."""
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
    """`text` with the octal codes of mountinfo (`\\040` is a space) replaced."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
