"""Channels of zeros, up to the multiple that depthwise integer kernels are written for."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from toolchain.export.int8.rewrites.editing import Editing, attributes

MULTIPLE = 16
"""ONNX Runtime's depthwise kernel for x86 takes 16 channels at once (`MlasConvSymPackWSize`); others are slower."""

BY_CHANNEL = frozenset(
    {"Relu", "Clip", "HardSwish", "QuantizeLinear", "DequantizeLinear", "Mul", "ReduceMean", "GlobalAveragePool"}
)
"""Operators that give zeros for channels of zeros, and never mix channels."""


def pad_channels(model: onnx.ModelProto, multiple: int = MULTIPLE) -> onnx.ModelProto:
    """Give depthwise convolutions a number of channels that `multiple` divides.

    The layers before get outputs of zeros, with those of a squeeze-and-excitation between them; the layers after
    read them with weights of zero.
    """
    editing = Editing(model)
    done: set[str] = set()
    for node in [node for node in editing.nodes if _is_depthwise(editing, node)]:
        channels = _size(editing, node.input[1], 0)
        if node.output[0] in done or channels % multiple == 0:
            continue
        region = _Region(editing, node)
        done |= region.tensors
        if region.closed:
            region.pad(channels, -channels % multiple)
    return editing.finish()


class _Region:
    """The tensors that share their channels with a depthwise convolution, and the layers around them."""

    def __init__(self, editing: Editing, depthwise: onnx.NodeProto) -> None:
        self._editing = editing
        self.tensors: set[str] = set()
        self.closed = True
        """Whether only plain convolutions make and read the channels."""
        self._outputs: list[onnx.NodeProto] = []
        self._inputs: list[onnx.NodeProto] = []
        self._depthwise: list[onnx.NodeProto] = []
        self._factors: set[str] = set()
        left = [depthwise.input[0]]
        while left:
            name = left.pop()
            if name in self.tensors:
                continue
            self.tensors.add(name)
            maker = editing.makers.get(name)
            if maker is None or name in editing.outputs:
                self.closed = False
                continue
            left += self._through(maker, name)
            for reader in editing.readers.get(name, []):
                left += self._through(reader, name)

    def _through(self, node: onnx.NodeProto, name: str) -> list[str]:
        """The tensors whose channels are those of `name`, by what `node` does."""
        if node.op_type == "Conv":
            if _is_depthwise(self._editing, node):
                _remember(self._depthwise, node)
                return [node.input[0], node.output[0]]
            if attributes(node).get("group", 1) != 1 or name in node.input[1:]:
                self.closed = False
            _remember(self._outputs if name == node.output[0] else self._inputs, node)
            return []
        if node.op_type not in BY_CHANNEL:
            self.closed = False
            return []
        images = node.input if node.op_type == "Mul" else node.input[:1]
        if node.op_type == "ReduceMean" and attributes(node).get("keepdims", 1) == 0:
            self.closed = False
        return [node.output[0], *(image for image in images if not self._is_factor(image))]

    def _is_factor(self, name: str) -> bool:
        """Whether the tensor `name` is a constant, to be padded itself where it has channels."""
        maker = self._editing.makers.get(name)
        stored = maker.input[0] if maker is not None and maker.op_type == "DequantizeLinear" else name
        if not self._editing.is_constant(stored):
            return False
        if self._editing.value(stored).size > 1:
            self._factors.add(stored)
        return True

    def pad(self, channels: int, more: int) -> None:
        constants: list[tuple[str, int]] = [(name, 1) for name in sorted(self._factors)]
        for node in (*self._outputs, *self._depthwise):
            constants += [(name, 0) for name in node.input[1:]]
        constants += [(node.input[1], 1) for node in self._inputs]
        found = [entry for name, axis in constants for entry in _stored(self._editing, name, axis)]
        if any(not name or self._editing.value(name).shape[axis] != channels for name, axis, _ in found):
            return
        own = {name for name, _, _ in found}
        if any(len(self._editing.readers[name]) > 1 for name in own):
            return
        for name, axis, is_scale in dict.fromkeys(found):
            values = self._editing.value(name)
            filling = values.take([-1] * more, axis) if is_scale else np.zeros_like(values.take([0] * more, axis))
            self._editing.constant(name, np.concatenate([values, filling], axis))
        for node in self._depthwise:
            kept = [entry for entry in node.attribute if entry.name != "group"]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("group", channels + more)])


def _remember(nodes: list[onnx.NodeProto], node: onnx.NodeProto) -> None:
    if not any(one is node for one in nodes):
        nodes.append(node)


def _is_depthwise(editing: Editing, node: onnx.NodeProto) -> bool:
    group: int = attributes(node).get("group", 1)
    return node.op_type == "Conv" and group > 1 and _size(editing, node.input[1], 0) == group


def _size(editing: Editing, name: str, axis: int) -> int:
    stored = _stored(editing, name, axis)[0][0]
    return editing.value(stored).shape[axis] if stored else 0


def _stored(editing: Editing, name: str, axis: int) -> list[tuple[str, int, bool]]:
    """The constants behind the weights or biases `name` that have its `axis`: each with the axis.

    The last value says whether it is a scale: zeros have the last channel's, as ONNX Runtime wants biases to have
    the product of two scales everywhere. Empty names stand for what is no constant.
    """
    if editing.is_constant(name):
        return [(name, axis, False)]
    maker = editing.makers.get(name)
    if maker is None:
        return [("", axis, False)]
    if maker.op_type == "DequantizeLinear":
        found = _stored(editing, maker.input[0], axis)
        if axis == 0:
            scale, *zero = maker.input[1:]
            found += [(scale, 0, True)] if editing.value(scale).ndim else []
            found += [(zero[0], 0, False)] if zero and editing.value(zero[0]).ndim else []
        return found
    if maker.op_type == "Cast":
        return _stored(editing, maker.input[0], axis)
    if maker.op_type == "Mul" and editing.is_constant(maker.input[1]):
        found = _stored(editing, maker.input[0], axis)
        return found + ([(maker.input[1], 0, True)] if axis == 0 else [])
    return [("", axis, False)]
