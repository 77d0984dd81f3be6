"""Layers with weights: convolutions and fully connected ones, in floats or in integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from toolchain.artifact.tflite import ACTIVATIONS, SAME, VALID
from toolchain.export.litert.building import Building, Grid, Place, Stored, UntranslatableError, attributes

BIAS_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Tail:
    """What follows a node: an activation that it can compute itself, and the rounding of the result to integers.

    `output` is what the activation makes, `integers` what the rounding makes, on `grid`; both are None where the
    result stays float.
    """

    output: str
    activation: str = ""
    integers: str | None = None
    grid: Grid | None = None


def tail_of(building: Building, node: onnx.NodeProto) -> Tail:
    """What follows `node` and nothing else reads."""
    output, activation = node.output[0], ""
    reader = building.only_reader(output)
    if reader is not None and (found := activation_of(building, reader)):
        output, activation = reader.output[0], found
        reader = building.only_reader(output)
    if reader is not None and reader.op_type == "QuantizeLinear":
        return Tail(output, activation, reader.output[0], grid_of(building, reader))
    return Tail(output, activation)


def activation_of(building: Building, node: onnx.NodeProto) -> str:
    """The activation that `node` computes: RELU or RELU6, or empty where it is another, or none."""
    if node.op_type == "Relu":
        return "RELU"
    if node.op_type != "Clip":
        return ""
    low, high = limits_of(building, node)
    if low != 0:
        return ""
    return {None: "RELU", 6.0: "RELU6"}.get(high, "")


def limits_of(building: Building, node: onnx.NodeProto) -> tuple[float | None, float | None]:
    """The limits of a Clip; None where there is none."""
    given = [*node.input[1:3], "", ""][:2]
    if not {name for name in given if name} <= building.constants.keys():
        raise UntranslatableError(f"the limits of `{node.output[0]}` are computed")
    low, high = (float(building.constants[name]) if name else None for name in given)
    return low, high


def grid_of(building: Building, node: onnx.NodeProto) -> Grid | None:
    """The grid of a QuantizeLinear or DequantizeLinear of activations, shifted to int8; None where it is none."""
    scale = building.constants.get(node.input[1])
    zero = building.constants.get(node.input[2]) if len(node.input) > 2 else np.array(0, np.uint8)
    if scale is None or zero is None or scale.size != 1 or zero.dtype not in (np.uint8, np.int8):
        return None
    shift = 128 if zero.dtype == np.uint8 else 0
    return Grid(float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0]) - shift)


def finish(
    building: Building,
    tail: Tail,
    kind: str,
    inputs: list[int],
    shape: tuple[int, ...],
    *,
    maps: bool,
    **options: Any,
) -> None:
    """Add the operator of a node with its `tail`, which counts as translated."""
    if "fusedActivationFunction" not in options:
        options["fusedActivationFunction"] = ACTIVATIONS[tail.activation]
    name, type_name = (tail.output, "float32") if tail.integers is None else (tail.integers, "int8")
    made = building.emit(kind, inputs, name, shape, type_name, tail.grid, **options)
    if tail.activation:
        building.at_least_zero.add(made)
    building.put(name, Place(made, maps))
    building.done |= {tail.output, name}


def convolution(building: Building, node: onnx.NodeProto) -> None:
    """Conv, with its padding, activation and rounding."""
    given = attributes(node)
    weight = _weight(building, node.input[1])
    outputs, each, rows, columns = weight.values.shape
    group = int(given.get("group", 1))
    depthwise = each == 1 and group > 1
    order, axis = ((1, 2, 3, 0), 3) if depthwise else ((0, 2, 3, 1), 0)
    weight = Stored(weight.values.transpose(order), weight.scales, axis)
    if weight.scales.size > 1 and weight.scales.size != outputs:
        raise UntranslatableError(f"the weights of `{node.output[0]}` have scales along another axis")
    tail, inputs = _with_weights(building, node, weight)
    dilations, strides = given.get("dilations", [1, 1]), given.get("strides", [1, 1])
    source = Place(
        inputs[0], building.place(node.input[0]).maps if node.input[0] not in building.integers else True
    )
    padded, padding = pad(building, source, given, (rows, columns), node.output[0])
    options: dict[str, Any] = {
        "padding": padding,
        "strideH": strides[0],
        "strideW": strides[1],
        "dilationHFactor": dilations[0],
        "dilationWFactor": dilations[1],
    }
    if depthwise:
        options["depthMultiplier"] = outputs // group
    shape = as_maps(building.shapes[node.output[0]])
    kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    finish(building, tail, kind, [padded, *inputs[1:]], shape, maps=True, **options)


def connected(building: Building, node: onnx.NodeProto) -> None:
    """Gemm of rows with weights, or a MatMul with them."""
    given = attributes(node)
    if given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0 or given.get("transA", 0):
        raise UntranslatableError(f"`{node.output[0]}` is a product of a kind that is not translated")
    weight = _weight(building, node.input[1])
    if weight.values.ndim != 2:
        raise UntranslatableError(f"`{node.output[0]}` multiplies by what is no matrix")
    if not given.get("transB", 0):
        if weight.scales.size > 1:
            raise UntranslatableError(f"the weights of `{node.output[0]}` have scales along another axis")
        weight = Stored(weight.values.T, weight.scales, 0)
    tail, inputs = _with_weights(building, node, weight)
    finish(building, tail, "FULLY_CONNECTED", inputs, (-1, len(weight.values)), maps=False)


def _with_weights(building: Building, node: onnx.NodeProto, weight: Stored) -> tuple[Tail, list[int]]:
    """What follows a layer, and the tensors that it reads, in integers where all of them are.

    Where the result stays float, so does the arithmetic; weights that are stored as integers stay stored so.
    """
    name = node.output[0]
    tail, source = tail_of(building, node), building.integer_place(node.input[0])
    outputs = weight.values.shape[weight.axis]
    integers = source is not None and tail.grid is not None and weight.values.dtype == np.int8
    bias = _bias(building, node, outputs)
    if integers and source is not None:
        steps = np.broadcast_to(weight.scales, outputs) * np.float32(building.grid_of(source).scale)
        kept = bias.values if isinstance(bias, Stored) else np.round(bias.astype(np.float64) / steps)
        if isinstance(bias, Stored) and not np.allclose(bias.scales, steps, rtol=1e-4, atol=0):
            raise UntranslatableError(f"the bias of `{name}` is in other steps than its products")
        if np.abs(kept.astype(np.int64)).max(initial=0) <= BIAS_LIMIT:
            return tail, [
                source.tensor,
                building.constant(f"{name}_weights", weight.values, weight.scales, weight.axis),
                building.constant(f"{name}_bias", kept.astype(np.int32), steps.astype(np.float32)),
            ]
    place = building.place(node.input[0])
    floats = bias.floats() if isinstance(bias, Stored) else bias.astype(np.float32)
    if weight.values.dtype == np.float32:
        weights = building.constant(f"{name}_weights", weight.values)
    else:
        kept_weights = building.constant(f"{name}_weights", weight.values, weight.scales, weight.axis)
        weights = building.emit("DEQUANTIZE", [kept_weights], f"{name}_floats", weight.values.shape, "float32")
    tail = Tail(tail.output, tail.activation)
    return tail, [place.tensor, weights, building.constant(f"{name}_bias", floats)]


def _weight(building: Building, name: str) -> Stored:
    """The weights of a layer: floats have no scales."""
    if name in building.stored:
        return building.stored[name]
    if name in building.constants:
        return Stored(building.constants[name].astype(np.float32), np.ones(1, np.float32), 0)
    raise UntranslatableError(f"the weights `{name}` are computed")


def _bias(building: Building, node: onnx.NodeProto, outputs: int) -> Stored | NDArray[Any]:
    if len(node.input) < 3 or not node.input[2]:
        return np.zeros(outputs, np.float32)
    name = node.input[2]
    if name in building.stored:
        return building.stored[name]
    if name not in building.constants or building.constants[name].size not in {1, outputs}:
        raise UntranslatableError(f"the bias `{name}` is computed")
    return np.broadcast_to(building.constants[name].reshape(-1), outputs)


def as_maps(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a tensor of maps, [n, height, width, channels], of ONNX's [n, channels, height, width]."""
    if len(shape) != 4:
        raise UntranslatableError(f"maps of {len(shape)} dimensions are not translated")
    return (-1, shape[2], shape[3], shape[1])


