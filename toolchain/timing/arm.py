"""One arm: one artifact on one device, from its start to its last sample."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from toolchain.artifact import Artifact
from toolchain.evaluation.statistics import THROUGHPUT_BETWEEN_RUNS, median_ci95, next_ci95
from toolchain.timing.process import AnyWorker, WorkerError
from toolchain.timing.protocol import LOCAL, Loaded, Samples, Throughput, at

MIN_SAMPLES = 5
DOUBTFUL = 0.15
"""So much longer the slowest process may take than the fastest one. On machines at rest medians of processes have a
standard deviation of 1.7 % (benchmarks/results/stability-mobilenet_v2.json) to 2.5 %: ten of them lie within 15 %,
six deviations, in 999 of 1,000 runs."""


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
    absent: bool = False
    """Its device is not on the machine."""
    loaded: Loaded | None = None
    inference_ms: float = 0.0
    """What one inference takes, as far as that is known before it is measured."""
    samples: int = MIN_SAMPLES
    processes: list[list[tuple[float, ...]]] = field(default_factory=list)
    """Samples in ms of each round of each process that it was measured in, one process after the other."""
    end_to_end: list[float] = field(default_factory=list)
    from_frame: list[float] = field(default_factory=list)
    """Medians in ms of each process, as `floods` are its images per second."""
    floods: list[Throughput] = field(default_factory=list)
    peak_rss_mb: float | None = None
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

    @property
    def process_ms(self) -> list[float]:
        """The median in ms of each process."""
        return [float(np.median(np.concatenate(rounds))) for rounds in self.processes if rounds]

    @property
    def end_to_end_ms(self) -> float | None:
        return float(np.median(self.end_to_end)) if self.end_to_end else None

    @property
    def frame_to_answer_ms(self) -> float | None:
        return float(np.median(self.from_frame)) if self.from_frame else None

    @property
    def throughput(self) -> Throughput | None:
        """What all processes had in the way that the first one found to be the fastest."""
        if not self.floods:
            return None
        found = [one.ips for one in self.floods]
        ips = float(np.median(found))
        interval = next_ci95(ips, found, THROUGHPUT_BETWEEN_RUNS) if len(found) > 1 else None
        return replace(self.floods[0], ips=ips, ips_ci95=interval)

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
        """Width of the 95 % interval of the median so far, as a fraction of it, by its processes alone."""
        processes = [[np.asarray(samples) for samples in rounds] for rounds in self.processes if rounds]
        low, high = median_ci95(processes, seed=0, between_runs=0)
        return (high - low) / float(np.median(np.concatenate(self.rounds)))

    def noise(self) -> list[str]:
        """Why its figures are in doubt; empty if they are not."""
        found = []
        medians = self.process_ms if len(self.process_ms) > 1 else [float(np.median(one)) for one in self.rounds]
        if (longer := max(medians) / min(medians) - 1) > DOUBTFUL:
            what = "processes" if len(self.process_ms) > 1 else "rounds"
            found.append(f"one of its {len(medians)} {what} took {longer:.0%} longer than another")
        if self.restless:
            found.append("its threads kept running between its turns, which slows other arms")
        return found
