"""Classifiers of others in ONNX files: the same answers, the preprocessing proven, a run for all that follows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16

import toolchain
from tests.adopt.foreign_models import CLASSES, MAKERS, SIDE
from toolchain.adopt.normalisation import KNOWN, parse, preprocess_for
from toolchain.adopt.onnx_file import read_foreign
from toolchain.adopt.proof import Tried
from toolchain.artifact import Artifact, read_artifact
from toolchain.cli import run
from toolchain.drawn.pets import draw
from toolchain.errors import ArtifactError, BadInputError
from toolchain.export import exporting
from toolchain.images.preprocess import Preprocess
from toolchain.runs import read_run

WAYS = {"torchvision": "imagenet", "timm": "half", "ultralytics": None, "keras": None, "model-zoo": "caffe"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, foreign: Path, photographs: Path) -> Path:
    """The current folder, with the five files, labels.txt and photos/."""
    monkeypatch.chdir(tmp_path)
    for path in foreign.iterdir():
        shutil.copy(path, tmp_path)
    Path("photos").symlink_to(photographs)
    return tmp_path


def _adopt(name: str, out: str = "run", *words: str) -> int:
    way = WAYS[name]
    told = [] if way is None else ["--preprocess", way]
    labels = [] if name == "ultralytics" else ["--labels", "labels.txt"]
    return run(["adopt", f"{name}.onnx", "--out", out, *told, *labels, *words])


def _as_published(path: Path, name: str, pixels: np.ndarray) -> np.ndarray:
    """Probabilities [n, classes] by ONNX Runtime alone, from uint8 RGB pixels, as each publisher says."""
    values = pixels.astype(np.float32)
    if name == "torchvision":
        values = (values / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    elif name == "timm":
        values = (values / 255 - 0.5) / 0.5
    elif name == "ultralytics":
        values = values / 255
    elif name == "model-zoo":
        values = values[..., ::-1] - [103.939, 116.779, 123.68]
    if name != "keras":
        values = values.transpose(0, 3, 1, 2)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = session.get_inputs()[0].name
    answers = [session.run(None, {feed: np.ascontiguousarray(one[None], np.float32)})[0] for one in values]
    found = np.concatenate([answer.reshape(1, -1) for answer in answers])
    if name in {"ultralytics", "keras"}:
        return found
    powers = np.exp(found - found.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


@pytest.mark.parametrize("name", MAKERS)
def test_the_run_answers_as_the_file_does(name: str, place: Path) -> None:
    assert _adopt(name, "run", "--quiet") == 0
    classifier = toolchain.load("run/model.onnx")
    pixels = np.stack([classifier.preprocess(draw("cat", index, size=200)) for index in range(5)])
    expected = _as_published(place / f"{name}.onnx", name, pixels)
    np.testing.assert_allclose(classifier.infer(list(pixels)).probabilities, expected, atol=2e-5)
    assert expected.std() > 0.01, "the answers say nothing"
    told = read_run(Path("run"))
    assert (told.model.name, told.model.kept, len(told.data.classes)) == (name, "file", CLASSES)
    model = onnx.load("run/model.onnx")
    assert not {"BatchNormalization", "Dropout", "GlobalAveragePool"} & {node.op_type for node in model.graph.node}
    assert sum(node.op_type == "Softmax" for node in model.graph.node) == 1 + 2 * (name == "timm")


@pytest.mark.parametrize(
    ("name", "layout", "normalises", "labels"),
    [
        ("torchvision", "NCHW", None, None),
        ("timm", "NCHW", None, None),
        ("ultralytics", "NCHW", "unit", ("apple", "bread", "cup", "door", "egg")),
        ("keras", "NHWC", "raw", None),
        ("model-zoo", "NCHW", None, None),
    ],
)
def test_what_a_file_tells(name: str, layout: str, normalises: str | None, labels: object, foreign: Path) -> None:
    found = read_foreign(foreign / f"{name}.onnx")
    assert (found.layout, found.normalises, found.labels, found.classes) == (layout, normalises, labels, CLASSES)
    assert (found.height, found.width) == (SIDE, SIDE)
    assert preprocess_for(found, parse(None)).shortest_edge == (64 if name == "ultralytics" else 73)


@pytest.mark.parametrize("name", ["timm", "keras", "model-zoo"])
def test_the_layout_is_found_where_sides_have_names_alone(name: str, place: Path) -> None:
    """As Hugging Face's Optimum writes them: `pixel_values` of [batch_size, num_channels, height, width]."""
    model = onnx.load(f"{name}.onnx")
    for side, said in zip(model.graph.input[0].type.tensor_type.shape.dim[1:], "bcd", strict=True):
        side.dim_param = said
    onnx.save(model, "named.onnx")
    found = read_foreign(Path("named.onnx"))
    assert (found.layout, found.height, found.width) == ("NHWC" if name == "keras" else "NCHW", 0, 0)
    way = WAYS[name] or "raw"
    words = ["named.onnx", "--labels", "labels.txt", "--preprocess", f"{way},size={SIDE}", "--quiet"]
    assert _adopt(name, "run", "--quiet") == run(["adopt", *words, "--out", "named"]) == 0
    pixels = [draw("cat", index, size=200) for index in range(3)]
    answers = [toolchain.load(f"{folder}/model.onnx").predict_batch(pixels) for folder in ("run", "named")]
    assert answers[0] == answers[1]


def test_a_picture_of_one_colour_is_refused_where_sides_have_names_alone(tmp_path: Path) -> None:
    stored = [numpy_helper.from_array(np.ones((5, 1, 1, 1), np.float32), "w")]
    nodes = [
        helper.make_node("Conv", ["in", "w"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["out"]),
    ]
    _write(tmp_path / "grey.onnx", nodes, stored, ["n", "c", "h", "w"], ["n", 5, 1, 1])
    with pytest.raises(BadInputError, match="no batch of colour pictures"):
        read_foreign(tmp_path / "grey.onnx")


ADOPT_PIXELS = "adopt own.onnx --labels labels.txt --preprocess raw --out run"


@pytest.mark.parametrize("name", ["keras", "timm"])
def test_ranges_of_a_batch_are_compared_picture_by_picture(
    name: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantize_dynamic(f"{name}.onnx", f"{name}.onnx")
    assert _adopt(name, "run", "--data", "photos") == 0  # more of them than go in at once
    told = " ".join(capsys.readouterr().err.split())
    assert "answers depend on the pictures beside them" in told
    assert "computes in integers already" in told
    classifier = toolchain.load("run/model.onnx")
    pixels = np.stack([classifier.preprocess(draw("cat", index, size=200)) for index in range(5)])
    found = np.concatenate([classifier.infer([one]).probabilities for one in pixels])
    np.testing.assert_allclose(found, _as_published(place / f"{name}.onnx", name, pixels), atol=2e-5)
    assert run(["export", "run", "--data", "photos", "--target", "ort:cpu", "--quiet"]) == 0
    assert _adopt("ultralytics", "other") == 0
    assert "beside them" not in capsys.readouterr().err


def test_a_device_that_does_not_load_it_is_left_out(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenVINO does not load some integer operators of ONNX Runtime."""
    assert _adopt("keras", "run", "--data", "photos") == 0
    logits_on = exporting.logits_on

    def on(artifact: Artifact, device: str, *pixels: Any) -> Any:
        if device == "openvino:CPU":
            raise ArtifactError("OpenVINO cannot load it on CPU: No conversion rule found for operations: QGemm")
        return logits_on(artifact, device, *pixels)

    monkeypatch.setattr(exporting, "logits_on", on)
    assert run(["export", "run"]) == 0
    assert "openvino:CPU is left out: OpenVINO cannot load it" in " ".join(capsys.readouterr().err.split())
    assert read_artifact(Path("run/model.onnx")).card.runtimes[0] == "ort:cpu"
    assert "openvino:CPU" not in read_artifact(Path("run/model.onnx")).card.runtimes
    assert run(["export", "run", "--target", "openvino:CPU"]) == 2


def test_weights_among_the_inputs_are_read_of_the_third_version_too(place: Path) -> None:
    model = onnx.load("model-zoo.onnx")
    model.ir_version = 3
    onnx.save(model, "model-zoo.onnx")
    assert _adopt("model-zoo") == 0


def test_a_side_that_is_computed_becomes_a_number_and_a_list_again(place: Path) -> None:
    stored = [
        _weights("w", 8, 3, 3, 3), _weights("head", 8, CLASSES),
        numpy_helper.from_array(np.array([0]), "zero"), numpy_helper.from_array(np.array([8]), "width"),
    ]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["in", "w"], ["maps"]),
        helper.make_node("Shape", ["maps"], ["list"], start=0, end=1),
        helper.make_node("Squeeze", ["list"], ["number"]),
        helper.make_node("Unsqueeze", ["number", "zero"], ["again"]),
        helper.make_node("Concat", ["again", "width"], ["shape"], axis=0),
        helper.make_node("GlobalAveragePool", ["maps"], ["mean"]),
        helper.make_node("Reshape", ["mean", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["out"]),
    ]
    _write(place / "own.onnx", nodes, stored, ["n", 3, 16, 16], ["n", CLASSES])
    assert run(ADOPT_PIXELS.split()) == 0


def test_weights_that_are_reshaped_are_no_batch(place: Path) -> None:
    """Scales of each channel, in a file for one picture; pictures are reshaped to the same shape."""
    stored = [
        _weights("w", 8, 3, 3, 3), _weights("scale", 8), _weights("head", CLASSES, 8, 1, 1),
        numpy_helper.from_array(np.array([1, -1, 1, 1]), "shape"),
    ]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["in", "w"], ["maps"]),
        helper.make_node("Sqrt", ["scale"], ["root"]),
        helper.make_node("Reshape", ["root", "shape"], ["scales"]),
        helper.make_node("Mul", ["maps", "scales"], ["scaled"]),
        helper.make_node("GlobalAveragePool", ["scaled"], ["mean"]),
        helper.make_node("Reshape", ["mean", "shape"], ["same"]),
        helper.make_node("Conv", ["same", "head"], ["out"]),
    ]
    _write(place / "own.onnx", nodes, stored, [1, 3, 16, 16], [1, CLASSES, 1, 1])
    assert run(ADOPT_PIXELS.split()) == 0


@pytest.mark.parametrize("name", MAKERS)
def test_float16_inside_becomes_float32(name: str, place: Path) -> None:
    """As converters write it: weights in half the bytes, casts at the end of the list of nodes."""
    half = convert_float_to_float16(onnx.load(f"{name}.onnx"), keep_io_types=True)
    onnx.save(half, f"{name}.onnx")
    assert half.graph.node[-1].op_type == "Cast"
    assert _adopt(name, "run", "--quiet") == 0
    model = onnx.load("run/model.onnx")
    assert {tensor.data_type for tensor in model.graph.initializer} <= {TensorProto.FLOAT, TensorProto.INT64}
    classifier = toolchain.load("run/model.onnx")
    pixels = np.stack([classifier.preprocess(draw("cat", index, size=200)) for index in range(5)])
    expected = _as_published(place / f"{name}.onnx", name, pixels)
    np.testing.assert_allclose(classifier.infer(list(pixels)).probabilities, expected, atol=2e-3)


def test_answers_that_are_not_finite_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = [_weights("w", CLASSES, 3, 1, 1)]
    nodes = [
        helper.make_node("Conv", ["in", "w"], ["maps"]),
        helper.make_node("Exp", ["maps"], ["powers"]),
        helper.make_node("GlobalAveragePool", ["powers"], ["out"]),
    ]
    _write(place / "own.onnx", nodes, stored, ["n", 3, 16, 16], ["n", CLASSES, 1, 1])
    assert run(ADOPT_PIXELS.split()) == 2
    assert "not finite to pixels preprocessed by raw" in capsys.readouterr().err
    assert not Path("run").exists()
    assert run(["adopt", "own.onnx", "--labels", "labels.txt", "--preprocess", "unit", "--out", "run"]) == 0


@pytest.mark.parametrize(
    ("first", "error"),
    [
        ("[]: 'apple'", "does not name its 5 classes"),
        ("0: 'a\\tb'", "the name of class 0 holds a tab or another control character"),
        ("0: ' '", "the name of class 0 is empty"),
        ("0: '\\ud800'", "the name of class 0 is no text"),
        (f"0: '{'a' * 300}'", "the name of class 0 has more than 256 characters"),
    ],
)
def test_names_in_a_file_are_checked_as_those_of_labels(
    first: str, error: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load("ultralytics.onnx")
    (names,) = (one for one in model.metadata_props if one.key == "names")
    names.value = names.value.replace("0: 'apple'", first)
    onnx.save(model, "ultralytics.onnx")
    assert _adopt("ultralytics") == 2
    assert error in capsys.readouterr().err
    assert _adopt("ultralytics", "run", "--labels", "labels.txt") == 0


COLOURS = {"dark": [20, 20, 20], "light": [235, 235, 235], "red": [200, 60, 60], "blue": [60, 60, 200]}
GREYS = (90, 110)


def _colour_classifier(path: Path) -> None:
    """Colours by thresholds that hold for RGB pixels of 0 to 1 alone; its input may have any size."""
    weight = np.array([[-2, -2, -2], [2, 2, 2], [10, 0, -10], [-10, 0, 10], [0, 0, 0]], np.float32)
    bias = np.array([3.4, -2.6, 0, 0, 2], np.float32)
    stored = [
        numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "w"),
        numpy_helper.from_array(weight, "head"),
        numpy_helper.from_array(bias, "bias"),
    ]
    nodes = [
        helper.make_node("Conv", ["in", "w"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "head", "bias"], ["out"], transB=1),
    ]
    _write(path, nodes, stored, ["n", 3, "h", "w"], ["n", 5])


def _weights(name: str, *shape: int) -> TensorProto:
    return numpy_helper.from_array(np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32), name)


def _circle(path: Path) -> None:
    nodes = [helper.make_node("Identity", ["again"], ["out"]), helper.make_node("Identity", ["out"], ["again"])]
    _write(path, nodes, [], [1, 3, 8, 8], [1, 3])


def _write(
    path: Path,
    nodes: list[onnx.NodeProto],
    stored: list[TensorProto],
    shape: list[int | str],
    out: list[int | str],
    kind: int = TensorProto.FLOAT,
) -> None:
    inputs = [helper.make_tensor_value_info("in", kind, shape)]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, out)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)


@pytest.fixture
def colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """colours.onnx, labels.txt, and photographs of each class."""
    monkeypatch.chdir(tmp_path)
    _colour_classifier(tmp_path / "colours.onnx")
    Path("labels.txt").write_text("dark\nlight\nred\nblue\ngrey\n", encoding="utf-8")
    rng = np.random.default_rng(0)
    for number in range(60):
        name = [*COLOURS, "grey"][number % 5]
        colour = COLOURS.get(name, [GREYS[number % 2]] * 3)
        rgb = np.clip(np.array(colour) + rng.normal(0, 6, (50, 70, 3)), 0, 255).astype(np.uint8)
        Path("photos", name).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(f"photos/{name}/{number}.png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return tmp_path


ADOPT = "adopt colours.onnx --labels labels.txt --data photos --out run --preprocess"


def test_the_preprocessing_is_found_on_photographs(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*ADOPT.split(), "size=48", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["preprocess"]["name"] == "unit"
    tops = {one["preprocess"]["name"]: one["top1"] for one in done["tried"]}
    assert set(tops) == {one.name for way in KNOWN.values() for one in (way, way.swapped)}
    assert tops["unit"] == 1.0
    assert max(top1 for name, top1 in tops.items() if name != "unit") < 0.9
    classifier = toolchain.load("run/model.onnx")
    assert classifier.predict("photos/red/2.png").label == "red"
    assert read_run(Path("run")).preprocess == Preprocess(48, 48, shortest_edge=55)


@pytest.mark.parametrize("wrong", ["imagenet", "half", "raw", "caffe", "unit,colour=BGR", "mean=0.3,std=0.9"])
def test_a_wrong_preprocessing_is_named_with_what_it_costs(
    wrong: str, colours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*ADOPT.split(), f"{wrong},size=48"]) == 1
    said = capsys.readouterr().err
    assert f"--preprocess {wrong}" in said
    assert "unit is right on 1.000 of 30 photographs" in said
    assert "Use --preprocess unit" in said
    assert not Path("run").exists()


def test_a_right_preprocessing_is_kept_and_shown(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*ADOPT.split(), "unit,size=48,edge=48,resize=squash"]) == 0
    assert "Preprocessing: unit" in capsys.readouterr().out
    assert read_run(Path("run")).preprocess == Preprocess(48, 48, "squash", 48)


def test_names_in_another_order_are_noticed(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("labels.txt").write_text("grey\ndark\nblue\nlight\nred\n", encoding="utf-8")
    assert run([*ADOPT.split(), "size=48"]) == 0
    assert "no way to preprocess is better than chance" in capsys.readouterr().err


def test_without_photographs_or_a_word_it_is_asked(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["adopt", "colours.onnx", "--labels", "labels.txt", "--out", "run"]
    assert run([*words, "--preprocess", "size=48"]) == 2
    told = capsys.readouterr().err
    assert "does not tell how pixels are normalised" in told
    assert "--preprocess imagenet" in told
    shutil.copytree("photos/red", "unlabelled")
    assert run([*words, "--preprocess", "size=48", "--data", "unlabelled"]) == 2, "a folder called after no class"
    assert run([*words, "--preprocess", "unit,size=48", "--data", "unlabelled"]) == 0
    assert "they do not prove the preprocessing" in capsys.readouterr().err


def _sequence(path: Path) -> None:
    inputs = [helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, 3, 8, 8])]
    outputs = [helper.make_tensor_sequence_value_info("out", TensorProto.FLOAT, None)]
    nodes = [helper.make_node("SplitToSequence", ["in"], ["out"])]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", inputs, outputs)), path)


def _detector(path: Path) -> None:
    inputs = [helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, 3, 8, 8])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("boxes", "scores")]
    nodes = [helper.make_node("Relu", ["in"], [name]) for name in ("boxes", "scores")]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", inputs, outputs)), path)


def _with(shape: list[int | str], out: list[int | str], *operators: str, kind: int = TensorProto.FLOAT) -> Callable:
    def make(path: Path) -> None:
        names = ["in", *(f"t{number}" for number in range(1, len(operators))), "out"]
        nodes = [
            helper.make_node(operator, [names[number]], [names[number + 1]])
            for number, operator in enumerate(operators)
        ]
        _write(path, nodes, [], shape, out, kind)

    return make


BAD: dict[str, tuple[Callable, str]] = {
    "no onnx": (lambda path: path.write_bytes(b"hello"), "is not a whole ONNX file"),
    "empty": (lambda path: path.write_bytes(b""), "it holds no network"),
    "circle": (_circle, "nodes read each other's results"),
    "detector": (_detector, "has 2 outputs (boxes, scores)"),
    "sequence": (_sequence, "the operator `SplitToSequence` is none that edgetl runs"),
    "maps": (_with([1, 3, 8, 8], [1, 3, 8, 8], "Relu"), "has the shape [1, 3, 8, 8], not [batch, classes]"),
    "one channel": (_with([1, 1, 8, 8], [1, 1, 1, 1], "GlobalAveragePool"), "no batch of colour pictures"),
    "vector": (_with([1, 30], [1, 30], "Relu"), "no batch of colour pictures"),
    "batch of 4": (_with([4, 3, 8, 8], [4, 3, 1, 1], "GlobalAveragePool"), "takes 4 pictures at once"),
    "float16": (
        _with([1, 3, 8, 8], [1, 3, 1, 1], "GlobalAveragePool", kind=TensorProto.FLOAT16),
        "is float16, not float32 or uint8",
    ),
    "sigmoid": (
        _with([1, 3, 8, 8], [1, 3], "GlobalAveragePool", "Flatten", "Sigmoid"),
        "ends in a sigmoid",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_classifier(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, error = BAD[name]
    path = tmp_path / "model.onnx"
    make(path)
    (tmp_path / "labels.txt").write_text("a\nb\nc\n", encoding="utf-8")
    words = ["adopt", str(path), "--labels", str(tmp_path / "labels.txt"), "--out", str(tmp_path / "run")]
    assert run(words) == 2
    said = capsys.readouterr().err
    assert error in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("torchvision.onnx --preprocess imagenet", "does not name its 5 classes"),
        (
            "torchvision.onnx --labels short.txt --preprocess imagenet",
            "answers with 5 numbers, and there are 2 names",
        ),
        ("torchvision.onnx --labels labels.txt --preprocess size=32", "takes 64 x 64 pixels, not 32"),
        ("torchvision.onnx --labels labels.txt --preprocess imagenet,edge=20", "shortest_edge 20 is smaller"),
        ("torchvision.onnx --labels labels.txt --preprocess magic", "--preprocess does not know 'magic'"),
        ("torchvision.onnx --labels labels.txt --preprocess mean=1/2", "mean is three numbers"),
        ("torchvision.onnx --labels labels.txt --preprocess std=0", "std must be above 0"),
        ("torchvision.onnx --labels labels.txt --preprocess colour=GRB", "colour is RGB or BGR"),
        ("torchvision.onnx --labels labels.txt --preprocess resize=crop", "--preprocess: "),
        ("torchvision.onnx --weights none", "--weights are for a published network"),
        ("mobilenet_v2 --preprocess imagenet", "--preprocess is for an ONNX file"),
        ("missing.onnx", "missing.onnx does not exist"),
        ("labels.txt", "labels.txt is no ONNX file"),
        ("photos", "photos is no ONNX file"),
    ],
)
def test_slips(words: str, error: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("short.txt").write_text("a\nb\n", encoding="utf-8")
    assert run(["adopt", *words.split(), "--out", "run"]) == 2
    assert error in capsys.readouterr().err


def test_what_a_network_of_bytes_cannot_use_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = [numpy_helper.from_array(np.ones((5, 3, 1, 1), np.float32), "w")]
    nodes = [
        helper.make_node("Cast", ["in"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["floats", "w"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["out"]),
    ]
    _write(place / "bytes.onnx", nodes, stored, ["n", 3, 8, 8], ["n", 5, 1, 1], TensorProto.UINT8)
    words = ["adopt", "bytes.onnx", "--labels", "labels.txt", "--out", "run", "--preprocess"]
    assert run([*words, "imagenet"]) == 2
    assert "normalises them itself, so --preprocess imagenet has nothing to do" in capsys.readouterr().err
    for told in ("colour=BGR", "raw,edge=9"):
        shutil.rmtree("run", ignore_errors=True)
        assert run([*words, told]) == 0


def test_a_network_that_would_be_too_large_to_read_is_not_written(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolchain.artifact.MAX_ARTIFACT_BYTES", 1000)
    assert _adopt("keras") != 0
    assert "bytes, and edgetl reads 1,000 at most" in capsys.readouterr().err
    assert not Path("run").exists()


def test_weights_that_lie_elsewhere_are_missed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("torchvision.onnx.data").unlink()
    assert _adopt("torchvision") == 2
    assert "torchvision.onnx" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["predict keras.onnx photos", "bench keras.onnx", "camera keras.onnx --headless"]
)
def test_a_file_without_a_card_is_told_how_to_adopt(
    command: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command.split()) == 2
    assert "edgetl adopt keras.onnx --labels labels.txt --out RUN" in capsys.readouterr().err


def test_a_file_of_edgetl_is_not_adopted(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _adopt("keras") == 0
    assert run(["adopt", "run/model.onnx", "--out", "again"]) == 2
    assert "edgetl wrote it" in capsys.readouterr().err


def test_readers_that_need_gradients_say_so(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _adopt("keras", "run", "--quiet") == 0
    capsys.readouterr()
    for words in ("ideal run --class cup", "attack run photos/00.jpg", "features run photos/00.jpg"):
        assert run(["explain", *words.split()]) == 2
        said = capsys.readouterr().err
        assert "run was adopted from an ONNX file, which has no gradients" in said
        assert "edgetl explain why run IMAGE" in said
    assert run(["explain", "why", "run", "photos/00.jpg", "--quiet"]) == 0
    assert run(["explain", "why", "run", "photos/00.jpg", "--method", "grad-cam"]) == 2
    assert run(["predict", "run", "photos", "--device", "torch:cpu"]) == 3
    assert run(["finetune", "--resume", "run"]) == 2
    assert run(["export", "run"]) == 2
    assert "brings no photographs" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_the_whole_road_of_a_foreign_file(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _adopt(name, "run", "--data", "photos") == 0
    words = "export run --int8 --target ort:cpu --max-drop 100 --min-speed-up 0 --max-minutes 0.5"
    assert run(words.split()) == 0
    card = read_artifact(Path("run/model.int8.onnx")).card
    assert card.precision == "int8"
    assert card.recipe is not None
    assert card.recipe.calibration_n == 6
    capsys.readouterr()
    assert run(["bench", "run", "--device", "ort:cpu", "--rounds", "1", "--json"]) in {0, 4}
    assert [arm["status"] for arm in json.loads(capsys.readouterr().out)["arms"]] == ["ok", "ok"]
    assert run(["predict", "run", "photos", "--quiet"]) == 0
    assert run(["camera", "run", "--source", "photos", "--headless", "--duration", "1", "--quiet"]) == 0


def test_a_few_photographs_prove_no_preprocessing_better() -> None:
    way = next(iter(KNOWN.values()))
    right, wrong = np.ones(40, np.bool_), np.ones(40, np.bool_)
    for missed, better in ((4, False), (5, False), (6, True)):  # exactly: 0.125, 0.0625, 0.031
        wrong[:missed] = False
        assert Tried(way, right).surely_better_than(Tried(way, wrong)) == better
    assert not Tried(way, wrong).surely_better_than(Tried(way, right))


def test_a_wrong_order_of_colours_is_named_too(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a file that does not tell how pixels are normalised: the order alone decides among the ways."""
    assert run([*ADOPT.split(), "colour=BGR,size=48"]) == 1
    said = capsys.readouterr().err
    assert "--preprocess colour=BGR is right on" in said
    assert "Use --preprocess unit" in said
    assert not Path("run").exists()
    assert run([*ADOPT.split(), "colour=RGB,size=48", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["preprocess"]["name"] == "unit"


def test_a_file_that_normalises_by_itself_refuses_the_wrong_colours_too(
    colours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load("colours.onnx")
    model.graph.node.insert(0, helper.make_node("Div", ["pixels", "white"], ["in"]))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(255), "white"))
    model.graph.input[0].name = "pixels"
    onnx.save(model, "colours.onnx")
    assert run([*ADOPT.split(), "colour=BGR,size=48"]) == 1
    assert "--preprocess colour=BGR is right on" in capsys.readouterr().err
    assert not Path("run").exists()
