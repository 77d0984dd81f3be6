"""A run as LiteRT's files: the same card, the same weights and integers, the same answers."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

pytest.importorskip("ai_edge_litert")

from tests.artifacts import tiny_artifact
from tests.conftest import Recorder, lively
from toolchain.artifact import Artifact, find_artifacts, read_artifact
from toolchain.artifact.tflite import Network
from toolchain.artifact.tflite.reading import read_network
from toolchain.artifact.tflite.writing import write
from toolchain.errors import BadInputError
from toolchain.export import variants
from toolchain.export.exporting import export
from toolchain.export.int8.quantisers import Task, recipes
from toolchain.export.int8.rewrites import integer_hard_swish, read_pixels
from toolchain.export.litert import make_tflite
from toolchain.export.litert.building import UntranslatableError
from toolchain.export.litert.translate import _TRANSLATIONS, translate
from toolchain.export.onnx_writer import to_onnx
from toolchain.export.results import QuantizationSettings, Variants
from toolchain.export.variants import _plainest
from toolchain.images.preprocess import Preprocess
from toolchain.runs.ready_made import ready_made_artifact
from toolchain.runtimes import open_runtime

SMALL = Preprocess(height=64, width=64, shortest_edge=64)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small float file and the ready-made int8 file, and both as LiteRT's files."""
    folder = tmp_path_factory.mktemp("litert")
    tiny_artifact(folder / "model.onnx")
    shutil.copy(ready_made_artifact(), folder / "model.int8.onnx")
    for name in ("model.onnx", "model.int8.onnx"):
        artifact = read_artifact(folder / name)
        path = artifact.path.with_suffix(".tflite")
        path.write_bytes(make_tflite(artifact.model, artifact.card, path).model)
    return folder


def _pair(folder: Path, name: str) -> tuple[Artifact, Artifact]:
    onnx_file, tflite = (read_artifact(folder / f"{name}{suffix}") for suffix in (".onnx", ".tflite"))
    return onnx_file, tflite


def _images(count: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, side, side, 3), np.uint8)


