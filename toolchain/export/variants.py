"""The files that `export` writes beside float32 and int8 ONNX: float16, int8 weights, OpenVINO's format, LiteRT's.

Each is measured on the same split as the others, and is written only if its answers hold.
OpenVINO reads ONNX too. Its IR, a `.xml` with its weights in a `.bin`, is for programs that were built without the
ONNX reader, and it loads faster. LiteRT reads only its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from toolchain.artifact import Artifact, Format, ir, make_artifact, parse_ir, read_artifact
from toolchain.artifact.card import Card, Precision, QuantizationRecipe
from toolchain.artifact.model_info import PREFIX, model_info
from toolchain.errors import ArtifactError, BadInputError, EdgetlError, PromiseBrokenError
from toolchain.evaluation import metrics
from toolchain.export import older
from toolchain.export.fp16 import largest_activation, to_float16
from toolchain.export.litert import make_tflite
from toolchain.export.litert.building import UntranslatableError
from toolchain.export.measure import ExportContext, Logits, logits_on
from toolchain.export.results import Measurement, Variants, Written
from toolchain.system import files, telemetry
from toolchain.system.folders import scratch_folder

if TYPE_CHECKING:
    import openvino

MIN_AGREEMENT = {"float32": 0.999, "float16": 0.995}
"""Share of photographs and their views with the trained network's top-1. The other precisions promise a drop."""

MAX_DIFFERENCE_AS_ONNX = 1e-4
MIN_AGREEMENT_AS_ONNX = 0.99
"""How near a LiteRT file must be to the ONNX file that it was made of: logits of the float one, relative to the
largest, and top-1 of the int8 one, whose kernels round in other places."""

CANNOT_BE_MADE = (UntranslatableError, ArtifactError, ValueError, RuntimeError)
"""What converters and runtimes raise of a network that they do not take."""

RANGE_SAMPLE = 64
"""Photographs on which the range of float16 is checked."""


@dataclass(frozen=True)
class _Draft:
    """A file to be: its card, and how it is made once all is known that goes into the card. A LiteRT file is held
    against `twin`, the ONNX file that it is made of."""

    path: Path
    card: Card
    devices: tuple[str, ...]
    make: Callable[[Card], Artifact]
    twin: Artifact | None = None


def write_variants(wanted: Variants, context: ExportContext, int8_files: Sequence[Path]) -> tuple[Written, ...]:
    """Write what is `wanted` beside the float file, and beside `int8_files`, which are written already."""
    base_files = 1 + len(int8_files)
    total = wanted.openvino * base_files + (wanted.fp16 + wanted.int8_weights) * (1 + wanted.openvino)
    total += wanted.litert * (1 + bool(int8_files))
    written: list[Written] = []
    if not total:
        return ()
    with context.reporter.task("further files", total) as task:
        for draft in _drafts(wanted, context, int8_files):
            written.append(_measure_and_write(draft, context, wanted.max_drop_pp))
            task.advance()
    return tuple(written)


def make_ir(onnx_file: bytes, card: Card, path: Path, *, fp16: bool = False) -> Artifact:
    """Convert the content of an ONNX file to IR and check the whole, without writing it to `path` (a `.xml`) yet.

    With `fp16`, weights are stored as float16; OpenVINO computes in whatever its device prefers.
    Raises ArtifactError when what would be written could not be read back.
    """
    from toolchain.runtimes.openvino import core

    source = onnx.load_model_from_string(onnx_file)
    del source.metadata_props[:]  # OpenVINO would keep them, and the card be there twice
    model = core().read_model(source.SerializeToString())
    for key, value in model_info(card).items():
        model.set_rt_info(value, [PREFIX, key])
    model.set_rt_info(files.to_json(card, indent=0).decode().strip(), [ir.CARD])
    _, weights = _saved(model, fp16)
    model.set_rt_info(hashlib.sha256(weights).hexdigest(), [ir.WEIGHTS_SHA256])
    return parse_ir(*_saved(model, fp16), path)


def write_ir(artifact: Artifact) -> None:
    """Rename both files into place, the weights first: an old `.xml` refuses new weights, and so does a new one."""
    with files.replaced(artifact.path) as beside:  # both are written before either has its name
        beside.write_bytes(artifact.model)
        files.write_bytes(artifact.path.with_suffix(".bin"), artifact.weights)


