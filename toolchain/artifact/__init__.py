"""The deployable file: one ONNX or LiteRT file that carries its card, or OpenVINO's pair. Read strictly here."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import onnx

from toolchain.artifact import ir, tflite
from toolchain.artifact.card import CARD_SCHEMA, Card
from toolchain.artifact.graph import check_structure, refused
from toolchain.artifact.model_info import PREFIX, model_info
from toolchain.artifact.operators import ADOPTED, EXPORTED
from toolchain.artifact.sizes import check_sizes
from toolchain.artifact.tflite import reading
from toolchain.artifact.tflite.bounds import check_network
from toolchain.errors import ArtifactError
from toolchain.system import files, strict

CARD_KEY = ir.CARD
Format = Literal["onnx", "openvino", "tflite"]
MAX_CARD_BYTES = 4 << 20
MAX_ARTIFACT_BYTES = 1 << 30

OLDEST_IR_VERSION = 8
"""Nothing older is written: every runtime of this decade reads it."""

FLOAT_FILE = "model.onnx"
INT8_FILE = "model.int8.onnx"
REJECTED_FILE = "model.int8.rejected.onnx"
"""What `export` writes into a run folder."""


def int8_names(device: str) -> tuple[str, str]:
    """What stands between `model.int8` and `.onnx` in names of int8 files for one device: that of a device of this
    kind, such as `openvino-gpu`, and the usual one, such as `openvino`."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()), device.partition(":")[0]


@dataclass(frozen=True)
class Artifact:
    """A model file that was read and found whole. `model` is the very content that was checked.

    `weights` are the content of the `.bin` beside OpenVINO's `.xml`, and empty for others, which hold their own.
    `sha256` is that of `model` and `weights`, one after the other.
    """

    path: Path
    sha256: str
    card: Card
    model: bytes
    weights: bytes = b""
    format: Format = "onnx"

    @property
    def size_mb(self) -> float:
        """Size of the file, or of both, in MB (10^6 bytes)."""
        return (len(self.model) + len(self.weights)) / 1e6

    def on(self, device: str) -> str:
        """Which file runs where, for people: of a run folder and of the devices, one was chosen."""
        unmeasured = "" if self.card.accuracy else ", accuracy not measured yet"
        return f"{self.path} ({self.card.precision}{unmeasured}) on {device}"


def make_artifact(model: onnx.ModelProto, card: Card, path: Path) -> Artifact:
    """Put `card` into a copy of `model` and check the whole, without writing it to `path` yet.

    Raises ArtifactError when what would be written could not be read back.
    """
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    own = (CARD_KEY, f"{PREFIX} ")
    kept = [entry for entry in whole.metadata_props if not entry.key.startswith(own)]
    del whole.metadata_props[:]
    whole.metadata_props.extend(kept)
    for key, value in model_info(card).items():
        whole.metadata_props.add(key=f"{PREFIX} {key}", value=value)
    whole.metadata_props.add(key=CARD_KEY, value=files.to_json(card, indent=0).decode().strip())
    whole.ir_version = least_ir_version(whole)
    if (size := whole.ByteSize()) > MAX_ARTIFACT_BYTES:
        raise ArtifactError(
            f"{path}: the network has {size:,} bytes, and edgetl reads {MAX_ARTIFACT_BYTES:,} at most"
        )
    if reason := refused(whole):
        raise ArtifactError(f"{path}: ONNX's checker refuses it: {reason}")
    return _parse(whole.SerializeToString(), path)


def least_ir_version(model: onnx.ModelProto) -> int:
    """The oldest version of ONNX's file format that holds `model`: runtimes refuse newer ones than they know.

    Exporters write the newest (torch 2.14: 10, which ONNX Runtime before 1.18 refuses); opset 18 asks for 8.
    """
    # Types that came after bfloat16 (8-bit floats, 4-bit integers) need newer versions than their operators do.
    if any(tensor.data_type > onnx.TensorProto.BFLOAT16 for tensor in model.graph.initializer):
        return model.ir_version
    needed: int = onnx.helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
    return min(model.ir_version, max(needed, OLDEST_IR_VERSION))


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
    raise nothing_in(path)


