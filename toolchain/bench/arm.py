"""One arm of a benchmark: one artifact on one device, from its start to its line in the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from toolchain.artifact import Artifact
from toolchain.bench.inputs import Chosen, Prepared
from toolchain.bench.process import WorkerError, WorkerProcess
from toolchain.bench.protocol import Loaded, Samples
from toolchain.bench.results import Accuracy, ArmResult, Data, Throughput
from toolchain.bench.statistics import mean_of_classes, median_ci95, summarise, wilson_ci95
from toolchain.runtimes.devices import cores

MIN_SAMPLES = 5
QUICK_RESAMPLES = 200
DOUBTFUL = 0.03
"""Width of the interval of a median, as a fraction of it, from which on another run may well find another."""


@dataclass
class Arm:
    """One arm while it is measured; `reason` is set when it can go no further."""

    artifact: Artifact
    device: str
    threads: int
    batch: int
    worker: WorkerProcess | None = None
    reason: str = ""
    unavailable: bool = False
    loaded: Loaded | None = None
    samples: int = MIN_SAMPLES
    rounds: list[tuple[float, ...]] = field(default_factory=list)
    end_to_end_ms: float | None = None
    peak_rss_mb: float | None = None
    frame_to_answer_ms: float | None = None
    throughput: Throughput | None = None
    joules: list[float | None] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    restless: bool = False

    @property
    def name(self) -> str:
        return f"{self.artifact.path.name} on {self.device}"

    @contextmanager
    def step(self) -> Iterator[WorkerProcess]:
        """Whatever goes wrong with the worker in here is the end of this arm, and of no other."""
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
        rounds = [np.asarray(samples) for samples in self.rounds]
        low, high = median_ci95(rounds, seed=0, resamples=QUICK_RESAMPLES)
        return (high - low) / float(np.median(np.concatenate(rounds)))

    def noise(self) -> list[str]:
        """Why its figures are to be doubted; empty when they are not."""
        found = []
        if (width := self.uncertainty()) > DOUBTFUL:
            found.append(f"its median is known to {width:.0%} only")
        if self.restless:
            found.append("its threads kept running between its turns, which slows other arms")
        return found


def data_of(chosen: Chosen | None, prepared: Prepared) -> Data | None:
    """Which photographs were measured on; None for drawn ones, which have no labels."""
    if chosen is None:
        return None
    n = len(prepared.readable)
    return Data(chosen.data, chosen.split, chosen.split_sha256, n, skipped=len(chosen.photographs) - n)


def result_of(arm: Arm, arms: Sequence[Arm], chosen: Chosen | None, prepared: Prepared) -> ArmResult:
    """The arm's line in the report. `arms` are all, among them the one that it is compared with."""
    ok = not arm.reason
    loaded = arm.loaded
    return ArmResult(
        artifact=str(arm.artifact.path),
        sha256=arm.artifact.sha256,
        precision=arm.artifact.card.precision,
        device=arm.device,
        provider_effective=loaded.provider_effective if loaded else None,
        threads=loaded.threads if loaded else arm.threads or cores(),
        batch=arm.batch,
        status="ok" if ok else "unavailable" if arm.unavailable else "failed",
        reason=arm.reason,
        latency_ms=summarise(arm.rounds) if ok else None,
        throughput_ips=arm.throughput.ips if ok and arm.throughput else None,
        load_ms=loaded.load_ms if loaded else None,
        first_ms=loaded.first_ms if loaded else None,
        end_to_end_ms=arm.end_to_end_ms if ok else None,
        peak_rss_mb=arm.peak_rss_mb if ok else None,
        file_mb=arm.artifact.size_mb,
        accuracy=_accuracy(arm, arms, chosen, prepared) if ok and chosen else None,
        execution=loaded.execution if loaded else None,
        throughput=arm.throughput if ok else None,
        frame_to_answer_ms=arm.frame_to_answer_ms if ok else None,
        energy_mj=_energy_mj(arm) if ok else None,
        quantiles_ms=_quantiles(arm.rounds) if ok else (),
        round_p50_ms=tuple(round(float(np.median(samples)), 5) for samples in arm.rounds) if ok else (),
        noise=tuple(arm.noise()) if ok else (),
    )


def _quantiles(rounds: Sequence[Sequence[float]]) -> tuple[float, ...]:
    samples = np.concatenate([np.asarray(samples) for samples in rounds])
    return tuple(round(float(value), 5) for value in np.percentile(samples, range(101)))


def _energy_mj(arm: Arm) -> float | None:
    """Millijoules for one inference, with what the machine uses anyway in the same time."""
    counted = [joules for joules in arm.joules if joules is not None]
    if len(counted) < len(arm.joules) or not counted:
        return None
    return sum(counted) / sum(len(samples) for samples in arm.rounds) * 1e3


def _accuracy(arm: Arm, arms: Sequence[Arm], chosen: Chosen, prepared: Prepared) -> Accuracy:
    position = {label: index for index, label in enumerate(arm.artifact.card.labels)}
    in_card = [position[label] for label in chosen.classes]
    labels = np.array([in_card[chosen.labels[index]] for index in prepared.readable], np.int64)
    answers = np.array(arm.answers, np.int64)
    right = answers == labels
    reference = next((other for other in arms if _is_reference(other, arm)), None)
    return Accuracy(
        top1=float(right.mean()),
        per_class_top1=mean_of_classes(labels, right),
        n=len(right),
        agreement=float((answers == np.array(reference.answers)).mean()) if reference else None,
        top1_ci95=wilson_ci95(int(right.sum()), len(right)),
        right="".join("01"[int(one)] for one in right),
    )


def _is_reference(other: Arm, arm: Arm) -> bool:
    """Whether `other` is the float network of the same run on ONNX Runtime, with its labels in the same order."""
    mine, its = arm.artifact.card, other.artifact.card
    is_float = not other.reason and other.device == "ort:cpu" and its.precision == "float32"
    return is_float and (mine.labels, mine.source) == (its.labels, its.source)
