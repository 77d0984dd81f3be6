"""From photographs to a run: linear probe, fine-tuning from that head, and the better of the two is kept.

A head that is trained first keeps a random one from wrecking the pretrained features (LP-FT, Kumar et al., ICLR
2022).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from toolchain import files
from toolchain._version import __version__
from toolchain.artifact import Reject
from toolchain.backbones import Pretrained, build, head_of, load_pretrained, pooled_features
from toolchain.datasets import SPLITS, Dataset, Photograph
from toolchain.datasets.catalogue import open_dataset
from toolchain.errors import BadInputError, UnreadableImageError
from toolchain.preprocess import read
from toolchain.progress import Reporter, Silent
from toolchain.runs import (
    RUN_FILE,
    RUN_SCHEMA,
    SPLITS_FILE,
    WEIGHTS_FILE,
    DataRecord,
    Metrics,
    ModelRecord,
    Run,
    SplitFile,
    read_run,
)
from toolchain.runtimes.devices import cores
from toolchain.training import checkpoint
from toolchain.training.environment import choose_device, describe_environment, has_fast_bfloat16
from toolchain.training.evaluate import apply_to, labels_of, logits_of
from toolchain.training.loop import fine_tune
from toolchain.training.metrics import fit_rejection, fit_temperature, measure
from toolchain.training.probe import fit_head, start_from
from toolchain.training.settings import Settings

FEW_VALIDATION = 50
"""With fewer validation photographs, one of them is more than two points of accuracy."""


@dataclass(frozen=True)
class _Workshop:
    """What every step of a run needs."""

    settings: Settings
    dataset: Dataset
    device: torch.device
    reporter: Reporter
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[step] = round(self.seconds.get(step, 0.0) + time.perf_counter() - started, 3)

    def logits(self, network: nn.Module, split: str, what: str) -> NDArray[np.float32]:
        photos = self.dataset.splits[split]
        description = f"{what} on {split}"
        return logits_of(network, photos, self.settings.preprocess, self.device, self.reporter, description)

    def judged(self, network: nn.Module, what: str) -> _Verdict:
        """What `network` is worth: its temperature and rejection from val, its metrics on val and test."""
        logits = {split: self.logits(network, split, what) for split in ("val", "test")}
        labels = {split: labels_of(self.dataset.splits[split]) for split in logits}
        temperature = fit_temperature(logits["val"], labels["val"])
        return _Verdict(
            temperature,
            fit_rejection(logits["val"], temperature),
            {split: measure(logits[split], labels[split], temperature) for split in logits},
        )

    def on_validation(self, network: nn.Module, what: str) -> Metrics:
        """Metrics on val with the temperature that fits it best, to compare epochs by."""
        logits, labels = self.logits(network, "val", what), labels_of(self.dataset.splits["val"])
        return measure(logits, labels, fit_temperature(logits, labels))


@dataclass(frozen=True)
class _Verdict:
    temperature: float
    reject: Reject
    metrics: dict[str, Metrics]


def finetune(settings: Settings, out: Path, *, command: str = "", reporter: Reporter | None = None) -> Run:
    """Train, evaluate, and write the run folder `out`; return what `run.json` says.

    Raises BadInputError for data, weights or settings that cannot be used, and when `out` holds something already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInputError(f"{out} is there already and not empty", f"Choose another --out, or --resume {out}.")
    return _run(settings, out, None, command, reporter or Silent())


def resume(out: Path, *, command: str = "", reporter: Reporter | None = None) -> Run:
    """Go on with an interrupted run where its last finished epoch ended; a finished run is returned as it is.

    Raises BadInputError when there is nothing to resume or the photographs have changed since.
    """
    if (out / RUN_FILE).exists():
        return read_run(out)
    stored, data_sha256 = checkpoint.load_settings(out)
    return _run(msgspec.convert(stored, Settings), out, data_sha256, command, reporter or Silent())


