"""From photographs to a run: linear probe, fine-tuning from that head, and the better of the two is kept.

A head that is trained first keeps a random one from wrecking the pretrained features (LP-FT, Kumar et al., ICLR
2022).
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from toolchain._version import __version__
from toolchain.artifact import FLOAT_FILE
from toolchain.backbones.networks import backbone_of, build, head_of
from toolchain.backbones.weights import Pretrained, load_pretrained
from toolchain.datasets import SPLITS, Dataset, Photograph
from toolchain.datasets.catalogue import DATASETS
from toolchain.datasets.index import by_reason
from toolchain.datasets.sampling import stratified
from toolchain.errors import BadInputError, EdgetlError
from toolchain.evaluation.calibration import HeldOut
from toolchain.images.cache import cache_folder
from toolchain.images.reader import Reader
from toolchain.runs import (
    LEFT_OUT_FILE,
    RUN_FILE,
    RUN_SCHEMA,
    SPLITS_FILE,
    WEIGHTS_FILE,
    CrossValidation,
    DataRecord,
    ModelRecord,
    Run,
    SplitFile,
    not_free,
    read_run,
)
from toolchain.system import claims, files, folders, strict
from toolchain.system.progress import Reporter, Silent
from toolchain.system.remaining import Whole, Work
from toolchain.training import checkpoint, on_device, shown
from toolchain.training.context import JUDGING, TRAINING, TrainContext, planned_epochs
from toolchain.training.environment import choose_device, describe_environment
from toolchain.training.evaluator import ENOUGH_VALIDATION, Evaluator, Judged
from toolchain.training.features import labels_of
from toolchain.training.folds import cross_validation, folds_for, out_of_fold
from toolchain.training.frozen import Floats, Frozen
from toolchain.training.history import read_lines
from toolchain.training.loop import Best, fine_tune
from toolchain.training.photographs import find_outliers, opened, readable
from toolchain.training.predictions import write_predictions
from toolchain.training.probe import fit_head, start_from
from toolchain.training.report import write_report
from toolchain.training.settings import TrainSettings
from toolchain.training.team import Team, joined

FEW = 16
"""Validation photographs on which the written `model.onnx` is compared with the network that was trained."""

FEW_TEST = 50
"""With fewer test photographs one of them is more than two points of accuracy: all are cross-validated."""


def finetune(
    settings: TrainSettings,
    out: Path,
    *,
    command: str = "",
    reporter: Reporter | None = None,
    deployable: bool = True,
) -> Run:
    """Train, evaluate, and write the run folder `out`; return what `run.json` says.

    With `deployable` a first `model.onnx` is left in it, which some seconds are spent on: `predict`, `camera` and
    `bench` run it at once; `export` measures it. Under `torchrun` all processes call this alike and share the work;
    `out` is the leader's.
    Raises BadInputError for data, weights or settings that cannot be used, and when `out` holds something already.
    """
    reporter = reporter or Silent()
    settings = _anchored(settings)
    device = choose_device(settings.device, reporter)
    with joined(device) as team, ExitStack() as stack:
        out = team.shared(out)
        if team.leads:
            if out.exists() and not out.is_dir():
                raise BadInputError(f"{out} is there already", "Choose another --out.")
            stack.enter_context(_working_in(out))
            if not claims.is_empty(out):
                raise not_free(out)
        teller = reporter if team.leads else Silent()
        return _run(settings, out, None, command, device, team, teller, deployable)


def resume(out: Path, *, command: str = "", reporter: Reporter | None = None, deployable: bool = True) -> Run:
    """Go on with an interrupted run where its last finished epoch ended; a finished run is returned as it is.

    Raises BadInputError when there is nothing to resume or the photographs have changed since.
    """
    if (out / RUN_FILE).exists():
        return read_run(out)
    reporter = reporter or Silent()
    stored, data_sha256 = checkpoint.load_settings(out)
    try:
        settings = strict.convert(stored, TrainSettings)
    except msgspec.ValidationError as error:
        raise BadInputError(
            f"the settings of {out} are of another version of edgetl: {error}", "Start the run again."
        ) from None
    if settings.data not in DATASETS and not Path(settings.data).is_dir():
        where = "" if Path(settings.data).is_absolute() else f" in {Path.cwd()}"
        raise BadInputError(
            f"{settings.data}, the photographs of {out}, is not{where or ' there'}",
            "Put them back, or (for a run of an earlier edgetl) go to the folder in which it was begun.",
        )
    device = choose_device(settings.device, reporter)
    with joined(device) as team, ExitStack() as stack:
        if team.leads:
            stack.enter_context(_working_in(out))
        if team.shared((out / RUN_FILE).exists()):
            return read_run(out)  # who worked in it before has finished meanwhile
        teller = reporter if team.leads else Silent()
        return _run(settings, out, data_sha256, command, device, team, teller, deployable)


def _anchored(settings: TrainSettings) -> TrainSettings:
    """The same with whole paths: a run can be resumed and exported from any folder."""
    data, weights, outliers = settings.data, settings.weights, settings.outliers
    return replace(
        settings,
        data=data if data in DATASETS else str(folders.expanded(data).absolute()),
        weights=str(Path(weights).absolute()) if Path(weights).is_file() else weights,
        outliers=None if outliers is None else str(Path(outliers).absolute()),
    )


def _working_in(out: Path) -> AbstractContextManager[None]:
    return claims.working_in(out, "training", "Wait until it has ended, or choose another --out.")


def _run(
    settings: TrainSettings,
    out: Path,
    data_sha256: str | None,
    command: str,
    device: torch.device,
    team: Team,
    reporter: Reporter,
    deployable: bool,
) -> Run:
    started = time.perf_counter()
    dataset = opened(settings, reporter)
    torch.manual_seed(settings.seed)
    network = build(settings.model, len(dataset.classes))
    pretrained = load_pretrained(network, settings.model, settings.weights)
    if pretrained.stripped:
        reporter.say(f"{pretrained.source}: names were taken without {pretrained.stripped!r} before them")
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    decoded = Reader(settings.preprocess, cache_folder() if settings.cache else None, reporter)
    dataset, skipped = readable(dataset, settings, decoded, team, reporter)
    if data_sha256 not in (None, dataset.sha256):
        raise BadInputError(
            f"the photographs of {settings.data} are not those that the run began with",
            "Put them back as they were, or start a new run; so too where an earlier version of edgetl began it.",
        )
    outliers = find_outliers(settings, dataset, decoded, reporter)
    decoded.tidy()
    reporter = Whole.of(reporter, _works(settings, dataset, len(outliers), team, deployable))
    shop = Evaluator(settings, dataset, outliers, decoded, device, team, reporter)
    if team.leads:
        out.mkdir(parents=True, exist_ok=True)
        checkpoint.save_settings(out, settings, dataset.sha256)
        _write_splits(out, dataset)
    shop.seconds["data"] = round(time.perf_counter() - started, 3)

    body = shop.body(network)
    with shop.timed("probe"):
        features = _probe(shop, network, body, pretrained)
        held = _out_of_fold(shop, features, pretrained)
    with shop.timed("evaluate"):
        judged = probe = shop.judged(network, body, "linear probe", held)
    reporter.say(f"linear probe: validation top-1 {probe.metrics['val'].top1:.3f}")
    with shop.timed("evaluate"):
        crossed = _cross_validation(shop, features, body, pretrained, probe.temperature)

    best: Best | None = None
    if not settings.probe_only:
        with shop.timed("finetune"):
            best = fine_tune(network, _job(shop, out, held), probe.metrics["val"])
        network.load_state_dict(best.state)
        if best.epoch:
            with shop.timed("evaluate"):
                judged = shop.judged(network, shop.body(network), f"epoch {best.epoch}", held)
            reporter.say(f"kept epoch {best.epoch}: validation top-1 {judged.metrics['val'].top1:.3f}")
        else:
            reporter.say("kept the linear probe: no epoch was better on validation")

    reporter.remaining(TRAINING, 0)
    reporter.remaining(JUDGING, 0)  # nothing of it where the probe is kept

    def write() -> Run:
        epoch = best.epoch if best else 0
        run = _described(shop, out, network.to("cpu"), pretrained, epoch, judged, probe, crossed, skipped, command)
        if deployable:
            with shop.timed("artifact"):
                _write_artifact(shop, out, run)
        shop.seconds["total"] = round(time.perf_counter() - started, 3)
        run = replace(run, timings_s=shop.seconds)
        answers = judged.answers(shop.dataset)
        write_predictions(out, shop.dataset, answers)
        write_report(out, run, read_lines(out), answers, decoded)
        files.write_json(out / RUN_FILE, run)
        return run

    return team.told(write)


def _works(settings: TrainSettings, dataset: Dataset, outliers: int, team: Team, deployable: bool) -> list[Work]:
    """What takes time in a run, in photographs; costs are those of MobileNetV2 on a CPU, the features being 1."""
    train, val, calibration, test = (len(team.share(dataset.splits[split])) for split in SPLITS)
    judged = val + test + outliers
    works = [Work("features", train + calibration, 1.0), Work("linear probe on *", judged, 1.3)]
    if not settings.probe_only:
        epochs = planned_epochs(settings, len(dataset.splits["train"]))
        works.append(Work(TRAINING, train * epochs, 8.0 if settings.from_scratch else 2.5))
        works.append(Work(JUDGING, val * epochs + judged, 1.3))
    return [*works, Work(f"writing {FLOAT_FILE}", 1, 500.0)] if deployable else works


def _job(shop: Evaluator, out: Path, held: HeldOut | None) -> TrainContext:
    photos = shop.dataset.splits["train"]
    if shop.device.type == "cuda" and on_device.fits(photos, shop.settings, shop.device):
        show = on_device.from_device(photos, shop.decoded, shop.settings, shop.device)
    else:
        show = shown.from_cache(photos, shop.decoded, shop.settings)
    judge = partial(shop.on_validation, out_of_fold=held)
    return TrainContext(photos, shop.settings, shop.device, out, show, judge, shop.team, shop.reporter)


def _taught(dataset: Dataset) -> tuple[Photograph, ...]:
    """What the linear probe is fitted on: photographs for training and for calibration.

    What int8 is calibrated on may teach: its promises are kept on val, which neither trains nor calibrates.
    """
    return dataset.splits["train"] + dataset.splits["calibration"]


def _probe(shop: Evaluator, network: nn.Module, body: Frozen, pretrained: Pretrained) -> Floats:
    """Solve the head on frozen features of photographs; return these, float32 [photographs, width]."""
    photos = _taught(shop.dataset)
    features = shop.features(body, photos)
    labels = labels_of(photos)
    classes = len(shop.dataset.classes)
    start = start_from(pretrained.head, features, labels, classes) if pretrained.head else None
    weight, bias = shop.team.told(lambda: fit_head(features, labels, classes, start))
    head = head_of(network)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    return features


def _out_of_fold(shop: Evaluator, features: Floats, pretrained: Pretrained) -> HeldOut | None:
    """What linear probes answer on training photographs out of fold, where validation alone is too small."""
    if len(shop.dataset.splits["val"]) >= ENOUGH_VALIDATION:
        return None
    photos, classes = _taught(shop.dataset), len(shop.dataset.classes)
    return shop.team.told(lambda: out_of_fold(features, photos, classes, pretrained.head, folds_for(len(photos))))


def _cross_validation(
    shop: Evaluator, features: Floats, body: Frozen, pretrained: Pretrained, temperature: float
) -> CrossValidation | None:
    """The linear probe over all photographs, if the settings ask for it or test is too small to tell anything."""
    splits = shop.dataset.splits
    if shop.settings.folds is None and len(splits["test"]) >= FEW_TEST:
        return None
    rest = splits["val"] + splits["test"]
    photos = _taught(shop.dataset) + rest
    everything = np.concatenate([features, shop.features(body, rest)])
    folds = min(shop.settings.folds or folds_for(len(photos)), len(photos))
    held = shop.team.told(
        lambda: out_of_fold(everything, photos, len(shop.dataset.classes), pretrained.head, folds)
    )
    return cross_validation(held, folds, temperature) if held else None


def _described(
    shop: Evaluator,
    out: Path,
    network: nn.Module,
    pretrained: Pretrained,
    best_epoch: int,
    judged: Judged,
    probe: Judged,
    crossed: CrossValidation | None,
    skipped: int,
    command: str,
) -> Run:
    """What `run.json` will say; the weights that it names are written."""
    settings, dataset = shop.settings, shop.dataset
    kept: Literal["probe", "finetune"] = "finetune" if best_epoch else "probe"
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    files.write_bytes(out / WEIGHTS_FILE, save(weights))
    return Run(
        schema=RUN_SCHEMA,
        edgetl_version=__version__,
        command=command,
        data=_describe_data(dataset, skipped),
        model=ModelRecord(
            name=backbone_of(network).name,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            weights=pretrained.source,
            weights_sha256=pretrained.sha256,
            weights_licence=pretrained.licence,
            sha256=files.sha256_of(out / WEIGHTS_FILE),
            kept=kept,
            best_epoch=best_epoch,
        ),
        preprocess=settings.preprocess,
        temperature=judged.temperature,
        reject=judged.rejection.reject,
        settings=asdict(settings),
        environment={**describe_environment(shop.device), "processes": shop.team.size},
        timings_s=shop.seconds,
        metrics=judged.metrics,
        probe_metrics=probe.metrics,
        rejection=judged.rejection,
        temperature_fit=judged.temperature_fit,
        cross_validation=crossed,
    )


def _write_artifact(shop: Evaluator, out: Path, run: Run) -> None:
    """Leave `model.onnx` in the run. What goes wrong with it must not cost the training: it is said."""
    val = shop.dataset.splits["val"]
    order = stratified([photo.label for photo in val], [photo.sha256 for photo in val])
    photos = [val[place] for place in order[:FEW]]
    with shop.reporter.task(f"writing {FLOAT_FILE}", 1) as task:
        try:
            from toolchain.export.exporting import write_unmeasured

            write_unmeasured(out, run, np.stack([shop.decoded.input(photo) for photo in photos]))
        except OSError:  # a full disk spoils the rest of the run as well
            raise
        except Exception as error:  # torch's exporter has types of its own
            reason = error.message if isinstance(error, EdgetlError) else f"{type(error).__name__}: {error}"
            shop.reporter.warn(f"{out / FLOAT_FILE} was not written ({' '.join(reason.split())[:200]})")
        task.advance()


def _write_splits(out: Path, dataset: Dataset) -> None:
    document = {
        split: [
            SplitFile(photo.name, photo.sha256, dataset.classes[photo.label]) for photo in dataset.splits[split]
        ]
        for split in SPLITS
    }
    files.write_json(out / SPLITS_FILE, document)
    files.write_json(out / LEFT_OUT_FILE, dataset.left_out)


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
        left_out={reason: len(names) for reason, names in by_reason(dataset.left_out).items()},
    )
