"""A copy of a model that is being changed: who makes and reads a tensor, and what is constant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


class Editing:
    """The nodes and constants of a copy of `model`. Changes are made here; `finish` gives the changed copy."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self.nodes: list[onnx.NodeProto] = [_copied(node) for node in model.graph.node]
        self._constants = {tensor.name: tensor for tensor in self._model.graph.initializer}
        self._changed = False
        self.index()

    def index(self) -> None:
        """Find out anew who makes and reads each tensor, after nodes have changed."""
        self.makers = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The node that reads the tensor `name`, if it is the only one and the tensor no output of the model."""
        found = self.readers.get(name, [])
        return found[0] if len(found) == 1 and name not in self.outputs else None

    @property
    def outputs(self) -> set[str]:
        """Names of the model's outputs."""
        return {value.name for value in self._model.graph.output}

    @property
    def image_shape(self) -> list[int]:
        """Sizes of the model's input; 0 where it may have any."""
        return [side.dim_value for side in self._model.graph.input[0].type.tensor_type.shape.dim]

    def is_constant(self, name: str) -> bool:
        return name in self._constants

    def value(self, name: str) -> NDArray[Any]:
        """The constant `name`."""
        return numpy_helper.to_array(self._constants[name])

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant, or change the one of this name; its name."""
        self._constants[name] = numpy_helper.from_array(np.array(values, order="C"), name)
        self._changed = True
        return name

    def replace(self, old: onnx.NodeProto, new: Iterable[onnx.NodeProto]) -> None:
        """Put `new` in the place of `old`."""
        place = next(index for index, node in enumerate(self.nodes) if node is old)
        self.nodes[place : place + 1] = list(new)
        self._changed = True
        self.index()

    def insert_after(self, node: onnx.NodeProto, new: Iterable[onnx.NodeProto]) -> None:
        self.replace(node, [node, *new])

    def quantize(self, name: str, scale: float, zero: int, target: str) -> onnx.NodeProto:
        """A node that rounds the tensor `name` to uint8, as `target`."""
        return helper.make_node("QuantizeLinear", [name, *self._grid(target, scale, zero)], [target], f"{target}_q")

    def dequantize(self, name: str, scale: float, zero: int, target: str) -> onnx.NodeProto:
        """A node that reads the uint8 tensor `name` as float, as `target`."""
        inputs = [name, *self._grid(target, scale, zero)]
        return helper.make_node("DequantizeLinear", inputs, [target], f"{target}_dq")

    def grid(self, node: onnx.NodeProto | None, op: str) -> tuple[float, int] | None:
        """Scale and zero point of `node` if it is an `op` (QuantizeLinear, ...) of uint8 with one scale."""
        if node is None or node.op_type != op or not all(map(self.is_constant, node.input[1:3])):
            return None
        scale, zero = self.value(node.input[1]), self.value(node.input[2])
        return (float(scale), int(zero)) if scale.size == 1 and zero.dtype == np.uint8 else None

    def finish(self) -> onnx.ModelProto:
        """The changed model, without constants that nothing reads and without shapes that are no longer true."""
        if not self._changed:
            return self._model
        graph = self._model.graph
        used = {name for node in self.nodes for name in node.input}
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(tensor for name, tensor in self._constants.items() if name in used)
        return self._model

    def _grid(self, name: str, scale: float, zero: int) -> list[str]:
        return [
            self.constant(f"{name}_scale", np.array(scale, np.float32)),
            self.constant(f"{name}_zero_point", np.array(zero, np.uint8)),
        ]


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node."""
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def _copied(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy
