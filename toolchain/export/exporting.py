"""From a run to its deployable files: the float artifact, and the int8 one if its accuracy holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from toolchain._version import __version__
from toolchain.artifact import (
    CARD_SCHEMA,
    FLOAT_FILE,
    Accuracy,
    Artifact,
    Card,
    Recipe,
    Source,
    make_artifact,
    write_artifact,
)
from toolchain.backbones import build, normalised
from toolchain.errors import ArtifactError, BadInputError, MissingError, PromiseBrokenError
from toolchain.export.further import Further, Written, write_further
from toolchain.export.measure import Sample, accuracy_of, logits_on, lost, read_sample, relative_difference
from toolchain.export.onnx_writer import to_onnx
from toolchain.export.quantise import QUANTISERS, quantise
from toolchain.progress import Reporter, Silent
from toolchain.runs import WEIGHTS_FILE, Run, read_run, read_splits
from toolchain.runtimes.devices import parse_device, probe

TARGETS = ("ort:cpu", "openvino:CPU")
"""What `--target any` stands for: the file must keep its promise on all of these that are installed."""

MAX_RELATIVE_DIFFERENCE = 1e-4
MIN_AGREEMENT = 0.999
MAX_CALIBRATION = 300
DEFAULT_MAX_DROP_PP = 1.0

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Hop:
    """One file on one device.

    `relative_difference` is the largest difference of logits from the trained network's, relative to its largest
    logit. `drop_pp` is the top-1 lost against float on the same device, over the photographs and their mirror
    images; at most `drop_upper_pp` with 95 % confidence.
    """

    device: str
    relative_difference: float
    accuracy: Accuracy
    drop_pp: float | None = None
    drop_upper_pp: float | None = None


@dataclass(frozen=True)
class Attempt:
    """One int8 recipe that was tried, and what it lost on each target."""

    label: str
    quantiser: str
    settings: dict[str, Any]
    hops: tuple[Hop, ...]
    size_mb: float
    chosen: bool = False

    @property
    def drop_pp(self) -> float:
        """The largest drop on any target."""
        return max(hop.drop_pp or 0.0 for hop in self.hops)

    @property
    def agreement(self) -> float:
        """The smallest agreement with the trained network on any target."""
        return min(hop.accuracy.agreement or 0.0 for hop in self.hops)


@dataclass(frozen=True)
class Exported:
    """What `export` wrote and measured on the run's validation split of `n` photographs.

    `broken` says which promise int8 did not keep; `int8_file` is then the rejected file.
    """

    run: str
    split: str
    n: int
    float_file: str
    float_mb: float
    float_hops: tuple[Hop, ...]
    int8_file: str | None = None
    max_drop_pp: float | None = None
    attempts: tuple[Attempt, ...] = ()
    broken: str | None = None
    further: tuple[Written, ...] = ()


@dataclass(frozen=True)
class _Job:
    """What all steps of one export share. `reference` are the trained network's logits on `sample` in PyTorch."""

    run: Run
    model: onnx.ModelProto
    sample: Sample
    reference: Logits
    devices: tuple[str, ...]
    reporter: Reporter

    def hop(
        self, model: onnx.ModelProto, card: Card, path: Path, device: str, base: Logits | None
    ) -> tuple[Hop, Logits]:
        """Measure a file that is not written yet; `base` are the float file's logits on the same device."""
        return self.hop_of(make_artifact(model, card, path), device, base)

    def hop_of(self, artifact: Artifact, device: str, base: Logits | None) -> tuple[Hop, Logits]:
        """Measure an artifact; `base` are the float file's logits on the same device."""
        logits = logits_on(artifact, device, self.sample.views)
        accuracy = accuracy_of(logits, self.reference, self.sample, device, artifact.card.precision)
        difference = relative_difference(logits, self.reference)
        drop, upper = (None, None) if base is None else lost(base, logits, self.sample.labels)
        return Hop(device, difference, accuracy, drop, upper), logits


def export(
    folder: Path,
    *,
    int8: bool = False,
    max_drop_pp: float = DEFAULT_MAX_DROP_PP,
    target: str = "any",
    out: Path | None = None,
    further: Further = Further(),  # noqa: B008 (frozen)
    reporter: Reporter | None = None,
) -> Exported:
    """Write the run in `folder` as `model.onnx` (or `out`), and with `int8` as `model.int8.onnx` beside it.

    Everything is measured on the run's validation split before a file is renamed into place. `target` is the device
    on which int8 must keep its promise, or `any` for ONNX Runtime and OpenVINO both. The promise: at most
    `max_drop_pp` points of top-1 lost. Where no recipe keeps it, the best is left as `model.int8.rejected.onnx`.

    `further` files (float16, int8 weights, OpenVINO's format) are written beside these.

    Raises BadInputError for a folder that holds no run, MissingError when its photographs are gone,
    PromiseBrokenError when the float file does not answer as the trained network does.
    """
    reporter = reporter or Silent()
    run = read_run(folder)
    devices = _devices(target, reporter)
    float_path = out or folder / FLOAT_FILE
    if float_path.suffix in {".xml", ".bin"}:
        raise BadInputError(
            f"--out names the ONNX file, and {float_path.name} is OpenVINO's", "Name it model.onnx."
        )
    splits = read_splits(folder)
    root = Path(run.data.path)
    sample, calibration = (
        read_sample(root, split, run.data.split_sha256[split], splits[split], run.data.classes, run.preprocess)
        for split in ("val", "calibration" if splits["calibration"] else "train")
    )
    with reporter.task("writing ONNX", 2) as task:
        network = _load_network(folder, run)
        reference = _torch_logits(network, sample.views)
        task.advance()
        model = to_onnx(network, run.preprocess, run.temperature)
        task.advance()
    job = _Job(run, model, sample, reference, devices, reporter)

    card = _card(run, folder).with_accuracy(accuracy_of(reference, reference, sample, "torch:cpu", "float32"))
    measured = [job.hop(model, card, float_path, device, None) for device in devices]
    hops = tuple(hop for hop, _ in measured)
    _check_parity(hops)
    card = replace(card.with_accuracy(*(hop.accuracy for hop in hops)), runtimes=devices)
    artifact = write_artifact(model, card, float_path)
    done = Exported(str(folder), sample.split, len(sample.labels), str(float_path), artifact.size_mb, hops)
    bases = dict(zip(devices, (logits for _, logits in measured), strict=True))
    if int8:
        done = _export_int8(done, job, card, calibration, bases, max_drop_pp)
    return replace(done, further=write_further(further, job, done, bases, max_drop_pp))


