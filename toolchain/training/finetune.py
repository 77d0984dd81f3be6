"""From photographs to a run: linear probe, fine-tuning from that head, and the better of the two is kept.

A head that is trained first keeps a random one from wrecking the pretrained features (LP-FT, Kumar et al., ICLR
2022).
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import nn

from toolchain.artifact import FLOAT_FILE
from toolchain.backbones.networks import build, head_of, load_network, not_finite
from toolchain.backbones.weights import Pretrained, load_pretrained
from toolchain.datasets import SPLITS
from toolchain.datasets.catalogue import DATASETS
from toolchain.datasets.splits import stratified
from toolchain.errors import BadInputError, EdgetlError
from toolchain.evaluation.calibration import HeldOut
from toolchain.images.cache import cache_folder
from toolchain.images.reader import Reader
from toolchain.runs import RUN_FILE, Continuation, CrossValidation, Metrics, Run, not_free, read_run
from toolchain.runs.grouping import grouping_for
from toolchain.system import claims, files, folders
from toolchain.system.progress import EtaReporter, PlannedTask, Reporter, Silent
from toolchain.training import checkpoint
from toolchain.training.batches import training_batches
from toolchain.training.context import EVALUATION, REFIT, TRAINING, TrainContext, choose_device
from toolchain.training.evaluator import ENOUGH_VALIDATION, Evaluation, Evaluator, body_for, probe_features
from toolchain.training.features import Floats, Frozen, labels_of
from toolchain.training.loop import fine_tune
from toolchain.training.photographs import find_outliers, opened, readable
from toolchain.training.previous import Previous, taught_before, warn_of_seen
from toolchain.training.probe import cross_validation, fit_head, folds_for, out_of_fold, parts_of, start_from
from toolchain.training.records import describe_run, read_lines, write_predictions, write_splits, write_weights
from toolchain.training.report import write_report
from toolchain.training.settings import TrainSettings, read_stored
from toolchain.training.teacher import check_teacher
from toolchain.training.team import Team, joined
from toolchain.training.trainer import Trainer

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
        out = team.broadcast(lambda: out)
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
        settings = read_stored(stored)
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
        if team.broadcast((out / RUN_FILE).exists):
            return read_run(out)  # who worked in it before has finished meanwhile
        teller = reporter if team.leads else Silent()
        return _run(settings, out, data_sha256, command, device, team, teller, deployable)


def _anchored(settings: TrainSettings) -> TrainSettings:
    """The same with whole paths, and grouped as the run that it goes on from: it can be resumed from any folder."""
    data, weights, outliers, group_by = settings.data, settings.weights, settings.outliers, settings.group_by
    if group_by is None and settings.from_run is not None:
        group_by = grouping_for(data, Path(settings.from_run))
    return replace(
        settings,
        group_by=group_by,
        data=data if data in DATASETS else str(folders.expanded(data).absolute()),
        weights=str(Path(weights).absolute()) if Path(weights).is_file() else weights,
        outliers=None if outliers is None else str(Path(outliers).absolute()),
        teacher=tuple(str(Path(teacher).absolute()) for teacher in settings.teacher),
        from_run=None if settings.from_run is None else str(Path(settings.from_run).absolute()),
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
    previous = Previous.read(Path(settings.from_run)) if settings.from_run else None
    dataset = opened(settings, reporter, previous)
    if previous:
        previous.check(dataset, reporter)
    for teacher in settings.teacher:
        check_teacher(Path(teacher), dataset, reporter)
    network, pretrained = _pretrained(settings, len(dataset.classes), device)
    if previous:
        pretrained = replace(pretrained, licence=previous.licence)
    for remark in pretrained.remarks():
        reporter.say(remark)
    reader = Reader(settings.preprocess, cache_folder() if settings.cache else None, reporter)
    dataset, skipped = readable(dataset, settings, reader, team, reporter, previous)
    if data_sha256 not in (None, dataset.sha256):
        raise BadInputError(
            f"the photographs of {settings.data} are not those that the run began with",
            "Put them back as they were, or start a new run; so too where an earlier version of edgetl began it.",
        )
    seen = previous.taught if previous else taught_before(settings.weights, pretrained.sha256)
    warn_of_seen(dataset, seen, settings.weights, reporter)
    outliers = find_outliers(settings, dataset, reader, reporter)
    reader.tidy()
    context = TrainContext(
        settings,
        dataset,
        outliers,
        reader,
        device,
        team,
        out,
        reporter,
        previous=previous,
        seen=seen,
    )
    reporter = EtaReporter.of(reporter, _works(context, deployable))
    context = replace(context, reporter=reporter)
    if team.leads:
        out.mkdir(parents=True, exist_ok=True)
        checkpoint.save_settings(out, settings, dataset.sha256)
        write_splits(out, dataset)
        if previous:
            previous.write_earlier(out, dataset)
    context.seconds["data"] = round(time.perf_counter() - started, 3)

    body = body_for(network, context)
    with context.timed("probe"):
        features = _fit_probe(context, network, body, pretrained)
        evaluator = Evaluator(context, _out_of_fold(context, features, pretrained))
    with context.timed("evaluate"):
        kept = probe = evaluator.evaluate(network, "linear probe", body)
    reporter.say(f"linear probe: validation top-1 {probe.metrics['val'].top1:.3f}")
    with context.timed("evaluate"):
        crossed = _cross_validation(context, features, body, pretrained, probe.temperature)

    epoch = planned = 0
    if not settings.probe_only:
        with context.timed("finetune"):
            batches = training_batches(context)
            best = fine_tune(network, context, batches, evaluator.on_validation, probe.metrics["val"])
        network.load_state_dict(best.state)
        epoch, planned = best.epoch, best.planned
        if epoch:
            with context.timed("evaluate"):
                kept = evaluator.evaluate(network, f"epoch {epoch}")
            reporter.say(f"kept epoch {epoch}: validation top-1 {kept.metrics['val'].top1:.3f}")
        else:
            reporter.say("kept the linear probe: no epoch was better on validation")
    before_refit: dict[str, Metrics] = {}
    if settings.refit:
        with context.timed("refit"):
            again = _refit(context, evaluator, kept, epoch, planned)
        if again:
            before_refit = kept.metrics
            network, kept = again
    continuation = _compared(context, evaluator, kept)
    reporter.remaining(TRAINING, 0)
    reporter.remaining(REFIT, 0)
    reporter.remaining(EVALUATION, 0)  # nothing of it where the probe is kept

    def write() -> Run:
        network.to("cpu")
        sha256 = write_weights(out, network)
        run = describe_run(
            context,
            network,
            sha256,
            pretrained,
            epoch,
            kept,
            probe,
            crossed,
            skipped,
            command,
            before_refit=before_refit,
            continuation=continuation,
        )
        if deployable:
            with context.timed("artifact"):
                _write_artifact(context, run)
        context.seconds["total"] = round(time.perf_counter() - started, 3)
        run = replace(run, timings_s=context.seconds)
        answers = kept.answers(dataset)
        write_predictions(out, dataset, answers)
        write_report(out, run, read_lines(out), answers, reader)
        files.write_json(out / RUN_FILE, run)
        return run

    return team.broadcast(write)


def _pretrained(settings: TrainSettings, classes: int, device: torch.device) -> tuple[nn.Module, Pretrained]:
    """The network that training begins with, on `device`; the same each time."""
    torch.manual_seed(settings.seed)
    network = build(settings.model, classes)
    pretrained = load_pretrained(network, settings.model, settings.weights)
    return network.to(device, memory_format=torch.channels_last), pretrained  # type: ignore[call-overload]


def _refit(
    context: TrainContext, evaluator: Evaluator, kept: Evaluation, epoch: int, planned: int
) -> tuple[nn.Module, Evaluation] | None:
    """Train anew with validation photographs among the others, as far as `epoch`, the one that was the best.

    The learning rate falls as it did there, over `planned` epochs: a time limit makes them fewer.
    None where that diverges.
    """
    whole = context.with_validation
    refitted, pretrained = _pretrained(context.settings, context.classes, context.device)
    _fit_probe(whole, refitted, body_for(refitted, whole), pretrained)
    if epoch:
        trainer = Trainer(refitted, whole, training_batches(whole))
        for number in range(1, epoch + 1):
            trainer.epoch(number, planned, "refit: ")
        refitted.load_state_dict(trainer.average.state_dict())
    if not_finite(refitted.state_dict()):
        context.reporter.warn("refitting diverged: the network before is kept")
        return None
    evaluation = evaluator.after_refit(refitted, kept)
    context.reporter.say(f"refit on {len(whole.photos)} photographs, those of val included")
    return refitted, evaluation


def _compared(context: TrainContext, evaluator: Evaluator, kept: Evaluation) -> Continuation | None:
    """The network that was kept beside the one that training went on from, on the same photographs."""
    previous = context.previous
    if previous is None:
        return None
    with context.timed("evaluate"):
        network = load_network(previous.folder, previous.run).to(context.device)
        old = evaluator.logits_on_test(network, "the network before")
    labels = labels_of(context.dataset.splits["test"])
    return previous.compared(context.dataset, old, kept.logits["test"], labels)


def _works(context: TrainContext, deployable: bool) -> list[PlannedTask]:
    """What takes time in a run, in photographs; costs are those of MobileNetV2 on a CPU, the features being 1."""
    splits, team = context.dataset.splits, context.team
    train, val, calibration, test = (len(team.share(splits[split])) for split in SPLITS)
    evaluated = val + test + len(context.outliers)
    works = [PlannedTask("features", train + calibration, 1.0), PlannedTask("linear probe on *", evaluated, 1.3)]
    if context.previous:
        works.append(PlannedTask("the network before on test", test, 1.3))
    if not context.settings.probe_only:
        cost = (8.0 if context.settings.from_scratch else 2.5) + len(context.settings.teacher)
        works.append(PlannedTask(TRAINING, train * context.epochs, cost))
        works.append(PlannedTask(EVALUATION, val * context.epochs + evaluated, 1.3))
        if context.settings.refit:
            works.append(PlannedTask(REFIT, (train + calibration + val) * context.epochs, cost))
    return [*works, PlannedTask(f"writing {FLOAT_FILE}", 1, 500.0)] if deployable else works


def _fit_probe(context: TrainContext, network: nn.Module, body: Frozen, pretrained: Pretrained) -> Floats:
    """Solve the head on frozen features of photographs; return these, float32 [photographs, width]."""
    features = probe_features(context, body, context.probed)
    if not np.isfinite(features).all():
        raise BadInputError(
            f"with the weights {context.settings.weights} the network computes NaN or infinity",
            "The training that wrote them has diverged, or they are of another network; take others.",
        )
    labels, classes = labels_of(context.probed), context.classes
    start = start_from(pretrained.head, features, labels, classes, context.same) if pretrained.head else None
    balance = context.settings.balance
    weight, bias = context.team.broadcast(lambda: fit_head(features, labels, classes, start, balance))
    head = head_of(network)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    return features


def _out_of_fold(context: TrainContext, features: Floats, pretrained: Pretrained) -> HeldOut | None:
    """What linear probes answer on training photographs out of fold, where validation alone is too small."""
    if len(context.dataset.splits["val"]) >= ENOUGH_VALIDATION:
        return None
    if context.settings.from_scratch and not context.settings.probe_only:
        return None  # probes of random features tell nothing of the network that is trained
    photos = context.probed
    folds, balance = folds_for(len(photos)), context.settings.balance
    return context.team.broadcast(
        lambda: out_of_fold(
            features, photos, context.classes, pretrained.head, folds, balance, same=context.same, seen=context.seen
        )
    )


def _cross_validation(
    context: TrainContext, features: Floats, body: Frozen, pretrained: Pretrained, temperature: float
) -> CrossValidation | None:
    """The linear probe over all photographs, if the settings ask for it or test is too small to tell anything."""
    splits, wanted = context.dataset.splits, context.settings.folds
    if wanted is None and len(splits["test"]) >= FEW_TEST:
        return None
    rest = splits["val"] + splits["test"]
    photos = context.probed + rest
    everything = np.concatenate([features, probe_features(context, body, rest)])
    folds = min(wanted or folds_for(len(photos)), parts_of(photos))
    balance = context.settings.balance
    held = context.team.broadcast(
        lambda: out_of_fold(
            everything,
            photos,
            context.classes,
            pretrained.head,
            folds,
            balance,
            same=context.same,
            seen=context.seen,
        )
    )
    return cross_validation(held, folds, temperature) if held else None


def _write_artifact(context: TrainContext, run: Run) -> None:
    """Leave `model.onnx` in the run. A failure must not cost the training, so it is a warning."""
    val = context.dataset.splits["val"]
    order = stratified([photo.label for photo in val], [photo.sha256 for photo in val])
    photos = [val[place] for place in order[:FEW]]
    with context.reporter.task(f"writing {FLOAT_FILE}", 1) as task:
        try:
            from toolchain.export.exporting import write_unmeasured

            write_unmeasured(context.folder, run, np.stack([context.reader.input(photo) for photo in photos]))
        except OSError:  # a full disk spoils the rest of the run as well
            raise
        except Exception as error:  # torch's exporter has types of its own
            reason = error.message if isinstance(error, EdgetlError) else f"{type(error).__name__}: {error}"
            path = context.folder / FLOAT_FILE
            context.reporter.warn(f"{path} was not written ({' '.join(reason.split())[:200]})")
        task.advance()
