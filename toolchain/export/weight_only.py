"""Weights stored as int8, arithmetic in float32: a quarter of the size, the float network's speed.

For devices where int8 arithmetic does not pay. No calibration: activations stay as they are.
"""

from __future__ import annotations

import copy

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SETTINGS = {"weights": "int8 per-channel, symmetric; depthwise float32", "arithmetic": "float32"}
MIN_PER_CHANNEL = 32
"""Layers with fewer weights for each output channel stay float32: depthwise and first convolutions. They are 3 % of
MobileNetV2's weights and make half of the error (docs/design.md)."""


def int8_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the float `model` whose convolutions and fully connected layers store their weights as int8.

    Each weight is `Mul(Cast(int8), scale)`, one scale for each output channel, which every runtime computes once,
    when it loads. DequantizeLinear says the same, but ONNX Runtime keeps it for integer kernels that there are
    none of here, and repeats it for every image: 9.0 ms against 3.1 (docs/design.md).
    """
    model = copy.deepcopy(model)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    stored: set[str] = set()
    for node in graph.node:
        name = node.input[1] if node.op_type in {"Conv", "Gemm"} else ""
        if name in constants and name not in stored:
            axis, dims = _output_axis(node), constants[name].dims
            if np.prod(dims) // dims[axis] >= MIN_PER_CHANNEL:
                stored.add(name)
                nodes += _decompressed(graph, constants[name], axis)
        nodes.append(copy.deepcopy(node))
    del graph.node[:]
    graph.node.extend(nodes)
    kept = [tensor for tensor in graph.initializer if tensor.name not in stored]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    onnx.checker.check_model(model, full_check=True)
    return model


def _output_axis(node: onnx.NodeProto) -> int:
    """The axis of a node's weights that counts its output channels."""
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if node.op_type == "Conv" or transposed else 1


def _decompressed(graph: onnx.GraphProto, weights: onnx.TensorProto, axis: int) -> list[onnx.NodeProto]:
    """Put int8 values and scales into `graph`; the nodes that compute `weights` from them, under its name."""
    values, name = numpy_helper.to_array(weights), weights.name
    others = tuple(dimension for dimension in range(values.ndim) if dimension != axis)
    scale = np.abs(values).max(axis=others, keepdims=True) / 127
    scale = np.where(scale == 0, 1, scale).astype(np.float32)
    rounded = np.clip(np.round(values / scale), -127, 127).astype(np.int8)
    for suffix, stored in (("int8", rounded), ("scale", scale)):
        graph.initializer.append(numpy_helper.from_array(stored, f"{name}_{suffix}"))
    return [
        helper.make_node("Cast", [f"{name}_int8"], [f"{name}_cast"], to=TensorProto.FLOAT, name=f"{name}_cast"),
        helper.make_node("Mul", [f"{name}_cast", f"{name}_scale"], [name], name=f"{name}_scaled"),
    ]
