"""Weights that are rounded together: the layer's output is nearer to float than with each rounded alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import lively
from toolchain.export.int8 import rounding
from toolchain.export.int8.qat import _Student
from toolchain.export.int8.qdq import MAX_WEIGHT, QuantizedLayer, quantize_layer, rounding_to
from toolchain.export.int8.quantisers import Task
from toolchain.export.int8.quantisers.edgetl import _Network
from toolchain.export.int8.quantize import QuantizedGraph, Scheme, dequantized_weight, quantize_graph
from toolchain.export.int8.rounding import rounded_together
from toolchain.export.int8.torch_graph import Graph, Node
from toolchain.export.onnx_writer import to_onnx
from toolchain.images.preprocess import Preprocess

SMALL = Preprocess(height=64, width=64, shortest_edge=64)
PICTURES = np.random.default_rng(3).integers(0, 256, (8, 64, 64, 3), np.uint8)


def _convolution(weight: torch.Tensor, group: int = 1, stride: int = 1, dilation: int = 1) -> Node:
    attributes: dict[str, Any] = {
        "group": group,
        "strides": [stride, stride],
        "dilations": [dilation, dilation],
        "pads": [0, 1, 1, 0] if weight.shape[2] > 1 else [0, 0, 0, 0],
    }
    return Node("layer", "Conv", ("maps", "weight"), attributes, {1: weight})


def _layers(rng: torch.Generator) -> dict[str, Node]:
    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=rng)

    fully = {"transB": 1, "alpha": 1.0, "beta": 1.0}
    return {
        "pointwise": _convolution(drawn(24, 32, 1, 1)),
        "pointwise, strided": _convolution(drawn(24, 32, 1, 1), stride=2),
        "whole": _convolution(drawn(8, 32, 3, 3)),
        "dilated": _convolution(drawn(8, 32, 3, 3), dilation=2),
        "depthwise": _convolution(drawn(32, 1, 3, 3), group=32, stride=2),
        "fully connected": Node("layer", "Gemm", ("maps", "weight"), fully, {1: drawn(10, 32)}),
    }


def _maps(rng: torch.Generator, node: Node, photographs: int = 40) -> torch.Tensor:
    """Inputs as networks have them: positive, smooth, and channels that go along with each other."""
    causes = torch.randn(photographs, 6, 12, 12, generator=rng)
    mixed = torch.einsum("oc,nchw->nohw", torch.randn(32, 6, generator=torch.Generator().manual_seed(5)), causes)
    maps = torch.nn.functional.avg_pool2d(mixed, 3, 1, 1).relu()
    return maps.mean((2, 3)) if node.op == "Gemm" else maps


@pytest.mark.parametrize("kind", list(_layers(torch.Generator())))
@pytest.mark.parametrize("bits", [8, 7])
def test_the_output_is_nearer_on_maps_that_were_not_seen(kind: str, bits: int) -> None:
    rng = torch.Generator().manual_seed(1)
    node = _layers(rng)[kind]
    nearest = quantize_layer(node.weight.numpy(), np.zeros(len(node.weight), np.float32), 0.1, bits)
    chosen = rounded_together(node, _maps(rng, node), nearest, bits)
    assert chosen.dtype == np.int8
    assert chosen.shape == node.weight.shape
    assert np.abs(chosen.astype(int)).max() <= MAX_WEIGHT[bits]
    assert (chosen != nearest.weight).any()
    maps = _maps(rng, node)
    errors = [_error(node, maps, QuantizedLayer(weight, nearest.scales)) for weight in (nearest.weight, chosen)]
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.parametrize("kind", ["pointwise", "depthwise", "fully connected"])
@pytest.mark.parametrize("photographs", [1, 4])
def test_a_few_photographs_do_no_harm(kind: str, photographs: int) -> None:
    rng = torch.Generator().manual_seed(2)
    node = _layers(rng)[kind]
    nearest = quantize_layer(node.weight.numpy(), np.zeros(len(node.weight), np.float32), 0.1)
    chosen = rounded_together(node, _maps(rng, node, photographs), nearest, 8)
    maps = _maps(rng, node)
    errors = [_error(node, maps, QuantizedLayer(weight, nearest.scales)) for weight in (nearest.weight, chosen)]
    assert errors[1] < 1.02 * errors[0]


def _error(node: Node, maps: torch.Tensor, layer: QuantizedLayer) -> float:
    return float((node([maps, dequantized_weight(layer)]) - node([maps, node.weight])).norm())


def test_layers_it_cannot_serve_keep_the_nearest_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(1)
    grouped = _convolution(torch.randn(8, 16, 1, 1, generator=rng), group=2)
    layer = quantize_layer(grouped.weight.numpy(), np.zeros(8, np.float32), 0.1)
    assert rounded_together(grouped, _maps(rng, grouped), layer, 8) is layer.weight
    monkeypatch.setattr(rounding, "MAX_INPUTS", 31)
    wide = _layers(rng)["pointwise"]
    layer = quantize_layer(wide.weight.numpy(), np.zeros(24, np.float32), 0.1)
    assert rounded_together(wide, _maps(rng, wide), layer, 8) is layer.weight


def test_an_input_that_is_always_zero_changes_nothing() -> None:
    node = _layers(torch.Generator().manual_seed(1))["pointwise"]
    layer = quantize_layer(node.weight.numpy(), np.zeros(24, np.float32), 0.1)
    assert (rounded_together(node, torch.zeros(4, 32, 12, 12), layer, 8) == layer.weight).all()


@pytest.mark.parametrize("per_tensor", [False, True])
def test_weights_that_round_to_given_integers(per_tensor: bool) -> None:
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(6, 4, 3, 3)).astype(np.float32), rng.normal(size=6).astype(np.float32)
    nearest = quantize_layer(weight, bias, 0.02, per_tensor=per_tensor)
    moved = nearest.weight + rng.integers(-2, 3, nearest.weight.shape)
    layer = QuantizedLayer(np.clip(moved, -127, 127).astype(np.int8), nearest.scales)
    there = rounding_to(weight, layer)
    again = quantize_layer(there, bias, 0.02, per_tensor=per_tensor, scales=layer.scales)
    assert (again.weight == layer.weight).all()
    assert (again.scales == layer.scales).all()
    assert np.abs(rounding_to(weight, nearest) - weight).max() <= 0.26 * nearest.scales.max(), "near the float ones"


@pytest.mark.parametrize(
    "scheme",
    [Scheme(), Scheme(pixels=False, per_tensor=True), Scheme(weight_bits=7)],
    ids=["usual", "per tensor", "7 bits"],
)
def test_training_begins_with_the_integers_of_the_quantisation(scheme: Scheme) -> None:
    model = to_onnx(lively("mobilenet_v3_small", 7, seed=0), SMALL, 1.7)
    start = QuantizedGraph(model, scheme, quantize_graph(Graph(model), PICTURES, scheme))
    found = _Student(start).quantization()
    for name, layer in start.quantization.layers.items():
        assert (found.layers[name].weight == layer.weight).all(), name
        assert (found.layers[name].scales == layer.scales).all(), name
        assert layer.bias is None or np.abs(found.layers[name].bias - layer.bias).max() <= 1, name  # type: ignore[operator]


def test_cut_ranges_are_taken_where_they_help_together(monkeypatch: pytest.MonkeyPatch) -> None:
    model = to_onnx(lively("mobilenet_v2", 7, seed=0), SMALL, 1.7)
    network = _Network(Task(model, PICTURES))
    scheme = Scheme()
    rounded = [name for name in network._quantization(scheme).activations if name.startswith("hardtanh")]
    everywhere = _cut(scheme, dict.fromkeys(rounded, 0.3))
    assert network._quantization(everywhere).error > network._quantization(scheme).error > 0
    monkeypatch.setattr(network._sensitivity, "shorter_ranges", lambda *_: dict.fromkeys(rounded, 0.3))
    assert network.with_shorter_ranges(scheme) == scheme
    hardly = {rounded[0]: 0.999}
    monkeypatch.setattr(network._sensitivity, "shorter_ranges", lambda *_: hardly)
    better = min(scheme, _cut(scheme, hardly), key=lambda one: network._quantization(one).error)
    assert network.with_shorter_ranges(scheme) == better


def _cut(scheme: Scheme, shares: dict[str, float]) -> Scheme:
    return replace(scheme, shorter=tuple(shares.items()))
