"""The deployable file: one ONNX file that carries its card. Written here, read strictly here.

A card says all that is needed to run the network and to trust it: class names, preprocessing, temperature,
rejection threshold, how it was quantised, what was measured, on which photographs, and whose they are.
"""

from __future__ import annotations

import hashlib
import math
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import onnx
from msgspec import Meta

from toolchain import files
from toolchain.errors import ArtifactError
from toolchain.preprocess import Preprocess
from toolchain.rejection import Score

CARD_KEY = "edgetl.card"
CARD_SCHEMA: Literal["edgetl.card/1"] = "edgetl.card/1"
MAX_CARD_BYTES = 4 << 20
MAX_ARTIFACT_BYTES = 1 << 30

FLOAT_FILE = "model.onnx"
INT8_FILE = "model.int8.onnx"
"""What `export` writes into a run folder."""

Fraction = Annotated[float, Meta(ge=0, le=1)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Meta(min_length=1, max_length=256)]


@dataclass(frozen=True)
class Reject:
    """When the answer is "none of these": the score (`toolchain.rejection`) is below the threshold."""

    score: Score
    threshold: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.threshold):
            raise ValueError("`threshold` must be a finite number")
        if self.score == "max_probability" and not 0 <= self.threshold <= 1:
            raise ValueError("`threshold` of max_probability must lie between 0 and 1")


@dataclass(frozen=True)
class Accuracy:
    """What was measured at one hop of the way from training to device."""

    device: str
    precision: Literal["float32", "int8"]
    split: str
    split_sha256: Sha256
    n: Annotated[int, Meta(ge=1)]
    top1: Fraction
    per_class_top1: Fraction
    agreement: Fraction | None = None
    """Share of photographs with the same top-1 as the trained network in PyTorch."""


@dataclass(frozen=True)
class Recipe:
    """How the float network became int8."""

    quantiser: str
    settings: dict[str, Any]
    calibration_sha256: Sha256
    calibration_n: Annotated[int, Meta(ge=1)]


@dataclass(frozen=True)
class Source:
    """Where the network came from, and under which terms."""

    model: str
    run: str
    weights: str
    weights_sha256: Sha256 | None
    data: str
    licences: dict[str, str]
    run_sha256: Sha256 | None = None
    """SHA-256 of the run's `model.safetensors`, by which `bench` finds the float run in PyTorch."""


@dataclass(frozen=True)
class Card:
    """All metadata of an artifact (docs/design.md, section 4). Stored as JSON under `edgetl.card`."""

    schema: Literal["edgetl.card/1"]
    labels: Annotated[tuple[Name, ...], Meta(min_length=2, max_length=100_000)]
    preprocess: Preprocess
    temperature: Annotated[float, Meta(gt=0, le=1000)]
    reject: Reject | None
    precision: Literal["float32", "int8"]
    recipe: Recipe | None
    accuracy: tuple[Accuracy, ...]
    splits: dict[str, Sha256]
    source: Source
    edgetl_version: str
    runtimes: tuple[str, ...] = ()
    """Devices on which the answers were checked. An int8 file runs on these runtimes only."""

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("`labels` holds the same name twice")
        if (self.precision == "int8") != (self.recipe is not None):
            raise ValueError("`recipe` must be there for int8, and only for int8")

    def proven_on(self, device: str) -> bool:
        """Whether this file may run on `device`: float files anywhere, int8 files where they were measured."""
        family = device.partition(":")[0]
        return self.precision == "float32" or any(name.partition(":")[0] == family for name in self.runtimes)

    def with_accuracy(self, *more: Accuracy) -> Card:
        """The same card with further measurements."""
        return replace(self, accuracy=self.accuracy + more)


@dataclass(frozen=True)
class Artifact:
    """A model file that was read and found whole. `model` is the very content that was checked."""

    path: Path
    sha256: str
    card: Card
    model: bytes

    @property
    def size_mb(self) -> float:
        """File size in MB (10^6 bytes)."""
        return len(self.model) / 1e6


def make_artifact(model: onnx.ModelProto, card: Card, path: Path) -> Artifact:
    """Put `card` into a copy of `model` and check the whole, without writing it to `path` yet.

    Raises ArtifactError when what would be written could not be read back.
    """
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    kept = [entry for entry in whole.metadata_props if entry.key != CARD_KEY]
    del whole.metadata_props[:]
    whole.metadata_props.extend(kept)
    whole.metadata_props.add(key=CARD_KEY, value=msgspec.json.encode(card).decode())
    onnx.checker.check_model(whole, full_check=True)
    return _parse(whole.SerializeToString(), path)


