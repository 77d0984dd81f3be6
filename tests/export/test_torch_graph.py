"""Operators as the quantiser computes them in PyTorch are those of the runtimes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper

from toolchain.export.int8.torch_graph import Graph, _max_pool


@pytest.mark.parametrize("settings", ["", ", pads=[1, 1, 1, 1]", ", pads=[1, 1, 1, 1], count_include_pad=1"])
def test_a_pool_of_means_in_torch_is_that_of_onnx_runtime(settings: str) -> None:
    network = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 18]> g (uint8[n, 9, 9, 3] image) => (float[n, 3] logits)
        <int64[2] axes = {{2, 3}}> {{
            chw = Transpose<perm=[0, 3, 1, 2]>(image)
            pixels = Cast<to=1>(chw)
            pooled = AveragePool<kernel_shape=[3, 3], strides=[2, 2]{settings}>(pixels)
            logits = ReduceMean<keepdims=0>(pooled, axes)
        }}"""
    )
    images = np.random.default_rng(5).integers(0, 256, (2, 9, 9, 3), np.uint8)
    session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    (exact,) = session.run(["logits"], {"image": images})
    ours = Graph(network).run(torch.from_numpy(images)).numpy()
    assert np.allclose(ours, exact, rtol=1e-6)


@pytest.mark.parametrize("settings", ["", "<alpha=0.1666667, beta=0.5>"])
def test_a_hard_sigmoid_in_torch_is_that_of_onnx_runtime(settings: str) -> None:
    """As PyTorch exports the gates of MobileNetV3."""
    network = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 18]> g (uint8[n, 9, 9, 3] image) => (float[n, 9, 9, 3] logits)
        <float middle = {{100.0}}, float step = {{20.0}}> {{
            pixels = Cast<to=1>(image)
            less = Sub(pixels, middle)
            gate = Div(less, step)
            logits = HardSigmoid{settings}(gate)
        }}"""
    )
    images = np.random.default_rng(5).integers(0, 256, (2, 9, 9, 3), np.uint8)
    session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    (exact,) = session.run(["logits"], {"image": images})
    np.testing.assert_allclose(Graph(network).run(torch.from_numpy(images)).numpy(), exact, atol=1e-6)


def test_unknown_operators_are_named() -> None:
    graph = onnx.helper.make_graph([onnx.helper.make_node("Erf", ["image"], ["logits"])], "g", [], [])
    with pytest.raises(ValueError, match="operator Erf is not known"):
        Graph(onnx.helper.make_model(graph))


@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [0, 0, 1, 1]},
        {"pads": [1, 1, 1, 1]},
        {"ceil_mode": 1},
        {"dilations": [2, 2]},
    ],
    ids=str,
)
def test_pooling_sees_what_the_runtime_sees(attributes: dict[str, object]) -> None:
    """TensorFlow pads on one side, SqueezeNet rounds up: calibration is on the geometry that will be deployed."""
    pool = helper.make_node("MaxPool", ["in"], ["logits"], kernel_shape=[3, 3], strides=[2, 2], **attributes)
    pictures = np.random.default_rng(0).normal(-3, 1, (2, 4, 14, 14)).astype(np.float32)
    values = [helper.make_tensor_value_info(name, 1, None) for name in ("in", "logits")]
    graph = helper.make_graph([pool], "pool", [helper.make_tensor_value_info("in", 1, pictures.shape)], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    [expected] = session.run(None, {"in": pictures})
    known = {one.name: helper.get_attribute_value(one) for one in pool.attribute}
    np.testing.assert_array_equal(_max_pool(known, torch.from_numpy(pictures)).numpy(), expected)
    with pytest.raises(ValueError, match="only called SAME"):
        _max_pool(known | {"auto_pad": b"SAME_UPPER"}, torch.from_numpy(pictures))
