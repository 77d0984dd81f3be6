from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench_support import SIDE, colour_artifact
from numpy.typing import NDArray

from toolchain.artifact import Artifact
from toolchain.errors import BadInputError, MissingError
from toolchain.runtimes import open_runtime

DEVICES = ("ort:cpu", "openvino:CPU", "openvino:AUTO")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return colour_artifact(tmp_path_factory.mktemp("runtimes") / "model.onnx")


def pictures(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.mark.parametrize("device", DEVICES)
def test_answers_are_right_for_any_batch(artifact: Artifact, device: str) -> None:
    runtime = open_runtime(artifact, device, threads=1)
    assert runtime.device == device
    assert "CPU" in runtime.provider_effective
    for count in (1, 3, 2):
        images = pictures(count)
        colour = images.mean((1, 2))
        logits = (colour - colour.mean(1, keepdims=True)) * 0.05
        weights = np.exp(logits - logits.max(1, keepdims=True))
        answer = runtime.infer(images)
        assert (answer.logits.dtype, answer.probabilities.dtype) == (np.float32, np.float32)
        np.testing.assert_allclose(answer.logits, logits, atol=1e-4)
        np.testing.assert_allclose(answer.probabilities, weights / weights.sum(1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_answers_belong_to_the_caller(artifact: Artifact, device: str) -> None:
    runtime = open_runtime(artifact, device, threads=1)
    first = runtime.infer(np.zeros((1, SIDE, SIDE, 3), np.uint8))
    second = runtime.infer(np.full((1, SIDE, SIDE, 3), (255, 0, 0), np.uint8))
    assert first.logits.tolist() == [[0.0, 0.0, 0.0]]
    assert second.logits.argmax() == 0


def test_threads_are_those_asked_for(artifact: Artifact) -> None:
    for device in ("ort:cpu", "openvino:CPU"):
        assert open_runtime(artifact, device, threads=1).threads == 1
        assert open_runtime(artifact, device).threads >= 1


def test_int8_runs_only_where_it_was_proven(tmp_path: Path) -> None:
    int8 = colour_artifact(tmp_path / "model.int8.onnx", int8_on=["ort:cpu"])
    assert open_runtime(int8, "ort:cpu", threads=1).infer(pictures(1)).logits.shape == (1, 3)
    with pytest.raises(BadInputError, match=r"proven on ort:cpu, not on openvino:CPU"):
        open_runtime(int8, "openvino:CPU")
    runtime = open_runtime(int8, "openvino:CPU", threads=1, unproven=True)
    assert runtime.infer(pictures(1)).logits.shape == (1, 3)


def test_devices_that_are_not_here(artifact: Artifact) -> None:
    with pytest.raises(BadInputError, match="unknown device"):
        open_runtime(artifact, "ort:gpu")
    with pytest.raises(MissingError, match="NOTHING"):
        open_runtime(artifact, "openvino:HETERO:NOTHING")