def write_artifact(model: onnx.ModelProto, card: Card, path: Path) -> Artifact:
    """`make_artifact`, and rename it into place at `path`."""
    artifact = make_artifact(model, card, path)
    files.write_bytes(path, artifact.model)
    return artifact


def find_artifact(path: Path) -> Path:
    """The model file that `path` stands for: itself, or the one to deploy from a run folder (int8 if it is there).

    Raises ArtifactError for a folder that holds none.
    """
    if not path.is_dir():
        return path
    for name in (INT8_FILE, FLOAT_FILE):
        if (path / name).is_file():
            return path / name
    raise ArtifactError(f"{path} holds no {FLOAT_FILE}", f"Write it with `edgetl export {shlex.quote(str(path))}`.")


def read_artifact(path: Path) -> Artifact:
    """Read and check a model file.

    Raises ArtifactError, naming the field, for a file that is missing, truncated, not ONNX, without a card, with
    a card that is malformed or does not fit the graph, or with weights that lie in other files.
    """
    try:
        if path.is_dir():
            hint = "Pass the model.onnx that `edgetl export` wrote into it."
            raise ArtifactError(f"{path} is a folder, not a model file", hint)
        size = path.stat().st_size
        if size > MAX_ARTIFACT_BYTES:
            raise ArtifactError(f"{path} has {size / 1e9:.1f} GB; an artifact has at most 1 GiB")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist", "Write one with `edgetl export RUN_DIR`.") from None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror or error}") from None
    return _parse(data, path)


def _parse(data: bytes, path: Path) -> Artifact:
    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # protobuf raises its own types, which differ between its implementations
        raise ArtifactError(f"{path} is not a whole ONNX file", "Copy or export it again.") from None
    if not model.graph.node:
        raise ArtifactError(f"{path} is not a whole ONNX file: it holds no network", "Copy or export it again.")
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    for tensor in (*_weights(model.graph), *_tensors(nodes)):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            hint = "Export it again, into one file."
            raise ArtifactError(f"{path}: the weights `{tensor.name}` lie in another file", hint)
    card = _read_card(model, path)
    _check_graph(model.graph, card, path)
    return Artifact(path=path, sha256=hashlib.sha256(data).hexdigest(), card=card, model=data)


def _read_card(model: onnx.ModelProto, path: Path) -> Card:
    entries = [entry.value for entry in model.metadata_props if entry.key == CARD_KEY]
    if len(entries) != 1:
        count = "no card" if not entries else f"{len(entries)} cards"
        raise ArtifactError(
            f"{path} holds {count} (metadata `{CARD_KEY}`)", "edgetl runs the files that `edgetl export` writes."
        )
    if len(entries[0]) > MAX_CARD_BYTES:
        raise ArtifactError(f"{path}: the card has more than {MAX_CARD_BYTES >> 20} MiB")
    try:
        found = msgspec.json.decode(entries[0])
        schema = found.get("schema") if isinstance(found, dict) else None
        if schema != CARD_SCHEMA:
            raise ArtifactError(
                f"{path}: the card's `schema` is {schema!r}; this edgetl reads {CARD_SCHEMA!r}", "Update edgetl."
            )
        return msgspec.json.decode(entries[0], type=Card)
    except msgspec.DecodeError as error:
        raise ArtifactError(f"{path}: the card is wrong: {error}") from None


def _check_graph(graph: onnx.GraphProto, card: Card, path: Path) -> None:
    weights = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: value for value in graph.input if value.name not in weights}
    outputs = {value.name: value for value in graph.output}
    expected = card.preprocess
    wanted = {
        "image": (inputs, onnx.TensorProto.UINT8, (expected.height, expected.width, 3)),
        "logits": (outputs, onnx.TensorProto.FLOAT, (len(card.labels),)),
        "probabilities": (outputs, onnx.TensorProto.FLOAT, (len(card.labels),)),
    }
    if set(inputs) != {"image"}:
        raise ArtifactError(f"{path}: the graph's inputs are {sorted(inputs)}, not ['image']")
    for name, (values, element_type, shape) in wanted.items():
        if name not in values:
            raise ArtifactError(f"{path}: the graph has no output `{name}`")
        tensor = values[name].type.tensor_type
        found = tuple(dim.dim_value for dim in tensor.shape.dim)
        if tensor.elem_type != element_type or found[1:] != shape or len(found) != len(shape) + 1:
            type_name = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
            raise ArtifactError(
                f"{path}: `{name}` is {type_name} {list(found)}, and the card says {['batch', *shape]}"
            )


def _weights(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)


def _tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    """Constants in the attributes of nodes, and all that lies in their branches."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for subgraph in (attribute.g, *attribute.graphs):
                yield from _weights(subgraph)
                yield from _tensors(subgraph.node)