def find_artifacts(path: Path) -> list[Path]:
    """The model files that a path stands for: itself, or those in a run folder, ONNX and float first.

    An int8 file that kept no promise is none of them: no runtime takes it.
    Raises ArtifactError for a folder that holds none.
    """
    if not path.is_dir():
        return [path]
    of_one_runtime = sorted(set(path.glob(INT8_FILE.replace(".onnx", ".*.onnx"))) - {path / REJECTED_FILE})
    of_one_runtime = [file for file in of_one_runtime if not file.name.endswith(".frame.onnx")]
    names = (path / FLOAT_FILE, path / INT8_FILE)
    # Those that this machine can read.
    litert = [file.with_suffix(".tflite") for file in names] if find_spec("ai_edge_litert") else []
    found = [file for file in (*names, *of_one_runtime, *litert) if file.is_file()]
    if not found:
        raise nothing_in(path)
    return found


def nothing_in(folder: Path) -> ArtifactError:
    """The error for a folder without a model file: what it is instead, and what would make one."""
    quoted = shlex.quote(str(folder))
    # The names are those of `toolchain.runs`, which lies above this module.
    if (folder / "run.json").is_file():
        return ArtifactError(f"{folder} holds no {FLOAT_FILE}", f"Write it with `edgetl export {quoted}`.")
    if (folder / "checkpoint").is_dir():
        hint = f"Continue it: edgetl finetune --resume {quoted}"
        return ArtifactError(f"{folder} is a run that has not finished: it holds no {FLOAT_FILE}", hint)
    hint = f"Name a run folder or a model file; photographs are trained on with `edgetl finetune {quoted}`."
    return ArtifactError(f"{folder} is no run: it holds no {FLOAT_FILE}", hint)


def read_artifact(path: Path) -> Artifact:
    """Read and check a model file.

    A `.xml` is read as OpenVINO's, with the `.bin` beside it, a `.tflite` as LiteRT's. Raises ArtifactError, naming
    the field, for a file that is missing, truncated, not a network, without a card, with a card that is malformed
    or does not fit the graph, with weights that are not its own or lie in other files, or with a network that is
    none of a classifier's (`graph.py`, `sizes.py`, `tflite/`). Raises MissingError for a `.tflite` where
    LiteRT is not installed.
    """
    if path.suffix == ".tflite":
        return parse_tflite(_read(path), path)
    if path.suffix == ".xml":
        return parse_ir(_read(path, ir.MAX_XML_BYTES), _read(path.with_suffix(".bin")), path)
    if path.suffix == ".bin" and path.with_suffix(".xml").is_file():
        raise ArtifactError(f"{path} holds weights only", f"Name the network, {path.with_suffix('.xml').name}.")
    return _parse(_read(path), path)


def parse_ir(xml: bytes, weights: bytes, path: Path) -> Artifact:
    """An artifact of OpenVINO's two files, by their content. Raises ArtifactError as `read_artifact` does."""
    found = ir.describe(xml, weights, path)
    card = _read_card(found.cards, path)
    _check_graph(found.signature, card, path)
    digest = hashlib.sha256(xml)
    digest.update(weights)
    return Artifact(path, digest.hexdigest(), card, xml, weights, "openvino")


def parse_tflite(data: bytes, path: Path) -> Artifact:
    """An artifact of a LiteRT file, by its content. Raises as `read_artifact` does."""
    entries = [value for name, value in reading.read_metadata(data, path) if name == CARD_KEY]
    try:
        card = _read_card([value.decode() for value in entries], path)
    except UnicodeDecodeError:
        raise ArtifactError(f"{path}: the card is not UTF-8", "Copy or export it again.") from None
    network = reading.read_network(data, path)
    check_network(network, path)
    _check_graph(_signature(network), card, path)
    return Artifact(path, hashlib.sha256(data).hexdigest(), card, data, format="tflite")


def _signature(network: tflite.Network) -> onnx.GraphProto:
    """Inputs and outputs in ONNX's words, so that one check serves all formats."""
    inputs, outputs = (
        [_value(network.tensors[place]) for place in places] for places in (network.inputs, network.outputs)
    )
    return onnx.helper.make_graph([], "tflite", inputs, outputs)


def _value(tensor: tflite.Tensor) -> onnx.ValueInfoProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.type))
    shape = [None if side < 0 else side for side in tensor.shape]
    return onnx.helper.make_tensor_value_info(tensor.name, kind, shape)


