"""Operators of maps without weights: means, pools, padding, channels beside each other."""

from __future__ import annotations

import numpy as np
import onnx

from toolchain.artifact.tflite import ACTIVATIONS
from toolchain.export.litert.building import Building, Place, UntranslatableError, attributes
from toolchain.export.litert.layers import Tail, as_maps, finish, pad, padded, rounded, shape_as, tail_of


def mean(building: Building, node: onnx.NodeProto) -> None:
    """ReduceMean over whole maps, and GlobalAveragePool."""
    name, given = node.output[0], attributes(node)
    keep = bool(given.get("keepdims", 1))
    tail, place = tail_of(building, node), building.integer_place(node.input[0])
    if place is None or tail.grid is None or tail.activation:
        tail, place = Tail(name), building.place(node.input[0])
    axes = [2, 3]
    if node.op_type == "ReduceMean":
        axes = building.constants[node.input[1]].tolist() if len(node.input) > 1 else given.get("axes", [])
    rank = len(building.shapes[node.input[0]])
    if rank != 4 or sorted(axis % rank for axis in axes) != ([2, 3] if place.maps else [1, 2]):
        raise UntranslatableError(f"`{name}` is a mean over other axes than those of maps")
    over = building.constant("rows_and_columns", np.array([1, 2], np.int32))
    type_name = "float32" if tail.integers is None else "int8"
    maps = place.maps and keep
    shape = shape_as(building, name, maps=maps)
    made = building.emit(
        "MEAN", [place.tensor, over], tail.integers or name, shape, type_name, tail.grid, keepDims=keep
    )
    building.put(tail.integers or name, Place(made, maps))
    building.done |= {tail.integers} if tail.integers else set()


def pool(building: Building, node: onnx.NodeProto) -> None:
    """MaxPool and AveragePool. Integers stay on the grid that they come with."""
    name, given = node.output[0], attributes(node)
    place = building.integer_place(node.input[0]) or building.place(node.input[0])
    if building.tensor(place).type == "uint8":
        raise UntranslatableError(f"`{name}` is a pool of the photograph's bytes")
    sides = tuple(given["kernel_shape"])
    strides = given.get("strides", [1, 1])
    is_max = node.op_type == "MaxPool"
    if any(given.get("pads", [])) and not (is_max and place.tensor in building.at_least_zero):
        raise UntranslatableError(f"`{name}` pads maps for a pool, which is translated where they are not below 0")
    if list(given.get("dilations", [1, 1])) != [1, 1] or len(node.output) > 1:
        raise UntranslatableError(f"`{name}` is a pool of a kind that is not translated")
    source, kind_of_padding = pad(building, place, given, (sides[0], sides[1]), name)
    tensor = building.tensor(place)
    grid = building.grid_of(place) if tensor.type == "int8" else None
    options = {"strideH": strides[0], "strideW": strides[1], "filterHeight": sides[0], "filterWidth": sides[1]}
    kind, shape = "MAX_POOL_2D" if is_max else "AVERAGE_POOL_2D", as_maps(building.shapes[name])
    options |= {"padding": kind_of_padding, "fusedActivationFunction": ACTIVATIONS[""]}
    made = building.emit(kind, [source], name, shape, tensor.type, grid, **options)
    if place.tensor in building.at_least_zero:
        building.at_least_zero.add(made)
    if grid is None:
        building.put(name, Place(made, True))
        return
    building.put(f"{name}_integers", Place(made, True))
    building.integers[name] = f"{name}_integers"


def padding(building: Building, node: onnx.NodeProto) -> None:
    name, place = node.output[0], building.place(node.input[0])
    amounts = building.constants.get(node.input[1])
    value = building.constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    zeros = value is None or not value.any()
    if attributes(node).get("mode", b"constant") != b"constant" or not zeros or amounts is None or not place.maps:
        raise UntranslatableError(f"`{name}` pads in a way that is not translated")
    before, after = amounts.reshape(2, 4)[:, [0, 2, 3, 1]].tolist()
    if min(*before, *after) < 0:
        raise UntranslatableError(f"`{name}` cuts its maps")
    made = padded(building, place, [list(pair) for pair in zip(before, after, strict=True)], name)
    building.put(name, Place(made, True))


def concatenation(building: Building, node: onnx.NodeProto) -> None:
    """Channels of maps beside each other; integers are brought to the grid of the result."""
    name, tail = node.output[0], tail_of(building, node)
    places = [building.integer_place(one) for one in node.input]
    if tail.grid is None or tail.activation or None in places:
        tail, places = Tail(name), [building.place(one) for one in node.input]
    if attributes(node)["axis"] % 4 != 1 or not all(place is not None and place.maps for place in places):
        raise UntranslatableError(f"`{name}` puts together what are no channels of maps")
    for at, place in enumerate(places):
        if tail.grid is not None and place is not None:
            rounded(building, place, f"{name}_part_{at}", tail.grid)
            places[at] = building.place(f"{name}_part_{at}")
    inputs = [place.tensor for place in places if place is not None]
    shape = as_maps(building.shapes[name])
    finish(building, tail, "CONCATENATION", inputs, shape, maps=True, axis=3)
