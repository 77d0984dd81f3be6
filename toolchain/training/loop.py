"""The fine-tuning loop: all that happens between the linear probe and the weights that are kept.

What makes it gentle: BatchNorm statistics stay those of the pretrained network, all but the last blocks stay as
they are, learning rates are small and fall to zero, and the exponential average of the weights is what is judged.
Random weights have nothing to be gentle with: there everything is trained.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from toolchain.backbones import blocks_of, dropout_of, frozen_and_trained, head_of, normalised
from toolchain.datasets import Photograph
from toolchain.progress import Reporter
from toolchain.runs import METRICS_FILE, Metrics
from toolchain.training.checkpoint import Progress, load_state, save_state
from toolchain.training.environment import has_fast_bfloat16
from toolchain.training.features import labels_of
from toolchain.training.frozen import BATCH, Frozen
from toolchain.training.history import keep_lines, write_csv
from toolchain.training.precision import strided_depthwise_in_float32
from toolchain.training.probe import logit_adjustment
from toolchain.training.settings import Settings
from toolchain.training.shown import Show, Step, steps_of
from toolchain.training.team import Team

WARM_UP_SHARE = 0.1
MAX_GRADIENT_NORM = 1.0

AUTO_PICTURES = 20_000
AUTO_EPOCHS = (4, 30)
"""`--epochs auto`: as many epochs as show this many pictures, between these."""

AUTO_PATIENCE = 4

Judge = Callable[[nn.Module, str], Metrics]
"""Measures a network on validation; the text says what is being measured."""


@dataclass(frozen=True)
class Job:
    """What is trained on what, and where: `show` makes the pictures of `photos` on `device`."""

    photos: tuple[Photograph, ...]
    settings: Settings
    device: torch.device
    folder: Path
    show: Show
    judge: Judge
    team: Team
    reporter: Reporter

    @property
    def epochs(self) -> int:
        """How many epochs are planned."""
        least, most = AUTO_EPOCHS
        return self.settings.epochs or min(max(round(AUTO_PICTURES / len(self.photos)), least), most)

    @property
    def patience(self) -> int:
        """How many epochs may pass without a better one; 0 for all of them."""
        return self.settings.patience or (0 if self.settings.epochs else AUTO_PATIENCE)


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


def fine_tune(network: nn.Module, job: Job, probe: Metrics) -> Best:
    """Train `network` in place from its probe; return the best of the probe and all epochs on validation.

    Each finished epoch is a line in `metrics.jsonl` and a checkpoint in the run's folder; where there is one, it
    goes on from there.
    """
    trainer = _Trainer(network, job)
    best = Best(0, score_of(probe, probe), _copied(network))
    progress = Progress(0, 0, best.score, job.epochs, 0.0)
    resumed = job.team.told(lambda: load_state(job.folder))
    if resumed:
        groups, progress = resumed
        trainer.restore(groups)
        best = Best(progress.best_epoch, progress.best_score, groups["best"])
        job.reporter.say(f"resumed after epoch {progress.epochs_done} of {progress.epochs_planned}")
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
        job.reporter.say(f"epoch {epoch}: loss {loss:.3f}, validation top-1 {metrics.top1:.3f}")
    return best


def _planned(progress: Progress, job: Job) -> int:
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


class _Tail(nn.Module):
    """The trained blocks and the head, with a mask for its input instead of dropout's own chance."""

    def __init__(self, blocks: list[nn.Module], head: nn.Linear) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.head = head

    def forward(self, maps: Tensor, mask: Tensor) -> Tensor:
        features: Tensor = self.blocks(maps).mean((2, 3))
        logits: Tensor = self.head(features * mask)
        return logits


