"""A LiteRT network while it is made: tensors, operators, and which value of the ONNX graph lies in which tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from toolchain.artifact.tflite import Network, Operator, Tensor
from toolchain.errors import EdgetlError


class UntranslatableError(EdgetlError):
    """The network computes something that is not translated."""


@dataclass(frozen=True)
class Grid:
    """What the integers of a tensor stand for, as LiteRT has them: int8, `(integer - zero_point) * scale`."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Stored:
    """Weights that are stored as integers: int8, with `scales` for all, or for each place along `axis`."""

    values: NDArray[Any]
    scales: NDArray[np.float32]
    axis: int

    def floats(self) -> NDArray[np.float32]:
        """What they stand for."""
        sides = [1] * self.values.ndim
        if self.scales.size > 1:
            sides[self.axis] = -1
        return np.asarray(self.values * self.scales.reshape(sides), np.float32)


@dataclass(frozen=True)
class Place:
    """Where a value of the ONNX graph lies: a tensor, of maps [n, height, width, channels] where ONNX says
    [n, channels, height, width] (`maps`)."""

    tensor: int
    maps: bool = False


class Building:
    """The network so far. Values go by their names in the ONNX graph, whose shapes are for one photograph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.outputs = [value.name for value in model.graph.output]
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.shapes = _shapes(model)
        self.stored: dict[str, Stored] = {}
        self.integers: dict[str, str] = {}
        """Values that are integers read as floats, and the names of the integers."""
        self.at_least_zero: set[int] = set()
        """Tensors that hold nothing below 0."""
        self.done: set[str] = set()
        """Nodes, by their first output, that were translated together with another."""
        self._tensors: list[Tensor] = []
        self._operators: list[Operator] = []
        self._places: dict[str, Place] = {}
        self._constants: dict[tuple[Any, ...], int] = {}
        self._inputs: list[int] = []

    def finish(self) -> Network:
        """The network; the graph's outputs, by their names, are its outputs."""
        outputs = tuple(self.place(name).tensor for name in self.outputs)
        return Network(tuple(self._tensors), tuple(self._operators), tuple(self._inputs), outputs)

    def input(self, name: str, kind: str, grid: Grid) -> None:
        shape = (-1, *self.shapes[name][1:])
        self.put(name, Place(self._add(Tensor(name, shape, kind, None, *_params(grid)))))
        self._inputs.append(self.place(name).tensor)

    def put(self, name: str, place: Place) -> None:
        """Say where the value `name` lies."""
        self._places[name] = place

    def place(self, name: str) -> Place:
        """Where the value `name` lies; where it is integers that are read as floats, those are converted."""
        if name not in self._places and name in self.integers:
            integers = self.place(self.integers[name])
            made = self.emit("DEQUANTIZE", [integers.tensor], name, self.shape_of(integers), "float32")
            self.put(name, Place(made, integers.maps))
        if name not in self._places:
            raise UntranslatableError(f"what `{name}` holds cannot be read there")
        return self._places[name]

    def integer_place(self, name: str) -> Place | None:
        """Where the integers lie that `name` reads as floats; None where it holds floats."""
        return self.place(self.integers[name]) if name in self.integers else None

    def tensor(self, place: Place) -> Tensor:
        return self._tensors[place.tensor]

    def shape_of(self, place: Place) -> tuple[int, ...]:
        return self._tensors[place.tensor].shape

    def grid_of(self, place: Place) -> Grid:
        tensor = self.tensor(place)
        return Grid(float(tensor.scales[0]), int(tensor.zero_points[0]))

    def emit(
        self,
        kind: str,
        inputs: Sequence[int],
        name: str,
        shape: tuple[int, ...],
        type_name: str,
        grid: Grid | None = None,
        **options: int | float | bool,
    ) -> int:
        """Add an operator, and the tensor that it makes."""
        made = self._add(Tensor(name, shape, type_name, None, *_params(grid)))
        self._operators.append(Operator(kind, tuple(inputs), (made,), options))
        return made

    def constant(
        self,
        name: str,
        values: NDArray[Any],
        scales: NDArray[np.float32] | None = None,
        axis: int = 0,
    ) -> int:
        """A constant tensor; those that are alike are kept once."""
        key = (values.tobytes(), values.shape, values.dtype.str, None if scales is None else scales.tobytes(), axis)
        if key not in self._constants:
            made = Tensor(name, values.shape, values.dtype.name, np.ascontiguousarray(values))
            if scales is not None:
                zeros = np.zeros(scales.size, np.int64)
                made = replace(made, scales=scales.reshape(-1), zero_points=zeros, axis=axis)
            self._constants[key] = self._add(made)
        return self._constants[key]

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The node that reads `name`, where there is one and the value is no output of the graph."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def _add(self, tensor: Tensor) -> int:
        self._tensors.append(tensor)
        return len(self._tensors) - 1


def _params(grid: Grid | None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    if grid is None:
        return np.zeros(0, np.float32), np.zeros(0, np.int64)
    return np.array([grid.scale], np.float32), np.array([grid.zero_point], np.int64)


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The shapes of all values for one photograph."""
    single = onnx.ModelProto()
    single.CopyFrom(model)
    single.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    del single.graph.value_info[:]
    for output in single.graph.output:
        output.type.tensor_type.shape.dim[0].ClearField("dim_param")
        output.type.tensor_type.shape.dim[0].ClearField("dim_value")
    graph = onnx.shape_inference.infer_shapes(single, data_prop=True).graph
    return {
        value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node, by name."""
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}
