"""Layers that stay float stay so on ONNX Runtime, too."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from toolchain.export.int8.rewrites.editing import Editing, attributes


def keep_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """Float layers read integers with a scale for each channel, all of them the same.

    Where a layer with float weights stands between a DequantizeLinear of one scale and a QuantizeLinear, ONNX
    Runtime rounds its weights to int8 with a single scale for all of them (its optimiser
    `WeightBiasQuantization`): depthwise layers are ruined by it, which are left in float for their errors. It
    leaves alone what is read with a scale for each channel, which costs no time and says the same.
    """
    editing = Editing(model)
    for layer in [node for node in editing.nodes if node.op_type in {"Conv", "Gemm"}]:
        read, weight = editing.makers.get(layer.input[0]), editing.makers.get(layer.input[1])
        if read is None or not _has_one_scale(editing, read) or (weight and weight.op_type == "DequantizeLinear"):
            continue
        channels = _channels(editing, layer)
        if not channels:
            continue
        name = f"{layer.output[0]}_input"
        scale, zero = map(editing.value, read.input[1:])
        constants = [
            editing.constant(f"{name}_scales", np.full(channels, scale, np.float32)),
            editing.constant(f"{name}_zero_points", np.full(channels, zero, zero.dtype)),
        ]
        apart = helper.make_node(
            "DequantizeLinear", [read.input[0], *constants], [name], f"{name}_dequantize", axis=1
        )
        layer.input[0] = name
        editing.replace(layer, [apart, layer])
        if not editing.readers.get(read.output[0]) and read.output[0] not in editing.outputs:
            editing.replace(read, [])
    return editing.finish()


def _has_one_scale(editing: Editing, node: onnx.NodeProto) -> bool:
    is_reading = node.op_type == "DequantizeLinear" and len(node.input) == 3
    return is_reading and all(map(editing.is_constant, node.input[1:])) and editing.value(node.input[1]).size == 1


def _channels(editing: Editing, layer: onnx.NodeProto) -> int:
    """How many channels `layer` reads; 0 where its weights are no constant."""
    name = layer.input[1]
    while not editing.is_constant(name):
        maker = editing.makers.get(name)
        if maker is None or maker.op_type not in {"Cast", "Mul"}:
            return 0
        name = maker.input[0]
    shape, settings = editing.value(name).shape, attributes(layer)
    if layer.op_type == "Gemm":
        return int(shape[1] if settings.get("transB", 0) else shape[0])
    return int(shape[1] * settings.get("group", 1))
