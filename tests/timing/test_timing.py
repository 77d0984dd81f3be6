"""Latencies side by side, by the clock of real processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.artifacts import tiny_artifact
from toolchain.system.progress import Silent
from toolchain.timing import time_artifacts


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
