"""What an OpenVINO network (IR: a `.xml`, with its weights in a `.bin`) says about itself, read without OpenVINO.

The file may come from anywhere, so it is read by expat, which streams, and of XML only the plain part is taken: a
document type is refused, and with it all entities (the bombs, and the way to other files). Sizes are bounded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

import onnx
from onnx import TensorProto, helper

from toolchain.artifact.operators import IR_LAYERS
from toolchain.errors import ArtifactError

CARD = "edgetl.card"
WEIGHTS_SHA256 = "edgetl.weights_sha256"
"""Entries of `rt_info`. The second ties the two files together: each can be replaced without the other."""

MAX_XML_BYTES = 32 << 20
MAX_ELEMENTS = 1_000_000
MAX_DEPTH = 64
_TYPES = {"u8": TensorProto.UINT8, "fp32": TensorProto.FLOAT, "f32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16}
_HINT = "Copy both files again, or export them again with `edgetl export --openvino`."


@dataclass(frozen=True)
class Description:
    """`cards` are all entries under the card's key. `signature` holds inputs and outputs, and no network: they are
    told in ONNX's words, so that one check serves both formats."""

    cards: tuple[str, ...]
    signature: onnx.GraphProto


def describe(xml: bytes, weights: bytes, path: Path) -> Description:
    """Read `xml`, the content of `path`, and check that `weights` are those that it was written with.

    Raises ArtifactError for anything but well-formed XML of a network, and for other weights.
    """
    reading = _Reading()
    parser = expat.ParserCreate("UTF-8")
    parser.buffer_text = True
    parser.StartElementHandler = reading.start
    parser.EndElementHandler = reading.end
    parser.CharacterDataHandler = reading.text
    parser.StartDoctypeDeclHandler = reading.refuse_doctype
    try:
        parser.Parse(xml, True)
        signature = reading.signature()
    except expat.ExpatError as error:
        raise ArtifactError(f"{path} is not a whole XML file: {error}", _HINT) from None
    except _WrongError as error:
        raise ArtifactError(f"{path} is not an OpenVINO network of edgetl's: {error}", _HINT) from None
    except (KeyError, ValueError) as error:  # an attribute that is not there, or is no number
        raise ArtifactError(f"{path} is not a whole OpenVINO network: {error!r:.100}", _HINT) from None
    if reading.cards:  # without a card it is not edgetl's file, and that is reported instead
        _check_weights(reading, weights, path)
    return Description(tuple(reading.cards), signature)


def _check_weights(reading: _Reading, weights: bytes, path: Path) -> None:
    beside = path.with_suffix(".bin")
    if len(weights) != reading.weights_end:
        raise ArtifactError(
            f"{beside} has {len(weights)} bytes, and {path.name} wants {reading.weights_end}", _HINT
        )
    if reading.digests != [hashlib.sha256(weights).hexdigest()]:
        raise ArtifactError(f"{beside} does not hold the weights that {path.name} was written with", _HINT)


class _WrongError(Exception):
    """What is wrong with the network."""


@dataclass
class _Port:
    """An output of a layer. A dimension of -1 is dynamic."""

    precision: str
    names: str
    dims: list[int] = field(default_factory=list)


class _Reading:
    """Collects, element by element, what `describe` tells."""

    def __init__(self) -> None:
        self.cards: list[str] = []
        self.digests: list[str] = []
        self.weights_end = 0
        self._elements = 0
        self._path: list[str] = []
        self._layer: dict[str, str] = {}
        self._data: dict[str, str] = {}
        self._inputs: list[_Port] = []
        self._ports: dict[tuple[str, str], _Port] = {}
        self._port: _Port | None = None
        self._results: set[str] = set()
        self._edges: dict[str, tuple[str, str]] = {}
        self._text = ""

    def refuse_doctype(self, *_: object) -> None:
        raise _WrongError("it declares a document type, which no network needs")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name)
        self._elements += 1
        self._text = ""
        if self._elements > MAX_ELEMENTS or len(self._path) > MAX_DEPTH:
            raise _WrongError("it has too many elements")
        if "offset" in attributes and "size" in attributes:
            # Constants, in the bodies of loops and branches too.
            offset, size = int(attributes["offset"]), int(attributes["size"])
            if offset < 0 or size < 0:
                raise _WrongError("a constant lies outside the weights")
            self.weights_end = max(self.weights_end, offset + size)
        where = "/".join(self._path) if len(self._path) <= 5 else ""
        if where == "net/layers/layer":
            self._layer, self._data = attributes, {}
            if attributes["type"].lower() not in IR_LAYERS:
                raise _WrongError(f"it holds a layer {attributes['type']!r:.80}, which no classifier needs")
            if attributes["type"] == "Result":
                self._results.add(attributes["id"])
        elif where == "net/layers/layer/data":
            self._data = attributes
        elif where == "net/layers/layer/output/port":
            self._start_port(attributes)
        elif where == "net/edges/edge":
            self._edges[attributes["to-layer"]] = (attributes["from-layer"], attributes["from-port"])
        elif where == f"net/rt_info/{CARD}":
            self.cards.append(attributes["value"])
        elif where == f"net/rt_info/{WEIGHTS_SHA256}":
            self.digests.append(attributes["value"])

    def _start_port(self, attributes: dict[str, str]) -> None:
        port = _Port(attributes["precision"], attributes.get("names", ""))
        self._ports[self._layer["id"], attributes["id"]] = port
        if self._layer["type"] == "Parameter":
            # OpenVINO takes an input's shape and type from its layer, not from its port.
            port.precision = self._data["element_type"]
            port.dims = [_dimension(text) for text in self._data["shape"].split(",") if text]
            self._inputs.append(port)
        else:
            self._port = port

    def text(self, text: str) -> None:
        self._text = text

    def end(self, name: str) -> None:
        if name == "dim" and self._port is not None:
            self._port.dims.append(int(self._text))
        elif name == "port":
            self._port = None
        self._path.pop()

    def signature(self) -> onnx.GraphProto:
        """Inputs and outputs by their tensors' names: an output has the name of the port that leads to it."""
        if not self._ports:
            raise _WrongError("it holds no network")
        outputs = [self._ports[self._edges[result]] for result in sorted(self._results)]
        return helper.make_graph(
            [], "ir", [_value(port) for port in self._inputs], [_value(port) for port in outputs]
        )


def _dimension(text: str) -> int:
    return -1 if text == "?" or ".." in text else int(text)


def _value(port: _Port) -> onnx.ValueInfoProto:
    element_type = _TYPES.get(port.precision.lower(), TensorProto.UNDEFINED)
    shape = [None if size < 0 else size for size in port.dims]
    return helper.make_tensor_value_info(port.names, element_type, shape)
