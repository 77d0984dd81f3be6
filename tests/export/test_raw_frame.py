"""Frames of any size into the graph: the pixels that OpenCV would have made of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import toolchain
from toolchain.artifact import read_artifact
from toolchain.cli import run
from toolchain.export import raw_frame
from toolchain.export.raw_frame import with_raw_frame
from toolchain.images.preprocess import Preprocess, read

SIZES = [
    *((480, 640), (1080, 1920), (100, 300), (301, 77), (73, 999), (144, 144), (216, 288)),
    *((72, 72), (64, 64), (63, 65), (50, 200), (20, 30), (30, 500), (1, 1), (1, 40)),
]
SPECS = {
    "area": Preprocess(64, 64, shortest_edge=72),
    "linear": Preprocess(64, 64, shortest_edge=72, interpolation="linear"),
    "wide": Preprocess(48, 64, shortest_edge=64),
    "squash": Preprocess(64, 48, resize="squash"),
    "squash linear": Preprocess(48, 64, resize="squash", interpolation="linear"),
    "cubic": Preprocess(64, 64, shortest_edge=72, interpolation="cubic"),
    "squash cubic": Preprocess(64, 48, resize="squash", interpolation="cubic"),
}


@pytest.fixture(scope="module", params=SPECS.values(), ids=SPECS.keys())
def spec_and_resizer(request: pytest.FixtureRequest) -> tuple[Preprocess, onnx.ModelProto]:
    """A way to preprocess, and a graph that does it and gives the pixels."""
    spec: Preprocess = request.param
    image = helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["batch", spec.height, spec.width, 3])
    pixels = helper.make_tensor_value_info("pixels", onnx.TensorProto.UINT8, ["batch", spec.height, spec.width, 3])
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["pixels"])], "same", [image], [pixels])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return spec, with_raw_frame(model, spec)


def _frame(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


def test_pixels_are_those_of_opencv(spec_and_resizer: tuple[Preprocess, onnx.ModelProto]) -> None:
    spec, model = spec_and_resizer
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    for height, width in SIZES:
        frame = _frame(height, width)
        expected = spec(frame).astype(int)
        for pixels in (session.run(None, {"image": frame[None]})[0], compiled({"image": frame[None]})["pixels"]):
            difference = np.abs(pixels[0].astype(int) - expected)
            assert difference.max() <= 1, (height, width)
            assert difference.mean() < 0.25, (height, width)


def test_reference_evaluator_and_batches(spec_and_resizer: tuple[Preprocess, onnx.ModelProto]) -> None:
    spec, model = spec_and_resizer
    frames = np.stack([_frame(90, 121), _frame(121, 90).transpose(1, 0, 2)])
    pixels = ReferenceEvaluator(model).run(None, {"image": frames})[0]
    for frame, picture in zip(frames, pixels, strict=True):
        assert np.abs(picture.astype(int) - spec(frame).astype(int)).max() <= 1


@pytest.fixture
def folder(run_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(run_folder, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.slow
def test_exported_file_takes_photographs_of_any_size(
    folder: Path, drawn_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", str(folder), "--raw-frame", "--json", "--quiet"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["further"]
    assert {hop["device"] for hop in told["hops"]} == {"ort:cpu", "openvino:CPU"}
    card = read_artifact(folder / "model.frame.onnx").card
    assert card.input == "frame"
    photograph = next((drawn_folder / "cat").iterdir())
    other = tmp_path / "other.png"
    cv2.imwrite(str(other), _frame(90, 200))
    for device in ("ort:cpu", "openvino:CPU"):
        plain = toolchain.load(folder / "model.onnx", device).predict_batch([photograph, other])
        raw = toolchain.load(folder / "model.frame.onnx", device).predict_batch([photograph, other, read(other)])
        for first, second in zip([*plain, plain[1]], raw, strict=True):
            np.testing.assert_allclose(second.logits, first.logits, atol=0.05 * np.abs(first.logits).max())
    assert run(["predict", str(folder / "model.frame.onnx"), str(photograph), str(other)]) == 0
    assert run(["card", str(folder / "model.frame.onnx")]) == 0
    assert "any size" in capsys.readouterr().out


@pytest.mark.slow
def test_a_file_that_answers_otherwise_is_not_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def dark(model: onnx.ModelProto, spec: Preprocess) -> onnx.ModelProto:
        made = with_raw_frame(model, spec)
        node = next(node for node in made.graph.node if node.output[0] == "logits")
        node.output[0] = "right"
        place = list(made.graph.node).index(node)
        made.graph.node.insert(place + 1, helper.make_node("Neg", ["right"], ["logits"]))
        return made

    monkeypatch.setattr(raw_frame, "with_raw_frame", dark)
    assert run(["export", str(folder), "--raw-frame"]) == 1
    assert "model.frame.onnx was not written" in capsys.readouterr().err.replace("\n", " ")
    assert not (folder / "model.frame.onnx").exists()
