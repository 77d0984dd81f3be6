"""What a LiteRT network may compute: known before a runtime loads it, and bounded.

LiteRT takes shapes from its own kernels, not from the file, and a kernel may trust what it is given. So the shape
and the type of every output are worked out here and held against what the file says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from toolchain.artifact.sizes import MAX_COMPUTED, MAX_MULTIPLICATIONS, MAX_TENSOR
from toolchain.artifact.tflite import ACTIVATIONS, SAME, VALID, Network, Operator, Tensor
from toolchain.errors import ArtifactError

MAX_STEP = 4096
"""The largest stride, dilation or window."""

Shape = tuple[int, ...]
Options = Mapping[str, int | float | bool]

_ROUNDS = {"RELU", "RELU6", "LOGISTIC", "SOFTMAX", "HARD_SWISH", "QUANTIZE", "DEQUANTIZE"}
_PAIRS = {"ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM"}
_LAYERS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
"""Operators with weights, and along which axis those have a scale for each output channel."""
_LISTS = {"MEAN", "PAD", "RESHAPE", "TRANSPOSE"}
"""Operators whose second input is a constant list."""
_FLOAT_ONLY = {"DIV", "SOFTMAX", "MAXIMUM", "MINIMUM"}
_ONE = {"AVERAGE_POOL_2D", "MAX_POOL_2D"} | _ROUNDS


class _WrongError(Exception):
    """What is wrong with an operator."""


def check_network(network: Network, path: Path) -> None:
    """Raise ArtifactError unless all that `network` computes for one photograph fits together and is bounded."""
    tensors = network.tensors
    for tensor in tensors:
        _check_integers(tensor, path)
    known = {place for place, tensor in enumerate(tensors) if tensor.values is not None}
    if any(place in known for place in network.inputs):
        raise ArtifactError(f"{path}: an input of the network is a constant")
    known |= set(network.inputs)
    total = multiplications = 0
    for operator in network.operators:
        names = ", ".join(tensors[place].name for place in operator.outputs)
        what = f"{path}: `{names:.200}` ({operator.kind})"
        if len(operator.outputs) != 1 or not known.issuperset(operator.inputs) or operator.outputs[0] in known:
            raise ArtifactError(f"{what} is computed from what is not there yet, or more than once")
        inputs, output = [tensors[place] for place in operator.inputs], tensors[operator.outputs[0]]
        try:
            _check_types(operator, inputs, output)
            shape = _shape(operator, inputs)
        except _WrongError as error:
            raise ArtifactError(f"{what}: {error}") from None
        if shape != _of_one(output):
            raise ArtifactError(f"{what} becomes {list(shape)}, and the file says {list(output.shape)}")
        total += math.prod(shape)
        multiplications += _multiplications(operator, inputs, shape)
        if math.prod(shape) > MAX_TENSOR or total > MAX_COMPUTED:
            raise ArtifactError(f"{what} becomes too large, {list(shape)}")
        if multiplications > MAX_MULTIPLICATIONS:
            raise ArtifactError(f"{path}: a photograph takes more than 2^40 multiplications")
        known.add(operator.outputs[0])
    if not known.issuperset(network.outputs):
        raise ArtifactError(f"{path}: an output of the network is never computed")


def _of_one(tensor: Tensor) -> Shape:
    """Its shape for one photograph."""
    return tuple(abs(side) for side in tensor.shape)


def _check_integers(tensor: Tensor, path: Path) -> None:
    what = f"{path}: the tensor {tensor.name!r:.80}"
    scales, zeros = tensor.scales, tensor.zero_points
    if tensor.type in {"int8", "uint8"} and not len(scales):
        raise ArtifactError(f"{what} does not say what its integers stand for")
    if not len(scales):
        return
    if tensor.type == "float32" or not (np.isfinite(scales).all() and (scales > 0).all()):
        raise ArtifactError(f"{what} has scales that are not above 0, or none to have")
    if len(scales) > 1:
        rank = len(tensor.shape)
        fits = 0 <= tensor.axis < rank and tensor.shape[tensor.axis] == len(scales)
        if not fits or tensor.values is None or zeros.any():
            raise ArtifactError(f"{what} has {len(scales)} scales, and may not")
    elif tensor.type in {"int8", "uint8"}:
        limits = np.iinfo(tensor.type)
        if not limits.min <= zeros[0] <= limits.max:
            raise ArtifactError(f"{what} has the zero point {zeros[0]}")
    elif zeros[0]:
        raise ArtifactError(f"{what} has the zero point {zeros[0]}")


def _check_types(operator: Operator, inputs: Sequence[Tensor], output: Tensor) -> None:
    kind = operator.kind
    counts = 1 if kind in _ONE else 3 if kind in _LAYERS else 2
    if len(inputs) != counts and not (kind == "CONCATENATION" and inputs):
        raise _WrongError(f"it has {len(inputs)} inputs")
    types = [tensor.type for tensor in (*inputs, output)]
    if kind in _LISTS and (types.pop(1) != "int32" or inputs[1].values is None):
        raise _WrongError("its second input is no constant list")
    if kind in _LAYERS:
        fits = types in (["float32"] * 4, ["int8", "int8", "int32", "int8"])
        axis = inputs[1].axis if len(inputs[1].scales) > 1 else _LAYERS[kind]
        fits = fits and axis == _LAYERS[kind] and (types[0] == "float32" or inputs[1].values is not None)
        fits = fits and (types[0] == "float32" or inputs[2].values is not None)
    elif kind in {"QUANTIZE", "DEQUANTIZE"}:
        last = "int8" if kind == "QUANTIZE" else "float32"
        fits = types[1] == last and types[0] in {"float32", "int8", "uint8"} - ({last} - {"int8"})
        fits = fits and (kind == "DEQUANTIZE" or len(inputs[0].scales) <= 1)
    else:
        taken = {"float32"} if kind in _FLOAT_ONLY else {"float32", "int8"}
        taken |= {"uint8"} if kind in {"RESHAPE", "TRANSPOSE"} else set()
        fits = len(set(types)) == 1 and types[0] in taken
        fits = fits and all(len(tensor.scales) <= 1 for tensor in inputs)
    if not fits:
        raise _WrongError(f"it does not make {types[-1]} of {', '.join(types[:-1])}")


def _shape(operator: Operator, inputs: Sequence[Tensor]) -> Shape:
    """The shape of its output for one photograph. Raises _WrongError where the inputs do not fit."""
    options, shapes = operator.options, [_of_one(tensor) for tensor in inputs]
    if options.get("fusedActivationFunction", 0) not in ACTIVATIONS.values():
        raise _WrongError("its activation is none that edgetl knows")
    if operator.kind in _ROUNDS:
        if options.get("beta", 1.0) != 1.0:
            raise _WrongError(f"its `beta` is {options['beta']}")
        return shapes[0]
    if operator.kind in _PAIRS:
        return _broadcast(*shapes)
    return _SHAPES[operator.kind](inputs, shapes, options)


def _broadcast(first: Shape, second: Shape) -> Shape:
    try:
        return np.broadcast_shapes(first, second)
    except ValueError:
        raise _WrongError(f"{list(first)} and {list(second)} do not fit") from None


def _window(image: Shape, sides: tuple[int, int], options: Options) -> tuple[int, int]:
    """Height and width of what a window of `sides` makes of an `image`."""
    if options["padding"] not in {SAME, VALID}:
        raise _WrongError("its padding is none that edgetl knows")
    found = []
    for axis, letter in ((1, "H"), (2, "W")):
        stride, dilation = int(options[f"stride{letter}"]), int(options.get(f"dilation{letter}Factor", 1))
        reach = (sides[axis - 1] - 1) * dilation + 1
        if not all(0 < step <= MAX_STEP for step in (stride, dilation, sides[axis - 1])):
            raise _WrongError(f"its steps or window are not within 1 and {MAX_STEP}")
        left = image[axis] - (reach - 1 if options["padding"] == VALID else 0)
        found.append(-(-left // stride))
    if min(found) < 1:
        raise _WrongError("its window is larger than the maps")
    return found[0], found[1]


def _convolution(inputs: Sequence[Tensor], shapes: Sequence[Shape], options: Options) -> Shape:
    image, weight, bias = shapes
    if len(image) != 4 or len(weight) != 4 or bias != weight[:1] or image[3] % weight[3]:
        raise _WrongError("its weights do not fit")
    if weight[0] % (image[3] // weight[3]):
        raise _WrongError("its weights do not fit")
    return (image[0], *_window(image, weight[1:3], options), weight[0])


def _depthwise(inputs: Sequence[Tensor], shapes: Sequence[Shape], options: Options) -> Shape:
    image, weight, bias = shapes
    if len(image) != 4 or len(weight) != 4 or weight[0] != 1 or bias != weight[3:]:
        raise _WrongError("its weights do not fit")
    if weight[3] != image[3] * int(options["depthMultiplier"]):
        raise _WrongError("its weights do not fit")
    return (image[0], *_window(image, weight[1:3], options), weight[3])


def _connected(inputs: Sequence[Tensor], shapes: Sequence[Shape], options: Options) -> Shape:
    rows, weight, bias = shapes
    if len(rows) != 2 or len(weight) != 2 or rows[1] != weight[1] or bias != weight[:1]:
        raise _WrongError("its weights do not fit")
    return rows[0], weight[0]


def _pool(inputs: Sequence[Tensor], shapes: Sequence[Shape], options: Options) -> Shape:
    [image] = shapes
    if len(image) != 4:
        raise _WrongError("it reads no maps")
    sides = int(options["filterHeight"]), int(options["filterWidth"])
    return (image[0], *_window(image, sides, options), image[3])


def _list(tensor: Tensor) -> list[int]:
    assert tensor.values is not None
    return [int(one) for one in tensor.values.reshape(-1)]


def _mean(inputs: Sequence[Tensor], shapes: Sequence[Shape], options: Options) -> Shape:
    axes = _list(inputs[1])
    if not axes or len(set(axes)) != len(axes) or not all(0 < axis < len(shapes[0]) for axis in axes):
        raise _WrongError(f"its axes are {axes}")
    kept = [1 if place in axes else side for place, side in enumerate(shapes[0])]
    return tuple(side for place, side in enumerate(kept) if options["keepDims"] or place not in axes)


def _padded(inputs: Sequence[Tensor], shapes: Sequence[Shape], options: Options) -> Shape:
    amounts = _list(inputs[1])
    if shapes[1] != (len(shapes[0]), 2) or not all(0 <= amount <= MAX_STEP for amount in amounts):
        raise _WrongError(f"it pads with {amounts}")
    return tuple(side + sum(amounts[2 * place : 2 * place + 2]) for place, side in enumerate(shapes[0]))


def _reshaped(inputs: Sequence[Tensor], shapes: Sequence[Shape], options: Options) -> Shape:
    sides = _list(inputs[1])
    if len(shapes[1]) != 1 or any(side < 1 for side in sides[1:]) or (sides and sides[0] not in {-1, 1}):
        raise _WrongError(f"it makes {sides}")
    made = tuple(abs(side) for side in sides)
    if math.prod(made) != math.prod(shapes[0]):
        raise _WrongError(f"it makes {sides} of {list(shapes[0])}")
    return made


def _transposed(inputs: Sequence[Tensor], shapes: Sequence[Shape], options: Options) -> Shape:
    order = _list(inputs[1])
    if len(shapes[1]) != 1 or sorted(order) != list(range(len(shapes[0]))):
        raise _WrongError(f"it puts axes in the order {order}")
    return tuple(shapes[0][axis] for axis in order)


def _concatenated(inputs: Sequence[Tensor], shapes: Sequence[Shape], options: Options) -> Shape:
    axis, first = int(options["axis"]), shapes[0]
    if not 0 < axis < len(first):
        raise _WrongError(f"its axis is {axis}")
    if any(
        len(one) != len(first) or one[:axis] + one[axis + 1 :] != first[:axis] + first[axis + 1 :] for one in shapes
    ):
        raise _WrongError("its inputs do not fit")
    return (*first[:axis], sum(one[axis] for one in shapes), *first[axis + 1 :])


_SHAPES: Mapping[str, Callable[[Sequence[Tensor], Sequence[Shape], Options], Shape]] = {
    "AVERAGE_POOL_2D": _pool,
    "CONCATENATION": _concatenated,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _connected,
    "MAX_POOL_2D": _pool,
    "MEAN": _mean,
    "PAD": _padded,
    "RESHAPE": _reshaped,
    "TRANSPOSE": _transposed,
}


def _multiplications(operator: Operator, inputs: Sequence[Tensor], made: Shape) -> int:
    """An upper bound for one operator; additions and comparisons count as well."""
    largest = max(math.prod(made), *(math.prod(_of_one(tensor)) for tensor in inputs))
    if operator.kind in _LAYERS:
        weight = _of_one(inputs[1])
        each = weight[:3] if operator.kind == "DEPTHWISE_CONV_2D" else weight[1:]
        return math.prod(made) * math.prod(each)
    if "filterWidth" in operator.options:
        return math.prod(made) * int(operator.options["filterWidth"]) * int(operator.options["filterHeight"])
    return largest