def _drafts(wanted: Variants, context: ExportContext, int8_files: Sequence[Path]) -> Iterator[_Draft]:
    path = context.path
    plain = read_artifact(path)
    if wanted.openvino:
        yield _openvino(plain, path, context)
        for file in int8_files:
            yield _openvino(read_artifact(file), file, context)
    if wanted.litert:
        yield _litert(plain, path)
        for file in _plainest(int8_files):
            common = path.with_suffix(".int8.onnx")
            if common not in int8_files and common.exists():  # for another device: there is one LiteRT file
                older.set_aside([common.with_suffix(".tflite")], context.reporter)
            yield _litert(read_artifact(file), common)
    if wanted.fp16:
        yield from _float16(wanted, context, plain, path.with_suffix(".fp16.onnx"))
    if wanted.int8_weights:
        from toolchain.export.int8.quantize import WEIGHTS_ONLY, int8_weights

        file, recipe = path.with_suffix(".w8.onnx"), QuantizationRecipe("edgetl", dict(WEIGHTS_ONLY))
        try:
            model = int8_weights(context.model)
            draft = _onnx(model, "int8-weights", recipe, plain.card, file, context)
            made = draft.make(draft.card)  # what ONNX refuses, OpenVINO is not given either
        except CANNOT_BE_MADE as error:
            card = replace(plain.card, precision="int8-weights", recipe=recipe)
            yield from _failing(wanted, card, file, _said(error))
            return
        yield draft
        if wanted.openvino:
            yield _openvino(made, file, context)


def _float16(wanted: Variants, context: ExportContext, plain: Artifact, file: Path) -> Iterator[_Draft]:
    recipe = QuantizationRecipe("edgetl", {"weights": "float16"})
    try:
        largest = largest_activation(context.model, context.sample.first(RANGE_SAMPLE))
        model = to_float16(context.model)
    except PromiseBrokenError as error:  # values that float16 does not hold
        card = replace(plain.card, precision="float16", recipe=recipe)
        yield from _failing(wanted, card, file, error.message)
        return
    settings = {"arithmetic": "float16; pixels and softmax float32", "largest_activation": round(largest, 1)}
    recipe = replace(recipe, settings=recipe.settings | settings)
    draft = _onnx(model, "float16", recipe, plain.card, file, context)
    yield draft
    if wanted.openvino:
        settings = {"weights": "float16", "arithmetic": "as the device prefers"}
        card = replace(draft.card, recipe=QuantizationRecipe("OpenVINO compress_to_fp16", settings))
        yield _openvino(replace(plain, card=card), file, context, fp16=True)


def _failing(wanted: Variants, card: Card, file: Path, reason: str) -> Iterator[_Draft]:
    """A form that cannot be made, and with it what OpenVINO would read."""

    def fail(card: Card) -> Artifact:
        raise UntranslatableError(reason)

    for path in (file, file.with_suffix(".xml"))[: 1 + wanted.openvino]:
        yield _Draft(path, card, (), fail)


def _onnx(
    model: onnx.ModelProto,
    precision: Precision,
    recipe: QuantizationRecipe,
    card: Card,
    path: Path,
    context: ExportContext,
) -> _Draft:
    card = replace(card, precision=precision, recipe=recipe)
    return _Draft(path, card, context.devices, lambda card: make_artifact(model, card, path))


def _openvino(source: Artifact, path: Path, context: ExportContext, *, fp16: bool = False) -> _Draft:
    """The finished ONNX content of `source` in OpenVINO's format; `path` is that of the ONNX file beside it."""
    devices = tuple(device for device in context.devices if device.startswith("openvino:")) or ("openvino:CPU",)
    xml = path.with_suffix(".xml")
    return _Draft(xml, source.card, devices, lambda card: make_ir(source.model, card, xml, fp16=fp16))


def _litert(source: Artifact, path: Path) -> _Draft:
    """The finished ONNX content of `source` in LiteRT's format; `path` is that of the ONNX file beside it."""
    file = path.with_suffix(".tflite")
    return _Draft(file, source.card, ("litert:cpu",), lambda card: make_tflite(source.model, card, file), source)


def _plainest(int8_files: Sequence[Path]) -> Sequence[Path]:
    """Of int8 files the one that was written for all devices, if there is one: others are spelt for kernels of ONNX
    Runtime."""
    return sorted(int8_files, key=lambda file: (".ort" in file.suffixes, len(file.suffixes)))[:1]


