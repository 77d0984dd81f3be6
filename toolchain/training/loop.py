"""The fine-tuning loop: all that happens between the linear probe and the weights that are kept.

It is gentle unless the settings say otherwise: BatchNorm keeps the statistics of the pretrained network, only the
last blocks change, learning rates are small and fall to zero, and the exponential moving average of the weights is
evaluated. Random weights have nothing to preserve, so there everything is trained.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor, nn

from toolchain.backbones.networks import not_finite
from toolchain.errors import BadInputError
from toolchain.evaluation.statistics import standard_error
from toolchain.runs import CHECKPOINT_FOLDER, Metrics
from toolchain.system.progress import EtaReporter
from toolchain.system.text import fixed
from toolchain.training.batches import Batches
from toolchain.training.checkpoint import STATE_FILE, Progress, load_state, save_state
from toolchain.training.context import REFIT, TRAINING, TrainContext
from toolchain.training.records import append_line, keep_lines
from toolchain.training.trainer import Trainer

Judge = Callable[[nn.Module, str], Metrics | None]
"""Measures a network on validation, None where it answers NaN; the text says what is being measured."""


@dataclass(frozen=True)
class Best:
    """The best epoch so far (0 is the linear probe) and its weights. It was trained as one of `planned` epochs,
    by which the learning rate falls."""

    epoch: int
    score: tuple[float, float]
    state: dict[str, Tensor]
    planned: int


def score_of(metrics: Metrics, probe: Metrics) -> tuple[float, float]:
    """What is compared between epochs: whether top-1 is as good as that of the probe, then the likelihood.

    Among a few hundred photographs the likelihood tells networks apart long before top-1 does, so of top-1 one
    standard error is forgiven: 2 points on 230 photographs, 0.3 on 10,000. One photograph is forgiven in any
    case: where the probe is right on all of a few, the standard error is 0.
    """
    forgiven = max(standard_error(probe.top1, probe.n), 1.001 / probe.n)
    return float(metrics.top1 >= probe.top1 - forgiven), -metrics.nll


def fine_tune(network: nn.Module, context: TrainContext, batches: Batches, judge: Judge, probe: Metrics) -> Best:
    """Train `network` in place from its probe; return the best of the probe and all epochs on validation.

    `batches` makes what it is trained on, `judge` measures it on validation, where the probe reached `probe`.
    Each finished epoch is a line in `metrics.jsonl` and a checkpoint in the run's folder; where there is a
    checkpoint, training goes on from there.
    """
    # The probe is kept before the trainer may put another head in its place.
    best = Best(0, score_of(probe, probe), _copied(network), context.epochs)
    trainer = Trainer(network, context, batches)
    progress = Progress(0, 0, best.score, context.epochs, 0.0)
    resumed = context.team.broadcast(lambda: load_state(context.folder))
    if resumed:
        groups, progress = resumed
        _restore(trainer, groups, network, context)
        planned = progress.best_planned or progress.epochs_planned
        best = Best(progress.best_epoch, progress.best_score, groups["best"], planned)
        context.reporter.say(f"resumed after epoch {progress.epochs_done} of {progress.epochs_planned}")
        _plan(progress, context)
    if context.team.leads:
        keep_lines(context.folder, progress.epochs_done)

    while progress.epochs_done < progress.epochs_planned:
        started = time.perf_counter()
        epoch = progress.epochs_done + 1
        loss, rate = trainer.epoch(epoch, progress.epochs_planned)
        healthy = math.isfinite(loss) and not not_finite(trainer.average.state_dict())
        metrics = judge(trainer.average, f"epoch {epoch}") if healthy else None
        if metrics is None:
            context.reporter.warn(
                f"training diverged in epoch {epoch}: loss, weights or answers are no numbers any more. The best "
                "network before is kept; try a lower --learning-rate"
            )
            break
        score = score_of(metrics, probe)
        if score > best.score:
            best = Best(epoch, score, _copied(trainer.average), progress.epochs_planned)
        # All processes must plan alike, so the leader's clock is what counts.
        seconds = context.team.broadcast(partial(_since, started))
        elapsed = progress.seconds + seconds
        progress = Progress(epoch, best.epoch, best.score, progress.epochs_planned, elapsed, best.planned)
        progress = replace(progress, epochs_planned=_planned(progress, context))
        _plan(progress, context)
        if context.team.leads:
            line = {
                "epoch": epoch,
                "loss": loss,
                "learning_rate": rate,
                "val_top1": metrics.top1,
                "val_per_class_top1": metrics.per_class_top1,
                "val_nll": metrics.nll,
                "seconds": round(seconds, 3),
                "images_per_s": round(len(context.photos) / trainer.seconds, 1),
            }
            append_line(context.folder, line)
            save_state(context.folder, {**trainer.groups(), "best": best.state}, progress)
        context.reporter.say(f"epoch {epoch}: loss {fixed(loss, 3)}, validation top-1 {metrics.top1:.3f}")
    return best


def _since(started: float) -> float:
    return time.perf_counter() - started


def _plan(progress: Progress, context: TrainContext) -> None:
    """Tell the progress bar how much is left: resuming, a time limit and stopping early all change that."""
    if isinstance(context.reporter, EtaReporter):
        epochs = progress.epochs_planned - progress.epochs_done
        context.reporter.remaining(TRAINING, epochs * len(context.team.share(context.photos)))
        if context.settings.refit:
            again = progress.epochs_planned if epochs else progress.best_epoch
            context.reporter.remaining(REFIT, again * len(context.team.share(context.with_validation.photos)))


def _planned(progress: Progress, context: TrainContext) -> int:
    """How many epochs there will be, now that one more is done."""
    done, planned = progress.epochs_done, progress.epochs_planned
    if context.patience and done - progress.best_epoch >= context.patience and done < planned:
        context.reporter.say(f"stopped early: no better epoch since epoch {progress.best_epoch}")
        return done
    if context.settings.max_minutes is not None:
        # Refitting takes as many epochs again, each with more photographs.
        again = len(context.with_validation.photos) / len(context.photos) if context.settings.refit else 0.0
        fitting = context.settings.max_minutes * 60 / (progress.seconds / done * (1 + again))
        possible = max(done, int(fitting))
        if possible < planned:
            context.reporter.say(
                f"{possible} epochs instead of {planned} fit into {context.settings.max_minutes:g} minutes"
            )
            return possible
    return planned


def _restore(
    trainer: Trainer, groups: dict[str, dict[str, Tensor]], network: nn.Module, context: TrainContext
) -> None:
    """Let `trainer` go on from a checkpoint. Raises BadInputError where it is not of this network."""
    try:
        shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
        if {name: tensor.shape for name, tensor in groups["best"].items()} != shapes:
            raise KeyError("best")
        trainer.restore(groups)
    except (KeyError, RuntimeError, TypeError, ValueError):  # torch has no type of its own for it
        path = context.folder / CHECKPOINT_FOLDER / STATE_FILE
        hint = "Remove it to start again from the linear probe."
        raise BadInputError(f"{path} is damaged: tensors are missing, or are of another network", hint) from None


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
