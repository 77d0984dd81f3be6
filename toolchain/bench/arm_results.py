"""From an arm that was measured to its line in the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from toolchain.bench.inputs import Chosen
from toolchain.bench.results import ArmAccuracy, ArmResult, Data
from toolchain.evaluation import metrics
from toolchain.evaluation.statistics import summarise
from toolchain.runtimes.devices import cores
from toolchain.timing.arm import Arm
from toolchain.timing.protocol import Prepared


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
        latency_ms=summarise(*arm.processes) if ok else None,
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
        process_p50_ms=tuple(
            round(float(np.median(np.concatenate(rounds))), 5) for rounds in arm.processes if rounds
        )
        if ok
        else (),
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


def _accuracy(arm: Arm, arms: Sequence[Arm], chosen: Chosen, prepared: Prepared) -> ArmAccuracy:
    position = {label: index for index, label in enumerate(arm.artifact.card.labels)}
    in_card = [position[label] for label in chosen.classes]
    labels = np.array([in_card[chosen.labels[index]] for index in prepared.readable], np.int64)
    answers = np.array(arm.answers, np.int64)
    found = metrics.accuracy(answers, labels)
    reference = next((other for other in arms if _is_reference(other, arm)), None)
    return ArmAccuracy(
        top1=found.top1,
        per_class_top1=found.per_class_top1,
        n=found.n,
        agreement=metrics.agreement(answers, np.array(reference.answers)) if reference else None,
        top1_ci95=found.top1_ci95,
        right="".join("01"[int(one)] for one in found.right),
    )


def _is_reference(other: Arm, arm: Arm) -> bool:
    """Whether `other` is the float network of the same run on ONNX Runtime, with its labels in the same order."""
    mine, its = arm.artifact.card, other.artifact.card
    is_float = not other.reason and other.device == "ort:cpu" and its.precision == "float32"
    return is_float and (mine.labels, mine.source) == (its.labels, its.source)