def _read(path: Path, limit: int = MAX_ARTIFACT_BYTES) -> bytes:
    """The content of a file that is not larger than `limit`, which is looked at before it is read."""
    try:
        if path.is_dir():
            hint = "Pass the model.onnx that `edgetl export` wrote into it."
            raise ArtifactError(f"{path} is a folder, not a model file", hint)
        return files.read_regular(path, limit)
    except FileNotFoundError:
        hint = "Write one with `edgetl export RUN_DIR`."
        if path.suffix == ".bin":
            hint = "It holds the weights of the .xml file: copy both."
        raise ArtifactError(f"{path} does not exist", hint) from None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror or error}") from None


def _parse(data: bytes, path: Path) -> Artifact:
    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # protobuf raises its own types, which differ between its implementations
        raise ArtifactError(f"{path} is not a whole ONNX file", "Copy or export it again.") from None
    if not model.graph.node:
        raise ArtifactError(f"{path} is not a whole ONNX file: it holds no network", "Copy or export it again.")
    try:
        card = _read_card([entry.value for entry in model.metadata_props if entry.key == CARD_KEY], path)
        check_structure(model, ADOPTED if card.source.adopted else EXPORTED, path)
        _check_graph(model.graph, card, path)
        spec = card.preprocess
        check_sizes(model, path, (spec.height, spec.width) if card.input == "image" else None)
    except UnicodeDecodeError:  # protobuf looks at a text when it is asked for
        raise ArtifactError(
            f"{path} is not a whole ONNX file: a name in it is not UTF-8", "Copy or export it again."
        ) from None
    return Artifact(path=path, sha256=hashlib.sha256(data).hexdigest(), card=card, model=data)


def _read_card(entries: Sequence[str], path: Path) -> Card:
    if len(entries) != 1:
        count = "no card" if not entries else f"{len(entries)} cards"
        raise ArtifactError(
            f"{path} holds {count} (metadata `{CARD_KEY}`)",
            f"Adopt it: edgetl adopt {shlex.quote(str(path))} --labels labels.txt --out RUN"
            if not entries and path.suffix == ".onnx"
            else "edgetl runs the files that `edgetl export` writes.",
        )
    if len(entries[0]) > MAX_CARD_BYTES:
        raise ArtifactError(f"{path}: the card has more than {MAX_CARD_BYTES >> 20} MiB")
    try:
        with strict.one_error():
            found = msgspec.json.decode(entries[0])
        schema = found.get("schema") if isinstance(found, dict) else None
        if schema != CARD_SCHEMA:
            raise ArtifactError(
                f"{path}: the card's `schema` is {schema!r}; this edgetl reads {CARD_SCHEMA!r}", "Update edgetl."
            )
        return files.from_json(entries[0], Card)
    except msgspec.DecodeError as error:
        raise ArtifactError(f"{path}: the card is wrong: {error}") from None


def _check_graph(graph: onnx.GraphProto, card: Card, path: Path) -> None:
    weights = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: value for value in graph.input if value.name not in weights}
    outputs = {value.name: value for value in graph.output}
    expected = card.preprocess
    # A dynamic side is read as 0.
    sides = (expected.height, expected.width) if card.input == "image" else (0, 0)
    wanted = {
        "image": (inputs, onnx.TensorProto.UINT8, (*sides, 3)),
        "logits": (outputs, onnx.TensorProto.FLOAT, (len(card.labels),)),
        "probabilities": (outputs, onnx.TensorProto.FLOAT, (len(card.labels),)),
    }
    if set(inputs) != {"image"}:
        raise ArtifactError(f"{path}: the graph's inputs are {sorted(inputs)}, not ['image']")
    batch = inputs["image"].type.tensor_type.shape.dim[:1]
    if batch and batch[0].dim_value > 0:
        raise ArtifactError(f"{path}: the graph takes {batch[0].dim_value} pictures at once, not any number")
    for name, (values, element_type, shape) in wanted.items():
        if name not in values:
            raise ArtifactError(f"{path}: the graph has no output `{name}`")
        tensor = values[name].type.tensor_type
        found = tuple(dim.dim_value for dim in tensor.shape.dim)
        if tensor.elem_type != element_type or found[1:] != shape or len(found) != len(shape) + 1:
            known = tensor.elem_type in onnx.TensorProto.DataType.values()
            type_name = (
                onnx.TensorProto.DataType.Name(tensor.elem_type).lower() if known else "of a type that ONNX lacks"
            )
            raise ArtifactError(
                f"{path}: `{name}` is {type_name} {list(found)}, and the card says {['batch', *shape]}"
            )
