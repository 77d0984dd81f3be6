"""An ONNX network of edgetl's exporter, float or quantised (QDQ), as a LiteRT network.

Each operator becomes the one that computes the same; between DequantizeLinear and QuantizeLinear it becomes an
integer one on the same integers: weights as they are, activations uint8 shifted to int8. Maps, [n, channels,
height, width] in ONNX, lie as [n, height, width, channels], so that turning the photograph costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx

from toolchain.artifact.graph import domain_of
from toolchain.artifact.tflite import ACTIVATIONS, Network
from toolchain.export.litert.building import Building, Grid, Place, Stored, UntranslatableError, attributes
from toolchain.export.litert.layers import (
    Tail,
    connected,
    convolution,
    finish,
    grid_of,
    limits_of,
    rounded,
    shape_as,
    tail_of,
)
from toolchain.export.litert.maps import concatenation, mean, padding, pool

Translate = Callable[[Building, onnx.NodeProto], None]


def translate(model: onnx.ModelProto) -> Network:
    """The network of `model`, which takes `image` and gives `logits` and `probabilities` as in an artifact.

    Raises UntranslatableError where an operator, or the way that it is used, has no translation.
    """
    building = Building(model)
    for node in model.graph.node:
        if node.op_type == "Constant":
            value = attributes(node)
            building.constants[node.output[0]] = (
                onnx.numpy_helper.to_array(value["value"]) if "value" in value else np.array(*value.values())
            )
    building.input("image", "uint8", Grid(1.0, _middle(building)))
    for node in model.graph.node:
        if node.op_type == "Constant" or node.output[0] in building.done:
            continue
        if node.op_type not in _TRANSLATIONS or domain_of(node):
            raise UntranslatableError(f"the operator {node.op_type} is not translated to LiteRT")
        _TRANSLATIONS[node.op_type](building, node)
    return building.finish()


def _middle(building: Building) -> int:
    """The zero point of the photograph's own bytes: that of the node that reads them as integers, else 0."""
    reading, found = ["image"], {0}
    while reading:
        for node in building.readers.get(reading.pop(), []):
            if node.op_type in {"Transpose", "Reshape"}:
                reading.append(node.output[0])
            elif node.op_type == "DequantizeLinear":
                if building.constants[node.input[2]].size > 1:
                    raise UntranslatableError("the photograph's colours are read with a zero point for each")
                if (building.constants[node.input[1]] != 1).any():
                    raise UntranslatableError("the photograph's bytes are read with a scale")
                found.add(int(building.constants[node.input[2]]))
    found -= {0} if len(found) > 1 else set()
    if len(found) > 1:
        raise UntranslatableError("the photograph's bytes are read in two ways")
    return found.pop()


def _dequantize(building: Building, node: onnx.NodeProto) -> None:
    source, name = node.input[0], node.output[0]
    if source in building.constants:
        values, scales = building.constants[source], building.constants[node.input[1]]
        zeros = building.constants[node.input[2]] if len(node.input) > 2 else np.zeros(1)
        axis = attributes(node).get("axis", 1) % max(values.ndim, 1)
        if zeros.any() or values.dtype == np.uint8:
            building.constants[name] = Stored(
                values.astype(np.int32) - _along(zeros, values.ndim, axis), scales, axis
            ).floats()
        else:
            building.stored[name] = Stored(values, scales.reshape(-1), axis)
        return
    place = building.place(source)
    if building.tensor(place).type == "uint8":  # the photograph's own bytes
        grid = Grid(1.0, building.grid_of(place).zero_point - 128)
        signed = building.emit("QUANTIZE", [place.tensor], f"{source}_int8", building.shape_of(place), "int8", grid)
        place = Place(signed, place.maps)
        building.put(source, place)
    scales, zeros = _read_with(building, node)
    grid = building.grid_of(place)
    if (scales == np.float32(grid.scale)).all() and (zeros == grid.zero_point).all():
        building.integers[name] = source
        return
    # As an integer hard-swish reads x as (x + 3) / 6: what they stand for, multiplied and moved.
    shape = building.shape_of(place)
    made = building.emit("DEQUANTIZE", [place.tensor], f"{name}_rounded", shape, "float32")
    for kind, term in {"MUL": scales / np.float32(grid.scale), "ADD": scales * (grid.zero_point - zeros)}.items():
        inputs = [made, building.constant(f"{name}_{kind}", np.asarray(term, np.float32))]
        none = ACTIVATIONS[""]
        made = building.emit(kind, inputs, f"{name}_{kind}", shape, "float32", fusedActivationFunction=none)
    building.put(name, Place(made, place.maps))


