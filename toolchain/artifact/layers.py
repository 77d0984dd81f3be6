"""The layers of a network as people name them: a convolution, say, with the rectifier that follows it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import helper

INPUT = "input"
"""The layer of all that only prepares the photograph: transposition, conversion, the mean."""

FOLLOWING = frozenset(
    {
        *(
            "Relu",
            "Clip",
            "HardSwish",
            "HardSigmoid",
            "Sigmoid",
            "LeakyRelu",
            "PRelu",
            "Elu",
            "Gelu",
            "Tanh",
            "Erf",
        ),
        *("Add", "Sub", "Mul", "Div", "Neg", "Pow", "Sqrt", "Min", "Max", "BatchNormalization", "Dropout"),
        *("Cast", "QuantizeLinear", "DequantizeLinear"),
        *("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Pad", "Slice"),
    }
)
"""Operators that belong to the layer whose output they read, where they read that of one layer only."""


@dataclass(frozen=True)
class Layer:
    """`name` is that of its first node in the file, or of that node's output where the node has none.

    `type` is the operator, for convolutions with the size of their kernel and, after a stroke, their stride
    (`DWConv 3x3 /2` is a depthwise one); `shape` that of what the first node gives, without the batch, empty where
    it is not known. `sources` are the layers that it reads.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Layers:
    """All layers by name, in the order of the file. `of` has the layer of each node and of each tensor, by name."""

    by_name: Mapping[str, Layer]
    of: Mapping[str, str]


def find_layers(model: onnx.ModelProto) -> Layers:
    """The layers of `model`. What reads constants only is no part of any: runtimes compute it when they load."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer} | {""}
    shapes = _shapes(model)
    owner: dict[str, str] = {value.name: INPUT for value in graph.input if value.name not in constants}
    layers: dict[str, Layer] = {}
    of: dict[str, str] = {}
    for node in graph.node:
        read = [name for name in node.input if name not in constants]
        if not read:
            constants.update(node.output)
            continue
        sources = tuple(dict.fromkeys(owner[name] for name in read if name in owner))
        if len(sources) == 1 and node.op_type in FOLLOWING:
            name = sources[0]
            layers.setdefault(name, Layer(INPUT, INPUT, shapes.get(node.output[0], ()), ()))
        else:
            name = node.name or node.output[0]
            known = tuple(source for source in sources if source in layers)
            layers[name] = Layer(name, _type(node, model, constants), shapes.get(node.output[0], ()), known)
        of[node.name] = name
        for output in node.output:
            owner[output] = name
    # A node and a tensor of another layer may have the same name: the node's goes first.
    return Layers(layers, {**{name: layer for name, layer in owner.items() if layer in layers}, **of})


def _type(node: onnx.NodeProto, model: onnx.ModelProto, constants: set[str]) -> str:
    if node.op_type != "Conv":
        return node.op_type
    settings: dict[str, Any] = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    kernel = settings.get("kernel_shape") or _stored_shape(model, node.input[1])[2:]
    text = "Conv" if settings.get("group", 1) == 1 else "DWConv"
    text += f" {'x'.join(map(str, kernel))}" if kernel else ""
    stride = max(settings.get("strides") or [1])
    return f"{text} /{stride}" if stride > 1 else text


def _stored_shape(model: onnx.ModelProto, name: str) -> tuple[int, ...]:
    """The shape of the constant behind `name`, which may be read through a conversion."""
    stored = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    while name not in stored and name in makers and makers[name].input:
        name = makers[name].input[0]
    return stored.get(name, ())


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The shapes of tensors by name, without the batch, where they can be told."""
    inferred = model
    with suppress(Exception):  # operators of other domains
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    return {
        value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim[1:])
        for value in (*inferred.graph.value_info, *inferred.graph.output)
        if all(side.dim_value for side in value.type.tensor_type.shape.dim[1:])
    }
