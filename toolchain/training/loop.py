"""The fine-tuning loop: all that happens between the linear probe and the weights that are kept.

What makes it gentle, unless the settings say otherwise: BatchNorm statistics stay those of the pretrained network,
all but the last blocks stay as they are, learning rates are small and fall to zero, and the exponential average of
the weights is what is judged. Random weights have nothing to be gentle with: there everything is trained.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, replace

from torch import Tensor, nn

from toolchain.runs import METRICS_FILE, Metrics
from toolchain.system.progress import EtaReporter
from toolchain.system.text import fixed
from toolchain.training.checkpoint import Progress, load_state, save_state
from toolchain.training.context import TRAINING, TrainContext
from toolchain.training.history import keep_lines, write_csv
from toolchain.training.trainer import Trainer


@dataclass(frozen=True)
class Best:
    """The best epoch so far (0 is the linear probe) and its weights."""

    epoch: int
    score: tuple[float, float]
    state: dict[str, Tensor]


def score_of(metrics: Metrics, probe: Metrics) -> tuple[float, float]:
    """What is compared between epochs: whether top-1 is as good as that of the probe, then the likelihood.

    Among a few hundred photographs the likelihood tells networks apart long before top-1 does, so of top-1 one
    standard error is forgiven: 2 points on 230 photographs, 0.3 on 10,000.
    """
    error = math.sqrt(probe.top1 * (1 - probe.top1) / probe.n)
    return float(metrics.top1 >= probe.top1 - error), -metrics.nll


def fine_tune(network: nn.Module, job: TrainContext, probe: Metrics) -> Best:
    """Train `network` in place from its probe; return the best of the probe and all epochs on validation.

    Each finished epoch is a line in `metrics.jsonl` and a checkpoint in the run's folder; where there is one, it
    goes on from there.
    """
    # The probe is kept before the trainer may put another head in its place.
    best = Best(0, score_of(probe, probe), _copied(network))
    trainer = Trainer(network, job)
    progress = Progress(0, 0, best.score, job.epochs, 0.0)
    resumed = job.team.told(lambda: load_state(job.folder))
    if resumed:
        groups, progress = resumed
        trainer.restore(groups)
        best = Best(progress.best_epoch, progress.best_score, groups["best"])
        job.reporter.say(f"resumed after epoch {progress.epochs_done} of {progress.epochs_planned}")
        _plan(progress, job)
    if job.team.leads:
        keep_lines(job.folder / METRICS_FILE, progress.epochs_done)

    while progress.epochs_done < progress.epochs_planned:
        started = time.perf_counter()
        epoch = progress.epochs_done + 1
        loss, rate = trainer.epoch(epoch, progress.epochs_planned)
        metrics = job.judge(trainer.average, f"epoch {epoch}")
        score = score_of(metrics, probe)
        if score > best.score:
            best = Best(epoch, score, _copied(trainer.average))
        seconds = time.perf_counter() - started
        # All processes must plan alike, so the leader's clock is what counts.
        elapsed = progress.seconds + job.team.shared(seconds)
        progress = Progress(epoch, best.epoch, best.score, progress.epochs_planned, elapsed)
        progress = replace(progress, epochs_planned=_planned(progress, job))
        _plan(progress, job)
        if job.team.leads:
            line = {
                "epoch": epoch,
                "loss": loss,
                "learning_rate": rate,
                "val_top1": metrics.top1,
                "val_per_class_top1": metrics.per_class_top1,
                "val_nll": metrics.nll,
                "seconds": round(seconds, 3),
                "images_per_s": round(len(job.photos) / trainer.seconds, 1),
            }
            with (job.folder / METRICS_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            write_csv(job.folder)
            save_state(job.folder, {**trainer.groups(), "best": best.state}, progress)
        job.reporter.say(f"epoch {epoch}: loss {fixed(loss, 3)}, validation top-1 {metrics.top1:.3f}")
    return best


def _plan(progress: Progress, job: TrainContext) -> None:
    """What a run that is resumed, cut to a time or stopped early still has before it."""
    if isinstance(job.reporter, EtaReporter):
        epochs = progress.epochs_planned - progress.epochs_done
        job.reporter.remaining(TRAINING, epochs * len(job.team.share(job.photos)))


def _planned(progress: Progress, job: TrainContext) -> int:
    """How many epochs there will be, now that one more is done."""
    done, planned = progress.epochs_done, progress.epochs_planned
    if job.patience and done - progress.best_epoch >= job.patience and done < planned:
        job.reporter.say(f"stopped early: no better epoch since epoch {progress.best_epoch}")
        return done
    if job.settings.max_minutes is not None:
        left = job.settings.max_minutes * 60 - progress.seconds
        possible = done + max(0, int(left / (progress.seconds / done)))
        if possible < planned:
            job.reporter.say(
                f"{possible} epochs instead of {planned} fit into {job.settings.max_minutes:g} minutes"
            )
            return possible
    return planned


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
