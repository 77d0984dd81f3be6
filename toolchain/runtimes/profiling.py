"""What a runtime's own profiler tells: the kernels that it runs for a photograph, and the time of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from toolchain.artifact import Artifact

WARM_UP = 10
"""Inferences that come first and do not count."""


@dataclass(frozen=True)
class Kernel:
    """One step of an inference, as the runtime has arranged it.

    - `names`: of nodes and tensors of the file that it may stand for; others than the file's mean nothing.
    - `op`: the operator; `kernel`: which implementation of it.
    - `converts`: it computes nothing, but changes types or the order of values in memory.
    - `makes_float`: what it gives is float.
    - `reads`: places, in the order of execution, of the kernels whose output it reads.
    - `us`: microseconds in one inference, as a mean.
    """

    names: tuple[str, ...]
    op: str
    kernel: str
    converts: bool
    makes_float: bool
    reads: tuple[int, ...]
    us: float


class Profile(Protocol):
    """Runs an artifact with the runtime's profiler on."""

    def __call__(
        self, artifact: Artifact, target: str, threads: int, batch: int, images: Iterable[NDArray[np.uint8]]
    ) -> list[Kernel]:
        """The kernels in the order of execution, of one inference for each of `images`, uint8 [batch, height,
        width, 3]. The first WARM_UP of them do not count.

        `target`, `threads` and `batch` as for `toolchain.runtimes.open_runtime`; nothing else computes meanwhile.
        Raises ArtifactError as loading does, BadInputError where this target has no profiler.
        """


def midmean(samples: Sequence[float] | NDArray[np.float64]) -> float:
    """The mean of the middle half: as little moved by what disturbs as the median, and finer where the samples are
    whole microseconds, as profilers count them."""
    ordered = np.sort(np.asarray(samples, np.float64))
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def without_endings(name: str, ending: Callable[[str], re.Match[str] | None]) -> tuple[str, ...]:
    """`name`, and what is left of it each time that one more of a runtime's endings is taken off."""
    found = [name]
    while (match := ending(found[-1])) is not None and match.start() > 0:
        found.append(found[-1][: match.start()])
    return tuple(found)
