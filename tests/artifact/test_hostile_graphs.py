"""Networks that mean harm are refused before a runtime sees them; what edgetl and others write is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.artifacts import tiny_artifact, tiny_card, tiny_model
from toolchain.artifact import make_artifact, read_artifact, write_artifact
from toolchain.artifact.graph import check_structure
from toolchain.artifact.operators import ADOPTED, EXPORTED
from toolchain.artifact.sizes import check_sizes
from toolchain.errors import ArtifactError
from toolchain.export.raw_frame import with_raw_frame
from toolchain.images.preprocess import Preprocess

Change = Callable[[onnx.ModelProto], None]


def _number(model: onnx.ModelProto, name: str, value: Any, kind: Any = np.int64) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.array(value, kind), name))
    return name


def _bias_of(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    """Put `nodes` before all others; the sum of what the last one gives is added to the logits."""
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    before = [*nodes, helper.make_node("ReduceSum", [nodes[-1].output[0]], ["sum of it"], keepdims=0)]
    rest = list(model.graph.node)
    del model.graph.node[:]
    gemm.input[2] = "sum of it"
    rest[rest.index(next(node for node in rest if node.op_type == "Gemm"))] = gemm
    model.graph.node.extend([*before, *rest])


def _sparse_constant(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "secret")
    values.ClearField("raw_data")
    values.data_location = TensorProto.EXTERNAL
    values.external_data.add(key="location", value="secret.bin")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros(1, np.int64)), [3])
    _bias_of(model, helper.make_node("Constant", [], ["c"], sparse_value=sparse))


def _sparse_weights(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "bias")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros(1, np.int64)), [3])
    )


def _body(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(
        list(nodes),
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("go on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, []),
        ],
    )


def _loop(model: onnx.ModelProto) -> None:
    body = _body(helper.make_node("Identity", ["go"], ["go on"]), helper.make_node("Identity", ["x"], ["y"]))
    inputs = [_number(model, "times", 1 << 62), _number(model, "always", True, np.bool_), "temperature"]
    _bias_of(model, helper.make_node("Loop", inputs, ["looped"], body=body))


def _branches(model: onnx.ModelProto) -> None:
    graph = helper.make_graph([], "leaf", [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, [])])
    for _ in range(20):
        inner = helper.make_node("If", ["yes"], ["x"], then_branch=graph, else_branch=graph)
        graph = helper.make_graph([inner], "g", [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, [])])
        if graph.ByteSize() > 1 << 20:
            break
    _number(model, "yes", True, np.bool_)
    _bias_of(model, helper.make_node("If", ["yes"], ["chosen"], then_branch=graph, else_branch=graph))


def _functions(model: onnx.ModelProto) -> None:
    """Each calls the one before it twice."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    model.opset_import.append(helper.make_opsetid("own", 1))
    for depth in range(29):
        before = ("Identity", "") if depth == 0 else (f"F{depth - 1}", "own")
        nodes = [helper.make_node(before[0], [a], [b], domain=before[1]) for a, b in (("x", "m"), ("m", "y"))]
        model.functions.append(helper.make_function("own", f"F{depth}", ["x"], ["y"], nodes, opsets))
    _bias_of(model, helper.make_node("F28", ["temperature"], ["doubled"], domain="own"))