def _run(settings: Settings, out: Path, data_sha256: str | None, command: str, reporter: Reporter) -> Run:
    started = time.perf_counter()
    device = choose_device(settings.device, reporter)
    # A wrong model or wrong weights should not wait for the photographs.
    load_pretrained(build(settings.model, 2), settings.model, settings.weights)
    dataset, skipped = _readable(_opened(settings.data, reporter), reporter)
    if data_sha256 not in (None, dataset.sha256):
        raise BadInputError(
            f"the photographs of {settings.data} are not those that the run began with",
            "Put them back as they were, or start a new run.",
        )
    shop = _Workshop(settings, dataset, device, reporter)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint.save_settings(out, settings, dataset.sha256)
    _write_splits(out, dataset)
    shop.seconds["data"] = round(time.perf_counter() - started, 3)

    torch.manual_seed(settings.seed)
    network = build(settings.model, len(dataset.classes))
    pretrained = load_pretrained(network, settings.model, settings.weights)
    network.to(device)
    network.to(memory_format=torch.channels_last)
    with shop.timed("probe"):
        _probe(shop, network, pretrained)
    with shop.timed("evaluate"):
        verdict = probe = shop.judged(network, "linear probe")
    reporter.say(f"linear probe: validation top-1 {probe.metrics['val'].top1:.3f}")

    kept: Literal["probe", "finetune"] = "probe"
    best_epoch = 0
    if not settings.probe_only:
        with shop.timed("finetune"):
            best = fine_tune(
                network,
                dataset.splits["train"],
                settings,
                device,
                out,
                probe.metrics["val"],
                shop.on_validation,
                reporter,
            )
        network.load_state_dict(best.state)
        best_epoch = best.epoch
        if best.epoch:
            kept = "finetune"
            reporter.say(f"kept epoch {best.epoch}: validation top-1 {best.score[0]:.3f}")
            with shop.timed("evaluate"):
                verdict = shop.judged(network, f"epoch {best.epoch}")
        else:
            top1 = best.score[0]
            reporter.say(f"kept the linear probe: no epoch was better than its validation top-1 of {top1:.3f}")

    network.to("cpu")
    with files.replaced(out / WEIGHTS_FILE) as beside:
        save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, beside)
    run = Run(
        schema=RUN_SCHEMA,
        edgetl_version=__version__,
        command=command,
        data=_describe_data(dataset, skipped),
        model=ModelRecord(
            name=settings.model,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            weights=pretrained.source,
            weights_sha256=pretrained.sha256,
            weights_licence=pretrained.licence,
            sha256=files.sha256_of(out / WEIGHTS_FILE),
            kept=kept,
            best_epoch=best_epoch,
        ),
        preprocess=settings.preprocess,
        temperature=verdict.temperature,
        reject=verdict.reject,
        settings=asdict(settings),
        environment=describe_environment(device),
        timings_s={**shop.seconds, "total": round(time.perf_counter() - started, 3)},
        metrics=verdict.metrics,
        probe_metrics=probe.metrics,
    )
    files.write_json(out / RUN_FILE, run)
    return run


def _probe(shop: _Workshop, network: nn.Module, pretrained: Pretrained) -> None:
    """Solve the head on frozen features of the training photographs and their mirror images."""
    photos = shop.dataset.splits["train"]
    network.eval()

    def both_ways(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(shop.device.type, torch.bfloat16, enabled=has_fast_bfloat16(shop.device)):
            return torch.stack([pooled_features(network, view) for view in (images, images.flip(2))], dim=1)

    pairs = apply_to(photos, both_ways, shop.settings.preprocess, shop.device, shop.reporter, "features")
    features = pairs.reshape(-1, pairs.shape[2])
    labels = labels_of(photos).repeat(2)
    classes = len(shop.dataset.classes)
    start = start_from(pretrained.head, features, labels, classes) if pretrained.head else None
    weight, bias = fit_head(features, labels, classes, start)
    head = head_of(network)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))


def _opened(data: str, reporter: Reporter) -> Dataset:
    dataset = open_dataset(data, reporter=reporter)
    for warning in dataset.warnings:
        reporter.warn(warning)
    return dataset


def _readable(dataset: Dataset, reporter: Reporter) -> tuple[Dataset, int]:
    """Leave out photographs that cannot be decoded, naming each; return how many.

    Raises BadInputError when a class or a split that training needs has nothing left.
    """
    photos = [photo for split in SPLITS for photo in dataset.splits[split]]

    def broken(photo: Photograph) -> str:
        try:
            read(photo.path)
        except UnreadableImageError as error:
            return error.message
        return ""

    reasons: dict[Path, str] = {}
    with ThreadPoolExecutor(cores()) as pool, reporter.task("checking photographs", len(photos)) as task:
        for photo, reason in zip(photos, pool.map(broken, photos), strict=True):
            task.advance()
            if reason:
                reasons[photo.path] = reason
                reporter.warn(f"skipped: {reason}")
    if reasons:
        reporter.warn(f"{len(reasons)} of {len(photos)} photographs are unreadable and left out")
    splits = {
        split: tuple(photo for photo in dataset.splits[split] if photo.path not in reasons) for split in SPLITS
    }
    left = {photo.label for photo in splits["train"]}
    empty = [name for index, name in enumerate(dataset.classes) if index not in left]
    if empty:
        names = ", ".join(empty[:5])
        raise BadInputError(f"no readable training photograph of: {names}", "Add photographs or remove the class.")
    for split in ("val", "test"):
        if not splits[split]:
            raise BadInputError(
                f"too few photographs: none of {len(photos)} is left for {split}",
                f"Add photographs, or put some into {split}/CLASS/ beside train/CLASS/.",
            )
    if len(splits["val"]) < FEW_VALIDATION:
        reporter.warn(f"only {len(splits['val'])} validation photographs: the choice of the best epoch is rough")
    return replace(dataset, splits=splits), len(reasons)


def _write_splits(out: Path, dataset: Dataset) -> None:
    document = {
        split: [
            SplitFile(photo.name, photo.sha256, dataset.classes[photo.label]) for photo in dataset.splits[split]
        ]
        for split in SPLITS
    }
    files.write_json(out / SPLITS_FILE, document)


def _describe_data(dataset: Dataset, skipped: int) -> DataRecord:
    return DataRecord(
        name=dataset.name,
        path=str(dataset.root),
        classes=dataset.classes,
        counts={split: len(dataset.splits[split]) for split in SPLITS},
        skipped=skipped,
        sha256=dataset.sha256,
        split_sha256={split: dataset.split_sha256(split) for split in SPLITS},
        licences=dataset.licences,
    )