def _read_with(building: Building, node: onnx.NodeProto) -> tuple[np.ndarray, np.ndarray]:
    """The scales and zero points, shifted to int8, that `node` reads integers with: one for all, or for each
    channel, which lie last."""
    names = [name for name in node.input[1:] if name]
    if not set(names) <= set(building.constants):
        raise UntranslatableError(f"the grid of `{node.output[0]}` is computed")
    scales, zeros = [*(building.constants[name] for name in names), np.array(0, np.uint8)][:2]
    if scales.size > 1 and attributes(node).get("axis", 1) != 1:
        raise UntranslatableError(f"`{node.output[0]}` has scales along another axis than the channels")
    return scales, zeros.astype(np.int32) - (128 if zeros.dtype == np.uint8 else 0)


def _along(zeros: np.ndarray, rank: int, axis: int) -> np.ndarray:
    return zeros.astype(np.int32).reshape(
        [-1 if place == axis else 1 for place in range(rank)] if zeros.size > 1 else ()
    )


def _quantize(building: Building, node: onnx.NodeProto) -> None:
    grid = grid_of(building, node)
    if grid is None:
        raise UntranslatableError(f"`{node.output[0]}` is rounded in a way that is not translated")
    place = building.integer_place(node.input[0]) or building.place(node.input[0])
    rounded(building, place, node.output[0], grid)


def _cast(building: Building, node: onnx.NodeProto) -> None:
    """Pixels as floats, or weights that are stored as integers and computed in floats."""
    source, name = node.input[0], node.output[0]
    if source in building.constants:
        values = building.constants[source]
        kind = onnx.helper.tensor_dtype_to_np_dtype(attributes(node)["to"])
        if values.dtype == np.int8 and kind == np.float32:
            building.stored[name] = Stored(values, np.ones(1, np.float32), 0)
        building.constants[name] = values.astype(kind)
        return
    place = building.place(source)
    tensor = building.tensor(place)
    if tensor.type != "uint8" or building.grid_of(place) != Grid(1.0, 0):
        raise UntranslatableError(f"`{name}` is cast from what are not the photograph's bytes")
    made = building.emit("DEQUANTIZE", [place.tensor], name, tensor.shape, "float32")
    building.put(name, Place(made, place.maps))


def _pair(building: Building, node: onnx.NodeProto) -> None:
    """Add, Sub, Mul and Div of two values, or of one and a constant."""
    name, kind = node.output[0], node.op_type.upper()
    if all(one in building.constants for one in node.input):
        _scale_weights(building, node)
        return
    tail, places = tail_of(building, node), [building.integer_place(one) for one in node.input]
    if kind == "DIV" or tail.grid is None or None in places:
        tail = Tail(tail.output, tail.activation)
        places = [None if one in building.constants else building.place(one) for one in node.input]
    maps = {place.maps for place in places if place is not None}
    if len(maps) > 1:
        raise UntranslatableError(f"`{name}` mixes maps with what are none")
    inputs = [
        _factor(building, one, maps={True} == maps, rank=len(building.shapes[name]))
        if place is None
        else place.tensor
        for one, place in zip(node.input, places, strict=True)
    ]
    finish(building, tail, kind, inputs, shape_as(building, name, maps=True in maps), maps=True in maps)


