"""Weights stored as int8, arithmetic in float32: a quarter of the size, the float network's speed.

For devices where int8 arithmetic does not pay. No calibration: activations stay as they are.
"""

from __future__ import annotations

import onnx

from toolchain.export.qdq import MIN_PER_CHANNEL, Quantisation, quantise_layer, write_qdq
from toolchain.export.torch_graph import Graph

SETTINGS = {"weights": "int8 per-channel, symmetric; depthwise float32", "arithmetic": "float32"}


def int8_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the float `model` whose convolutions and fully connected layers store their weights as int8."""
    layers = {
        node.name: quantise_layer(node.weight.numpy(), node.bias.numpy(), None)
        for node in Graph(model).nodes
        if node.is_layer and node.weight[0].numel() >= MIN_PER_CHANNEL
    }
    return write_qdq(model, Quantisation(layers=layers))
