"""Rewrites for ONNX Runtime's kernels: other operators, the same answers, and integers where there were floats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import lively
from toolchain.export.int8.equalization import equalize
from toolchain.export.int8.gating import gate_loud_channels
from toolchain.export.int8.qdq import write_qdq
from toolchain.export.int8.quantize import Scheme, quantize_graph
from toolchain.export.int8.rewrites import (
    for_onnxruntime,
    integer_hard_swish,
    integer_pool,
    merge_pixels,
    pad_channels,
    read_pixels,
)
from toolchain.export.int8.rewrites.float_layers import keep_float
from toolchain.export.int8.sensitivity import Sensitivity
from toolchain.export.int8.torch_graph import Graph
from toolchain.export.onnx_writer import to_onnx
from toolchain.images.preprocess import Preprocess

SMALL = Preprocess(height=64, width=64, shortest_edge=64)
IMAGES = np.random.default_rng(3).integers(0, 256, (6, 64, 64, 3), np.uint8)
ALL_INTEGERS = Scheme(swish=True, squeeze=True)
FLOAT_REWRITES = {"pool": integer_pool, "pad": pad_channels, "pixels": merge_pixels}


@pytest.fixture(scope="module", params=["mobilenet_v2", "mobilenet_v3_small"])
def model(request: pytest.FixtureRequest) -> onnx.ModelProto:
    return to_onnx(lively(request.param, 7, seed=0), SMALL, 1.7)


@pytest.fixture(scope="module")
def integers(model: onnx.ModelProto) -> onnx.ModelProto:
    return write_qdq(model, quantize_graph(Graph(model), IMAGES, ALL_INTEGERS))


def _run(model: onnx.ModelProto, feeds: dict[str, np.ndarray], name: str, *, optimise: bool = True) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run([name], feeds)[0]
    return found


def _operators(model: onnx.ModelProto, folder: Path) -> list[str]:
    """What ONNX Runtime makes of a model."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]


@pytest.mark.parametrize("rewrite", FLOAT_REWRITES.values(), ids=FLOAT_REWRITES.keys())
def test_float_network_answers_as_before(model: onnx.ModelProto, rewrite: object) -> None:
    before = model.SerializeToString()
    rewritten = rewrite(model)  # type: ignore[operator]
    assert model.SerializeToString() == before, "the original stays as it is"
    onnx.checker.check_model(rewritten, full_check=True)
    exact, ours = (_run(one, {"image": IMAGES}, "logits") for one in (model, rewritten))
    assert np.abs(ours - exact).max() < 1e-5 * np.abs(exact).max()


@pytest.mark.parametrize("rewrite", FLOAT_REWRITES.values(), ids=FLOAT_REWRITES.keys())
def test_integers_stay_the_same(integers: onnx.ModelProto, rewrite: object) -> None:
    rewritten = rewrite(integers)  # type: ignore[operator]
    onnx.checker.check_model(rewritten, full_check=True)
    exact, ours = (_run(one, {"image": IMAGES}, "logits", optimise=False) for one in (integers, rewritten))
    apart = np.linalg.norm(ours - exact, axis=1) / np.linalg.norm(exact, axis=1)
    # A mean that falls on the other side of a half moves everything behind it; most photographs have none.
    assert np.median(apart) < 1e-5


