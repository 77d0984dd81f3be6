"""From a run to its deployable files: the float artifact, and int8 ones if they keep their promises."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from toolchain._version import __version__
from toolchain.artifact import FLOAT_FILE, Artifact, make_artifact, write_artifact
from toolchain.artifact.card import CARD_SCHEMA, Card, Source
from toolchain.backbones.networks import load_network, normalised
from toolchain.datasets.catalogue import photographs_of
from toolchain.datasets.splits import sha256_of_labelled
from toolchain.errors import BadInputError, MissingError, PromiseBrokenError
from toolchain.evaluation.metrics import relative_difference
from toolchain.export.context import ExportContext, Measurement
from toolchain.export.frame_files import write_frame_files
from toolchain.export.int8 import make_int8
from toolchain.export.measure import Sample, accuracy_of, calibration_of, logits_on, read_sample
from toolchain.export.moved import Moved
from toolchain.export.onnx_writer import to_onnx
from toolchain.export.promises import Attempt, QuantizationSettings
from toolchain.export.variants import Further, Written, write_further
from toolchain.runs import RUN_FILE, SPLITS_FILE, Run, SplitFile, read_run, read_splits
from toolchain.runtimes.devices import canonical, family_of, probe
from toolchain.system import claims, files
from toolchain.system.progress import Reporter, Silent
from toolchain.system.remaining import Whole, Work

TARGETS = ("ort:cpu", "openvino:CPU")
"""What `--target any` stands for: the file must keep its promises on all of these that are installed."""

MAX_RELATIVE_DIFFERENCE = 1e-4
MIN_AGREEMENT = 0.999

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Exported:
    """What `export` wrote and measured on the run's validation split of `n` photographs.

    `int8_files` are int8 files by device. `broken` says, by device, which promise no int8 file kept; what lies in
    `int8_files` for it then is the rejected file, if anything.
    """

    run: str
    split: str
    n: int
    float_file: str
    float_mb: float
    float_hops: tuple[Measurement, ...]
    max_drop_pp: float | None = None
    attempts: tuple[Attempt, ...] = ()
    int8_files: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    further: tuple[Written, ...] = ()


def export(
    folder: Path,
    *,
    int8: QuantizationSettings | None = None,
    target: str = "any",
    out: Path | None = None,
    further: Further = Further(),  # noqa: B008 (frozen)
    data: Path | None = None,
    reporter: Reporter | None = None,
) -> Exported:
    """Write the run in `folder` as `model.onnx` (or `out`), and with `int8` as int8 beside it.

    Everything is measured on the run's validation split before a file is renamed into place. `target` is the device
    on which int8 must keep its promises, or `any` for ONNX Runtime and OpenVINO both: at most `max_drop_pp` points
    of top-1 lost, and faster than float. `toolchain.export.int8` says what is written. `further` files (float16,
    int8 weights, OpenVINO's format) are written beside these. `data` is where the run's photographs lie now, if not
    where they were.

    Raises BadInputError for a folder that holds no run, MissingError when its photographs are gone,
    PromiseBrokenError when the float file does not answer as the trained network does.
    """
    reporter = Whole.of(reporter or Silent(), _works(int8, further))
    run = read_run(folder)
    float_path = out or folder / FLOAT_FILE
    if float_path.suffix in {".xml", ".bin"}:
        raise BadInputError(
            f"--out names the ONNX file, and {float_path.name} is OpenVINO's", "Name it model.onnx."
        )
    with claims.working_in(float_path.parent, "exporting", "Wait until it has ended, or choose another --out."):
        return _export(run, folder, float_path, int8, target, further, data, reporter)


def _usable_splits(folder: Path, run: Run) -> dict[str, tuple[SplitFile, ...]]:
    """What photographs the run had. Raises BadInputError where they cannot be this run's."""
    splits = read_splits(folder)
    unknown = {file.label for listed in splits.values() for file in listed} - set(run.data.classes)
    missing = [split for split in ("train", "val") if not splits.get(split)]
    if unknown or missing:
        wrong = f"it names the class {min(unknown)!r}" if unknown else f"it has no {missing[0]} photographs"
        raise BadInputError(
            f"{folder / SPLITS_FILE} does not belong to {folder / RUN_FILE}: {wrong}",
            "Run `edgetl finetune` again.",
        )
    return splits


def _export(
    run: Run,
    folder: Path,
    float_path: Path,
    int8: QuantizationSettings | None,
    target: str,
    further: Further,
    data: Path | None,
    reporter: Reporter,
) -> Exported:
    devices = _devices(target, reporter)
    splits = _usable_splits(folder, run)
    if data is None:
        root = photographs_of(run.data.name, run.data.path)
    else:
        moved = Moved(data, reporter)
        splits, root = {split: moved.named(listed) for split, listed in splits.items()}, moved.folder
    splits["calibration"] = calibration_of(splits)

    def read(split: str) -> Sample:
        listed = splits[split]
        sha256 = sha256_of_labelled((file.sha256, file.label) for file in listed)
        return read_sample(root, split, sha256, listed, run.data.classes, run.preprocess)

    sample = read("val")
    with reporter.task("writing ONNX", 2) as task:
        network = load_network(folder, run)
        # PyTorch is slow: photographs and mirror images are enough to know that the files are the network.
        reference = _torch_logits(network, sample.views[: 2 * len(sample.labels)])
        task.advance()
        model = to_onnx(network, run.preprocess, run.temperature)
        task.advance()
    card = _card(run, folder).with_accuracy(accuracy_of(reference, reference, sample, "torch:cpu", "float32"))
    whole = make_artifact(model, card, float_path)
    bases = {device: logits_on(whole, device, sample.views) for device in devices}
    hops = tuple(
        Measurement(device, accuracy_of(logits[: len(reference)], reference, sample, device, "float32"))
        for device, logits in bases.items()
    )
    _check_parity(hops)
    card = replace(card.with_accuracy(*(hop.accuracy for hop in hops)), runtimes=devices)
    artifact = write_artifact(model, card, float_path)
    reference = np.concatenate([reference, bases[devices[0]][len(reference) :]])
    seed = int(run.settings.get("seed", 0))
    photographs = tuple(root / file.name for file in splits["val"])
    job = ExportContext(model, card, float_path, sample, reference, bases, photographs, read, seed, reporter)
    done = Exported(str(folder), sample.split, len(sample.labels), str(float_path), artifact.size_mb, hops)
    if int8 is not None:
        found = make_int8(job, int8)
        done = replace(
            done,
            max_drop_pp=int8.max_drop_pp,
            attempts=found.attempts,
            int8_files=found.files,
            broken=found.broken,
        )
    kept = [Path(file) for file in dict.fromkeys(done.int8_files.values()) if len(done.broken) < len(devices)]
    max_drop_pp = (int8 or QuantizationSettings()).max_drop_pp
    written = write_further(further, job, kept, max_drop_pp)
    if further.raw_frame:
        written += write_frame_files(job, [float_path, *kept])
    return replace(done, further=written)


def _works(int8: QuantizationSettings | None, further: Further) -> list[Work]:
    """What takes time in an export; costs are seconds of MobileNetV2 on two cores."""
    works = [Work("writing ONNX", 2, 2.0)]
    if int8 is not None:
        works.append(Work("int8 recipes", 6, 8.0))
        works += [Work("quantisation-aware training", 50 * int8.qat_epochs, 1.0)] if int8.qat_epochs else []
    files = sum((further.fp16, further.int8_weights, further.openvino))
    works += [Work("further files", files, 6.0)] if files else []
    return [*works, Work("files for raw frames", 2, 5.0)] if further.raw_frame else works


def write_unmeasured(folder: Path, run: Run, pixels: NDArray[np.uint8]) -> Artifact:
    """Write the float artifact of `run` into its folder, to be tried at once; `export` measures it.

    On `pixels`, uint8 [n, height, width, 3], it is compared with the trained network. Raises PromiseBrokenError
    where it answers differently.
    """
    network = load_network(folder, run)
    whole = make_artifact(
        to_onnx(network, run.preprocess, run.temperature), _card(run, folder), folder / FLOAT_FILE
    )
    difference = relative_difference(logits_on(whole, TARGETS[0], pixels), _torch_logits(network, pixels))
    if difference > MAX_RELATIVE_DIFFERENCE:
        raise PromiseBrokenError(
            f"the ONNX file answers differently: logits differ by {difference:.1e} of the largest"
        )
    files.write_bytes(whole.path, whole.model)
    return whole


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
    device = probe(canonical(target))
    if not device.available:
        raise MissingError(f"{target}: {device.reason}", device.install)
    return (device.name,)


def _check_parity(hops: tuple[Measurement, ...]) -> None:
    for hop in hops:
        agreement, difference = hop.accuracy.agreement or 0.0, hop.accuracy.relative_difference or 0.0
        if difference > MAX_RELATIVE_DIFFERENCE or agreement < MIN_AGREEMENT:
            raise PromiseBrokenError(
                f"the exported network answers differently on {hop.device}: logits differ by "
                f"{difference:.1e} of the largest (at most {MAX_RELATIVE_DIFFERENCE:.0e}), "
                f"agreement {agreement:.4f} (at least {MIN_AGREEMENT})",
                "Nothing was written. Report it with the versions that `edgetl doctor` shows.",
            )


@torch.inference_mode()
def _torch_logits(network: nn.Module, pixels: NDArray[np.uint8], batch: int = 32) -> Logits:
    parts = [network(normalised(torch.from_numpy(pixels[at : at + batch]))) for at in range(0, len(pixels), batch)]
    return torch.cat(parts).numpy()


def _card(run: Run, folder: Path) -> Card:
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
        ),
        edgetl_version=__version__,
    )
