"""From a run to its deployable files: the float artifact, and int8 files if they keep their promises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from toolchain._version import __version__
from toolchain.artifact import FLOAT_FILE, Artifact, make_artifact, write_artifact
from toolchain.artifact.card import CARD_SCHEMA, Card, Source
from toolchain.backbones.networks import load_network, normalised
from toolchain.errors import ArtifactError, BadInputError, MissingError, PromiseBrokenError
from toolchain.evaluation.metrics import relative_difference
from toolchain.export import older
from toolchain.export.int8.search import make_int8
from toolchain.export.measure import ExportContext, Logits, Pixels, accuracy_of, logits_on, with_labels
from toolchain.export.onnx_writer import to_onnx
from toolchain.export.photographs import RunPhotographs
from toolchain.export.raw_frame import write_frame_files
from toolchain.export.recommending import recommend
from toolchain.export.results import Exported, Measurement, QuantizationSettings, Variants
from toolchain.export.variants import write_variants
from toolchain.export.ways import float_ways, that_agree, ways_here
from toolchain.recommended import MIN_AGREEMENT as WAY_AGREEMENT
from toolchain.runs import ADOPTED_FILE, Run, read_run
from toolchain.runtimes.devices import canonical, family_of, plain, probe
from toolchain.runtimes.machine import Environment
from toolchain.system import claims, files
from toolchain.system.progress import EtaReporter, PlannedTask, Reporter, Silent
from toolchain.timing.machines import connected
from toolchain.timing.process import probe_devices
from toolchain.timing.protocol import LOCAL, at

TARGETS = ("ort:cpu", "openvino:CPU")
"""What `--target any` stands for: int8 must keep its promises on all of these that are installed."""

MAX_RELATIVE_DIFFERENCE = 1e-4
MIN_AGREEMENT = 0.999
HALF_DIFFERENCE = 0.1
"""On devices that compute in float16, whose answers count."""


def export(
    folder: Path,
    *,
    int8: QuantizationSettings | None = None,
    target: str = "any",
    out: Path | None = None,
    further: Variants = Variants(),  # noqa: B008 (frozen)
    data: Path | None = None,
    reporter: Reporter | None = None,
) -> Exported:
    """Write the run in `folder` as `model.onnx` (or `out`), and with `int8` as int8 beside it.

    Everything is measured on the run's validation split, or on test where val has taught too, before a file is
    renamed into place. `target` is the device on which int8 must keep its promises (at most `max_drop_pp` points
    of top-1 lost, and faster than float), or `any` for ONNX Runtime and OpenVINO both;
    `toolchain.export.int8.search` says what is written. `further` files (float16, int8 weights, OpenVINO's format,
    raw frames) are written beside these. `data` is where the run's photographs lie now, if not where they were.

    Raises BadInputError for a folder that holds no run, MissingError when its photographs are gone,
    PromiseBrokenError when the float file does not answer as the trained network does.
    """
    reporter = EtaReporter.of(reporter or Silent(), _works(int8, further))
    run = read_run(folder)
    float_path = out or folder / FLOAT_FILE
    if owner := {".xml": "OpenVINO's", ".bin": "OpenVINO's", ".tflite": "LiteRT's"}.get(float_path.suffix):
        raise BadInputError(f"--out names the ONNX file, and {float_path.name} is {owner}", "Name it model.onnx.")
    with claims.working_in(float_path.parent, "exporting", "Wait until it has ended, or choose another --out."):
        on = (LOCAL,) if int8 is None else int8.on
        machines, devices = _machines(on, target, _devices(target, reporter), reporter)
        photographs = RunPhotographs(folder, run, data, reporter)
        context, exported = _export_float(run, folder, float_path, devices, photographs, reporter)
        context = replace(context, machines=machines)
        # An int8 file of another network would be preferred to the new float file.
        others = older.of_others(float_path, (*TARGETS, *devices), context.card.source)
        older.set_aside(others, reporter)
        # What an earlier export made of an int8 file must not stay beside the one that takes its place.
        with older.replacing(older.int8_files(float_path, devices), reporter):
            if int8 is not None:
                exported, kept = _export_int8(context, exported, int8)
                further = replace(further, max_drop_pp=int8.max_drop_pp)  # one limit for all files of an export
            else:
                kept = []
            written = write_variants(further, context, kept)
            if further.raw_frame:
                written += write_frame_files(context, [float_path, *kept])
        return replace(exported, further=written)


def _export_int8(
    context: ExportContext, exported: Exported, int8: QuantizationSettings
) -> tuple[Exported, list[Path]]:
    """Search for int8; also return the files that kept their promises."""
    found = make_int8(context, int8)
    exported = replace(
        exported,
        max_drop_pp=int8.max_drop_pp,
        on=int8.on,
        attempts=found.attempts,
        int8_files=found.files,
        int8_for_all=found.for_all,
        broken=found.broken,
        undecided=found.undecided,
    )
    kept = [Path(file) for file in dict.fromkeys((*exported.int8_files.values(), found.for_all)) if file]
    if len(exported.broken) == len(context.devices):
        kept = []  # only the rejected file
    if int8.min_speed_up and LOCAL in int8.on:
        advice = recommend(context, [context.path, *kept])
        exported = replace(exported, recommended=advice.devices if advice else ())
    return exported, kept


def _export_float(
    run: Run,
    folder: Path,
    path: Path,
    devices: tuple[str, ...],
    photographs: RunPhotographs,
    reporter: Reporter,
) -> tuple[ExportContext, Exported]:
    """Write the float file once it answers as the trained network does on all `devices`."""
    sample = photographs.read(photographs.judged_on)
    n = len(sample.labels)
    card = card_of(run, folder)
    with reporter.task("writing ONNX", 2) as task:
        # PyTorch is slow: photographs and mirror images are enough to know that the files are the network.
        if run.model.kept == "file":
            model = onnx.load(folder / ADOPTED_FILE)
            reference = logits_on(make_artifact(model, card, path), TARGETS[0], sample.views, 2 * n)
            task.advance()
        else:
            network = load_network(folder, run)
            reference = _torch_logits(network, sample.views, 2 * n)
            task.advance()
            model = to_onnx(network, run.preprocess, run.temperature)
        task.advance()
    sample = with_labels(sample, reference)
    if run.model.kept != "file":
        card = card.with_accuracy(accuracy_of(reference, reference, sample, "torch:cpu", "float32"))
    draft = make_artifact(model, card, path)
    float_logits: dict[str, Logits] = {}
    measured: tuple[Measurement, ...] = ()
    for device in devices:
        # Others' networks have operators that not every runtime has, or integers that each rounds in its way.
        may_fail = run.model.kept == "file" and (device != devices[-1] or bool(measured))
        with _left_out(device, reporter) if may_fail else nullcontext():
            logits = logits_on(draft, device, sample.views)
            one = Measurement(device, accuracy_of(logits[: len(reference)], reference, sample, device, "float32"))
            _check_parity(one)
            float_logits[device] = logits
            measured += (one,)
    devices = tuple(float_logits)
    ways = ways_here(devices)
    beside = float_ways(draft, ways, reference, sample)
    measured += beside
    card = replace(
        card.with_accuracy(*(one.accuracy for one in measured)), runtimes=(*devices, *that_agree(beside, reporter))
    )
    artifact = write_artifact(model, card, path)
    # The other views are answered by the float file, which is known now to be the network.
    reference = np.concatenate([reference, float_logits[devices[0]][len(reference) :]])
    seed = int(run.settings.get("seed", 0))
    context = ExportContext(model, card, path, photographs, sample, reference, float_logits, seed, reporter, ways)
    return context, Exported(str(folder), sample.split, n, str(path), artifact.size_mb, measured)


def _works(int8: QuantizationSettings | None, further: Variants) -> list[PlannedTask]:
    """The steps that take time, for the estimate of what is left; costs are seconds of MobileNetV2 on two cores."""
    works = [PlannedTask("writing ONNX", 2, 2.0)]
    if int8 is not None:
        works.append(PlannedTask("int8 recipes", 7, 8.0))
        works += [PlannedTask("quantisation-aware training", 50 * int8.qat_epochs, 1.0)] if int8.qat_epochs else []
    count = sum((further.fp16, further.int8_weights, further.openvino, further.litert))
    works += [PlannedTask("further files", count, 6.0)] if count else []
    return [*works, PlannedTask("files for raw frames", 2, 5.0)] if further.raw_frame else works


def write_unmeasured(folder: Path, run: Run, pixels: NDArray[np.uint8]) -> Artifact:
    """Write the float artifact of `run` into its folder at once; `export` measures it later.

    On `pixels`, uint8 [n, height, width, 3], it is compared with the trained network. Raises PromiseBrokenError
    where it answers differently.
    """
    network = load_network(folder, run)
    model = to_onnx(network, run.preprocess, run.temperature)
    artifact = make_artifact(model, card_of(run, folder), folder / FLOAT_FILE)
    difference = relative_difference(
        logits_on(artifact, TARGETS[0], pixels), _torch_logits(network, pixels, len(pixels))
    )
    if difference > MAX_RELATIVE_DIFFERENCE:
        raise PromiseBrokenError(
            f"the ONNX file answers differently: logits differ by {difference:.1e} of the largest"
        )
    files.write_bytes(artifact.path, artifact.model)
    return artifact


def _devices(target: str, reporter: Reporter) -> tuple[str, ...]:
    """The devices that `target` stands for, all of them on this machine."""
    if target.lower() == "any":
        found = [probe(name) for name in TARGETS]
        for device in found:
            if not device.available:
                reporter.warn(f"not measured on {device.name}: {device.reason}")
        return tuple(device.name for device in found if device.available)
    if family_of(canonical(target)).of_run:
        raise BadInputError(
            "PyTorch does not run exported files", f"Choose a target of: any, {', '.join(TARGETS)}."
        )
    if "onnx" not in family_of(canonical(target)).formats:
        raise BadInputError(
            f"{target} runs no ONNX files, among which int8 is chosen",
            "Leave out --target; --litert writes the chosen file for LiteRT."
            if target.lower().startswith("litert")
            else "",
        )
    if plain(target) != target:
        raise BadInputError(
            f"int8 is held against float32, and {target} computes in another type",
            f"Use --target {plain(target)}; its other ways are measured beside it.",
        )
    device = probe(canonical(target))
    if not device.available:
        raise MissingError(f"{target}: {device.reason}", device.install)
    return (device.name,)


def _machines(
    on: tuple[str, ...], target: str, devices: tuple[str, ...], reporter: Reporter
) -> tuple[dict[str, Environment], tuple[str, ...]]:
    """The machines that int8 will be timed on, and those of `devices` that all of them have.

    Raises MissingError where a machine cannot be used, or lacks the device that was asked for.
    """
    found = {}
    with connected(on, reporter) as machines:
        for machine in machines:
            found[machine.name] = machine.describe()
            for device in probe_devices(devices, reporter, machine.launch) if machine.name != LOCAL else ():
                if not device.available and target.lower() != "any":
                    raise MissingError(f"{at(device.name, machine.name)}: {device.reason}", device.install)
                if not device.available:
                    reporter.warn(f"not measured on {device.name}: {machine.name} lacks it ({device.reason})")
                    devices = tuple(name for name in devices if name != device.name)
    if not devices:
        raise MissingError("the machines have no device in common", "Name one with --target.")
    return found, devices


@contextmanager
def _left_out(device: str, reporter: Reporter) -> Iterator[None]:
    """Let a device that does not load a file, or answers otherwise, cost that device alone."""
    try:
        yield
    except (ArtifactError, PromiseBrokenError) as error:
        reporter.warn(f"{device} is left out: {error.message}")


def _check_parity(one: Measurement) -> None:
    agreement, difference = one.accuracy.agreement or 0.0, one.accuracy.relative_difference or 0.0
    wanted, most = MIN_AGREEMENT, MAX_RELATIVE_DIFFERENCE
    if "NPU" in one.device:
        wanted, most = WAY_AGREEMENT, HALF_DIFFERENCE
    if difference > most or agreement < wanted:
        raise PromiseBrokenError(
            f"the exported network answers differently on {one.device}: logits differ by {difference:.1e} of the "
            f"largest (at most {most:.0e}), agreement {agreement:.4f} (at least {wanted})",
            "Nothing was written. Report it with the versions that `edgetl doctor` shows.",
        )


@torch.inference_mode()
def _torch_logits(network: nn.Module, pixels: Pixels, n: int, batch: int = 32) -> Logits:
    """Logits of the first `n` of `pixels`."""
    parts = [network(normalised(torch.from_numpy(pixels[at : min(at + batch, n)]))) for at in range(0, n, batch)]
    return torch.cat(parts).numpy()


def card_of(run: Run, folder: Path) -> Card:
    """What the card of `run` says before anything was measured."""
    licences = dict(run.data.licences)
    if run.model.weights_licence:
        licences["weights"] = run.model.weights_licence
    return Card(
        schema=CARD_SCHEMA,
        labels=run.data.classes,
        preprocess=run.preprocess,
        temperature=run.temperature,
        reject=run.reject,
        precision="float32",
        recipe=None,
        accuracy=(),
        splits=run.data.split_sha256,
        source=Source(
            model=run.model.name,
            run=folder.resolve().name,
            weights=Path(run.model.weights).name,
            weights_sha256=run.model.weights_sha256,
            data=run.data.name,
            licences=licences,
            run_sha256=run.model.sha256,
            taught=run.model.taught,
            adopted=run.model.kept == "file",
        ),
        edgetl_version=__version__,
    )
