"""An exported ONNX graph, computed node by node in PyTorch.

Quantisation works on the graph that will be deployed, not on the network in Python that it came from, so the graph
that is calibrated, corrected and trained here is the one that is written. Only operators that `to_onnx` writes are
known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

LAYERS = frozenset({"Conv", "Gemm"})
"""Operators with weights."""


@dataclass(frozen=True)
class Node:
    """One operation. `name` is that of its only output; `constants` are its constant inputs, by position."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    constants: Mapping[int, Tensor]

    @property
    def is_layer(self) -> bool:
        return self.op in LAYERS

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel has one filter of its own, which makes one channel of it."""
        group = self.attributes["group"] if self.op == "Conv" else 1
        return group > 1 and tuple(self.weight.shape[:2]) == (group, 1)

    @property
    def weight(self) -> Tensor:
        """float32 [outputs, inputs, ...]."""
        return self.constants[1]

    @property
    def bias(self) -> Tensor:
        """float32 [outputs]; zeros where there is none."""
        return self.constants[2] if 2 in self.constants else torch.zeros(len(self.weight))

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        """Compute the output from all inputs, constants included, in the order of the node."""
        return _COMPUTE[self.op](self.attributes, *inputs)


class Graph:
    """The operations of a model in an order in which they can be computed."""

    def __init__(self, model: onnx.ModelProto) -> None:
        constants = {
            tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy())
            for tensor in model.graph.initializer
        }
        self.nodes: list[Node] = []
        for proto in model.graph.node:
            if proto.op_type not in _COMPUTE:
                raise ValueError(f"operator {proto.op_type} is not known to the quantiser")
            fixed = {place: constants[name] for place, name in enumerate(proto.input) if name in constants}
            attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in proto.attribute}
            self.nodes.append(Node(proto.output[0], proto.op_type, tuple(proto.input), attributes, fixed))
        self.by_name: dict[str, Node] = {node.name: node for node in self.nodes}
        self.consumers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                self.consumers.setdefault(name, []).append(node)

    @cached_property
    def centred(self) -> str | None:
        """The tensor of the photograph's bytes less the means of the colours, or less one number for all."""
        for node in self.nodes:
            cast = self.by_name.get(node.inputs[0])
            if node.op != "Sub" or cast is None or cast.op != "Cast" or len(self.consumers[cast.name]) > 1:
                continue
            means, source = node.constants.get(1), cast.inputs[0]
            while source in self.by_name and self.by_name[source].op == "Transpose":
                source = self.by_name[source].inputs[0]
            if source != "image" or means is None or not 0 <= means.mean() <= 255:
                continue
            if means.numel() == 1 or tuple(means.shape[-3:]) == (3, 1, 1):
                return node.name
        return None

    def run(self, images: Tensor, visit: Callable[[Node, list[Tensor]], Tensor] | None = None) -> Tensor:
        """Logits of `images` (uint8 [n, height, width, 3]).

        `visit` computes each node in the place of `Node.__call__`; it is given the node and its inputs.
        """
        visit = visit or Node.__call__
        left = {name: len(nodes) for name, nodes in self.consumers.items()}
        values = {"image": images}
        for node in self.nodes:
            inputs = [node.constants.get(place, values.get(name)) for place, name in enumerate(node.inputs)]
            values[node.name] = visit(node, inputs)  # type: ignore[arg-type]
            if node.name == "logits":
                break
            for name in node.inputs:
                left[name] -= 1
                if not left[name]:
                    values.pop(name, None)
        return values["logits"]


def _conv(attributes: Mapping[str, Any], image: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    top, left, bottom, right = attributes["pads"]
    if (top, left) != (bottom, right):
        image = functional.pad(image, (left, right, top, bottom))
        top = left = 0
    return functional.conv2d(
        image, weight, bias, attributes["strides"], (top, left), attributes["dilations"], attributes["group"]
    )


def _check_padding(attributes: Mapping[str, Any]) -> None:
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise ValueError("a pooling whose padding is only called SAME is not known to the quantiser")


def _max_pool(attributes: Mapping[str, Any], image: Tensor) -> Tensor:
    _check_padding(attributes)
    kernel = attributes["kernel_shape"]
    ones = [1] * len(kernel)
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right):
        image = functional.pad(image, (left, right, top, bottom), value=-math.inf)
        top = left = 0
    strides, dilations = attributes.get("strides", ones), attributes.get("dilations", ones)
    ceil = bool(attributes.get("ceil_mode", 0))
    return functional.max_pool2d(image, kernel, strides, (top, left), dilations, ceil)


def _average_pool(attributes: Mapping[str, Any], image: Tensor) -> Tensor:
    _check_padding(attributes)
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right):
        raise ValueError("an AveragePool with more padding on one side is not known to the quantiser")
    kernel = attributes["kernel_shape"]
    strides = attributes.get("strides", [1] * len(kernel))
    ceil, padded = bool(attributes.get("ceil_mode", 0)), bool(attributes.get("count_include_pad", 0))
    return functional.avg_pool2d(image, kernel, strides, (top, left), ceil, padded)


def _gemm(attributes: Mapping[str, Any], image: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    assert attributes["transB"] == 1
    assert attributes["alpha"] == attributes["beta"] == 1
    return functional.linear(image, weight, bias)


def _hard_sigmoid(attributes: Mapping[str, Any], image: Tensor) -> Tensor:
    return torch.clamp(attributes.get("alpha", 0.2) * image + attributes.get("beta", 0.5), 0, 1)


def _mean(attributes: Mapping[str, Any], image: Tensor, axes: Tensor) -> Tensor:
    return image.mean(axes.tolist(), keepdim=bool(attributes["keepdims"]))


_COMPUTE: dict[str, Callable[..., Tensor]] = {
    "Add": lambda _, first, second: first + second,
    "AveragePool": _average_pool,
    "Cast": lambda _, image: image.float(),
    "Clip": lambda _, image, low, high: torch.clamp(image, low, high),
    "Concat": lambda attributes, *maps: torch.cat(maps, attributes["axis"]),
    "Conv": _conv,
    "Div": lambda _, first, second: first / second,
    "Gemm": _gemm,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda _, image: functional.hardswish(image),
    "MaxPool": _max_pool,
    "Mul": lambda _, first, second: first * second,
    "ReduceMean": _mean,
    "Relu": lambda _, image: functional.relu(image),
    "Sigmoid": lambda _, image: torch.sigmoid(image),
    "Softmax": lambda attributes, logits: torch.softmax(logits, attributes["axis"]),
    "Sub": lambda _, first, second: first - second,
    "Transpose": lambda attributes, image: image.permute(attributes["perm"]),
}