def _training(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.node.append(helper.make_node("Identity", ["x"], ["y"]))


def _constant_of_shape(model: onnx.ModelProto) -> None:
    _bias_of(model, helper.make_node("ConstantOfShape", [_number(model, "vast", [1 << 31])], ["sea"]))


def _computed_size(model: onnx.ModelProto) -> None:
    """No constant says how much it asks for."""
    _number(model, "base", [3.0e9], np.float32)
    nodes = [
        helper.make_node("Cast", ["base"], ["vast"], to=TensorProto.INT64),
        helper.make_node("ConstantOfShape", ["vast"], ["sea"]),
    ]
    _bias_of(model, *nodes)


def _doubling(operator: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        _number(model, "twice", [2])
        nodes = [helper.make_node("Reshape", ["temperature", _number(model, "one", [1])], ["x0"])]
        for step in range(29):
            other, axis = (f"x{step}", {"axis": 0}) if operator == "Concat" else ("twice", {})
            nodes.append(helper.make_node(operator, [f"x{step}", other], [f"x{step + 1}"], **axis))
        _bias_of(model, *nodes)

    return change


def _range(model: onnx.ModelProto) -> None:
    names = [_number(model, *given) for given in (("from", 0), ("to", 1 << 40), ("by", 1))]
    _bias_of(model, helper.make_node("Range", names, ["ranged"]))


def _wide_padding(model: onnx.ModelProto) -> None:
    _number(model, "kernel", np.ones((1, 1, 1, 1)), np.float32)
    nodes = [
        helper.make_node("Reshape", ["temperature", _number(model, "map", [1, 1, 1, 1])], ["x"]),
        helper.make_node("Conv", ["x", "kernel"], ["padded"], pads=[1 << 20] * 4),
    ]
    _bias_of(model, *nodes)


def _endless_work(model: onnx.ModelProto) -> None:
    """Small numbers of numbers, each from a large product; every one of the nodes is modest."""
    _number(model, "side", np.zeros((2048, 512)), np.float32)
    turned = [helper.make_node("Transpose", ["side"], ["turned"], perm=[1, 0])]
    squares = [helper.make_node("MatMul", ["side", "turned"], [f"square{step}"]) for step in range(1000)]
    _bias_of(model, *turned, *squares)


def _attention(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    _bias_of(model, helper.make_node("Attention", ["weights"] * 3, ["a"], domain="com.microsoft", num_heads=1))


def _cast_to_nowhere(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute[0].i = 999


def _weights_of_no_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].data_type = 999


def _weights_without_numbers(model: onnx.ModelProto) -> None:
    del model.graph.initializer[1].dims[:]
    model.graph.initializer[1].dims.extend([1 << 20, 1 << 20])


def _steps_of_nothing(model: onnx.ModelProto) -> None:
    _bias_of(model, helper.make_node("MaxPool", ["weights"], ["p"], kernel_shape=[1], strides=[0]))


def _random(model: onnx.ModelProto) -> None:
    _bias_of(model, helper.make_node("RandomNormal", [], ["dice"], shape=[3]))


def _strange_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[2].attribute.append(helper.make_attribute("library", "evil.so"))


def _words(model: onnx.ModelProto) -> None:
    _bias_of(model, helper.make_node("Constant", [], ["c"], value_strings=["a", "b"]))


def _batch_of_four(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


HOSTILE: dict[str, tuple[Change, str]] = {
    "sparse constant": (_sparse_constant, "sparse_value"),
    "sparse weights": (_sparse_weights, "sparse weights"),
    "loop": (_loop, "`Loop` holds more than numbers"),
    "nested branches": (_branches, "`If` holds more than numbers"),
    "functions that double": (_functions, "holds functions"),
    "training": (_training, "training graph"),
    "constant of shape": (_constant_of_shape, "too large"),
    "size that is computed": (_computed_size, "cannot be told"),
    "doubled by concat": (_doubling("Concat"), "too large"),
    "doubled by tile": (_doubling("Tile"), "too large"),
    "range": (_range, "too large"),
    "wide padding": (_wide_padding, "too large|2\\^40"),
    "endless work": (_endless_work, "multiplications|too large"),
    "another runtime's operator": (_attention, "com.microsoft.Attention"),
    "cast to no type": (_cast_to_nowhere, "type 999"),
    "weights of no type": (_weights_of_no_type, "of a type"),
    "weights that are not there": (_weights_without_numbers, "are not the"),
    "strides of 0": (_steps_of_nothing, "`strides`"),
    "random numbers": (_random, "RandomNormal"),
    "strange attribute": (_strange_attribute, "no attribute `library`"),
    "words": (_words, "value_strings"),
    "fixed batch": (_batch_of_four, "4 pictures at once"),
}


@pytest.mark.parametrize(("change", "said"), HOSTILE.values(), ids=HOSTILE.keys())
def test_harm_is_refused_before_a_runtime_loads_it(change: Change, said: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = onnx.load_model_from_string(tiny_artifact(path).model)
    change(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match=said):
        read_artifact(path)


SPEC = Preprocess(32, 32, shortest_edge=40)


@pytest.mark.parametrize("spec", [SPEC, Preprocess(32, 32, "squash", 32)], ids=["shortest edge", "squash"])
@pytest.mark.parametrize("interpolation", ["area", "linear"])
def test_frames_of_any_size_are_taken(spec: Preprocess, interpolation: Any, tmp_path: Path) -> None:
    spec = Preprocess(spec.height, spec.width, spec.resize, spec.shortest_edge, interpolation)
    card = tiny_card(input="frame", preprocess=spec)
    make_artifact(with_raw_frame(tiny_model(), spec), card, tmp_path / "m.onnx")


def _outer_product(model: onnx.ModelProto) -> None:
    """As many numbers as the third power of a frame's side."""
    nodes = [helper.make_node("Unsqueeze", ["frame_y_pixels", _number(model, "last", [2])], ["column"])]
    nodes.append(helper.make_node("MatMul", ["column", "frame_y_pixels"], ["square"]))
    nodes.append(helper.make_node("Unsqueeze", ["square", _number(model, "end", [3])], ["square column"]))
    nodes.append(helper.make_node("MatMul", ["square column", "frame_y_pixels"], ["cube"]))
    place = next(i for i, node in enumerate(model.graph.node) if "frame_y_pixels" in node.output) + 1
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*rest[:place], *nodes, *rest[place:]])


def _range_beyond_the_frame(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.output[0] == "frame_y_pixels_integer")
    node.input[1] = "frame_y_times"


@pytest.mark.parametrize(
    ("change", "said"), [(_outer_product, "too large"), (_range_beyond_the_frame, "cannot be told")]
)
def test_sizes_of_frames_of_any_size_are_bounded(change: Change, said: str) -> None:
    model = with_raw_frame(tiny_model(), SPEC)
    change(model)
    with pytest.raises(ArtifactError, match=said):
        check_sizes(model, Path("m.onnx"), None)


@pytest.mark.parametrize("times", [1, 40])
def test_weights_may_be_larger_than_what_is_computed_but_not_read_for_ever(times: int, tmp_path: Path) -> None:
    """VGG's first hidden layer has 103 million weights; as integers they are read before they are used."""
    model = tiny_model()
    shape = (1, (1 << 26) + 1)
    weights = numpy_helper.from_array(np.zeros(shape, np.int8), "stored")
    reads = [
        helper.make_node("DequantizeLinear", ["stored", _number(model, f"s{n}", 0.1, np.float32)], [f"read{n}"])
        for n in range(times)
    ]
    model.graph.initializer.append(weights)
    _bias_of(model, *reads)
    if times == 1:
        check_sizes(model, tmp_path / "m.onnx", (32, 32))
        return
    with pytest.raises(ArtifactError, match="too large"):
        check_sizes(model, tmp_path / "m.onnx", (32, 32))


def test_adopted_files_may_hold_more_than_exported_ones() -> None:
    assert EXPORTED[""] < ADOPTED[""]
    assert set(EXPORTED) == {""}
    model = tiny_model()
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    cast = model.graph.node[0]
    cast.output[0] = "raw pixels"
    model.graph.node.insert(1, helper.make_node("Gelu", ["raw pixels"], ["pixels"], domain="com.microsoft"))
    check_structure(model, ADOPTED, Path("m.onnx"))
    check_sizes(model, Path("m.onnx"), (32, 32))
    with pytest.raises(ArtifactError, match=r"com\.microsoft\.Gelu"):
        check_structure(model, EXPORTED, Path("m.onnx"))


def test_a_file_may_hold_the_operators_of_others_only_if_its_card_says_that_it_was_adopted(tmp_path: Path) -> None:
    model = tiny_model()
    cast = model.graph.node[0]
    cast.output[0] = "raw pixels"
    model.graph.node.insert(1, helper.make_node("ThresholdedRelu", ["raw pixels"], ["pixels"]))
    card = tiny_card()
    with pytest.raises(ArtifactError, match="ThresholdedRelu"):
        make_artifact(model, card, tmp_path / "model.onnx")
    write_artifact(model, replace(card, source=replace(card.source, adopted=True)), tmp_path / "model.onnx")
    assert read_artifact(tmp_path / "model.onnx").card.source.adopted


def test_every_standard_operator_of_the_lists_exists_and_takes_no_graph() -> None:
    schemas = {schema.name: schema for schema in onnx.defs.get_all_schemas() if not schema.domain}
    missing = ADOPTED[""] - set(schemas)
    assert missing <= {"Attention", "RMSNormalization", "RotaryEmbedding", "Swish"}, "newer than the oldest onnx"
    graph = onnx.defs.OpSchema.AttrType.GRAPH
    for name in ADOPTED[""] - missing:
        assert all(attribute.type != graph for attribute in schemas[name].attributes.values()), name
