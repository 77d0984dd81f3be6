"""The arms of a benchmark that `toolchain.recommended` may choose among."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from toolchain.bench.results import ArmResult, BenchReport, measured, names_of
from toolchain.errors import EdgetlError
from toolchain.evaluation.statistics import paired_drop_ci95
from toolchain.recommended import MAX_DROP_PP, MIN_AGREEMENT, Candidate
from toolchain.runtimes.devices import family_of, plain
from toolchain.timing.protocol import LOCAL


def candidates(report: BenchReport, folder: Path, machine: str = LOCAL) -> list[Candidate]:
    """The files of a folder that one may choose among on a machine, on its largest number of threads.

    int8 that surely loses answers is among them, and marked. Another way of running a device counts only where it
    answers as the trained network does, and another form of an ONNX file (for raw frames, for OpenVINO) only where
    that one was not measured on the device.
    """
    names = names_of(report.arms)
    arms = [arm for arm in measured(report) if arm.on == machine and arm.batch == 1]
    arms = [arm for arm in arms if Path(arm.artifact).parent == folder]
    measured_on = {(Path(arm.artifact), arm.device) for arm in arms}
    arms = [arm for arm in arms if not {(path, arm.device) for path in _made_of(arm.artifact)} & measured_on]
    threads = max((arm.threads for arm in arms), default=0)
    return [
        Candidate(
            names[arm.artifact],
            arm.sha256,
            arm.precision,
            arm.device,
            threads,
            arm.latency_ms.p50,
            arm.process_p50_ms,
            arm.file_mb,
            loses=arm.precision == "int8" and _surely_loses(arm, arms),
        )
        for arm in arms
        if arm.latency_ms and arm.threads == threads and _runs_files(arm.device) and _answers(arm)
    ]


def _made_of(artifact: str) -> list[Path]:
    """The ONNX files that a model file of an export may have been made of."""
    path = Path(artifact)
    stem = path.name.removesuffix(path.suffix)
    found = [path.with_name(f"{stem.removesuffix('.frame')}.onnx"), path.with_name(f"{stem}.onnx")]
    return [one for one in found if one != path]


def _runs_files(device: str) -> bool:
    with suppress(EdgetlError):  # a device of a plug-in that is not here
        return not family_of(device).of_run
    return False


def _answers(arm: ArmResult) -> bool:
    if arm.device == plain(arm.device) or arm.precision == "int8":
        return True
    agreement = arm.accuracy.agreement if arm.accuracy else None
    return arm.proven if agreement is None else agreement >= MIN_AGREEMENT


def _surely_loses(arm: ArmResult, arms: Sequence[ArmResult]) -> bool:
    """Whether it loses more top-1 against the float32 file on its device than int8 may, by the lower 95 % bound."""
    device = plain(arm.device)
    exact = next((one for one in arms if (one.device, one.precision) == (device, "float32")), None)
    answers = [one.accuracy.right if one and one.accuracy else "" for one in (exact, arm)]
    if not answers[0] or len(answers[0]) != len(answers[1]):
        return False
    _, (low, _) = paired_drop_ci95(*([right == "1" for right in one] for one in answers))
    return 100 * low > MAX_DROP_PP
