"""The float16 file: the answers of the float network, with nothing that overflows."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.artifacts import tiny_model
from tests.conftest import lively
from toolchain.backbones.networks import normalised
from toolchain.errors import PromiseBrokenError
from toolchain.export.fp16 import _half, largest_activation, to_float16
from toolchain.export.onnx_writer import to_onnx
from toolchain.images.preprocess import Preprocess

SMALL = Preprocess(height=64, width=64, shortest_edge=64)
TEMPERATURE = 0.3
"""Sharpens: probabilities tell small differences of logits."""


@pytest.fixture(
    scope="module",
    params=[
        "mobilenet_v2",
        "mobilenet_v3_small",
        "mobilenet_v3_large",
        "resnet18",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet50", "vgg16")),
    ],
)
def network_and_model(request: pytest.FixtureRequest) -> tuple[torch.nn.Module, onnx.ModelProto]:
    """A network with lively random weights, and its float ONNX model."""
    network = lively(request.param, 7, seed=0)
    return network, to_onnx(network, SMALL, TEMPERATURE)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (4, 64, 64, 3), np.uint8)


def test_weights_and_arithmetic_are_float16_and_the_contract_stands(
    network_and_model: tuple[torch.nn.Module, onnx.ModelProto],
) -> None:
    _, model = network_and_model
    before = model.SerializeToString()
    half = to_float16(model)
    assert model.SerializeToString() == before, "the caller's model is untouched"
    assert half.ByteSize() < 0.52 * model.ByteSize()
    assert half.graph.input == model.graph.input
    assert half.graph.output == model.graph.output
    floats = [tensor.name for tensor in half.graph.initializer if tensor.data_type == TensorProto.FLOAT]
    assert len(floats) <= 2, "mean and temperature"
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(half).graph.value_info
    }
    for node in half.graph.node:
        if node.op_type in {"Conv", "Gemm", "Relu", "Clip", "HardSwish"}:
            assert types[node.output[0]] == TensorProto.FLOAT16
        if node.op_type in {"Sub", "Div"}:
            assert types[node.output[0]] == TensorProto.FLOAT


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_answers_are_those_of_torch(
    network_and_model: tuple[torch.nn.Module, onnx.ModelProto], images: np.ndarray, runtime: str
) -> None:
    network, model = network_and_model
    with torch.inference_mode():
        expected = network(normalised(torch.from_numpy(images))).numpy()
    data = to_float16(model).SerializeToString()
    if runtime == "onnxruntime":
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        logits, probabilities = session.run(["logits", "probabilities"], {"image": images})
    else:
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        answer = compiled({"image": images})
        logits, probabilities = answer["logits"], answer["probabilities"]
    assert logits.dtype == probabilities.dtype == np.float32
    # Networks that nobody trained are livelier than others; trained ones differ by 0.003 (decision 27).
    assert np.abs(logits - expected).max() < 0.03 * np.abs(expected).max()
    # The softmax of these very logits, in float32: no step of it was rounded to float16.
    softmax = torch.softmax(torch.from_numpy(np.array(logits)) / TEMPERATURE, 1).numpy()
    np.testing.assert_allclose(probabilities, softmax, atol=2e-6)


def test_ranges_are_looked_at(
    network_and_model: tuple[torch.nn.Module, onnx.ModelProto], images: np.ndarray
) -> None:
    _, model = network_and_model
    largest = largest_activation(model, images)
    assert 100 < largest < 65_504, "pixels less their mean are 100 and more"
    huge = copy.deepcopy(model)
    for tensor in huge.graph.initializer:
        if tensor.name.endswith("head.weight"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1e5, tensor.name))
    with pytest.raises(PromiseBrokenError, match="float16 ends at 65504"):
        largest_activation(huge, images)
    with pytest.raises(PromiseBrokenError, match="too large for float16"):
        to_float16(huge)


def test_a_network_without_convolutions_is_converted_too() -> None:
    half = to_float16(tiny_model())
    assert {tensor.data_type for tensor in half.graph.initializer if tensor.name == "weights_float16"} == {
        TensorProto.FLOAT16
    }


def test_a_network_without_float_layers_is_told() -> None:
    """As one of others that is quantised already."""
    model = tiny_model()
    for node in model.graph.node:
        node.op_type = node.op_type.replace("Gemm", "QGemm").replace("Conv", "QLinearConv")
    with pytest.raises(PromiseBrokenError, match="no float layers"):
        to_float16(model)


def _between(model: onnx.ModelProto, node: onnx.NodeProto, *constants: onnx.TensorProto) -> onnx.ModelProto:
    """`model` with `node` before its last layer, which reads `before` and makes `after`."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    last = next(one for one in reversed(made.graph.node) if one.op_type == "Conv")
    node.input[0], last.input[0] = last.input[0], node.output[0]
    made.graph.node.insert(list(made.graph.node).index(last), node)
    made.graph.initializer.extend(constants)
    return made


def test_factors_of_maps_that_are_enlarged_stay_float32(images: np.ndarray) -> None:
    model = to_onnx(lively("mobilenet_v2", 7, seed=0), SMALL, TEMPERATURE)
    factors = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "factors")
    enlarged = _between(model, helper.make_node("Resize", ["", "", "factors"], ["enlarged"]), factors)
    exact, ours = (
        onnxruntime.InferenceSession(one.SerializeToString()).run(["logits"], {"image": images})[0]
        for one in (enlarged, to_float16(enlarged))
    )
    np.testing.assert_allclose(ours, exact, atol=0.02 * np.abs(exact).max())


def test_what_keeps_a_logarithm_finite_stays_above_nought() -> None:
    """As in networks that were adopted and give probabilities: their logits are logarithms."""
    assert _half(np.array(1e-20, np.float32)) > 0
    assert _half(np.array([-1e-20], np.float32)) < 0
    assert _half(np.array(0, np.float32)) == 0
    assert not _half(np.full(4, 1e-20, np.float32)).any(), "weights are rounded"


def test_operators_without_float16_are_told() -> None:
    model = to_onnx(lively("mobilenet_v2", 7, seed=0), SMALL, TEMPERATURE)
    rounded = _between(model, helper.make_node("BitCast", [""], ["same"], domain="ai.onnx.ml"))
    with pytest.raises(PromiseBrokenError, match="does not compute in float16"):
        to_float16(rounded)
