"""Latencies side by side, by the clock of real processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.artifacts import tiny_artifact
from toolchain.system.progress import Silent
from toolchain.timing import _not_known, time_artifacts
from toolchain.timing.arm import Arm


def test_every_arm_has_its_time_or_its_reason(tmp_path: Path) -> None:
    good = tiny_artifact(tmp_path / "good.onnx")
    changed = replace(tiny_artifact(tmp_path / "changed.onnx"), sha256="0" * 64)
    spec = good.card.preprocess
    pixels = np.zeros((4, spec.height, spec.width, 3), np.uint8)
    timed = time_artifacts([good, changed], ["ort:cpu", "openvino:CPU"], [1], pixels, Silent())
    assert [(one.artifact.path.name, one.device, one.threads) for one in timed] == [
        (name, device, 1) for name in ("good.onnx", "changed.onnx") for device in ("ort:cpu", "openvino:CPU")
    ]
    for one in timed:
        if one.artifact is good:
            assert one.p50_ms is not None
            assert one.p50_ms > 0
        else:
            assert one.p50_ms is None
            assert "has changed" in one.reason


def _arm(path: Path, device: str, *process_ms: float) -> Arm:
    arm = Arm(tiny_artifact(path), device, 1, 1)
    arm.processes = [[(ms,)] for ms in process_ms]
    return arm


def test_a_disturbed_process_makes_the_arms_beside_it_run_again(tmp_path: Path) -> None:
    calm = [_arm(tmp_path / "a", "ort:cpu", 2, 2.01, 2), _arm(tmp_path / "b", "ort:cpu", 1, 1, 1.01)]
    disturbed = [
        _arm(tmp_path / name, "openvino:CPU", *process_ms)
        for name, process_ms in {"c": (2, 2, 2), "d": (1, 1, 1), "e": (1, 2, 1)}.items()
    ]
    failed = _arm(tmp_path / "f", "ort:cpu", 1, 3, 1)
    failed.reason = "out of memory"
    assert _not_known([*calm, failed, *disturbed]) == disturbed
    assert _not_known(calm) == []
