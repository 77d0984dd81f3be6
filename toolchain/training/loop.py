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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from toolchain.backbones import body_of, head_of, normalised
from toolchain.datasets import Photograph
from toolchain.preprocess import Image
from toolchain.progress import Reporter
from toolchain.runs import METRICS_FILE, Metrics
from toolchain.training.batches import augment, batches
from toolchain.training.checkpoint import Progress, load_state, save_state
from toolchain.training.environment import has_fast_bfloat16
from toolchain.training.probe import logit_adjustment
from toolchain.training.settings import Settings

WARM_UP_SHARE = 0.1
MAX_GRADIENT_NORM = 1.0

Judge = Callable[[nn.Module, str], Metrics]
"""Measures a network on validation; the text says what is being measured."""


@dataclass(frozen=True)
class Best:
    """The best epoch so far (0 is the linear probe) and its weights."""

    epoch: int
    score: tuple[float, float]
    state: dict[str, Tensor]


def score_of(metrics: Metrics) -> tuple[float, float]:
    """What is compared between epochs: top-1, and between equals the likelihood."""
    return metrics.top1, -metrics.nll


def fine_tune(
    network: nn.Module,
    photos: tuple[Photograph, ...],
    settings: Settings,
    device: torch.device,
    folder: Path,
    probe: Metrics,
    judge: Judge,
    reporter: Reporter,
) -> Best:
    """Train `network` in place from its probe; return the best of the probe and all epochs on validation.

    Each finished epoch is a line in `metrics.jsonl` and a checkpoint in `folder`; where there is one, it goes on
    from there. Everything random is drawn from (seed, epoch, photograph), so a resumed run equals an unbroken one.
    """
    if not settings.from_scratch:
        for block in list(body_of(network).children())[: -settings.trained_blocks]:
            block.requires_grad_(False)
    assert settings.learning_rate is not None
    classes = head_of(network).out_features
    labels_seen = np.array([photo.label for photo in photos])
    adjustment = torch.from_numpy(logit_adjustment(labels_seen, classes)).to(device)
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), settings.learning_rate, weight_decay=settings.weight_decay)
    average = copy.deepcopy(network)
    best = Best(0, score_of(probe), _copied(network))
    done = 0
    resumed = load_state(folder)
    if resumed:
        groups, progress = resumed
        network.load_state_dict(groups["network"])
        average.load_state_dict(groups["average"])
        optimizer.load_state_dict(_nested(optimizer, groups["optimizer"]))
        best = Best(progress.best_epoch, progress.best_score, groups["best"])
        done = progress.epochs_done
        reporter.say(f"resumed after epoch {done} of {settings.epochs}")
    _keep_lines(folder / METRICS_FILE, done)

    steps_an_epoch = math.ceil(len(photos) / settings.batch_size)
    low_precision = has_fast_bfloat16(device)
    for epoch in range(done + 1, settings.epochs + 1):
        started = time.perf_counter()
        torch.manual_seed(settings.seed * 100_003 + epoch)
        order = np.random.default_rng([settings.seed, epoch]).permutation(len(photos))
        shuffled = [photos[index] for index in order]

        def prepare(image: Image, index: int, epoch: int = epoch, order: np.ndarray = order) -> Image:
            rng = np.random.default_rng([settings.seed, epoch, int(order[index])])
            return augment(image, settings.preprocess, rng, settings.smallest_crop)

        # Frozen statistics of BatchNorm, but dropout before the head.
        network.train(settings.from_scratch)
        network.get_submodule("classifier").train()
        losses: list[float] = []
        with reporter.task(f"epoch {epoch}/{settings.epochs}", len(photos)) as task:
            for step, (images, labels) in enumerate(batches(shuffled, settings.batch_size, prepare)):
                at = ((epoch - 1) * steps_an_epoch + step) / (settings.epochs * steps_an_epoch)
                for group in optimizer.param_groups:
                    group["lr"] = settings.learning_rate * _schedule(at)
                with torch.autocast(device.type, torch.bfloat16, enabled=low_precision):
                    logits = network(normalised(images.to(device)))
                loss = cross_entropy(logits.float() + adjustment, labels.to(device))
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                nn.utils.clip_grad_norm_(trained.values(), MAX_GRADIENT_NORM)
                optimizer.step()
                _follow(average, network, settings.average_decay)
                losses.append(loss.item())
                task.advance(len(images), f"loss {np.mean(losses[-20:]):.3f}")
        metrics = judge(average, f"epoch {epoch}")
        if score_of(metrics) > best.score:
            best = Best(epoch, score_of(metrics), _copied(average))
        line = {
            "epoch": epoch,
            "loss": float(np.mean(losses)),
            "val_top1": metrics.top1,
            "val_per_class_top1": metrics.per_class_top1,
            "val_nll": metrics.nll,
            "seconds": round(time.perf_counter() - started, 3),
        }
        with (folder / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        groups = {"network": network.state_dict(), "average": average.state_dict(), "best": best.state}
        save_state(folder, {**groups, "optimizer": _flat(optimizer)}, Progress(epoch, best.epoch, best.score))
        reporter.say(f"epoch {epoch}: loss {line['loss']:.3f}, validation top-1 {metrics.top1:.3f}")
    return best


def _schedule(at: float) -> float:
    """Share of the learning rate at `at`, 0 to 1 of all steps: a linear rise, then half a cosine to zero."""
    if at < WARM_UP_SHARE:
        return at / WARM_UP_SHARE
    return 0.5 * (1 + math.cos(math.pi * (at - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)))


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    for mine, new in zip(average.parameters(), network.parameters(), strict=True):
        mine.lerp_(new, 1 - decay)
    for statistic, now in zip(average.buffers(), network.buffers(), strict=True):
        statistic.copy_(now)


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


def _keep_lines(path: Path, count: int) -> None:
    """Drop what an interrupted epoch may have left after the last checkpoint."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    path.write_text("".join(lines[:count]), encoding="utf-8")
