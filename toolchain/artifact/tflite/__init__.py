"""LiteRT files (`.tflite`) as plain data: the network, taken to pieces.

A file may come from anywhere. `reading` makes a `Network` of known operators of it, `bounds` checks what they
compute, and whatever else the file holds is left behind: a runtime is given what `writing` makes of the network,
never the bytes of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolchain.errors import MissingError
from toolchain.system.installation import install

IDENTIFIER = b"TFL3"
"""What the file holds at its fifth byte."""
SIGNATURE = "serving_default"
"""The name by which programs ask for inputs and outputs (`get_signature_runner`)."""
TYPES = {"float32": "FLOAT32", "int8": "INT8", "uint8": "UINT8", "int32": "INT32"}
"""Types of numbers that a tensor may hold, and their names in the file."""

NO_SCALES = np.zeros(0, np.float32)
NO_ZEROS = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Kind:
    """An operator of LiteRT: the table of its options and those fields of it that are used, and the version that
    it has with floats and with integers."""

    options: str = ""
    fields: tuple[str, ...] = ()
    version: int = 1
    integer_version: int = 2


_FUSED = "fusedActivationFunction"
_WINDOW = ("padding", "strideW", "strideH", _FUSED)
_DILATION = ("dilationWFactor", "dilationHFactor")

KINDS: Mapping[str, Kind] = {
    "ADD": Kind("AddOptions", (_FUSED,)),
    "AVERAGE_POOL_2D": Kind("Pool2DOptions", (*_WINDOW, "filterWidth", "filterHeight")),
    "CONCATENATION": Kind("ConcatenationOptions", ("axis", _FUSED)),
    "CONV_2D": Kind("Conv2DOptions", (*_WINDOW, *_DILATION), 1, 3),
    "DEPTHWISE_CONV_2D": Kind("DepthwiseConv2DOptions", (*_WINDOW, *_DILATION, "depthMultiplier"), 2, 3),
    "DEQUANTIZE": Kind("DequantizeOptions", (), 2, 5),
    "DIV": Kind("DivOptions", (_FUSED,)),
    "FULLY_CONNECTED": Kind("FullyConnectedOptions", (_FUSED,), 1, 4),
    "HARD_SWISH": Kind("HardSwishOptions", (), 1, 1),
    "LOGISTIC": Kind(),
    "MAXIMUM": Kind("MaximumMinimumOptions"),
    "MAX_POOL_2D": Kind("Pool2DOptions", (*_WINDOW, "filterWidth", "filterHeight")),
    "MEAN": Kind("ReducerOptions", ("keepDims",)),
    "MINIMUM": Kind("MaximumMinimumOptions"),
    "MUL": Kind("MulOptions", (_FUSED,)),
    "PAD": Kind("PadOptions"),
    "QUANTIZE": Kind("QuantizeOptions", (), 1, 1),
    "RELU": Kind(),
    "RELU6": Kind(),
    "RESHAPE": Kind("ReshapeOptions", (), 1, 1),
    "SOFTMAX": Kind("SoftmaxOptions", ("beta",)),
    "SUB": Kind("SubOptions", (_FUSED,)),
    "TRANSPOSE": Kind("TransposeOptions"),
}
"""The operators that a file may hold."""

SAME, VALID = 0, 1
"""`padding`: zeros around the maps, so that a stride of 1 keeps their size, or none."""
ACTIVATIONS = {"": 0, "RELU": 1, "RELU6": 3}
"""`fusedActivationFunction`: what an operator does with its own output."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """`shape` has -1 in the first place for any number of pictures. A constant has `values`, of its whole shape.

    Integers stand for `(integer - zero point) * scale`: one of each for a tensor, or one for each place along
    `axis`; none where they are plain numbers.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    values: NDArray[Any] | None = None
    scales: NDArray[np.float32] = field(default_factory=lambda: NO_SCALES)
    zero_points: NDArray[np.int64] = field(default_factory=lambda: NO_ZEROS)
    axis: int = 0


@dataclass(frozen=True)
class Operator:
    """`inputs` and `outputs` are places in `Network.tensors`; `options` those of the fields of its kind."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Network:
    """One graph; each operator follows those whose outputs it reads."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@cache
def schema() -> Any:
    """The tables of the format, which come with the runtime. Raises MissingError where that is not installed."""
    if find_spec("ai_edge_litert") is None or find_spec("flatbuffers") is None:
        raise MissingError(
            "LiteRT (ai-edge-litert), which reads .tflite files, is not installed", install("litert")
        )
    try:
        from ai_edge_litert import schema_py_generated
    except (ImportError, OSError) as error:
        raise MissingError(f"LiteRT does not start here ({error})", install("litert")) from None
    return schema_py_generated
