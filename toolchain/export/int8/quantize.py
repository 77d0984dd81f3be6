"""Post-training quantisation: which tensors become integers, with which scale and zero point, and which biases
make up for the rounding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from toolchain.export.int8.qdq import (
    MIN_PER_CHANNEL,
    Quantization,
    QuantizedLayer,
    QuantParams,
    quantize_layer,
    rounding_to,
    with_own_weights,
    write_qdq,
)
from toolchain.export.int8.rounding import rounded_together
from toolchain.export.int8.torch_graph import Graph, Node

PERCENTILE = 0.9999
SAMPLE = 1 << 18
"""Values of a tensor that its percentiles are taken from."""

MIN_RANGE = 1e-3
"""The range of a tensor that is 0 on all calibration photographs, and may not be on others."""


@dataclass(frozen=True)
class Scheme:
    """What becomes integers, and how.

    `outputs`: whether every output of an integer layer is rounded, even before a hard-swish. ONNX Runtime has
    integer kernels only then; OpenVINO computes a hard-swish within the layer before it, and is faster and nearer
    to float without. `ranges`: from the smallest to the largest value seen, or without the outermost 0.01 %.
    `pixels`: whether the first layer takes the photograph's own bytes. `symmetric`: int8 activations around 0 and
    float biases, as TensorRT asks for. `per_tensor`: all weights of a layer share one scale. `weight_bits`: 8, or 7
    for CPUs that saturate (`qdq.MAX_WEIGHT`). `swish`: hard-swishes give integers, and read them on a grid with -3
    at integer 0, as `rewrites.integer_hard_swish` wants. `squeeze`: squeeze-and-excitation is computed in integers.
    `float_layers`, by name, compute in float; only their weights are stored as integers. `shorter`: tensors, by
    name, whose ranges are cut to a share of what was seen.
    """

    outputs: bool = True
    ranges: Literal["min-max", "percentile"] = "min-max"
    pixels: bool = True
    symmetric: bool = False
    per_tensor: bool = False
    weight_bits: int = 8
    swish: bool = False
    squeeze: bool = False
    float_layers: frozenset[str] = frozenset()
    shorter: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class QuantizedGraph:
    """A float `model`, and the `scheme` and integers that it was quantised with; training can go on from it."""

    model: onnx.ModelProto
    scheme: Scheme
    quantization: Quantization


@torch.inference_mode()
def quantize_graph(graph: Graph, images: NDArray[np.uint8], scheme: Scheme) -> Quantization:
    """Choose integers for `graph` from calibration `images`, uint8 [n, height, width, 3].

    Float and integer network are computed side by side, a node at a time. The weights of a layer are rounded for
    what its inputs have become (`rounding`). Its bias is corrected so that its channels keep their mean, whatever
    the layers before it have made of theirs.
    """
    float_layers = scheme.float_layers if scheme.squeeze else squeeze_excite(graph) | scheme.float_layers
    shorter = dict(scheme.shorter)
    layers = {node.name for node in graph.nodes if node.is_layer} - float_layers
    tensors = _integer_tensors(graph, layers, scheme)
    found = Quantization()
    rounded: dict[str, Tensor] = {}
    left = {name: len(readers) for name, readers in graph.consumers.items()}

    def visit(node: Node, inputs: list[Tensor]) -> Tensor:
        exact = compute(node, inputs)
        for name in node.inputs:
            left[name] -= 1
            if not left[name]:  # all of them at once would take gigabytes
                rounded.pop(name, None)
        return exact

    def compute(node: Node, inputs: list[Tensor]) -> Tensor:
        exact = node(inputs)
        ours = [rounded.get(name, value) for name, value in zip(node.inputs, inputs, strict=True)]
        readers = graph.consumers.get(node.name, [])
        if scheme.pixels and node.name == graph.centred and all(reader.name in layers for reader in readers):
            found.pixels, found.centred = round(float(inputs[1].mean())), node.name
            found.activations[node.name] = QuantParams(1.0, found.pixels)
            rounded[node.name] = inputs[0] - found.pixels
            return exact
        if node.name in layers:
            result = _layer(node, ours, exact, found, scheme)
        elif node.name in float_layers and node.weight[0].numel() >= MIN_PER_CHANNEL:
            layer = quantize_layer(node.weight.numpy(), node.bias.numpy(), None, per_tensor=scheme.per_tensor)
            layer = replace(layer, weight=rounded_together(node, ours[0], layer, 8))
            found.layers[node.name] = layer
            result = node([ours[0], dequantized_weight(layer), node.bias])
        else:
            result = node(ours)
        if node.name in tensors:
            floor = floor_of(graph, node)
            share = shorter.get(node.name, 1.0)
            found.activations[node.name] = params = _range(exact, scheme, floor, share)
            result = round_to(result, params)
        rounded[node.name] = result
        return exact

    exact = graph.run(torch.from_numpy(images), visit)
    found.error = float((rounded.get("logits", exact) - exact).norm() / exact.norm().clamp_min(1e-12))
    return found


WEIGHTS_ONLY = {"weights": "int8 per-channel, symmetric; depthwise float32", "arithmetic": "float32"}
"""Settings of `int8_weights`, for its card."""


def int8_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the float `model` whose convolutions and fully connected layers store their weights as int8.

    Its arithmetic is float32: a quarter of the size at the float network's speed, for devices where int8 arithmetic
    does not pay. Nothing is calibrated.
    """
    model = with_own_weights(model)
    layers = {
        node.name: quantize_layer(node.weight.numpy(), node.bias.numpy(), None)
        for node in Graph(model).nodes
        if node.is_layer and node.weight[0].numel() >= MIN_PER_CHANNEL
    }
    return write_qdq(model, Quantization(layers=layers))