@pytest.mark.parametrize("zero", [3, 21, 60, 100, 127])
@pytest.mark.parametrize("optimise", [False, True])
def test_hard_swish_is_within_one_step_for_all_integers(zero: int, optimise: bool) -> None:
    scale = np.float32(3 / zero)
    exact = np.arange(256, dtype=np.float32) - zero
    exact = exact * scale
    exact = exact * np.clip(exact / 6 + 0.5, 0, 1)
    step = np.float32(max(exact.max() - exact.min(), 1e-3) / 255)
    out_zero = round(-float(exact.min()) / float(step))
    constants = {"s": scale, "z": np.uint8(zero), "s2": step, "z2": np.uint8(out_zero)}
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["x"]),
            helper.make_node("HardSwish", ["x"], ["y"]),
            helper.make_node("QuantizeLinear", ["y", "s2", "z2"], ["out"]),
        ],
        "g",
        [helper.make_tensor_value_info("q", TensorProto.UINT8, [1, 256])],
        [helper.make_tensor_value_info("out", TensorProto.UINT8, [1, 256])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    rewritten = integer_hard_swish(model)
    assert "HardSwish" not in {node.op_type for node in rewritten.graph.node}
    feeds = {"q": np.arange(256, dtype=np.uint8)[None]}
    ours = _run(rewritten, feeds, "out", optimise=optimise)[0].astype(int)
    wanted = np.clip(np.round(exact / step) + out_zero, 0, 255).astype(int)
    assert np.abs(ours - wanted).max() <= 1


@pytest.mark.parametrize(("scale", "zero"), [(0.1, 20), (3 / 200, 200)], ids=["-3 is no integer", "short range"])
def test_hard_swish_that_would_be_further_off_stays(scale: float, zero: int) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["x"]),
            helper.make_node("HardSwish", ["x"], ["y"]),
            helper.make_node("QuantizeLinear", ["y", "s2", "z2"], ["out"]),
        ],
        "g",
        [helper.make_tensor_value_info("q", TensorProto.UINT8, [1, 8])],
        [helper.make_tensor_value_info("out", TensorProto.UINT8, [1, 8])],
        [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in {
                "s": np.float32(scale),
                "z": np.uint8(zero),
                "s2": np.float32(0.9 / 255),
                "z2": np.uint8(106),
            }.items()
        ],
    )
    model = helper.make_model(graph)
    assert integer_hard_swish(model) == model


def test_pixels_are_read_with_the_mean_as_zero_point(model: onnx.ModelProto) -> None:
    """Means that are no integers show at the edges only, where the convolution puts zeros around the picture."""
    start = onnx.ModelProto()
    start.CopyFrom(model)
    start.graph.output.append(helper.make_tensor_value_info("conv2d", TensorProto.FLOAT, list("nchw")))
    rewritten = read_pixels(start)
    onnx.checker.check_model(rewritten, full_check=True)
    assert not {"Cast", "Sub"} & {node.op_type for node in rewritten.graph.node}
    exact, ours = (_run(one, {"image": IMAGES}, "conv2d") for one in (start, rewritten))
    inside = np.s_[..., 1:-1, 1:-1]
    assert np.abs(ours - exact)[inside].max() < 1e-5 * np.abs(exact).max()
    [weight] = [tensor for tensor in start.graph.initializer if tensor.name == start.graph.node[3].input[1]]
    half_a_step = 0.5 * np.abs(numpy_helper.to_array(weight)).sum((1, 2, 3)).max()
    assert 0 < np.abs(ours - exact).max() < half_a_step


@pytest.mark.parametrize("mean", [-1.0, 256.0])
def test_pixels_whose_mean_is_no_byte_stay(model: onnx.ModelProto, mean: float) -> None:
    start = onnx.ModelProto()
    start.CopyFrom(model)
    [stored] = [tensor for tensor in start.graph.initializer if tensor.name == "mean"]
    stored.CopyFrom(numpy_helper.from_array(np.full((3, 1, 1), mean, np.float32), "mean"))
    assert read_pixels(start) == start


def test_a_bias_that_others_read_stays_as_it_is_for_them(model: onnx.ModelProto) -> None:
    start = onnx.ModelProto()
    start.CopyFrom(model)
    [first] = [node for node in start.graph.node if node.output[0] == "conv2d"]
    start.graph.node.append(helper.make_node("Identity", [first.input[2]], ["same"]))
    start.graph.output.append(helper.make_tensor_value_info("same", TensorProto.FLOAT, ["c"]))
    exact, ours = (_run(one, {"image": IMAGES}, "same") for one in (start, read_pixels(start)))
    assert np.array_equal(ours, exact)


def test_pixels_that_are_integers_already_stay(integers: onnx.ModelProto) -> None:
    assert read_pixels(integers) == integers


