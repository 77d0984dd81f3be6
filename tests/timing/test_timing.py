"""Latencies side by side, by the clock of real processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.artifacts import tiny_artifact
from toolchain.system.progress import Silent
from toolchain.timing import _is_open, _is_vague, _places, _without_order, time_artifacts
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


def test_more_is_measured_where_a_disturbed_process_leaves_open_who_is_faster(tmp_path: Path) -> None:
    fast = [_arm(tmp_path / "a", "ort:cpu", 2, 2.01, 2), _arm(tmp_path / "b", "ort:cpu", 1, 1, 1.4)]
    disturbed = [
        _arm(tmp_path / name, "openvino:CPU", *process_ms)
        for name, process_ms in {"c": (2, 2, 2), "d": (1, 1, 1), "e": (1, 3, 1)}.items()
    ]
    failed = _arm(tmp_path / "f", "ort:cpu", 1, 3, 1)
    failed.reason = "out of memory"
    assert _places([*fast, failed, *disturbed], _is_open) == {("openvino:CPU", 1)}
    assert _places(fast, _is_vague) == {("ort:cpu", 1)}, "faster in any case, but by how much?"
    slower = [_arm(tmp_path / "g", "ort:cpu", 1, 1, 1), _arm(tmp_path / "h", "ort:cpu", 2, 2, 1.5)]
    assert _places(slower, _is_open) == set()


def test_more_is_measured_until_it_is_sure_which_way_of_a_device_is_faster(tmp_path: Path) -> None:
    exact = _arm(tmp_path / "a", "openvino:CPU", 2, 2, 2.02)
    shorter = _arm(tmp_path / "b", "openvino:CPU+bf16", 1.3, 1.31, 1.3)
    disturbed = _arm(tmp_path / "c", "openvino:CPU", 1, 1.6, 1.01)
    elsewhere = _arm(tmp_path / "d", "ort:cpu", 2, 2, 2)
    assert _without_order([exact, shorter, elsewhere]) == set()
    assert _without_order([exact, shorter, disturbed, elsewhere]) == {("openvino:CPU", 1)}
    alike = _arm(tmp_path / "e", "ort:cpu", 1.97, 2.01, 1.96)
    assert _without_order([elsewhere, alike]) == set(), "too little to matter"