def _scale_weights(building: Building, node: onnx.NodeProto) -> None:
    """`Mul(Cast(int8), scale)`, as weights that are only stored as integers are written."""
    name, [first, second] = node.output[0], node.input
    if node.op_type != "Mul" or first not in building.stored:
        raise UntranslatableError(f"`{name}` is computed from constants")
    values, scales = building.stored[first].values, building.constants[second]
    if scales.size not in {1, values.shape[0]} or (scales.ndim and scales.shape[0] != scales.size):
        raise UntranslatableError(f"the weights `{name}` have scales along another axis")
    building.stored[name] = Stored(values, scales.reshape(-1).astype(np.float32), 0)


def _factor(building: Building, name: str, *, maps: bool, rank: int) -> int:
    """A constant operand; beside maps its channels come last."""
    values = building.constants[name].astype(np.float32)
    if maps and values.size > 1:
        values = values.reshape([1] * (rank - values.ndim) + list(values.shape)).transpose(0, 2, 3, 1)
    return building.constant(name, values)


def _activation(building: Building, node: onnx.NodeProto) -> None:
    """Relu, HardSwish, Sigmoid: a value at a time."""
    kind = {"Relu": "RELU", "HardSwish": "HARD_SWISH", "Sigmoid": "LOGISTIC"}[node.op_type]
    tail, place = tail_of(building, node), building.integer_place(node.input[0])
    # LiteRT wants a grid of its own for the integers of a sigmoid, and for those of RELU that of the input.
    if node.op_type != "HardSwish" or place is None or tail.grid is None or tail.activation:
        tail, place = Tail(node.output[0]), building.place(node.input[0])
    name, type_name = (tail.output, "float32") if tail.integers is None else (tail.integers, "int8")
    made = building.emit(kind, [place.tensor], name, building.shape_of(place), type_name, tail.grid)
    if kind != "HARD_SWISH":
        building.at_least_zero.add(made)
    building.put(name, Place(made, place.maps))
    building.done |= {tail.output, name} - {node.output[0]}


def _clip(building: Building, node: onnx.NodeProto) -> None:
    place, name = building.place(node.input[0]), node.output[0]
    low, high = limits_of(building, node)
    _within(building, place, name, low, high)


def _within(building: Building, place: Place, name: str, low: float | None, high: float | None) -> None:
    """Put `name` where what lies at `place` is cut to these limits."""
    shape = building.shape_of(place)
    if (low, high) == (0, 6):
        made = building.emit("RELU6", [place.tensor], name, shape, "float32")
    else:
        made = place.tensor
        if low == 0:
            made = building.emit("RELU", [made], f"{name}_least", shape, "float32")
        elif low is not None:
            least = building.constant(f"{name}_low", np.array(low, np.float32))
            made = building.emit("MAXIMUM", [made, least], f"{name}_least", shape, "float32")
        if high is not None:
            most = building.constant(f"{name}_high", np.array(high, np.float32))
            made = building.emit("MINIMUM", [made, most], name, shape, "float32")
    if low is not None and low >= 0:
        building.at_least_zero.add(made)
    building.put(name, Place(made, place.maps))


def _hard_sigmoid(building: Building, node: onnx.NodeProto) -> None:
    given, name, place = attributes(node), node.output[0], building.place(node.input[0])
    shape, none = building.shape_of(place), ACTIVATIONS[""]
    terms = {"MUL": given.get("alpha", 0.2), "ADD": given.get("beta", 0.5)}
    made = place.tensor
    for kind, term in terms.items():
        constant = building.constant(f"{name}_{kind}", np.array(term, np.float32))
        made = building.emit(
            kind, [made, constant], f"{name}_{kind}", shape, "float32", fusedActivationFunction=none
        )
    _within(building, Place(made, place.maps), name, 0, 1)


