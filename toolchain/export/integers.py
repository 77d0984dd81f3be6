"""Post-training quantisation: which tensors become integers, with which ranges, and what makes up for the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toolchain.export.qdq import MIN_PER_CHANNEL, Quantisation, QuantizedLayer, QuantParams, quantise_layer
from toolchain.export.torch_graph import Graph, Node

PERCENTILE = 0.9999
SAMPLE = 1 << 18
"""Values of a tensor by which its percentiles are taken."""

MIN_RANGE = 1e-3
"""Of a tensor that is always 0 on the calibration photographs, and may not be on others."""


@dataclass(frozen=True)
class Scheme:
    """What becomes integers, and how.

    `outputs`: whether all that an integer layer gives is rounded, even before a hard-swish. ONNX Runtime has
    integer kernels only then; OpenVINO computes a hard-swish within the layer before it, and is faster and nearer
    to float without. `ranges`: from the smallest to the largest value seen, or without the outermost 0.01 %.
    `pixels`: whether the first layer takes the photograph's own bytes. `symmetric`: int8 around 0 and float biases,
    as TensorRT asks for. `float_layers` compute in float, by name; of them only the weights are stored as integers.
    """

    outputs: bool = True
    ranges: Literal["min-max", "percentile"] = "min-max"
    pixels: bool = True
    symmetric: bool = False
    float_layers: frozenset[str] = frozenset()


@torch.inference_mode()
def quantise_graph(graph: Graph, images: NDArray[np.uint8], scheme: Scheme) -> Quantisation:
    """Choose integers for `graph` from calibration `images`, uint8 [n, height, width, 3].

    Float and integer network are computed side by side, a node at a time, and the bias of each layer is moved so
    that its channels keep their mean: each makes up for what was lost on average before it.
    """
    spared = squeeze_excite(graph) | scheme.float_layers
    layers = {node.name for node in graph.nodes if node.is_layer} - spared
    tensors = _tensors(graph, layers, scheme)
    found = Quantisation()
    rounded: dict[str, Tensor] = {}

    def visit(node: Node, inputs: list[Tensor]) -> Tensor:
        exact = node(inputs)
        ours = [rounded.get(name, value) for name, value in zip(node.inputs, inputs, strict=True)]
        readers = graph.consumers.get(node.name, [])
        if node.op == "Sub" and scheme.pixels and all(reader.name in layers for reader in readers):
            found.pixels = round(float(inputs[1].mean()))
            found.grids[node.name] = QuantParams(1.0, found.pixels)
            rounded[node.name] = inputs[0] - found.pixels
            return exact
        if node.name in layers:
            result = _layer(node, ours, exact, found, scheme)
        elif node.name in spared and node.weight[0].numel() >= MIN_PER_CHANNEL:
            found.layers[node.name] = layer = quantise_layer(node.weight.numpy(), node.bias.numpy(), None)
            result = node([ours[0], dequantised_weight(layer), node.bias])
        else:
            result = node(ours)
        if node.name in tensors:
            # Below -3 a hard-swish is 0, whatever comes in.
            floor = -3.0 if readers and all(reader.op == "HardSwish" for reader in readers) else None
            found.grids[node.name] = grid = _grid(exact, scheme, floor)
            result = round_to(result, grid)
        rounded[node.name] = result
        return exact

    graph.run(torch.from_numpy(images), visit)
    return found


def squeeze_excite(graph: Graph) -> set[str]:
    """Names of the convolutions on maps of one pixel: they cost size, not time."""
    pooled = {node.name for node in graph.nodes if node.op == "ReduceMean"}
    for node in graph.nodes:
        if node.op in {"Conv", "Relu"} and node.inputs[0] in pooled:
            pooled.add(node.name)
    return {node.name for node in graph.nodes if node.op == "Conv" and node.name in pooled}


def dequantised_weight(layer: QuantizedLayer) -> Tensor:
    """The weights that a layer's integers stand for, float32 [outputs, inputs, ...]."""
    scales = torch.from_numpy(layer.scales).reshape(-1, *[1] * (layer.weight.ndim - 1))
    return torch.from_numpy(layer.weight).float() * scales


def round_to(values: Tensor, grid: QuantParams) -> Tensor:
    """`values` as integers on `grid`, as float32 again. Gradients pass within the grid's limits."""
    return torch.fake_quantize_per_tensor_affine(values, grid.scale, grid.zero_point, *grid.limits)


def _tensors(graph: Graph, layers: set[str], scheme: Scheme) -> set[str]:
    """Names of the tensors that become integers: what integer layers read, what is summed, and what they give."""
    tensors = {node.inputs[0] for node in graph.nodes if node.name in layers}
    for node in graph.nodes:
        if node.op == "Add":
            tensors |= set(node.inputs)
        if scheme.outputs and node.name in layers and node.name != "logits":
            reader = graph.consumers[node.name][0]
            tensors.add(reader.name if reader.op in {"Relu", "Clip"} else node.name)
    return tensors


def _layer(node: Node, inputs: list[Tensor], exact: Tensor, found: Quantisation, scheme: Scheme) -> Tensor:
    scale = found.grids[node.inputs[0]].scale
    weight, bias = node.weight.numpy(), node.bias
    axes = [axis for axis in range(exact.ndim) if axis != 1]
    layer = quantise_layer(weight, bias.numpy(), None if scheme.symmetric else scale)
    result = node([inputs[0], dequantised_weight(layer), bias])
    shift = (exact - result).mean(axes)
    bias = bias + shift
    result = result + shift.reshape(-1, *[1] * (exact.ndim - 2))
    if scheme.symmetric:
        found.biases[node.name] = bias.numpy()
    else:
        layer = quantise_layer(weight, bias.numpy(), scale)
    found.layers[node.name] = layer
    return result


def _grid(values: Tensor, scheme: Scheme, floor: float | None) -> QuantParams:
    low, high = values.min().item(), values.max().item()
    if scheme.ranges == "percentile":
        flat = values.flatten()
        chosen = torch.randint(len(flat), (min(len(flat), SAMPLE),), generator=torch.Generator().manual_seed(0))
        ordered = flat[chosen].sort().values
        cut = int(len(ordered) * (1 - PERCENTILE) / 2)
        low, high = ordered[cut].item(), ordered[-1 - cut].item()
    low, high = min(low if floor is None else max(low, floor), 0.0), max(high, 0.0)
    if scheme.symmetric:
        largest = max(-low, high, MIN_RANGE)
        return QuantParams(float(np.float32(largest / 127)), 0, signed=True)
    scale = float(np.float32(max(high - low, MIN_RANGE) / 255))
    return QuantParams(scale, int(np.clip(round(-low / scale), 0, 255)))
