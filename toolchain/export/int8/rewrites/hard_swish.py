"""Hard-swish and global pooling in integers: ONNX Runtime computes both in float, between two conversions."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from toolchain.export.int8.rewrites.editing import Editing

THREE = 1e-5
"""How far, in units of 3, the integer zero may stand from -3."""


def integer_hard_swish(model: onnx.ModelProto) -> onnx.ModelProto:
    """Hard-swishes between integers as two multiplications that ONNX Runtime has integer kernels for.

    The grid of the input must have -3 at integer 0 (`quantize.Scheme.swish`). Then x + 3 is `scale * q`, and the
    gate `clip(x + 3, 0, 6) / 6` is what a multiplication by 1 rounds to, as uint8 saturates at 1. The answer is x
    times the gate: at most one step from the rounded hard-swish. Multiplications by a constant for each channel
    that stand between integers become integer ones too.
    """
    editing = Editing(model)
    for node in [node for node in editing.nodes if node.op_type == "HardSwish"]:
        read = editing.makers.get(node.input[0])
        grid = editing.grid(read, "DequantizeLinear")
        rounded = editing.only_reader(node.output[0])
        target = editing.grid(rounded, "QuantizeLinear")
        if read is None or grid is None or target is None or not _within_one_step(grid, target):
            continue
        scale, _ = grid
        name, integers = node.output[0], read.input[0]
        one = editing.constant(f"{name}_one", np.array(255, np.uint8))
        editing.replace(
            node,
            [
                editing.dequantize(integers, scale / 6, 0, f"{name}_above"),
                editing.dequantize(one, 1 / 255, 0, f"{name}_unit"),
                helper.make_node("Mul", [f"{name}_above", f"{name}_unit"], [f"{name}_ramp"], f"{name}_ramp"),
                editing.quantize(f"{name}_ramp", 1 / 255, 0, f"{name}_gate_integers"),
                editing.dequantize(f"{name}_gate_integers", 1 / 255, 0, f"{name}_gate"),
                helper.make_node("Mul", [node.input[0], f"{name}_gate"], [name], f"{name}_gated"),
            ],
        )
    _integer_factors(editing)
    return editing.finish()


def _within_one_step(grid: tuple[float, int], target: tuple[float, int]) -> bool:
    """Whether the two multiplications stay within a step of the rounded hard-swish, for all 256 integers.

    They do not where the range of the answer is so short that rounding the gate to 255ths shows.
    """
    (scale, zero), (step, offset) = grid, target
    if abs(scale * zero / 3 - 1) > THREE:
        return False
    integers = np.arange(256)
    values = scale * (integers - zero)
    gate = np.round(np.clip(scale * integers / 6, 0, 1) * 255) / 255
    exact = values * np.clip(values / 6 + 0.5, 0, 1)
    ours, wanted = (np.clip(np.round(answer / step) + offset, 0, 255) for answer in (values * gate, exact))
    return bool(np.abs(ours - wanted).max() <= 1)


def _integer_factors(editing: Editing) -> None:
    """Let multiplications by positive constants read them as uint8, where that loses nothing."""
    for node in [node for node in editing.nodes if node.op_type == "Mul"]:
        image, factors = node.input
        if not editing.is_constant(factors) or editing.value(factors).dtype != np.float32:
            continue
        before = editing.grid(editing.makers.get(image), "DequantizeLinear")
        after = editing.grid(editing.only_reader(node.output[0]), "QuantizeLinear")
        values = editing.value(factors)
        scale = float(values.max()) / 255
        if before is None or after is None or values.min() < 0 or not scale:
            continue
        integers = np.round(values / scale)
        if np.abs(integers * scale - values).max() > 1e-5 * values.max():
            continue
        stored = editing.constant(f"{factors}_uint8", integers.astype(np.uint8))
        read = editing.dequantize(stored, scale, 0, f"{factors}_float")
        node.input[1] = read.output[0]
        editing.replace(node, [read, node])


def integer_pool(model: onnx.ModelProto) -> onnx.ModelProto:
    """Means over whole maps as GlobalAveragePool, which ONNX Runtime has an integer kernel for.

    Where the mean loses its two last dimensions, they are dropped after the integers are made.
    """
    editing = Editing(model)
    for node in [node for node in editing.nodes if node.op_type == "ReduceMean"]:
        keeps = next((entry.i for entry in node.attribute if entry.name == "keepdims"), 1)
        if len(node.input) < 2 or not editing.is_constant(node.input[1]):
            continue
        if sorted(axis % 4 for axis in editing.value(node.input[1]).tolist()) != [2, 3]:
            continue
        image, name = node.input[0], node.output[0]
        if keeps:
            editing.replace(node, [helper.make_node("GlobalAveragePool", [image], [name], f"{name}_pool")])
            continue
        pooled = f"{name}_pooled"
        pool = helper.make_node("GlobalAveragePool", [image], [pooled], f"{name}_pool")
        rounding = editing.only_reader(name)
        if rounding is None or editing.grid(rounding, "QuantizeLinear") is None:
            editing.replace(node, [pool, helper.make_node("Flatten", [pooled], [name], f"{name}_flatten")])
            continue
        editing.replace(node, [pool])
        integers = rounding.output[0]
        rounding.input[0], rounding.output[0] = pooled, f"{integers}_pooled"
        flatten = helper.make_node("Flatten", [f"{integers}_pooled"], [integers], f"{name}_flatten")
        editing.insert_after(rounding, [flatten])
    return editing.finish()
