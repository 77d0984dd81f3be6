"""Folders that model servers load: those of OpenVINO Model Server (`ovms`) and of Triton Inference Server."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import onnx

from toolchain.artifact import Artifact, int8_names, read_artifact
from toolchain.errors import ArtifactError, BadInputError
from toolchain.export import older
from toolchain.export.results import Exported, ServerFolder
from toolchain.images.preprocess import Preprocess
from toolchain.system import files

Server = Literal["ovms", "triton"]
SERVERS: tuple[str, ...] = get_args(Server)
DEVICES = {"ovms": "openvino:CPU", "triton": "ort:cpu"}
"""What each server computes with: files that are not proven there are left out."""

OVMS_FILE = "config.json"
MODEL_FILE = "model.onnx"
LABELS_FILE = "labels.txt"
MOUNTED = "/models"
"""Where the servers' containers are given the folder, by the custom of their documentation."""

MAX_BATCH = 32
"""Requests that Triton may answer together."""

TYPES: dict[int, str] = {onnx.TensorProto.UINT8: "TYPE_UINT8", onnx.TensorProto.FLOAT: "TYPE_FP32"}


def check_folder(server: Server, folder: Path, run: Path, labels: Sequence[str], spec: Preprocess) -> None:
    """Raise BadInputError where no folder can be written at `folder`, or what it holds is none of `server`'s, or
    belongs to a model with other classes or of another size."""
    if folder.exists() and not folder.is_dir():
        raise BadInputError(f"{folder} is a file, and --server writes a folder", "Name another folder.")
    files.check_writable(folder, "Name another folder.")
    if server == "ovms":
        _listed(folder / OVMS_FILE)
    else:
        model = folder / _name_of(run)
        known = _newest(model)
        if known is not None and known.card.labels != tuple(labels):
            raise _of_another(model, "classes")
        if known is not None and _size(known.card.preprocess) != _size(spec):
            raise _of_another(model, "shapes")


def write_server_folder(server: Server, folder: Path, exported: Exported) -> ServerFolder:
    """Write the ONNX files of an export into `folder`, each as a model of its own for `server`.

    A model that is there already gets a new version beside the old ones, and what its settings say stays; servers
    answer with the newest. Models are called after the run, with `-int8`, `-frame` and so on behind.
    Raises BadInputError for a damaged list of models, and where Triton's description does not fit the new version.
    """
    run = _name_of(Path(exported.run))
    if server == "ovms":
        _listed(folder / OVMS_FILE)
    names = []
    for path in _files(exported, DEVICES[server]):
        artifact = read_artifact(path)
        if not artifact.card.proven_on(DEVICES[server]):
            continue
        kinds = [kind for kind in path.stem.split(".")[1:] if kind not in int8_names(DEVICES[server])]
        name = "-".join([run, *kinds])
        model = folder / name
        version = 1 + max((int(one.name) for one in model.glob("*") if one.name.isdigit()), default=0)
        model.mkdir(parents=True, exist_ok=True)
        if server == "triton":
            _describe(model, artifact)
        # Servers that run look for new folders: what they find must be whole.
        unfinished = model / f".{version}.part"
        unfinished.mkdir(exist_ok=True)
        files.write_bytes(unfinished / MODEL_FILE, artifact.model)
        unfinished.rename(model / str(version))
        names.append(name)
    if server == "ovms":
        _list(folder / OVMS_FILE, names)
    return ServerFolder(server, str(folder), tuple(names))


