"""Somebody else's ONNX file as a run: understood, proven on labelled photographs, written in edgetl's form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from toolchain.adopt.canonical import canonical
from toolchain.adopt.drawn import drawn
from toolchain.adopt.labels import fault
from toolchain.adopt.normalisation import KNOWN, Normalisation, Told, candidates, preprocess_for
from toolchain.adopt.onnx_file import ForeignModel, last_operator, read_foreign
from toolchain.adopt.proof import Original, Tried, try_all
from toolchain.adopt.record import adopting_into, untaught_run, write_records
from toolchain.artifact import FLOAT_FILE, Artifact, make_artifact, write_artifact
from toolchain.datasets.splits import stratified
from toolchain.errors import ArtifactError, BadInputError, PromiseBrokenError
from toolchain.evaluation.metrics import relative_difference, softmax
from toolchain.export.exporting import MAX_RELATIVE_DIFFERENCE, card_of
from toolchain.export.measure import logits_on
from toolchain.export.photographs import RunPhotographs, Sample, folder_of
from toolchain.images.preprocess import Preprocess
from toolchain.runs import ADOPTED_FILE, ModelRecord, Run
from toolchain.runtimes import open_runtime
from toolchain.system import files
from toolchain.system.progress import Reporter

MAX_TRIED = 200
"""Photographs that ways of preprocessing are tried on."""

SUMS_TO_ONE = 1e-3


@dataclass(frozen=True)
class Adopted:
    """The run, the way of preprocessing that was taken, and all that were tried, the best first."""

    run: Run
    way: Normalisation
    tried: tuple[Tried, ...]


def adopt_file(
    path: Path,
    out: Path,
    *,
    labels: Sequence[str] | None = None,
    told: Told = Told(),  # noqa: B008 (frozen)
    data: Path | None = None,
    command: str = "",
    reporter: Reporter,
) -> Adopted:
    """Write the classifier in the ONNX file `path` as a run into the folder `out`.

    `labels` name its classes, where it does not bring names; `told` is what `--preprocess` says; `data` is a folder
    of photographs, which prove the preprocessing where they have labels.

    Raises BadInputError for a file that is no classifier or is not understood, for another number of names, and
    where the preprocessing is not known; PromiseBrokenError where `told` costs accuracy, or what would be written
    answers differently.
    """
    foreign = read_foreign(path)
    raw, said = KNOWN["raw"], told.normalisation
    if foreign.dtype == "uint8" and said is not None and (said.mean, said.std) != (raw.mean, raw.std):
        raise BadInputError(
            f"{path} takes bytes and normalises them itself, so --preprocess {told.name} has nothing to do",
            "Leave mean and std out; colour=BGR and the sizes can be said.",
        )
    names = _names(foreign, labels)
    spec = preprocess_for(foreign, told)
    root = folder_of(data) if data is not None else None
    original = Original(foreign)
    with adopting_into(out):
        run = _describe(foreign, names, spec, root, command)
        sample = None if root is None else _sample(out, run, root, reporter)
        tried = () if sample is None else _tried(foreign, original, sample, told, reporter)
        way = _chosen(foreign, told, tried, len(names), reporter)
        pixels = drawn(spec)  # several: photographs may be one alone
        if sample is not None:
            pixels = np.concatenate([sample.pixels[:16], pixels])
        model = _proven(foreign, original, way, run, pixels, out)
        files.write_bytes(out / ADOPTED_FILE, model.SerializeToString())
        run = replace(run, model=replace(run.model, sha256=files.sha256_of(out / ADOPTED_FILE)))
        write_artifact(model, card_of(run, out), out / FLOAT_FILE)
        write_records(out, run)
    if foreign.is_quantised:
        reporter.warn(
            f"{path} computes in integers already: runtimes and CPUs may answer otherwise, and what edgetl proves "
            "of int8 files does not hold for it. Adopt the float file where you can"
        )
    if foreign.ranges_of_batch:
        reporter.warn(f"{path} quantises by the range of a batch: answers depend on the pictures beside them in it")
    return Adopted(run, way, tried)


def _names(foreign: ForeignModel, labels: Sequence[str] | None) -> tuple[str, ...]:
    found = tuple(labels) if labels is not None else foreign.labels
    if found is None:
        raise BadInputError(
            f"{foreign.path} does not name its {foreign.classes} classes",
            "Name them with --labels FILE, one on each line, in the order of its outputs.",
        )
    if len(found) != foreign.classes:
        raise BadInputError(
            f"{foreign.path} answers with {foreign.classes} numbers, and there are {len(found)} names",
            "Name each class once, in the order of its outputs.",
        )
    for number, name in enumerate(found):
        if wrong := fault(name):
            raise BadInputError(
                f"{foreign.path}: the name of class {number} {wrong}", "Name them with --labels FILE."
            )
    if len(set(found)) != len(found):
        raise BadInputError(f"{foreign.path} names two classes alike", "Name them with --labels FILE.")
    return found


def _sample(out: Path, run: Run, root: Path, reporter: Reporter) -> Sample:
    """Some of the photographs that judge."""
    photographs = RunPhotographs(out, run, root, reporter)
    sample = photographs.read(photographs.judged_on)
    places = stratified(sample.labels.tolist())[:MAX_TRIED]
    return Sample(sample.split, sample.split_sha256, sample.pixels[places], sample.labels[places])


def _tried(
    foreign: ForeignModel, original: Original, sample: Sample, told: Told, reporter: Reporter
) -> tuple[Tried, ...]:
    """What each plausible way gets right; empty where nobody says what is on the photographs."""
    if (sample.labels < 0).any():
        reporter.warn("the photographs have no labels: they do not prove the preprocessing")
        return ()
    ways = candidates(foreign)
    if told.normalisation is not None and told.normalisation not in ways:
        ways.append(told.normalisation)
    return tuple(try_all(original, ways, sample.pixels, sample.labels, reporter))


def _chosen(
    foreign: ForeignModel, told: Told, tried: Sequence[Tried], classes: int, reporter: Reporter
) -> Normalisation:
    """The way to preprocess: what was told, unless photographs say that it is wrong; else what they say."""
    own = KNOWN[foreign.normalises] if foreign.normalises else None
    wanted = told.with_colour(own)
    if not tried:
        if wanted is None:
            raise BadInputError(
                f"{foreign.path} does not tell how pixels are normalised",
                "Say it: --preprocess imagenet (torchvision, timm, fastai), unit (0 to 1), half (-1 to 1), raw "
                "(0 to 255) or caffe; or find out: --data PHOTOS, in folders called after classes.",
            )
        return wanted
    best, n = tried[0], len(tried[0].right)
    # Three standard errors: the best of several ways is a little better than chance by itself.
    if n * best.top1 < n / classes + 3 * (n / classes) ** 0.5:
        reporter.warn("no way to preprocess is better than chance: are the names in the order of the outputs?")
    said = f"{best.normalisation.name} is right on {best.top1:.3f} of {n} photographs"
    # Those that were told, or that the file tells; of a colour alone there are several, the best one first.
    mine = [one for one in tried if told.allows(one.normalisation, own)]
    if mine and best.surely_better_than(mine[0]):
        if told.says_way:
            raise PromiseBrokenError(
                f"--preprocess {told.name} is right on {mine[0].top1:.3f} of {n} photographs, and {said}",
                f"Use --preprocess {best.normalisation.name}, or leave --preprocess out. Nothing was written.",
            )
        reporter.warn(f"the file seems to want {mine[0].normalisation.name} ({mine[0].top1:.3f}), but {said}")
        mine = []
    ways = mine or list(tried)
    chosen = ways[0]
    others = [one.normalisation.name for one in ways[1:] if not chosen.surely_better_than(one)]
    if others:
        said = f"{chosen.normalisation.name} is right on {chosen.top1:.3f} of {n} photographs"
        reporter.warn(f"{said}; not told apart from it: {', '.join(others)}. --preprocess decides")
    return chosen.normalisation


def _proven(
    foreign: ForeignModel,
    original: Original,
    way: Normalisation,
    run: Run,
    pixels: NDArray[np.uint8],
    out: Path,
) -> onnx.ModelProto:
    """The graph in edgetl's form, which answers as the file does."""
    expected = original.answers(pixels, way)
    if not np.isfinite(expected).all():
        raise BadInputError(
            f"{foreign.path} answers with numbers that are not finite to pixels preprocessed by {way.name}",
            "Try another --preprocess; where none helps, the network itself is broken.",
        )
    sums_to_one = bool((expected >= 0).all() and np.abs(expected.sum(1) - 1).max() < SUMS_TO_ONE)
    by_softmax = last_operator(foreign.model).op_type == "Softmax"
    model = canonical(foreign, way, run.preprocess, log=sums_to_one and not by_softmax)
    artifact = make_artifact(model, card_of(run, out), out / FLOAT_FILE)
    try:
        found = _several_at_once(artifact, pixels, alike=foreign.ranges_of_batch)
    except ArtifactError as error:
        raise BadInputError(
            f"{foreign.path} does not run with several pictures at once: {error.message}",
            "Export it with a batch of any size.",
        ) from None
    difference = relative_difference(softmax(found) if sums_to_one else found, expected)
    if difference > MAX_RELATIVE_DIFFERENCE:
        raise PromiseBrokenError(
            f"what edgetl makes of {foreign.path} answers differently, by {difference:.1e} of the largest number",
            "Nothing was written. Report it, with the file.",
        )
    return model


def _several_at_once(artifact: Artifact, pixels: NDArray[np.uint8], *, alike: bool) -> NDArray[np.float32]:
    """Its logits for `pixels`, [n, classes]. Where pictures must be `alike`, each is beside itself alone: the range
    of the batch is that of the picture then."""
    if not alike:
        return logits_on(artifact, "ort:cpu", pixels)
    runtime = open_runtime(artifact, "ort:cpu", unproven=True)
    return np.concatenate([runtime.infer(np.stack([one, one])).logits[1:] for one in pixels])


def _describe(
    foreign: ForeignModel, names: tuple[str, ...], spec: Preprocess, data: Path | None, command: str
) -> Run:
    sha256 = files.sha256_of(foreign.path)
    model = ModelRecord(
        name=foreign.path.stem,
        parameters=sum(int(np.prod(tensor.dims)) for tensor in foreign.model.graph.initializer),
        weights=str(foreign.path),
        weights_sha256=sha256,
        weights_licence="that of the file",
        sha256=sha256,  # until its own graph is written
        kept="file",
        best_epoch=0,
    )
    return untaught_run(model, names, spec, "other", data, command)