def _export_int8(
    done: Exported, job: _Job, card: Card, calibration: Sample, bases: dict[str, Logits], max_drop_pp: float
) -> Exported:
    if not len(calibration.pixels):
        raise BadInputError(
            "the run has no calibration photographs", "Add photographs and run `edgetl finetune` again."
        )
    images = calibration.pixels[:MAX_CALIBRATION]
    path = Path(done.float_file).with_suffix(".int8.onnx")
    tried: list[tuple[Attempt, onnx.ModelProto, Card]] = []
    with job.reporter.task("int8 recipes", len(QUANTISERS)) as task:
        for quantiser in QUANTISERS:
            recipe = Recipe(quantiser.name, quantiser.settings, calibration.split_sha256, len(images))
            card_int8 = replace(card, precision="int8", recipe=recipe)
            try:
                model = quantise(job.model, images, quantiser)
                hops = tuple(job.hop(model, card_int8, path, device, bases[device])[0] for device in job.devices)
            except Exception as error:  # quantisers fail in many ways on networks they were not made for
                job.reporter.warn(f"{quantiser.label} failed: {str(error).strip().splitlines()[0]}")
                continue
            finally:
                task.advance()
            attempt = Attempt(
                quantiser.label, quantiser.name, quantiser.settings, hops, round(model.ByteSize() / 1e6, 3)
            )
            tried.append((attempt, model, card_int8))
            drops = ", ".join(f"{hop.device} {hop.drop_pp:+.2f} pp" for hop in hops)
            job.reporter.say(f"int8 by {quantiser.label}: top-1 lost {drops}; agreement {attempt.agreement:.3f}")
    if not tried:
        raise PromiseBrokenError("no quantiser could make an int8 file of this network", "Use the float file.")
    # Agreement with the float network says more than accuracy: on a few hundred photographs, one or two that
    # happen to turn right would decide.
    keeping = [entry for entry in tried if entry[0].drop_pp <= max_drop_pp]
    best, model, card_int8 = (
        max(keeping, key=lambda entry: entry[0].agreement)
        if keeping
        else min(tried, key=lambda entry: entry[0].drop_pp)
    )
    broken = None
    if not keeping:
        path = path.with_suffix(".rejected.onnx")
        broken = (
            f"int8 loses {best.drop_pp:.2f} pp of top-1 on {len(job.sample.labels)} validation photographs, "
            f"{best.drop_pp - max_drop_pp:.2f} pp more than --max-drop {max_drop_pp:g}"
        )
    measured = tuple(hop.accuracy for hop in best.hops)
    write_artifact(
        model, replace(card_int8.with_accuracy(*measured), runtimes=job.devices if keeping else ()), path
    )
    return replace(
        done,
        int8_file=str(path),
        max_drop_pp=max_drop_pp,
        attempts=tuple(replace(attempt, chosen=attempt is best) for attempt, _, _ in tried),
        broken=broken,
    )


def _devices(target: str, reporter: Reporter) -> tuple[str, ...]:
    """The devices that `target` stands for, all of them on this machine."""
    if target == "any":
        found = [probe(name) for name in TARGETS]
        for device in found:
            if not device.available:
                reporter.warn(f"not measured on {device.name}: {device.reason}")
        return tuple(device.name for device in found if device.available)
    if parse_device(target)[0] == "torch":
        raise BadInputError(
            "PyTorch does not run exported files", f"Choose a target of: any, {', '.join(TARGETS)}."
        )
    device = probe(target)
    if not device.available:
        raise MissingError(f"{target}: {device.reason}", device.install)
    return (target,)


def _check_parity(hops: tuple[Hop, ...]) -> None:
    for hop in hops:
        agreement = hop.accuracy.agreement or 0.0
        if hop.relative_difference > MAX_RELATIVE_DIFFERENCE or agreement < MIN_AGREEMENT:
            raise PromiseBrokenError(
                f"the exported network answers differently on {hop.device}: logits differ by "
                f"{hop.relative_difference:.1e} of the largest (at most {MAX_RELATIVE_DIFFERENCE:.0e}), "
                f"agreement {agreement:.4f} (at least {MIN_AGREEMENT})",
                "Nothing was written. Report it with the versions that `edgetl doctor` shows.",
            )


def _load_network(folder: Path, run: Run) -> nn.Module:
    network = build(run.model.name, len(run.data.classes))
    try:
        network.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except Exception as error:  # safetensors and torch have types of their own for damaged and unfitting files
        reason = str(error).strip().splitlines()[0]
        raise ArtifactError(
            f"{folder / WEIGHTS_FILE} is damaged: {reason}", "Run `edgetl finetune` again."
        ) from None
    return network.eval()


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
