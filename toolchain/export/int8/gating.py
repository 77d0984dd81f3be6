"""Hard-swishes that pass a factor on, so that channels of very different sizes get one range before and after.

A hard-swish is its input times a gate, `clip(x / 6 + 1 / 2, 0, 1)`. With x' = g x, g a gain for each channel,
g times the hard-swish of x is x' times `clip(x' / (6 g) + 1 / 2, 0, 1)`. The gate is a depthwise convolution of one
pixel, whose weights take the gains up, and all of it has integer kernels. `equalization` can only multiply after a
hard-swish, when the input has been rounded already: one channel of MobileNetV3 small's first convolution reaches
73, and the median one 4.9.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor

from toolchain.export.int8.equalization import MAX_GAIN, MIN_SPREAD, Floats, Weights
from toolchain.export.int8.torch_graph import Graph, Node

FLOOR = 3.0
"""Below -3 a hard-swish is 0, whatever comes in."""


@dataclass(frozen=True)
class _Place:
    """A hard-swish or rectifier `activation` after `layer`, and the layers that its channels reach."""

    layer: Node
    activation: Node
    readers: tuple[Node, ...]

    @property
    def is_depthwise(self) -> bool:
        return all(reader.is_depthwise for reader in self.readers)


def gate_loud_channels(
    model: onnx.ModelProto, images: NDArray[np.uint8], leave: frozenset[str] = frozenset()
) -> onnx.ModelProto:
    """A copy of the float `model`, with gains wherever the largest channel is `MIN_SPREAD` times the median one.

    `images` are calibration photographs, uint8 [n, height, width, 3]. What the layers in `leave` give stays as it
    is. The copy answers as `model` does.
    """
    graph = Graph(model)
    places = [place for node in graph.nodes if (place := _place(graph, node))]
    seen = _extents(graph, images, {place.layer.name for place in places})
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    weights = Weights(changed)
    for place in places:
        extents = seen[place.layer.name]
        if place.layer.name in leave or extents.max() < MIN_SPREAD * np.median(extents):
            continue
        gains = np.clip(extents.max() / np.maximum(extents, 1e-9), 1, MAX_GAIN).astype(np.float32)
        gains[extents < 1e-6] = 1
        if not place.is_depthwise:
            # The weights of other layers have no scale for each input: they bear half of the spread.
            gains = np.sqrt(gains)
        weights.scale_outputs(place.layer, gains)
        for reader in place.readers:
            if reader.is_depthwise:
                weights.scale_depthwise(reader, 1 / gains)
            else:
                weights.scale_inputs(reader, 1 / gains)
        if place.activation.op == "HardSwish":
            _gate(changed, place, gains)
    del changed.graph.value_info[:]
    return changed


def gated_layer(graph: Graph, name: str) -> str:
    """The layer that the layer `name` is the gate of; `name` itself where it is no gate."""
    node = graph.by_name[name]
    is_gate = node.is_depthwise and any(reader.op == "Clip" for reader in graph.consumers[name])
    source = graph.by_name.get(node.inputs[0])
    if not is_gate or source is None or not source.is_layer:
        return name
    clip = next(reader for reader in graph.consumers[name] if reader.op == "Clip")
    gates = any(reader.op == "Mul" and source.name in reader.inputs for reader in graph.consumers[clip.name])
    return source.name if gates else name


def _place(graph: Graph, node: Node) -> _Place | None:
    if node.op not in {"HardSwish", "Relu"}:
        return None
    layer = graph.by_name.get(node.inputs[0])
    if layer is None or not layer.is_layer or len(graph.consumers[layer.name]) > 1:
        return None
    readers: list[Node] = []
    left = list(graph.consumers.get(node.name, []))
    while left:
        reader = left.pop()
        if reader.op == "Conv":
            readers.append(reader)
        elif reader.op == "ReduceMean" or (reader.op == "Mul" and not reader.constants):
            # A squeeze-and-excitation: its own gate comes from a layer that reads the mean.
            left += graph.consumers[reader.name]
        else:
            return None
    readers = list({reader.name: reader for reader in readers}.values())
    grouped = any(reader.attributes["group"] > 1 and not reader.is_depthwise for reader in readers)
    if not readers or grouped or (node.op == "Relu" and any(reader.is_depthwise for reader in readers)):
        return None
    return _Place(layer, node, tuple(readers))


@torch.inference_mode()
def _extents(graph: Graph, images: NDArray[np.uint8], names: set[str]) -> dict[str, Floats]:
    """How far each channel of the named tensors reaches, on either side of 0, down to -3."""
    found: dict[str, Floats] = {}

    def visit(node: Node, inputs: list[Tensor]) -> Tensor:
        output = node(inputs)
        if node.name in names:
            axes = (0, *range(2, output.ndim))
            below = (-output.amin(axes)).clamp(0, FLOOR if graph.consumers[node.name][0].op == "HardSwish" else 0)
            found[node.name] = torch.maximum(output.amax(axes), below).clamp_min(0).numpy()
        return output

    graph.run(torch.from_numpy(images), visit)
    return found


def _gate(model: onnx.ModelProto, place: _Place, gains: Floats) -> None:
    """Put the gated form in the place of a hard-swish whose input has been multiplied by `gains`."""
    graph, name, source = model.graph, place.activation.name, place.layer.name
    constants: dict[str, NDArray[np.floating]] = {
        "weight": (1 / (6 * gains)).reshape(-1, 1, 1, 1),
        "bias": np.full(len(gains), 0.5),
        "low": np.array(0),
        "high": np.array(1),
    }
    graph.initializer.extend(
        numpy_helper.from_array(values.astype(np.float32), f"{name}_gate_{key}")
        for key, values in constants.items()
    )
    ramp, gate = f"{name}_ramp", f"{name}_gate"
    convolution = helper.make_node(
        "Conv",
        [source, f"{gate}_weight", f"{gate}_bias"],
        [ramp],
        f"{ramp}_convolution",
        group=len(gains),
        strides=[1, 1],
        pads=[0, 0, 0, 0],
        dilations=[1, 1],
        kernel_shape=[1, 1],
    )
    clip = helper.make_node("Clip", [ramp, f"{gate}_low", f"{gate}_high"], [gate], f"{gate}_clip")
    gated = helper.make_node("Mul", [source, gate], [name], f"{name}_gated")
    at = next(index for index, node in enumerate(graph.node) if node.output[0] == name)
    del graph.node[at]
    for node in (gated, clip, convolution):
        graph.node.insert(at, node)