def _reshape(building: Building, node: onnx.NodeProto) -> None:
    """Reshape, Flatten, Squeeze and Unsqueeze: the same numbers in the same order, in another shape."""
    name, source = node.output[0], node.input[0]
    integers = building.integer_place(source)
    place = integers or building.place(source)
    before, after = building.shapes[source], building.shapes[name]
    if not before or not after or (before[0], after[0]) != (1, 1):
        raise UntranslatableError(f"`{name}` puts several photographs together")
    if place.maps and math.prod(before[2:]) > 1:
        place = _turned(building, place, (0, 3, 1, 2), f"{name}_channels_first")
    tensor = building.tensor(place)
    grid = None if tensor.type == "float32" else building.grid_of(place)
    shape = (-1, *after[1:])
    how = building.constant(f"{name}_shape", np.array(shape, np.int32))
    made = building.emit("RESHAPE", [place.tensor, how], name, shape, tensor.type, grid)
    if integers is None:
        building.put(name, Place(made))
        return
    building.put(f"{name}_integers", Place(made))
    building.integers[name] = f"{name}_integers"


def _turned(building: Building, place: Place, order: tuple[int, ...], name: str) -> Place:
    tensor = building.tensor(place)
    grid = None if tensor.type == "float32" else building.grid_of(place)
    axes = building.constant(f"{name}_axes", np.array(order, np.int32))
    shape = tuple(tensor.shape[axis] for axis in order)
    return Place(building.emit("TRANSPOSE", [place.tensor, axes], name, shape, tensor.type, grid))


def _transpose(building: Building, node: onnx.NodeProto) -> None:
    """Between [n, height, width, channels] and maps: the numbers lie as they are to lie."""
    order, name = tuple(attributes(node)["perm"]), node.output[0]
    place = building.integer_place(node.input[0]) or building.place(node.input[0])
    if (order, place.maps) not in {((0, 3, 1, 2), False), ((0, 2, 3, 1), True)}:
        raise UntranslatableError(f"`{name}` turns axes in a way that is not translated")
    turned = Place(place.tensor, not place.maps)
    if node.input[0] in building.integers:
        building.put(f"{name}_integers", turned)
        building.integers[name] = f"{name}_integers"
    else:
        building.put(name, turned)


def _softmax(building: Building, node: onnx.NodeProto) -> None:
    name, place = node.output[0], building.place(node.input[0])
    shape = building.shape_of(place)
    if place.maps or attributes(node).get("axis", -1) % len(shape) != len(shape) - 1:
        raise UntranslatableError(f"`{name}` is a softmax over another axis than the last")
    building.put(name, Place(building.emit("SOFTMAX", [place.tensor], name, shape, "float32", beta=1.0)))


def _identity(building: Building, node: onnx.NodeProto) -> None:
    source, name = node.input[0], node.output[0]
    if source in building.constants:
        building.constants[name] = building.constants[source]
    elif source in building.integers:
        building.integers[name] = building.integers[source]
    else:
        building.put(name, building.place(source))


_TRANSLATIONS: Mapping[str, Translate] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _pair),
    **dict.fromkeys(("AveragePool", "MaxPool"), pool),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys(("Gemm", "MatMul"), connected),
    **dict.fromkeys(("GlobalAveragePool", "ReduceMean"), mean),
    **dict.fromkeys(("Dropout", "Identity"), _identity),
    **dict.fromkeys(("HardSwish", "Relu", "Sigmoid"), _activation),
    "Cast": _cast,
    "Clip": _clip,
    "Concat": concatenation,
    "Conv": convolution,
    "DequantizeLinear": _dequantize,
    "HardSigmoid": _hard_sigmoid,
    "Pad": padding,
    "QuantizeLinear": _quantize,
    "Softmax": _softmax,
    "Transpose": _transpose,
}
