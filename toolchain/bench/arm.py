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
from toolchain.bench.results import Accuracy, ArmResult, Data
from toolchain.bench.statistics import mean_of_classes, summarise, wilson_ci95
from toolchain.runtimes.devices import cores

MIN_SAMPLES = 5


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
    throughput_ips: float | None = None
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
        throughput_ips=arm.throughput_ips if ok else None,
        load_ms=loaded.load_ms if loaded else None,
        first_ms=loaded.first_ms if loaded else None,
        end_to_end_ms=arm.end_to_end_ms if ok else None,
        peak_rss_mb=arm.peak_rss_mb if ok else None,
        file_mb=arm.artifact.size_mb,
        accuracy=_accuracy(arm, arms, chosen, prepared) if ok and chosen else None,
    )


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
    )


def _is_reference(other: Arm, arm: Arm) -> bool:
    """Whether `other` is the float network of the same run on ONNX Runtime, with its labels in the same order."""
    mine, its = arm.artifact.card, other.artifact.card
    is_float = not other.reason and other.device == "ort:cpu" and its.precision == "float32"
    return is_float and (mine.labels, mine.source) == (its.labels, its.source)