@pytest.mark.slow
def test_export_measures_both_files_and_tells_how_near_they_are(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(exported, folder)
    int8 = QuantizationSettings(max_drop_pp=100, min_speed_up=0, max_minutes=0.01)
    done = export(folder, int8=int8, further=Variants(litert=True))
    float_file, int8_file = done.further
    assert [one.file for one in done.further] == [str(folder / "model.tflite"), str(folder / "model.int8.tflite")]
    assert (float_file.format, float_file.broken, int8_file.broken) == ("tflite", None, None)
    assert float_file.as_onnx == 1.0
    assert int8_file.as_onnx is not None
    assert int8_file.as_onnx >= 0.99
    for name in ("model", "model.int8"):
        onnx_file, tflite = _pair(folder, name)
        assert tflite.card.runtimes == ("litert:cpu",)
        own = [entry for entry in tflite.card.accuracy if entry.device == "litert:cpu"]
        assert [entry.precision for entry in own] == [tflite.card.precision]
        assert replace(tflite.card, accuracy=(), runtimes=()) == replace(onnx_file.card, accuracy=(), runtimes=())


@pytest.mark.slow
def test_what_is_not_translated_is_told_and_the_rest_is_written(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(_TRANSLATIONS, "Clip")  # type: ignore[arg-type]
    folder = tmp_path / "run"
    shutil.copytree(exported, folder)
    done = export(folder, further=Variants(litert=True))
    [written] = done.further
    assert written.broken == "model.tflite was not written: the operator Clip is not translated to LiteRT"
    assert not (folder / "model.tflite").exists()
    assert (folder / "model.onnx").exists()


def test_the_litert_file_of_another_export_is_set_aside(tmp_path: Path) -> None:
    context = SimpleNamespace(path=tiny_artifact(tmp_path / "model.onnx").path, reporter=Recorder())
    own = tiny_artifact(tmp_path / "model.int8.ort.onnx", precision="int8", runtimes=("ort:cpu",)).path
    before = tmp_path / "model.int8.tflite"
    before.write_bytes(b"of before")
    for common, others in ((False, []), (True, ["model.int8.tflite.older"])):
        if common:
            tiny_artifact(tmp_path / "model.int8.onnx", precision="int8", runtimes=("openvino:CPU",))
        drafts = variants._drafts(Variants(litert=True), context, [own])  # type: ignore[arg-type]
        assert [draft.path.name for draft in drafts] == ["model.tflite", "model.int8.tflite"]
        assert [path.name for path in tmp_path.glob("*.older")] == others


def test_a_run_folder_stands_for_its_litert_files_too(converted: Path) -> None:
    names = ["model.onnx", "model.int8.onnx", "model.tflite", "model.int8.tflite"]
    assert [path.name for path in find_artifacts(converted)] == names


@pytest.mark.parametrize("name", ["model", "model.int8"])
def test_card_is_that_of_the_onnx_file(converted: Path, name: str) -> None:
    onnx_file, tflite = _pair(converted, name)
    assert onnx_file.card == tflite.card


def test_int8_holds_the_same_integers(converted: Path) -> None:
    """Weights as they are, activations 128 less, and nothing calibrated anew."""
    onnx_file, tflite = _pair(converted, "model.int8")
    graph = onnx.load_model_from_string(onnx_file.model).graph
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    network = read_network(tflite.model, tflite.path)
    theirs = sorted(
        one.transpose(1, 2, 3, 0).tobytes() if one.ndim == 4 and one.shape[1] == 1
        else one.transpose(0, 2, 3, 1).tobytes() if one.ndim == 4 else one.tobytes()
        for one in constants.values() if one.dtype == np.int8 and one.ndim > 1
    )  # fmt: skip
    ours = [one for one in network.tensors if one.values is not None and one.type == "int8"]
    assert sorted(one.values.tobytes() for one in ours if one.values is not None) == theirs
    grids = {
        node.input[0]: (constants[node.input[1]].item(), int(constants[node.input[2]]) - 128)
        for node in graph.node
        if node.op_type == "QuantizeLinear"
    }
    made = {
        (one.scales[0].item(), int(one.zero_points[0]))
        for one in network.tensors
        if one.type == "int8" and one.values is None
    }
    assert set(grids.values()) <= made
    biases = {one.tobytes() for name, one in constants.items() if name.endswith("_bias_int32")}
    kept = {one.values.tobytes() for one in network.tensors if one.values is not None and one.type == "int32"}
    assert len(biases - kept) <= 1, "that of the last layer, which answers in floats"
    convolutions = [one for one in network.operators if "CONV_2D" in one.kind]
    assert {network.tensors[one.outputs[0]].type for one in convolutions} == {"int8"}


def test_integers_on_the_way_are_those_of_onnx_runtime(converted: Path) -> None:
    model = onnx.load(converted / "model.int8.onnx")
    pairs = _integers(model, translate(model), _images(1, 224))
    assert len(pairs) > 60
    for ours, theirs in pairs.values():
        apart = np.abs(ours.astype(np.int16) - theirs)
        assert apart.max() <= 2
        assert (apart > 0).mean() < 0.01


def test_int8_answers_are_those_of_onnx_runtime(converted: Path) -> None:
    """Both round sums of products, which are whole numbers, alike. Where maps are added, they may not."""
    pair, images = _pair(converted, "model.int8"), _images(6, 224)
    answers = [
        open_runtime(one, device, unproven=True).infer(images).logits
        for one, device in zip(pair, ("ort:cpu", "litert:cpu"), strict=True)
    ]
    assert (answers[0].argmax(1) == answers[1].argmax(1)).all()
    np.testing.assert_allclose(answers[1], answers[0], atol=0.03 * np.abs(answers[0]).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v2",
        "mobilenet_v3_small",
        "mobilenet_v3_large",
        "resnet18",
        "resnet50",
        "vgg16",
        "timm:tf_efficientnet_lite0",
        "timm:efficientnet_b0",
    ],
)
def test_other_networks_answer_as_on_onnx_runtime(tmp_path: Path, name: str) -> None:
    model = to_onnx(lively(name, 3, seed=0), SMALL, 1.7)
    source = tiny_artifact(tmp_path / "tiny.onnx")
    card = replace(source.card, preprocess=SMALL)
    answer = open_runtime(
        make_tflite(model.SerializeToString(), card, tmp_path / "model.tflite"), "litert:cpu"
    ).infer(_images(2))
    onnx.save(model, tmp_path / "model.onnx")
    [logits] = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(["logits"], {"image": _images(2)})
    np.testing.assert_allclose(answer.logits, logits, atol=1e-4 * np.abs(logits).max(), rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("label", ["NNCF, fast bias correction", "ONNX Runtime, min-max"])
def test_files_of_other_quantisers_hold_their_integers_too(label: str) -> None:
    """Up to where maps are added first: there both round in other places."""
    images = _images(8)
    model = to_onnx(lively("mobilenet_v2", 7, seed=0), SMALL, 1.7)
    recipe = next(one for one in recipes(Task(model, images)) if one.label == label)
    quantised = recipe.make().model
    network = translate(quantised)
    kinds = [one.kind for one in network.operators]
    assert {network.tensors[one.outputs[0]].type for one in network.operators if "CONV_2D" in one.kind} == {"int8"}
    pairs = _integers(quantised, network, images[:1])
    before = [name for name in pairs if kinds.index("ADD") > _maker(network, name)]
    assert len(before) > 8
    for name in before:
        np.testing.assert_array_equal(*pairs[name])


def test_what_is_spelt_for_onnx_runtime_is_told_apart() -> None:
    """A zero point for each colour has no translation; the plainer int8 file of an export is translated instead."""
    model = to_onnx(lively("mobilenet_v3_small", 7, seed=0), SMALL, 1.7)
    with pytest.raises(UntranslatableError, match="zero point for each"):
        translate(read_pixels(model))
    files = [Path(f"model.int8.{name}.onnx") for name in ("ort", "openvino")]
    assert _plainest(files) == [files[1]]
    assert _plainest([*files, Path("model.int8.onnx")]) == [Path("model.int8.onnx")]
    assert _plainest(files[:1]) == files[:1]


def _maker(network: Network, name: str) -> int:
    """Which operator makes the tensor."""
    return next(
        place for place, one in enumerate(network.operators) if network.tensors[one.outputs[0]].name == name
    )


def _integers(
    model: onnx.ModelProto, network: Network, image: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The integers on the way, on ONNX Runtime and on LiteRT, where both have them: uint8 [n, channels, ...]."""
    from ai_edge_litert.interpreter import Interpreter

    made = {one.name for one in network.tensors if one.type == "int8" and one.values is None}
    names = [
        node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear" and node.output[0] in made
    ]
    told = onnx.ModelProto()
    told.CopyFrom(model)
    told.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None) for name in names)
    theirs = onnxruntime.InferenceSession(told.SerializeToString()).run(names, {"image": image})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is for debugging, it says
        interpreter = Interpreter(model_content=write(network, {}), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    places = {one["name"]: one["index"] for one in interpreter.get_tensor_details()}
    ours = [(interpreter.get_tensor(places[name]).astype(np.int16) + 128).astype(np.uint8) for name in names]
    return {
        name: (one.transpose(0, 3, 1, 2) if one.ndim == 4 else one, other)
        for name, one, other in zip(names, ours, theirs, strict=True)
    }


def _graph(*nodes: onnx.NodeProto, **constants: np.ndarray) -> onnx.ModelProto:
    """`nodes` make `maps` of `pixels`, [n, 3, 12, 16]; their mean is multiplied to `logits`."""
    around = [
        helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["turned"], ["pixels"], to=onnx.TensorProto.FLOAT),
        *nodes,
        helper.make_node("ReduceMean", ["maps", "axes"], ["mean"], keepdims=0),
        helper.make_node("Gemm", ["mean", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    known = {"axes": np.array([2, 3]), "weights": np.eye(3, dtype=np.float32), **constants}
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 3])
        for name in ("logits", "probabilities")
    ]
    image = helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["batch", 12, 16, 3])
    tensors = [numpy_helper.from_array(value, name) for name, value in known.items()]
    graph = helper.make_graph(around, "operators", [image], ends, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


DICE = np.random.default_rng(1)
KERNEL = DICE.normal(size=(3, 3, 3, 3)).astype(np.float32) / 100
NODES: dict[str, list[onnx.NodeProto]] = {
    "stride and padding of both sides": [
        helper.make_node("Conv", ["pixels", "k"], ["maps"], strides=[2, 2], pads=[1] * 4)
    ],
    "stride and padding as TensorFlow's": [
        helper.make_node("Conv", ["pixels", "k"], ["maps"], strides=[2, 2], pads=[0, 0, 1, 1])
    ],
    "padding of one side": [helper.make_node("Conv", ["pixels", "k"], ["maps"], pads=[2, 0, 0, 1])],
    "dilation": [helper.make_node("Conv", ["pixels", "k"], ["maps"], dilations=[2, 2], pads=[2] * 4)],
    "depthwise": [helper.make_node("Conv", ["pixels", "d"], ["maps"], group=3, pads=[1] * 4)],
    "a convolution and relu6": [
        helper.make_node("Conv", ["pixels", "k"], ["c"]),
        helper.make_node("Clip", ["c", "zero", "six"], ["maps"]),
    ],
    "other limits": [helper.make_node("Clip", ["pixels", "six", "hundred"], ["maps"])],
    "an upper limit": [helper.make_node("Clip", ["pixels", "", "hundred"], ["maps"])],
    "hard-swish": [
        helper.make_node("Mul", ["pixels", "small"], ["s"]),
        helper.make_node("HardSwish", ["s"], ["maps"]),
    ],
    "hard-sigmoid": [
        helper.make_node("Mul", ["pixels", "small"], ["s"]),
        helper.make_node("HardSigmoid", ["s"], ["maps"], alpha=1 / 6, beta=0.5),
    ],
    "a swish": [
        helper.make_node("Mul", ["pixels", "small"], ["s"]),
        helper.make_node("Sigmoid", ["s"], ["g"]),
        helper.make_node("Mul", ["s", "g"], ["maps"]),
    ],
    "squeeze and excitation": [
        helper.make_node("GlobalAveragePool", ["pixels"], ["p"]),
        helper.make_node("Conv", ["p", "one"], ["g"]),
        helper.make_node("Mul", ["pixels", "g"], ["maps"]),
    ],
    "a constant for each channel": [helper.make_node("Sub", ["pixels", "means"], ["maps"])],
    "a constant first": [helper.make_node("Sub", ["means", "pixels"], ["maps"])],
    "a pool of largest values with padding": [
        helper.make_node("Relu", ["pixels"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["maps"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    ],
    "a pool of means": [helper.make_node("AveragePool", ["pixels"], ["maps"], kernel_shape=[2, 2], strides=[2, 2])],
    "channels beside each other": [
        helper.make_node("Concat", ["pixels", "pixels"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "two"], ["maps"]),
    ],
    "padding alone": [helper.make_node("Pad", ["pixels", "amounts"], ["maps"])],
}  # fmt: skip
CONSTANTS = {
    "k": KERNEL,
    "d": KERNEL[:, :1],
    "one": KERNEL[:, :, :1, :1],
    "two": DICE.normal(size=(3, 6, 1, 1)).astype(np.float32),
    "means": np.array([1, 2, 3], np.float32).reshape(3, 1, 1),
    "small": np.array(0.02, np.float32),
    "zero": np.array(0, np.float32),
    "six": np.array(6, np.float32),
    "hundred": np.array(100, np.float32),
    "amounts": np.array([0, 0, 1, 2, 0, 0, 3, 0]),
}


def _answer(network: Network, image: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=write(network, {}))
    runner = interpreter.get_signature_runner("serving_default")
    return np.asarray(runner(image=image)["logits"])


@pytest.mark.parametrize("name", NODES)
def test_operators_compute_the_same(name: str) -> None:
    model = _graph(*NODES[name], **CONSTANTS)
    image = np.random.default_rng(2).integers(0, 256, (1, 12, 16, 3), np.uint8)
    expected = ReferenceEvaluator(model).run(["logits"], {"image": image})[0]
    np.testing.assert_allclose(_answer(translate(model), image), expected, rtol=1e-4, atol=1e-4)


def _rounded(name: str, source: str, grid: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [source, f"{grid}_scale", f"{grid}_zero"], [f"{name}_integers"]),
        helper.make_node("DequantizeLinear", [f"{name}_integers", f"{grid}_scale", f"{grid}_zero"], [name]),
    ]


GRIDS = {
    "swish_scale": np.array(3 / 60, np.float32),
    "swish_zero": np.array(60, np.uint8),
    "answer_scale": np.array(10 / 255, np.float32),
    "answer_zero": np.array(10, np.uint8),
    "channel_scales": np.array([0.05, 0.1, 0.2], np.float32),
    "channel_zeros": np.array([60, 0, 255], np.uint8),
}


def _on_onnxruntime(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return np.asarray(
        onnxruntime.InferenceSession(model.SerializeToString(), options).run(["logits"], {"image": image})[0]
    )


def test_integer_hard_swish_reads_the_same_integers_on_another_grid() -> None:
    nodes = [
        helper.make_node("Mul", ["pixels", "small"], ["s"]),
        *_rounded("x", "s", "swish"),
        helper.make_node("HardSwish", ["x"], ["y"]),
        *_rounded("maps", "y", "answer"),
    ]
    model = integer_hard_swish(_graph(*nodes, **CONSTANTS, **GRIDS))
    assert "HardSwish" not in {node.op_type for node in model.graph.node}
    image = np.random.default_rng(2).integers(0, 256, (1, 12, 16, 3), np.uint8)
    expected = _on_onnxruntime(model, image)
    np.testing.assert_allclose(_answer(translate(model), image), expected, atol=0.5 * float(GRIDS["answer_scale"]))


def test_integers_are_read_with_a_scale_for_each_channel() -> None:
    nodes = [
        helper.make_node("Mul", ["pixels", "small"], ["s"]),
        _rounded("x", "s", "swish")[0],
        helper.make_node("DequantizeLinear", ["x_integers", "channel_scales", "channel_zeros"], ["maps"], axis=1),
    ]
    model = _graph(*nodes, **CONSTANTS, **GRIDS)
    image = np.random.default_rng(2).integers(0, 256, (1, 12, 16, 3), np.uint8)
    expected = _on_onnxruntime(model, image)
    np.testing.assert_allclose(_answer(translate(model), image), expected, rtol=1e-4, atol=0.01)


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([helper.make_node("Erf", ["pixels"], ["maps"])], "the operator Erf is not translated"),
        ([helper.make_node("MaxPool", ["pixels"], ["maps"], kernel_shape=[3, 3], pads=[1] * 4)], "not below 0"),
        ([helper.make_node("Transpose", ["pixels"], ["maps"], perm=[0, 1, 3, 2])], "turns axes"),
        ([helper.make_node("Conv", ["pixels", "pixels"], ["maps"])], "are computed"),
        ([helper.make_node("Pad", ["pixels", "amounts"], ["maps"], mode="reflect")], "pads in a way"),
    ],
)  # fmt: skip
def test_what_has_no_translation_is_told(nodes: list[onnx.NodeProto], says: str) -> None:
    with pytest.raises(UntranslatableError, match=says):
        translate(_graph(*nodes, **CONSTANTS))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [({"target": "litert:cpu"}, "runs no ONNX files"), ({"out": Path("model.tflite")}, "is LiteRT's")],
)
def test_wrong_words_are_told(run_folder: Path, arguments: dict[str, object], says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        export(run_folder, **arguments)  # type: ignore[arg-type]
