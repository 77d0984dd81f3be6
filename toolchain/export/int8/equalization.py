"""Cross-layer equalisation: the channels of a tensor get one range, so that they can share one scale.

An activation has one scale for all of its channels. A depthwise convolution never mixes channels, so its inputs
have very different sizes: in the first of MobileNetV3 small one channel reaches 93 where half of them stay below 5,
and int8 leaves those with a dozen steps. Scaling a channel up before a layer and its weights down in the layer
changes nothing in float (Nagel et al., ICCV 2019). In a depthwise convolution, whose weights have a scale for each
channel, int8 loses nothing by it either.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor

from toolchain.export.int8.torch_graph import Graph, Node

Floats = NDArray[np.float32]

MARGIN = 1.2
MAX_GAIN = 1e3
"""A channel that is next to 0 on all photographs is not scaled up by more than this."""

MIN_SPREAD = 4.0
"""A hard-swish cannot pass a factor on, so a multiplication has to follow it. It is worth its time only where the
largest channel is this many times the median one."""


@torch.inference_mode()
def largest_values(graph: Graph, images: NDArray[np.uint8], names: Iterable[str]) -> dict[str, Floats]:
    """Largest absolute value of each channel of the named tensors, over `images` uint8 [n, height, width, 3]."""
    wanted = set(names)
    found: dict[str, Floats] = {}

    def visit(node: Node, inputs: list[Tensor]) -> Tensor:
        output = node(inputs)
        if node.name in wanted:
            found[node.name] = output.abs().amax((0, *range(2, output.ndim))).numpy()
        return output

    graph.run(torch.from_numpy(images), visit)
    return found


def equalize(model: onnx.ModelProto, images: NDArray[np.uint8], *, multiply: bool = True) -> onnx.ModelProto:
    """A copy of the float `model` whose depthwise convolutions and residual streams have channels of one range.

    Without `multiply`, what follows a hard-swish stays as it is (`gating` does better where all is in integers).
    The copy answers as `model` does, but for a Clip: a channel that is scaled up to the Clip's limit is cut off at
    the largest value seen on `images`, where uint8 would have cut it off.
    """
    graph = Graph(model)
    pairs = [pair for node in graph.nodes if (pair := _before_depthwise(graph, node))]
    streams = _streams(graph)
    seen = largest_values(
        graph, images, [node.inputs[0] for _, node in pairs] + [name for stream in streams for name in stream]
    )
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    weights = Weights(changed)
    for layer, depthwise in pairs:
        tensor = depthwise.inputs[0]
        activation = graph.by_name[tensor]
        largest = seen[tensor]
        if activation.op == "Clip":
            gains = np.clip(activation.constants[2].item() / np.maximum(MARGIN * largest, 1e-9), 1, MAX_GAIN)
        else:
            gains = np.clip(largest.max() / np.maximum(largest, 1e-9), 1, MAX_GAIN)
        gains[largest < 1e-6] = 1
        if activation.op == "HardSwish":
            if not multiply or largest.max() < MIN_SPREAD * np.median(largest):
                continue
            _multiply_after(changed, tensor, depthwise, gains)
        else:
            weights.scale_outputs(layer, gains)
        weights.scale_depthwise(depthwise, 1 / gains)
    for stream in streams:
        largest = np.max([seen[name] for name in stream], 0)
        gains = np.sqrt(np.clip(largest.max() / np.maximum(largest, 1e-9), 1, MAX_GAIN))
        for name in stream:
            node = graph.by_name[name]
            if node.is_layer:
                weights.scale_outputs(node, gains)
            for consumer in graph.consumers[name]:
                if consumer.is_layer:
                    weights.scale_inputs(consumer, 1 / gains)
    return changed


def _before_depthwise(graph: Graph, node: Node) -> tuple[Node, Node] | None:
    """The layer before the depthwise convolution `node`, if a factor can be moved from one to the other."""
    if not node.is_depthwise:
        return None
    activation = graph.by_name.get(node.inputs[0])
    if activation is None or len(graph.consumers[activation.name]) > 1:
        return None
    if activation.op not in {"Relu", "Clip", "HardSwish"}:
        return None
    if activation.op == "Clip" and activation.constants[1].item() != 0:
        return None
    layer = graph.by_name.get(activation.inputs[0])
    if layer is None or not layer.is_layer or len(graph.consumers[layer.name]) > 1:
        return None
    return layer, node


def _streams(graph: Graph) -> list[set[str]]:
    """Tensors that are added to each other, all made by layers or sums and read by layers or sums only."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for node in graph.nodes:
        if node.op == "Add":
            for name in node.inputs:
                parent[root(name)] = root(node.name)
        elif node.op == "Conv":
            root(node.name)
    groups: dict[str, set[str]] = {}
    for name in list(parent):
        groups.setdefault(root(name), set()).add(name)

    def linear(name: str) -> bool:
        made = graph.by_name.get(name)
        readers = graph.consumers.get(name, [])
        by = made is not None and (made.op == "Add" or (made.is_layer and not made.is_depthwise))
        return by and all(
            node.op == "Add" or (node.op == "Conv" and node.attributes["group"] == 1) for node in readers
        )

    return [group for group in groups.values() if all(linear(name) for name in group)]


def _multiply_after(model: onnx.ModelProto, tensor: str, consumer: Node, gains: Floats) -> None:
    graph = model.graph
    factors = numpy_helper.from_array(gains.astype(np.float32).reshape(1, -1, 1, 1), f"{tensor}_gains")
    graph.initializer.append(factors)
    place = next(index for index, node in enumerate(graph.node) if tensor in node.output)
    scaled = f"{tensor}_equal"
    graph.node.insert(place + 1, helper.make_node("Mul", [tensor, factors.name], [scaled], f"{scaled}_multiply"))
    for node in graph.node:
        if node.output[0] == consumer.name:
            node.input[0] = scaled


class Weights:
    """Weights and biases of a model, to be changed in place."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def scale_outputs(self, layer: Node, factors: Floats) -> None:
        weight = self._read(layer.inputs[1])
        self._write(layer.inputs[1], weight * factors.reshape(-1, *[1] * (weight.ndim - 1)))
        if len(layer.inputs) > 2:
            self._write(layer.inputs[2], self._read(layer.inputs[2]) * factors)

    def scale_inputs(self, layer: Node, factors: Floats) -> None:
        weight = self._read(layer.inputs[1])
        self._write(layer.inputs[1], weight * factors.reshape(1, -1, *[1] * (weight.ndim - 2)))

    def scale_depthwise(self, layer: Node, factors: Floats) -> None:
        weight = self._read(layer.inputs[1])
        self._write(layer.inputs[1], weight * factors.reshape(-1, *[1] * (weight.ndim - 1)))

    def _read(self, name: str) -> Floats:
        return numpy_helper.to_array(self._tensors[name])

    def _write(self, name: str, values: Floats) -> None:
        self._tensors[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))
