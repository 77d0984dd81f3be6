"""One arm: one artifact on one device, from its start to its last sample."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from toolchain.artifact import Artifact
from toolchain.evaluation.statistics import median_ci95
from toolchain.timing.process import AnyWorker, WorkerError
from toolchain.timing.protocol import LOCAL, Loaded, Samples, Throughput, at

MIN_SAMPLES = 5
QUICK_RESAMPLES = 200
DOUBTFUL = 0.1
"""Width of the interval of a median, as a fraction of it, from which on another run may well find another."""


@dataclass
class Arm:
    """One arm while it is measured; `reason` is set when it can go no further."""

    artifact: Artifact
    device: str
    threads: int
    batch: int
    on: str = LOCAL
    """The machine that it runs on, by its name (`toolchain.timing.machines`)."""
    worker: AnyWorker | None = None
    reason: str = ""
    unavailable: bool = False
    loaded: Loaded | None = None
    samples: int = MIN_SAMPLES
    processes: list[list[tuple[float, ...]]] = field(default_factory=list)
    """Samples in ms of each round of each process that it was measured in, one process after the other."""
    end_to_end_ms: float | None = None
    peak_rss_mb: float | None = None
    frame_to_answer_ms: float | None = None
    throughput: Throughput | None = None
    joules: list[float | None] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    restless: bool = False

    @property
    def name(self) -> str:
        return f"{self.artifact.path.name} on {at(self.device, self.on)}"

    @property
    def rounds(self) -> list[tuple[float, ...]]:
        """Samples in ms of all rounds of all processes."""
        return [samples for rounds in self.processes for samples in rounds]

    @contextmanager
    def step(self) -> Iterator[AnyWorker]:
        """A WorkerError in this block ends this arm, and no other."""
        assert self.worker is not None
        try:
            yield self.worker
        except WorkerError as error:
            self.stop(error.reason, error.unavailable)

    def stop(self, reason: str, unavailable: bool) -> None:
        self.reason, self.unavailable = reason, unavailable
        self.close()

    def close(self) -> None:
        if self.worker is not None:
            self.worker.close()
            self.worker = None

    def keep(self, samples: Samples) -> tuple[float, ...]:
        self.restless |= not samples.quiet
        return samples.ms

    def uncertainty(self) -> float:
        """Width of the 95 % interval of the median so far, as a fraction of it."""
        processes = [[np.asarray(samples) for samples in rounds] for rounds in self.processes if rounds]
        low, high = median_ci95(processes, seed=0, resamples=QUICK_RESAMPLES)
        return (high - low) / float(np.median(np.concatenate(self.rounds)))

    def noise(self) -> list[str]:
        """Why its figures are in doubt; empty if they are not."""
        found = []
        if (width := self.uncertainty()) > DOUBTFUL:
            found.append(f"its median is known to {width:.0%} only")
        if self.restless:
            found.append("its threads kept running between its turns, which slows other arms")
        return found
