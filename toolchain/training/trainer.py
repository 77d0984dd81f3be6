"""One epoch of fine-tuning: from pictures to changed weights, and their average."""

from __future__ import annotations

import copy
import time
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from toolchain.backbones.networks import (
    blocks_of,
    dropout_of,
    frozen_and_trained,
    head_of,
    hidden_of,
    normalised,
)
from toolchain.system.figures import fixed
from toolchain.training.context import TrainContext
from toolchain.training.environment import has_fast_bfloat16
from toolchain.training.features import labels_of
from toolchain.training.frozen import BATCH, Frozen
from toolchain.training.optimisers import optimiser_for, share_of_rate
from toolchain.training.precision import strided_depthwise_in_float32
from toolchain.training.probe import logit_adjustment
from toolchain.training.settings import TrainSettings
from toolchain.training.shown import Step, steps_of


class _Tail(nn.Module):
    """The trained blocks and the head, with a mask for its input instead of dropout's own chance."""

    def __init__(self, blocks: list[nn.Module], hidden: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.hidden = hidden
        self.head = head

    def forward(self, maps: Tensor, mask: Tensor) -> Tensor:
        features: Tensor = self.hidden(self.blocks(maps).mean((2, 3)))
        logits: Tensor = self.head(features * mask)
        return logits


class Trainer:
    """The network in training: its optimiser, and the exponential `average` of its weights.

    `seconds` is how long the last epoch's training took.
    """

    def __init__(self, network: nn.Module, job: TrainContext) -> None:
        settings = job.settings
        everything = len(blocks_of(network))
        count = everything if settings.from_scratch else min(settings.trained_blocks, everything)
        self._job = job
        self._low_precision = settings.precision == "auto" and has_fast_bfloat16(job.device)
        self._network = network
        start_head(head_of(network), settings)
        prefix, _ = frozen_and_trained(network, count)
        frozen = Frozen(prefix, settings.crop_shape, job.device, pooled=False)
        many = len(job.photos) * job.epochs if count < everything else 0
        on_cpu = job.device.type == "cpu"
        self._extract = frozen.extractor(many=many, exact=not self._low_precision) if on_cpu and many else None
        self._prefix = prefix
        tail = _Tail(blocks_of(network)[everything - count :], hidden_of(network), head_of(network))
        self._tail = job.team.parallel(tail, job.device)
        self._dropout = dropout_of(network).p if settings.dropout is None else settings.dropout
        self._trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._optimizer = optimiser_for(self._trained, settings)
        self.average = copy.deepcopy(network)
        self.seconds = 0.0
        labels = labels_of(job.photos)
        self._labels = torch.from_numpy(labels).to(job.device)
        classes = head_of(network).out_features
        self._adjustment, self._weights = _balance(labels, classes, settings, job.device)

    def epoch(self, epoch: int, epochs: int) -> tuple[float, float]:
        """Train for one epoch of `epochs`; return the mean loss and the last learning rate."""
        job, settings = self._job, self._job.settings
        assert settings.learning_rate is not None
        started = time.perf_counter()
        # Blocks that are not trained keep their statistics always: what they compute is compiled.
        self._network.eval()
        self._tail.train(settings.trains_statistics)
        steps = steps_of(len(job.photos), settings, epoch, job.team)
        losses: list[Tensor] = []
        rate = 0.0
        with self._numbers(), job.reporter.task(f"epoch {epoch}/{epochs}", len(job.photos)) as task:
            for number, (step, images) in enumerate(zip(steps, job.show(steps, epoch), strict=True)):
                at = (epoch - 1 + number / len(steps)) / epochs
                rate = settings.learning_rate * share_of_rate(settings.schedule, at, settings.warm_up)
                for group in self._optimizer.param_groups:
                    group["lr"] = rate
                losses.append(self._step(step, images, [settings.seed, epoch, number]))
                task.advance(step.size, f"loss {fixed(losses[-1].item(), 3)}" if job.device.type == "cpu" else "")
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
        if job.settings.clip_norm:
            nn.utils.clip_grad_norm_(self._trained, job.settings.clip_norm)
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
        if self._job.settings.trains_statistics:
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


def start_head(head: nn.Linear, settings: TrainSettings) -> None:
    """Give `head` the start that the settings ask for, in place; the linear probe is in it already.

    `random` is torch's own start, uniform within 1 / sqrt(features), drawn from the seed.
    """
    if settings.head_init == "probe":
        return
    with torch.no_grad():
        if settings.head_init == "zeros":
            head.weight.zero_()
            head.bias.zero_()
            return
        bound = head.in_features**-0.5
        rng = np.random.default_rng([settings.seed, 0])
        for parameter in (head.weight, head.bias):
            drawn = rng.uniform(-bound, bound, tuple(parameter.shape)).astype(np.float32)
            parameter.copy_(torch.from_numpy(drawn))


def _balance(
    labels: NDArray[np.int64], classes: int, settings: TrainSettings, device: torch.device
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


def _flat(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": tensor for index, entry in state.items() for key, tensor in entry.items()}


def _nested(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> dict[str, object]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
