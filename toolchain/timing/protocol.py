"""What the runner and its workers say to each other: a line of JSON each way, over stdin and stdout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toolchain.images.preprocess import Preprocess
from toolchain.runtimes import Execution
from toolchain.timing.noise import LoadDuring

LOCAL = "local"
"""What this machine is called where machines are named."""
THROUGHPUT_BATCHES = (1, 8)
"""Those that a worker asks for beside the arm's own."""


def at(device: str, machine: str) -> str:
    """A device of a machine, for people."""
    return device if machine == LOCAL else f"{device} at {machine}"


@dataclass(frozen=True)
class Request:
    """The name of a method of the worker, and its argument."""

    do: str
    argument: Any = None


@dataclass(frozen=True)
class Failure:
    """Why it was not done. `unavailable`: this arm cannot exist on this machine, and nothing is wrong with it."""

    reason: str
    unavailable: bool = False


@dataclass(frozen=True)
class Reply:
    """The answer, or why there is none."""

    answer: Any = None
    failure: Failure | None = None


@dataclass(frozen=True)
class Prepared:
    """`pictures`: for each preprocessing a file of raw uint8 [n, height, width, 3]. `readable` are the indices of
    the photographs that are in it; the others could not be decoded."""

    pictures: dict[Preprocess, Path]
    readable: tuple[int, ...]


@dataclass(frozen=True)
class Load:
    """Open the artifact whose content has `sha256` on a device.

    `pictures` is a file of preprocessed pictures, raw uint8 [n, height, width, 3]; `photographs` a few files.
    """

    artifact: str
    sha256: str
    device: str
    threads: int
    batch: int
    pictures: str
    photographs: tuple[str, ...]


@dataclass(frozen=True)
class Profiling:
    """Run the artifact of `load` with its runtime's profiler on, for `seconds` or so."""

    load: Load
    seconds: float


@dataclass(frozen=True)
class Loaded:
    """`load_ms`: from the file's content to a runtime that is ready, its library being imported already.
    `first_ms`: the first inference, which may still compile and allocate."""

    load_ms: float
    first_ms: float
    provider_effective: str
    threads: int
    execution: Execution


@dataclass(frozen=True)
class Samples:
    """Times in milliseconds, in the order taken. `quiet`: the worker's threads have gone to sleep since. `joules`:
    what the processor used meanwhile, where the machine counts it."""

    ms: tuple[float, ...]
    quiet: bool = True
    joules: float | None = None


@dataclass(frozen=True)
class Throughput:
    """Images a second, and what gave them: `batch` images an inference, `requests` inferences at once.

    In a report `ips` is the median over processes. With 95 % another run that asks in the same way has its own
    within `ips_ci95`, which is null where there was one process.
    """

    ips: float
    batch: int
    requests: int
    ips_ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class Flood:
    """Keep the arm busy for `seconds`, in the `way` that another of its processes has found to be the fastest.

    None: find it first.
    """

    seconds: float
    way: Throughput | None = None


@dataclass(frozen=True)
class Span:
    """Pictures `start` to `stop` - 1."""

    start: int
    stop: int


@dataclass(frozen=True)
class Piece:
    """A part of a file that another machine needs (`toolchain.timing.hub`): the next `data` of `key`/`name` there.
    `sha256` is that of the whole file, and comes with the last part."""

    key: str
    name: str
    data: bytes
    sha256: str = ""


@dataclass(frozen=True)
class Question:
    """What a worker on another machine is asked, by its number there."""

    worker: int
    do: str
    argument: Any
    limit_s: float


@dataclass(frozen=True)
class Observed:
    """What a machine did while it measured, and why what was measured is in doubt (`toolchain.timing.noise`)."""

    during: LoadDuring
    doubts: tuple[str, ...]


def spread(n: int, wanted: int) -> list[int]:
    """At most `wanted` indices below `n`, evenly spread."""
    return sorted({int(index) for index in np.linspace(0, n - 1, min(n, wanted)).round()})
