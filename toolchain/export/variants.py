"""The files that `export` writes beside float32 and int8 ONNX: float16, int8 weights, OpenVINO's format.

Each is measured on the validation split like the others, and is written only if its answers hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import onnx

from toolchain.artifact import Artifact, make_artifact, read_artifact
from toolchain.artifact.card import Card, Precision, QuantizationRecipe
from toolchain.errors import MissingError
from toolchain.export.context import ExportContext, Measurement
from toolchain.export.fp16 import largest_activation, to_float16
from toolchain.export.weight_only import SETTINGS, int8_weights
from toolchain.system import files

MIN_AGREEMENT = {"float32": 0.999, "float16": 0.995}
"""Share of photographs and their mirror images with the trained network's top-1. The others promise a drop."""

PROBED = 64
"""Photographs on which float16's range is looked at."""


@dataclass(frozen=True)
class Further:
    """What else is wanted. `openvino` is for each ONNX file that is written, `raw_frame` for float32 and int8.

    Raises MissingError when OpenVINO is not installed.
    """

    openvino: bool = False
    fp16: bool = False
    int8_weights: bool = False
    raw_frame: bool = False

    def __post_init__(self) -> None:
        if self.openvino and find_spec("openvino") is None:
            raise MissingError("OpenVINO is not installed", "pip install openvino, or leave out --openvino")


@dataclass(frozen=True)
class Written:
    """A further file and what was measured of it. `broken` says which promise it did not keep; then it was not
    written. `size_mb` is that of both files of OpenVINO."""

    file: str
    format: Literal["onnx", "openvino"]
    precision: Precision
    size_mb: float
    hops: tuple[Measurement, ...]
    broken: str | None = None


@dataclass(frozen=True)
class _Draft:
    """A file to be: its card, and how it is made once all is known that goes into the card."""

    card: Card
    devices: tuple[str, ...]
    make: Callable[[Card], Artifact]


def write_further(
    wanted: Further, job: ExportContext, int8_files: Sequence[Path], max_drop_pp: float
) -> tuple[Written, ...]:
    """Write what is `wanted` beside the float file, and beside `int8_files`, which are written already."""
    base_files = 1 + len(int8_files)
    total = wanted.openvino * base_files + (wanted.fp16 + wanted.int8_weights) * (1 + wanted.openvino)
    written: list[Written] = []
    if not total:
        return ()
    with job.reporter.task("further files", total) as task:
        for draft in _drafts(wanted, job, int8_files):
            written.append(_measure_and_write(draft, job, max_drop_pp))
            task.advance()
    return tuple(written)


def _drafts(wanted: Further, job: ExportContext, int8_files: Sequence[Path]) -> Iterator[_Draft]:
    path = job.path
    plain = read_artifact(path)
    if wanted.openvino:
        yield _openvino(plain, path, job)
        for file in int8_files:
            yield _openvino(read_artifact(file), file, job)
    if wanted.fp16:
        largest = largest_activation(job.model, job.sample.pixels[:PROBED])
        settings = {"arithmetic": "float16; pixels and softmax float32", "largest_activation": round(largest, 1)}
        recipe = QuantizationRecipe("edgetl", {"weights": "float16", **settings})
        draft = _onnx(to_float16(job.model), "float16", recipe, plain.card, path.with_suffix(".fp16.onnx"), job)
        yield draft
        if wanted.openvino:
            settings = {"weights": "float16", "arithmetic": "as the device prefers"}
            card = replace(draft.card, recipe=QuantizationRecipe("OpenVINO compress_to_fp16", settings))
            yield _openvino(replace(plain, card=card), path.with_suffix(".fp16.onnx"), job, half=True)
    if wanted.int8_weights:
        model = int8_weights(job.model)
        recipe = QuantizationRecipe("edgetl", dict(SETTINGS))
        draft = _onnx(model, "int8-weights", recipe, plain.card, path.with_suffix(".w8.onnx"), job)
        yield draft
        if wanted.openvino:
            made = draft.make(draft.card)
            yield _openvino(made, made.path, job)


def _onnx(
    model: onnx.ModelProto,
    precision: Precision,
    recipe: QuantizationRecipe,
    card: Card,
    path: Path,
    job: ExportContext,
) -> _Draft:
    card = replace(card, precision=precision, recipe=recipe)
    return _Draft(card, job.devices, lambda card: make_artifact(model, card, path))


def _openvino(source: Artifact, path: Path, job: ExportContext, *, half: bool = False) -> _Draft:
    """The finished ONNX content of `source` in OpenVINO's format; `path` is that of the ONNX file beside it."""
    from toolchain.export.openvino_ir import make_ir

    devices = tuple(device for device in job.devices if device.startswith("openvino:")) or ("openvino:CPU",)
    return _Draft(
        source.card, devices, lambda card: make_ir(source.model, card, path.with_suffix(".xml"), half=half)
    )


def _measure_and_write(draft: _Draft, job: ExportContext, max_drop_pp: float) -> Written:
    artifact = draft.make(draft.card)
    hops = tuple(job.hop(artifact, device) for device in draft.devices)
    broken = _broken(artifact, hops, max_drop_pp)
    if not broken:
        own = tuple(hop.accuracy for hop in hops)
        known = {(entry.device, entry.precision) for entry in own}
        others = (entry for entry in draft.card.accuracy if (entry.device, entry.precision) not in known)
        artifact = draft.make(replace(draft.card, accuracy=(*others, *own), runtimes=draft.devices))
        _write(artifact)
    return Written(
        str(artifact.path), artifact.format, artifact.card.precision, round(artifact.size_mb, 3), hops, broken
    )


def _write(artifact: Artifact) -> None:
    if artifact.format == "openvino":
        from toolchain.export.openvino_ir import write_ir

        write_ir(artifact)
    else:
        files.write_bytes(artifact.path, artifact.model)


def _broken(artifact: Artifact, hops: tuple[Measurement, ...], max_drop_pp: float) -> str | None:
    """Which promise the file did not keep, and by how much."""
    name, least = artifact.path.name, MIN_AGREEMENT.get(artifact.card.precision)
    for hop in hops:
        agreement, drop = hop.accuracy.agreement or 0.0, hop.drop_pp or 0.0
        if least is not None and agreement < least:
            return f"{name} was not written: agreement {agreement:.4f} on {hop.device}, and it promises {least}"
        if least is None and drop > max_drop_pp:
            lost = f"it loses {drop:.2f} pp of top-1 on {hop.device}"
            return f"{name} was not written: {lost}, more than --max-drop {max_drop_pp:g}"
    return None
