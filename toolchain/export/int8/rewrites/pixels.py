"""What reads the photograph: ONNX Runtime has faster ways for pixels than a conversion, a subtraction of the mean
and a convolution of three channels."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from toolchain.export.int8.rewrites.editing import Editing, attributes

TOGETHER = 4
"""Neighbouring pixels that become one with as many times the channels; the kernel wants a multiple of 4 of them."""
CHANNELS = 3
STRIDE = 2


def read_pixels(model: onnx.ModelProto) -> onnx.ModelProto:
    """Conversion and subtraction of the mean as one reading of integers, before a first convolution in float.

    Zero points are the means of the colours, rounded; the bias of the convolution makes up for the rest. Only the
    zeros that a convolution puts around a picture are then up to half a step of a pixel away from the mean.
    """
    editing = Editing(model)
    cast = editing.only_reader("image")
    if cast is not None and cast.op_type == "Transpose":
        cast = editing.only_reader(cast.output[0])
    subtract = _reader(editing, cast, "Cast", "Sub")
    layer = _reader(editing, subtract, "Sub", "Conv")
    if cast is None or subtract is None or layer is None or len(layer.input) < 3:
        return editing.finish()
    constants = [subtract.input[1], *layer.input[1:]]
    if not all(map(editing.is_constant, constants)):
        return editing.finish()
    mean, weight, bias = map(editing.value, constants)
    if mean.size != weight.shape[1] or mean.min() < 0 or mean.max() > 255:
        return editing.finish()
    name = subtract.output[0]
    zero = np.round(mean.ravel()).astype(np.uint8)
    rest = np.einsum("ochw,c->o", weight, mean.ravel() - zero)
    # Others may read the bias as it is.
    layer.input[2] = editing.constant(f"{name}_bias", (bias - rest).astype(np.float32))
    grid = [
        editing.constant(f"{name}_scale", np.ones(len(zero), np.float32)),
        editing.constant(f"{name}_zero_point", zero),
    ]
    read = helper.make_node("DequantizeLinear", [cast.input[0], *grid], [name], f"{name}_read", axis=1)
    editing.replace(subtract, [read])
    editing.replace(cast, [])
    return editing.finish()


def _reader(editing: Editing, node: onnx.NodeProto | None, op: str, next_op: str) -> onnx.NodeProto | None:
    """The `next_op` that alone reads, as its first input, what `node` gives, if that is an `op`."""
    if node is None or node.op_type != op:
        return None
    reader = editing.only_reader(node.output[0])
    fits = reader is not None and reader.op_type == next_op and reader.input[0] == node.output[0]
    return reader if fits else None


def merge_pixels(model: onnx.ModelProto) -> onnx.ModelProto:
    """The first convolution, of stride 2, on pixels of 12 channels: a row of 4 pixels makes 2 of its outputs.

    A photograph uint8 [n, height, width, 3] is read as [n, height, width / 4, 12], which moves nothing; the
    convolution makes [n, height / 2, width / 4, 2 * outputs], which is read as [n, height / 2, width / 2, outputs].
    Its kernel holds the same weights, and zeros.
    """
    editing = Editing(model)
    found = _first(editing)
    if found is None:
        return editing.finish()
    permute, convolution = found
    _, height, width, _ = editing.image_shape
    settings = attributes(convolution)
    top, left, bottom, _ = settings["pads"]
    weight = editing.value(_stored(editing, convolution.input[1]))
    outputs, _, rows, columns = weight.shape
    # Where the pixels that the two outputs read lie: which merged pixel, and which of its four.
    places = [(output, tap, STRIDE * output - left + tap) for output in (0, 1) for tap in range(columns)]
    first, last = (limit(offset // TOGETHER for _, _, offset in places) for limit in (min, max))
    merged = np.zeros((2, outputs, TOGETHER, CHANNELS, rows, last - first + 1), weight.dtype)
    for output, tap, offset in places:
        merged[output, :, offset % TOGETHER, :, :, offset // TOGETHER - first] = weight[..., tap]
    _change(editing, convolution.input[1], merged.reshape(2 * outputs, TOGETHER * CHANNELS, rows, -1))
    if len(convolution.input) > 2:
        _change(editing, convolution.input[2], np.tile(editing.value(_stored(editing, convolution.input[2])), 2))
    del convolution.attribute[:]
    convolution.attribute.extend(
        helper.make_attribute(name, value)
        for name, value in {
            "dilations": [1, 1],
            "group": 1,
            "kernel_shape": [rows, last - first + 1],
            "pads": [top, -first, bottom, last],
            "strides": [STRIDE, 1],
        }.items()
    )
    shape = editing.constant("merged_shape", np.array([0, height, width // TOGETHER, TOGETHER * CHANNELS]))
    reshape = helper.make_node("Reshape", [permute.input[0], shape], ["merged_pixels"], "merge_pixels")
    permute.input[0] = "merged_pixels"
    editing.replace(permute, [reshape, permute])
    _split(editing, _last_of(editing, convolution), [0, 0, width // STRIDE, outputs])
    return editing.finish()


def _first(editing: Editing) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
    """The transposition of the photograph and the convolution that reads it, if four pixels can become one."""
    shape = editing.image_shape
    permute = editing.only_reader("image")
    if permute is None or permute.op_type != "Transpose" or shape[2] % TOGETHER or shape[3] != CHANNELS:
        return None
    read = editing.only_reader(permute.output[0])
    # Means of three colours would have to be four times as many: only bytes with one middle are read so.
    while read is not None and (
        read.op_type == "Cast" or any(editing.grid(read, op) for op in ("DequantizeLinear", "QuantizeLinear"))
    ):
        read = editing.only_reader(read.output[0])
    if read is None or read.op_type != "Conv":
        return None
    settings = attributes(read)
    plain = settings.get("group", 1) == 1 and list(settings.get("dilations", [1, 1])) == [1, 1]
    if not plain or list(settings["strides"]) != [STRIDE, STRIDE] or "pads" not in settings:
        return None
    stored = [_stored(editing, name) for name in read.input[1:]]
    if not all(stored):
        return None
    made = (shape[2] + settings["pads"][1] + settings["pads"][3] - editing.value(stored[0]).shape[3]) // STRIDE + 1
    return (permute, read) if made == shape[2] // STRIDE else None


def _last_of(editing: Editing, convolution: onnx.NodeProto) -> onnx.NodeProto:
    """The node whose output is to be taken apart: the rounding that follows, so that bytes are moved."""
    node = convolution
    while (reader := editing.only_reader(node.output[0])) is not None:
        if reader.op_type == "QuantizeLinear":
            return reader
        if reader.op_type not in {"Relu", "Clip"}:
            break
        node = reader
    return convolution


def _split(editing: Editing, node: onnx.NodeProto, sizes: list[int]) -> None:
    """Read the maps that `node` makes, two outputs in one, as [n, height, width, outputs]."""
    name = node.output[0]
    node.output[0] = f"{name}_merged"
    shape = editing.constant("split_shape", np.array(sizes))
    back = [f"{name}_pairs", f"{name}_pixels"]
    editing.insert_after(
        node,
        [
            helper.make_node("Transpose", [f"{name}_merged"], [back[0]], back[0], perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", [back[0], shape], [back[1]], back[1]),
            helper.make_node("Transpose", [back[1]], [name], f"{name}_split", perm=[0, 3, 1, 2]),
        ],
    )


def _stored(editing: Editing, name: str) -> str:
    """The constant that the tensor `name` is, or is read from; empty where it is none."""
    if editing.is_constant(name):
        return name
    maker = editing.makers.get(name)
    reads = maker is not None and maker.op_type == "DequantizeLinear" and editing.is_constant(maker.input[0])
    return maker.input[0] if maker is not None and reads else ""


def _change(editing: Editing, name: str, values: NDArray[np.generic]) -> None:
    """Put `values`, twice as many outputs, in the place of the constant behind `name`, with their scales."""
    stored = _stored(editing, name)
    editing.constant(stored, values)
    if stored != name:
        for constant in editing.makers[name].input[1:]:
            if editing.value(constant).ndim:
                editing.constant(constant, np.tile(editing.value(constant), 2))
