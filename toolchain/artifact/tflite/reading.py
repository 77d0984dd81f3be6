"""What a LiteRT file holds, read strictly: table by table, and counted before it is read."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolchain.artifact.tflite import (
    IDENTIFIER,
    KINDS,
    NO_SCALES,
    NO_ZEROS,
    TYPES,
    Network,
    Operator,
    Tensor,
    schema,
)
from toolchain.errors import ArtifactError

MAX_ITEMS = 50_000
"""Tensors, operators or buffers."""
MAX_ENDS = 64
"""Inputs, or outputs, of one operator or of the network."""
MAX_RANK = 4
MAX_NAME = 1024
_HINT = "Copy it again, or export it again with `edgetl export --litert`."


def read_network(data: bytes, path: Path) -> Network:
    """The network in `data`, the content of `path`.

    Raises ArtifactError for anything but a whole file of one graph of `KINDS`, MissingError where LiteRT is not
    installed. What the operators compute is not looked at: see `bounds`.
    """
    with _telling(path):
        return _reading(data, path).network()


def read_metadata(data: bytes, path: Path) -> tuple[tuple[str, bytes], ...]:
    """The names and contents of the metadata in `data`, the content of `path`; no name need be there once.

    Raises as `read_network` does.
    """
    with _telling(path):
        return _reading(data, path).metadata()


def _reading(data: bytes, path: Path) -> _Reading:
    if data[4:8] != IDENTIFIER:
        raise ArtifactError(f"{path} is not a LiteRT file", _HINT)
    return _Reading(schema(), data)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Turns what goes wrong while `path` is read into an error for people."""
    try:
        yield
    except _WrongError as error:
        raise ArtifactError(f"{path} is not a LiteRT network of edgetl's: {error}", _HINT) from None
    except (struct.error, ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
        # An offset that leads out of the file, or to something else.
        raise ArtifactError(f"{path} is not a whole LiteRT file: {error!s:.100}", _HINT) from None


class _WrongError(Exception):
    """What is wrong with the network."""


class _Reading:
    """Reads table by table, and counts before it reads: lengths are as the file says, and may be anything."""

    def __init__(self, tables: Any, data: bytes) -> None:
        self._tables = tables
        self._size = len(data)
        self._stored = 0
        self._model = tables.Model.GetRootAs(data, 0)
        self._codes = {getattr(tables.BuiltinOperator, name): name for name in KINDS}
        self._types = {getattr(tables.TensorType, name): kind for kind, name in TYPES.items()}

    def metadata(self) -> tuple[tuple[str, bytes], ...]:
        count = self._model.MetadataLength()
        if count > MAX_ITEMS:
            raise _WrongError(f"it holds {count} entries of metadata")
        entries = [self._model.Metadata(place) for place in range(count)]
        return tuple((self._name(one.Name()), self._buffer(one.Buffer()).tobytes()) for one in entries)

    def network(self) -> Network:
        model = self._model
        if model.SubgraphsLength() != 1:
            raise _WrongError(f"it holds {model.SubgraphsLength()} graphs, not one")
        graph = model.Subgraphs(0)
        counts = {
            "tensors": graph.TensorsLength(),
            "operators": graph.OperatorsLength(),
            "kinds of operators": model.OperatorCodesLength(),
            "buffers": model.BuffersLength(),
        }
        for name, count in counts.items():
            if count > MAX_ITEMS:
                raise _WrongError(f"it holds {count} {name}")
        tensors = tuple(self._tensor(graph.Tensors(place)) for place in range(counts["tensors"]))
        kinds = [self._kind(model.OperatorCodes(place)) for place in range(counts["kinds of operators"])]
        operators = tuple(self._operator(graph.Operators(place), kinds) for place in range(counts["operators"]))
        return Network(tensors, operators, *self._ends(graph, "the network"))

    def _name(self, name: bytes | None) -> str:
        if name is None or len(name) > MAX_NAME:
            raise _WrongError("something in it has no name, or a very long one")
        return name.decode()

    def _buffer(self, place: int) -> NDArray[np.uint8]:
        """The bytes of a buffer. Several may share them in the file, but all together are no more than it holds."""
        if not 0 <= place < self._model.BuffersLength():
            raise _WrongError("it names a buffer that is not there")
        found = self._model.Buffers(place).DataAsNumpy()
        data: NDArray[np.uint8] = found if isinstance(found, np.ndarray) else np.zeros(0, np.uint8)
        self._stored += len(data)
        if self._stored > self._size:
            raise _WrongError("its tensors hold more than the file")
        return data

    def _tensor(self, tensor: Any) -> Tensor:
        name, kind = self._name(tensor.Name()), self._types.get(tensor.Type())
        if kind is None:
            raise _WrongError(f"the tensor {name!r:.80} is of a type that edgetl does not know")
        if max(tensor.ShapeLength(), tensor.ShapeSignatureLength()) > MAX_RANK:
            raise _WrongError(f"the tensor {name!r:.80} has more than {MAX_RANK} dimensions")
        shape = _whole(tensor.ShapeAsNumpy())
        signature = _whole(tensor.ShapeSignatureAsNumpy())
        if signature and signature[0] == -1 and len(signature) == len(shape):
            shape = (-1, *shape[1:])
        if any(side < 1 for side in shape[1:]) or (shape and shape[0] < 1 and shape[0] != -1):
            raise _WrongError(f"the tensor {name!r:.80} has the shape {list(shape)}")
        data = self._buffer(tensor.Buffer())
        scales, zero_points, axis = self._scales(tensor.Quantization(), name)
        if not len(data):
            return Tensor(name, shape, kind, None, scales, zero_points, axis)
        kind_of = np.dtype(kind).newbyteorder("<")
        if len(data) != math.prod(shape) * kind_of.itemsize:  # -1 in the shape fits nothing
            raise _WrongError(f"the tensor {name!r:.80} does not hold the {list(shape)} numbers that it says")
        # A copy: its place in the file need not suit the type.
        values = np.frombuffer(data.tobytes(), kind_of).astype(kind).reshape(shape)
        return Tensor(name, shape, kind, values, scales, zero_points, axis)

    def _scales(self, found: Any, name: str) -> tuple[NDArray[np.float32], NDArray[np.int64], int]:
        if found is None or not found.ScaleLength():
            return NO_SCALES, NO_ZEROS, 0
        if found.DetailsType() or max(found.ScaleLength(), found.ZeroPointLength()) > self._size:
            raise _WrongError(f"the tensor {name!r:.80} holds integers of a kind that edgetl does not know")
        scales, zeros = np.array(found.ScaleAsNumpy(), np.float32), np.array(found.ZeroPointAsNumpy(), np.int64)
        if scales.shape != zeros.shape:
            raise _WrongError(f"the tensor {name!r:.80} has {scales.size} scales and {zeros.size} zero points")
        return scales, zeros, int(found.QuantizedDimension())

    def _kind(self, code: Any) -> str:
        number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
        if number not in self._codes:
            raise _WrongError(f"it holds an operator (number {number}) that is none of edgetl's")
        return self._codes[number]

    def _operator(self, operator: Any, kinds: Sequence[str]) -> Operator:
        if not 0 <= operator.OpcodeIndex() < len(kinds):
            raise _WrongError("an operator is of no kind")
        name = kinds[operator.OpcodeIndex()]
        return Operator(name, *self._ends(operator, f"an operator ({name})"), self._options(operator, name))

    def _options(self, operator: Any, name: str) -> dict[str, int | float | bool]:
        kind = KINDS[name]
        if not kind.fields:
            return {}
        if operator.BuiltinOptionsType() != getattr(self._tables.BuiltinOptions, kind.options):
            raise _WrongError(f"an operator ({name}) has no options, or those of another")
        table = operator.BuiltinOptions()
        options = getattr(self._tables, kind.options)()
        options.Init(table.Bytes, table.Pos)
        return {one: getattr(options, one[0].upper() + one[1:])() for one in kind.fields}

    def _ends(self, table: Any, what: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The places of the inputs and outputs of an operator or of the network."""
        if max(table.InputsLength(), table.OutputsLength()) > MAX_ENDS:
            raise _WrongError(f"{what} has more than {MAX_ENDS} inputs or outputs")
        inputs, outputs = _whole(table.InputsAsNumpy()), _whole(table.OutputsAsNumpy())
        count = self._model.Subgraphs(0).TensorsLength()
        if not all(0 <= place < count for place in (*inputs, *outputs)):
            raise _WrongError(f"{what} names a tensor that is not there")
        return inputs, outputs


def _whole(found: Any) -> tuple[int, ...]:
    return tuple(int(one) for one in found) if isinstance(found, np.ndarray) else ()