class _Trainer:
    def __init__(self, network: nn.Module, job: Job) -> None:
        settings = job.settings
        everything = len(blocks_of(network))
        count = everything if settings.from_scratch else min(settings.trained_blocks, everything)
        self._job = job
        self._network = network
        prefix, _ = frozen_and_trained(network, count)
        frozen = Frozen(prefix, settings.crop_shape, job.device, pooled=False)
        many = len(job.photos) * job.epochs if count < everything else 0
        self._extract = frozen.extractor(many=many, exact=False) if job.device.type == "cpu" and many else None
        self._prefix = prefix
        tail = _Tail(blocks_of(network)[everything - count :], head_of(network))
        self._tail = job.team.parallel(tail, job.device)
        self._dropout = dropout_of(network).p
        self._trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        assert settings.learning_rate is not None
        self._optimizer = torch.optim.AdamW(
            self._trained, settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.average = copy.deepcopy(network)
        self.seconds = 0.0
        labels = labels_of(job.photos)
        self._labels = torch.from_numpy(labels).to(job.device)
        classes = head_of(network).out_features
        self._adjustment, self._weights = _balance(labels, classes, settings, job.device)
        self._low_precision = has_fast_bfloat16(job.device)

    def epoch(self, epoch: int, epochs: int) -> tuple[float, float]:
        """Train for one epoch of `epochs`; return the mean loss and the last learning rate."""
        job, settings = self._job, self._job.settings
        assert settings.learning_rate is not None
        started = time.perf_counter()
        # Frozen statistics of BatchNorm, except where there are none worth keeping.
        self._network.train(settings.from_scratch)
        steps = steps_of(len(job.photos), settings, epoch, job.team)
        losses: list[Tensor] = []
        rate = 0.0
        with self._numbers(), job.reporter.task(f"epoch {epoch}/{epochs}", len(job.photos)) as task:
            for number, (step, images) in enumerate(zip(steps, job.show(steps, epoch), strict=True)):
                rate = settings.learning_rate * _schedule((epoch - 1 + number / len(steps)) / epochs)
                for group in self._optimizer.param_groups:
                    group["lr"] = rate
                losses.append(self._step(step, images, [settings.seed, epoch, number]))
                task.advance(step.size, f"loss {losses[-1].item():.3f}" if job.device.type == "cpu" else "")
        sums = job.team.gathered([torch.stack(losses).sum().item()] if losses else [0.0])
        self.seconds = time.perf_counter() - started
        return float(np.sum(sums)) / len(steps), rate

    def _numbers(self) -> AbstractContextManager[None]:
        if self._low_precision and self._job.device.type == "cpu":
            return strided_depthwise_in_float32(self._tail)
        return nullcontext()

    def _step(self, step: Step, images: Tensor, seed: list[int]) -> Tensor:
        """One optimiser step; return this process's part of the loss."""
        job = self._job
        labels = self._labels[torch.from_numpy(step.mine).to(job.device)]
        mask = self._mask(step, seed)
        with torch.autocast(job.device.type, torch.bfloat16, enabled=self._low_precision):
            logits = self._tail(self._maps(images), mask)
        each = cross_entropy(
            logits.float() + self._adjustment,
            labels,
            self._weights,
            reduction="none",
            label_smoothing=job.settings.label_smoothing,
        )
        loss = step.weight * each.sum() / step.size
        self._optimizer.zero_grad(set_to_none=True)
        # Gradients are averaged over the processes, of which each holds its share of the batch.
        torch.autograd.backward(loss * job.team.size)
        nn.utils.clip_grad_norm_(self._trained, MAX_GRADIENT_NORM)
        self._optimizer.step()
        self._follow()
        return loss.detach()

    @torch.no_grad()
    def _maps(self, images: Tensor) -> Tensor:
        """What enters the trained blocks, for uint8 images [batch, height, width, 3]."""
        if self._extract is None:
            maps: Tensor = self._prefix(normalised(images.to(self._job.device)))
            return maps
        parts = images.numpy()
        maps = torch.from_numpy(self._extract(parts[at : at + BATCH] for at in range(0, len(parts), BATCH)))
        return maps.to(memory_format=torch.channels_last)

    def _mask(self, step: Step, seed: list[int]) -> Tensor:
        """Dropout, drawn for the whole batch, so that it does not depend on how many processes share it."""
        width = head_of(self._network).in_features
        kept = np.random.default_rng(seed).random((step.size, width), np.float32)[step.rows] >= self._dropout
        return torch.from_numpy(kept.astype(np.float32) / (1 - self._dropout)).to(self._job.device)

    @torch.no_grad()
    def _follow(self) -> None:
        decay = self._job.settings.average_decay
        for mine, new in zip(self.average.parameters(), self._network.parameters(), strict=True):
            if new.requires_grad:
                mine.lerp_(new, 1 - decay)
        if self._job.settings.from_scratch:
            for statistic, now in zip(self.average.buffers(), self._network.buffers(), strict=True):
                statistic.copy_(now)

    def groups(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint must hold to go on from here."""
        return {
            "network": self._network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": _flat(self._optimizer),
        }

    def restore(self, groups: dict[str, dict[str, Tensor]]) -> None:
        self._network.load_state_dict(groups["network"])
        self.average.load_state_dict(groups["average"])
        self._optimizer.load_state_dict(_nested(self._optimizer, groups["optimizer"]))


def _balance(
    labels: np.ndarray, classes: int, settings: Settings, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """What is added to logits in training [classes], and the weights of the classes' losses, if any."""
    adjustment = torch.zeros(classes)
    weights = None
    if settings.balance == "logit-adjustment":
        adjustment = torch.from_numpy(logit_adjustment(labels, classes))
    elif settings.balance == "weights":
        counts = np.maximum(np.bincount(labels, minlength=classes), 1)
        weights = torch.from_numpy((len(labels) / (classes * counts)).astype(np.float32)).to(device)
    return adjustment.to(device), weights


def _schedule(at: float) -> float:
    """Share of the learning rate at `at`, 0 to 1 of all steps: a linear rise, then half a cosine to zero."""
    if at < WARM_UP_SHARE:
        return at / WARM_UP_SHARE
    return 0.5 * (1 + math.cos(math.pi * (at - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)))


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}


def _flat(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": tensor for index, entry in state.items() for key, tensor in entry.items()}


def _nested(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> dict[str, object]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