def pad(
    building: Building, source: Place, given: dict[str, Any], sides: tuple[int, int], name: str
) -> tuple[int, int]:
    """What a window of `sides` reads, and its `padding`: `source` itself, or a padded copy.

    Padding is that of the maps' own zero, also where they are integers.
    """
    if not source.maps:
        raise UntranslatableError(f"`{name}` reads what are no maps")
    shape = building.shape_of(source)
    automatic = given.get("auto_pad", b"NOTSET").decode()
    if automatic in {"SAME_UPPER", "VALID"}:
        return source.tensor, SAME if automatic == "SAME_UPPER" else VALID
    if automatic != "NOTSET" or given.get("ceil_mode", 0):
        raise UntranslatableError(f"`{name}` pads in a way that is not translated")
    pads = given.get("pads", [0, 0, 0, 0])
    strides, dilations = given.get("strides", [1, 1]), given.get("dilations", [1, 1])
    if not any(pads):
        return source.tensor, VALID
    same = []
    for axis in (0, 1):
        size, reach = shape[axis + 1], (sides[axis] - 1) * dilations[axis] + 1
        total = max((-(-size // strides[axis]) - 1) * strides[axis] + reach - size, 0)
        same.append((total // 2, total - total // 2))
    top, left, bottom, right = pads
    if [(top, bottom), (left, right)] == same:
        return source.tensor, SAME
    if min(pads) < 0:
        raise UntranslatableError(f"`{name}` cuts its maps")
    return padded(building, source, [[0, 0], [top, bottom], [left, right], [0, 0]], f"{name}_padded"), VALID


def padded(building: Building, source: Place, amounts: list[list[int]], name: str) -> int:
    """`source` with zeros around it, `amounts` before and after along each of its axes."""
    tensor, grid = building.tensor(source), None
    if tensor.type == "int8":
        grid = building.grid_of(source)
    shape = (-1, *(side + sum(more) for side, more in zip(tensor.shape[1:], amounts[1:], strict=True)))
    how = building.constant(f"{name}_amounts", np.array(amounts, np.int32))
    made = building.emit("PAD", [source.tensor, how], name, shape, tensor.type, grid)
    if source.tensor in building.at_least_zero:
        building.at_least_zero.add(made)
    return made


def rounded(building: Building, place: Place, name: str, grid: Grid) -> None:
    """Put `name` where the integers of `place` on `grid` lie."""
    if building.tensor(place).type == "int8" and building.grid_of(place) == grid:
        building.put(name, place)
        return
    made = building.emit("QUANTIZE", [place.tensor], name, building.shape_of(place), "int8", grid)
    if place.tensor in building.at_least_zero:
        building.at_least_zero.add(made)
    building.put(name, Place(made, place.maps))


def shape_as(building: Building, name: str, *, maps: bool) -> tuple[int, ...]:
    """The shape of the tensor of a value."""
    shape = building.shapes[name]
    return as_maps(shape) if maps else (-1, *shape[1:])