def test_onnx_runtime_computes_it_all_in_integers(
    model: onnx.ModelProto, integers: onnx.ModelProto, tmp_path: Path
) -> None:
    rewritten, applied = for_onnxruntime(integers)
    swishes = any(node.op == "HardSwish" for node in Graph(model).nodes)
    assert ("integer hard-swish" in applied) == swishes
    assert {"integer pooling", "merged pixels"} <= set(applied)
    operators = _operators(rewritten, tmp_path)
    assert not {"HardSwish", "ReduceMean", "Conv", "Mul"} & set(operators)
    assert operators.count("QLinearConv") == sum(node.op == "Conv" for node in Graph(model).nodes)
    depthwise = [node.attribute for node in rewritten.graph.node if node.op_type == "Conv"]
    groups = [entry.i for found in depthwise for entry in found if entry.name == "group" and entry.i > 1]
    assert groups
    assert all(group % 16 == 0 for group in groups)


def test_rewritten_file_answers_as_the_plain_one(integers: onnx.ModelProto) -> None:
    rewritten, _ = for_onnxruntime(integers)
    onnx.checker.check_model(rewritten, full_check=True)
    plain, ours = (_run(one, {"image": IMAGES}, "logits") for one in (integers, rewritten))
    # These networks were never trained to bear a step more or less.
    assert np.linalg.norm(ours - plain) < 0.3 * np.linalg.norm(plain)
    single = _run(rewritten, {"image": IMAGES[:1]}, "logits")
    assert np.allclose(single, ours[:1], atol=1e-4 * np.abs(ours).max()), "any number of photographs"


@pytest.mark.parametrize(
    ("rewrite", "symmetric"),
    [(lambda model: (model, []), False), (for_onnxruntime, False), (lambda model: (model, []), True)],
    ids=["plain", "rewritten", "symmetric"],
)
def test_layers_in_float_stay_float_on_onnx_runtime(
    model: onnx.ModelProto, rewrite: object, symmetric: bool, tmp_path: Path
) -> None:
    """It would round the weights of each to int8, with one scale for all, and compute in integers."""
    graph = Graph(model)
    chosen = frozenset([node.name for node in graph.nodes if node.is_depthwise][1:4])
    integers = write_qdq(model, quantize_graph(graph, IMAGES, Scheme(float_layers=chosen, symmetric=symmetric)))
    written, _ = rewrite(integers)  # type: ignore[operator]
    kept = keep_float(written)
    onnx.checker.check_model(kept, full_check=True)
    operators = [_operators(one, tmp_path).count("QLinearConv") for one in (written, kept)]
    convolutions = sum(node.op_type == "Conv" for node in kept.graph.node)
    assert operators[1] <= convolutions - len(chosen)
    if not symmetric:  # with int8 activations it rounds the weights, and computes in float
        assert operators[0] > operators[1], "ONNX Runtime has changed: is the rewrite still needed?"
    exact, ours = (_run(kept, {"image": IMAGES}, "logits", optimise=one) for one in (False, True))
    np.testing.assert_allclose(
        _run(written, {"image": IMAGES}, "logits", optimise=False), exact, atol=1e-3 * np.abs(exact).max()
    )
    assert np.linalg.norm(ours - exact) < (0.5 if symmetric else 0.3) * np.linalg.norm(exact)
    rounded = _run(written, {"image": IMAGES}, "logits")
    assert np.linalg.norm(ours - exact) < (0.95 if symmetric else 0.8) * np.linalg.norm(rounded - exact)


def test_gated_network_answers_as_before_and_loses_its_spread() -> None:
    model = to_onnx(lively("mobilenet_v3_small", 7, seed=0), SMALL, 1.7)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "body.0.0.weight")
    values = numpy_helper.to_array(weight).copy()
    values[0] *= 40
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    gated = gate_loud_channels(equalize(model, IMAGES, multiply=False), IMAGES)
    onnx.checker.check_model(gated, full_check=True)
    exact, ours = (_run(one, {"image": IMAGES}, "logits") for one in (model, gated))
    assert np.abs(ours - exact).max() < 1e-4 * np.abs(exact).max()
    assert "hardswish_gate" in {name for node in gated.graph.node for name in node.output}
    left = gate_loud_channels(model, IMAGES, leave=frozenset({"conv2d"}))
    assert "hardswish_gate" not in {name for node in left.graph.node for name in node.output}
    errors = []
    for one in (model, gated):
        graph = Graph(one)
        found = quantize_graph(graph, IMAGES, ALL_INTEGERS)
        errors.append(dict(Sensitivity(graph, IMAGES[:2]).tensors(found))["conv2d"])
    assert errors[1] < 0.5 * errors[0], "the loud channel no longer drowns the others"