def _measure_and_write(draft: _Draft, context: ExportContext, max_drop_pp: float) -> Written:
    try:
        artifact = draft.make(draft.card)
        logits = {device: logits_on(artifact, device, context.sample.views) for device in draft.devices}
    except CANNOT_BE_MADE as error:
        return not_made(draft.path, draft.card.precision, error)
    precision = artifact.card.precision
    measured = tuple(context.compare(found, device, precision) for device, found in logits.items())
    broken = _broken(artifact, measured, max_drop_pp)
    as_onnx = None
    if draft.twin is not None:
        [found] = logits.values()
        as_onnx, unlike = _as_onnx(artifact, found, draft.twin, context)
        broken = broken or unlike
    if not broken:
        own = tuple(measurement.accuracy for measurement in measured)
        known = {(entry.device, entry.precision) for entry in own}
        others = (entry for entry in draft.card.accuracy if (entry.device, entry.precision) not in known)
        artifact = draft.make(replace(draft.card, accuracy=(*others, *own), runtimes=draft.devices))
        if artifact.format == "openvino":
            write_ir(artifact)
        else:
            files.write_bytes(artifact.path, artifact.model)
    size_mb = round(artifact.size_mb, 3)
    return Written(str(artifact.path), artifact.format, precision, size_mb, measured, broken, as_onnx)


def not_made(path: Path, precision: Precision, error: Exception) -> Written:
    """What is told of a form that a network cannot be written in, or that no runtime takes: it costs that file."""
    told = _said(error)
    kind: Format = {".tflite": "tflite", ".xml": "openvino"}.get(path.suffix, "onnx")  # type: ignore[assignment]
    reason = f"{path.name} was not written: {told.removeprefix(f'{path}: ')}"
    return Written(str(path), kind, precision, 0.0, (), reason)


def _said(error: Exception) -> str:
    return error.message if isinstance(error, EdgetlError) else (str(error).strip().splitlines() or [""])[0]


def _as_onnx(
    artifact: Artifact, logits: Logits, twin: Artifact, context: ExportContext
) -> tuple[float, str | None]:
    """The share of views with the top-1 of `twin`, and which promise a LiteRT file did not keep to it, if any."""
    device = next((one for one in context.devices if twin.card.proven_on(one)), context.devices[0])
    known = context.float_logits[device] if twin.card.precision == "float32" else None
    base = logits_on(twin, device, context.sample.views) if known is None else known
    agreement = metrics.agreement(logits.argmax(1), base.argmax(1))
    difference = metrics.relative_difference(logits, base)
    name, beside = artifact.path.name, f"{twin.path.name} on {device}"
    if twin.card.precision == "float32" and difference > MAX_DIFFERENCE_AS_ONNX:
        most = f"at most {MAX_DIFFERENCE_AS_ONNX:.0e}"
        return agreement, f"{name} was not written: logits differ by {difference:.1e} from {beside}, {most}"
    if agreement < MIN_AGREEMENT_AS_ONNX:
        return agreement, f"{name} was not written: it agrees with {beside} in {agreement:.4f}, at least 0.99"
    return agreement, None


def _broken(artifact: Artifact, measured: Sequence[Measurement], max_drop_pp: float) -> str | None:
    """Which promise the file did not keep, and by how much."""
    name, least = artifact.path.name, MIN_AGREEMENT.get(artifact.card.precision)
    for one in measured:
        agreement = one.accuracy.agreement or 0.0
        lost_pp = 0.0 if one.drop_pp is None else one.judged_pp
        if least is not None and agreement < least:
            return f"{name} was not written: agreement {agreement:.4f} on {one.device}, and it promises {least}"
        if least is None and lost_pp > max_drop_pp:
            loses, seen = ("loses", "") if one.expected_pp is None else ("may lose", f": {one.seen()}")
            lost = f"it {loses} {lost_pp:.2f} pp of top-1 on {one.device}"
            return f"{name} was not written: {lost}, more than --max-drop {max_drop_pp:g}{seen}"
    return None


def _saved(model: openvino.Model, fp16: bool) -> tuple[bytes, bytes]:
    """The content of the `.xml` and of the `.bin`."""
    with telemetry.off():
        import openvino

    with scratch_folder("edgetl-ir-") as folder:
        path = folder / "model.xml"
        try:
            openvino.save_model(model, path, compress_to_fp16=fp16)
        except RuntimeError as error:
            # It says neither which disk is full nor that one is.
            reason = " ".join(str(error).split())[-120:]
            raise BadInputError(
                f"OpenVINO could not write into {folder}: {reason}",
                "Make space there, or set TMPDIR to another folder.",
            ) from None
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()