def squeeze_excite(graph: Graph) -> set[str]:
    """Names of the squeeze-and-excitation layers, convolutions on maps of one pixel: they cost size, not time."""
    pooled = {node.name for node in graph.nodes if node.op == "ReduceMean"}
    for node in graph.nodes:
        if node.op in {"Conv", "Relu"} and node.inputs[0] in pooled:
            pooled.add(node.name)
    return {node.name for node in graph.nodes if node.op == "Conv" and node.name in pooled}


def dequantized_weight(layer: QuantizedLayer) -> Tensor:
    """The weights that a layer's integers stand for, float32 [outputs, inputs, ...]."""
    scales = torch.from_numpy(layer.scales).reshape(-1, *[1] * (layer.weight.ndim - 1))
    return torch.from_numpy(layer.weight).float() * scales


def round_to(values: Tensor, params: QuantParams) -> Tensor:
    """`values` rounded to the integers of `params`, as float32 again. Gradients pass within their limits."""
    return torch.fake_quantize_per_tensor_affine(values, params.scale, params.zero_point, *params.limits)


def _integer_tensors(graph: Graph, layers: set[str], scheme: Scheme) -> set[str]:
    """Names of the tensors that become integers: inputs and outputs of integer layers, and terms of sums."""
    tensors = {node.inputs[0] for node in graph.nodes if node.name in layers}
    for node in graph.nodes:
        if node.op == "Add":
            tensors |= set(node.inputs)
        if scheme.outputs and node.name in layers and node.name != "logits":
            reader = graph.consumers[node.name][0]
            tensors.add(reader.name if reader.op in {"Relu", "Clip"} else node.name)
            if scheme.swish and reader.op == "HardSwish":
                tensors.add(reader.name)
        if scheme.squeeze and node.op == "Mul" and not node.constants and tensors.issuperset(node.inputs):
            tensors.add(node.name)
    return tensors


def _layer(node: Node, inputs: list[Tensor], exact: Tensor, found: Quantization, scheme: Scheme) -> Tensor:
    scale = found.activations[node.inputs[0]].scale
    weight, bias = node.weight.numpy(), node.bias
    axes = [axis for axis in range(exact.ndim) if axis != 1]
    rounded = partial(quantize_layer, weight_bits=scheme.weight_bits, per_tensor=scheme.per_tensor)
    layer = rounded(weight, bias.numpy(), None if scheme.symmetric else scale)
    layer = replace(layer, weight=rounded_together(node, inputs[0], layer, scheme.weight_bits))
    result = node([inputs[0], dequantized_weight(layer), bias])
    shift = (exact - result).mean(axes)
    bias = bias + shift
    result = result + shift.reshape(-1, *[1] * (exact.ndim - 2))
    if scheme.symmetric:
        found.biases[node.name] = bias.numpy()
    else:
        layer = rounded(rounding_to(weight, layer), bias.numpy(), scale, scales=layer.scales)
    found.layers[node.name] = layer
    return result


def floor_of(graph: Graph, node: Node) -> float | None:
    """-3 for what only hard-swishes read: below they are 0, whatever comes in."""
    readers = graph.consumers.get(node.name, [])
    return -3.0 if readers and all(reader.op == "HardSwish" for reader in readers) else None


def _range(values: Tensor, scheme: Scheme, floor: float | None, share: float = 1.0) -> QuantParams:
    low, high = values.min().item(), values.max().item()
    if scheme.ranges == "percentile":
        flat = values.flatten()
        chosen = torch.randint(len(flat), (min(len(flat), SAMPLE),), generator=torch.Generator().manual_seed(0))
        ordered = flat[chosen].sort().values
        cut = int(len(ordered) * (1 - PERCENTILE) / 2)
        low, high = ordered[cut].item(), ordered[-1 - cut].item()
    return _grid(low if floor is not None else share * low, share * high, scheme, floor)


def shortened(params: QuantParams, share: float, scheme: Scheme, floor: float | None) -> QuantParams:
    """The grid for a `share` of the range of `params`; a `floor` stays where it is."""
    low, high = ((limit - params.zero_point) * params.scale for limit in params.limits)
    return _grid(low if floor is not None else share * low, share * high, scheme, floor)


def _grid(low: float, high: float, scheme: Scheme, floor: float | None) -> QuantParams:
    low, high = min(low if floor is None else max(low, floor), 0.0), max(high, 0.0)
    if scheme.symmetric:
        largest = max(-low, high, MIN_RANGE)
        return QuantParams(float(np.float32(largest / 127)), 0, signed=True)
    if scheme.swish and floor is not None:
        zero = int(np.clip(round(-floor * 255 / (high - floor)), 1, 255))
        return QuantParams(float(np.float32(-floor / zero)), zero)
    scale = float(np.float32(max(high - low, MIN_RANGE) / 255))
    return QuantParams(scale, int(np.clip(round(-low / scale), 0, 255)))