def _name_of(run: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", run.resolve().name).strip("-.") or "model"


def _newest(model: Path) -> Artifact | None:
    """The newest version of a model that is served; None where there is none that edgetl wrote."""
    versions = sorted((one for one in model.glob("*") if one.name.isdigit()), key=lambda one: int(one.name))
    with suppress(ArtifactError):
        return read_artifact(versions[-1] / MODEL_FILE) if versions else None
    return None


def _of_another(model: Path, what: str) -> BadInputError:
    return BadInputError(
        f"{model} holds a model with other {what}, and Triton keeps one description for all versions of a model",
        "Name another folder, or take it away.",
    )


def _describe(model: Path, artifact: Artifact) -> None:
    """Write Triton's description of a model. One that is there stays, with what was changed in it by hand."""
    known = _newest(model)
    texts = {LABELS_FILE: _label_lines(artifact), "config.pbtxt": _triton(model.name, artifact)}
    for what, file, describe in (("classes", LABELS_FILE, _label_lines), ("shapes", "config.pbtxt", _shapes)):
        if known is not None:
            fits = describe(known) == describe(artifact)
        else:  # there are no versions that tell what the files that are there were made for
            there = model / file
            fits = not there.exists() or there.read_text(encoding="utf-8", errors="replace") == texts[file]
        if not fits:
            raise _of_another(model, what)
    for name, text in texts.items():
        if not (model / name).exists():
            files.write_bytes(model / name, text.encode())


def _size(spec: Preprocess) -> tuple[int, int]:
    return spec.height, spec.width


def _label_lines(artifact: Artifact) -> str:
    return "".join(f"{' '.join(label.split())}\n" for label in artifact.card.labels)


def _files(exported: Exported, device: str) -> Iterable[Path]:
    """The ONNX files that were written and kept their promises; of int8 files the one for `device`."""
    yield Path(exported.float_file)
    int8 = Path(exported.int8_files[device]) if device in exported.int8_files else None
    if int8 is not None and device not in exported.broken:
        yield int8
    for one in exported.further:
        theirs = one.precision != "int8" or (int8 is not None and Path(one.file) in older.made_of(int8))
        if one.format == "onnx" and not one.broken and theirs:
            yield Path(one.file)


def _triton(name: str, artifact: Artifact) -> str:
    """Triton's description of a model, `config.pbtxt`: protobuf in text."""
    # Frames of different sizes are no batch.
    together = "dynamic_batching { }\n" if artifact.card.input != "frame" else ""
    return (
        f'name: "{name}"\nbackend: "onnxruntime"\nmax_batch_size: {MAX_BATCH}\n{_shapes(artifact)}{together}'
        "# What was measured was measured on CPUs.\ninstance_group [ { count: 1 kind: KIND_CPU } ]\n"
    )


def _shapes(artifact: Artifact) -> str:
    """What goes in and comes out. The first axis, the batch, is Triton's."""
    graph = onnx.load_model_from_string(artifact.model).graph
    inputs = ", ".join(_tensor(value) for value in graph.input)
    outputs = ", ".join(
        _tensor(value, f' label_filename: "{LABELS_FILE}"' if value.name == "probabilities" else "")
        for value in graph.output
    )
    return f"input [ {inputs} ]\noutput [ {outputs} ]\n"


def _tensor(value: onnx.ValueInfoProto, more: str = "") -> str:
    tensor = value.type.tensor_type
    sides = [side.dim_value if side.HasField("dim_value") else -1 for side in tensor.shape.dim][1:]
    return f'{{ name: "{value.name}" data_type: {TYPES[tensor.elem_type]} dims: {sides}{more} }}'


def _list(path: Path, names: Collection[str]) -> None:
    """Add models to OpenVINO Model Server's list; what it holds stays, with what was changed in it by hand."""
    known = _listed(path)
    kept = known["model_config_list"]
    listed = {one["config"]["name"] for one in kept}
    # As edgetl runs it: float32 stays float32, also on CPUs that have instructions for bfloat16, and what enters
    # layers with int8 weights is not rounded.
    plugin = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    for one in kept:
        if one["config"]["name"] in names:  # an earlier edgetl knew fewer of them
            one["config"]["plugin_config"] = plugin | one["config"].get("plugin_config", {})
    added = [
        {
            "config": {
                "name": name,
                "base_path": f"{MOUNTED}/{name}",
                "target_device": "CPU",
                "plugin_config": plugin,
            }
        }
        for name in names
        if name not in listed
    ]
    files.write_json(path, {**known, "model_config_list": kept + added})


def _listed(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"model_config_list": []}
    try:
        known = files.read_json(path, dict[str, Any])
        msgspec.convert([one["config"]["name"] for one in known["model_config_list"]], list[str])
    except (OSError, LookupError, TypeError, msgspec.MsgspecError):
        hint = "Name another folder, or take the file away."
        raise BadInputError(f"{path} is no list of models of OpenVINO Model Server", hint) from None
    return known
