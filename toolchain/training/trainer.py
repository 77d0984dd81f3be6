"""One epoch of fine-tuning: from pictures to changed weights, and their average."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
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
from toolchain.system.text import fixed
from toolchain.training.batches import Batches, Step, steps_of
from toolchain.training.context import TrainContext, has_fast_bfloat16
from toolchain.training.crops import to_device
from toolchain.training.features import BATCH, Frozen, labels_of
from toolchain.training.probe import balancing
from toolchain.training.settings import Optimizer, Schedule, TrainSettings
from toolchain.training.teacher import WEIGHT, Teacher, distillation_loss

MOMENTUM = 0.9
STEPS = (1.0, 0.1, 0.01)
"""`step`: shares of the learning rate in the first, second and last third of the training."""


class _Tail(nn.Module):
    """The trained blocks and the head; dropout is a mask that is passed in, not drawn here."""

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

    def __init__(self, network: nn.Module, context: TrainContext, batches: Batches) -> None:
        settings = context.settings
        everything = len(blocks_of(network))
        count = everything if settings.from_scratch else min(settings.trained_blocks, everything)
        self._context = context
        self._batches = batches
        self._low_precision = settings.precision == "auto" and has_fast_bfloat16(context.device)
        self._network = network
        start_head(head_of(network), settings)
        prefix, _ = frozen_and_trained(network, count)
        frozen = Frozen(prefix, settings.crop_shape, context.device, pooled=False)
        many = len(context.photos) * context.epochs if count < everything else 0
        on_cpu = context.device.type == "cpu"
        self._extract = frozen.extractor(many=many, exact=not self._low_precision) if on_cpu and many else None
        self._prefix = prefix
        tail = _Tail(blocks_of(network)[everything - count :], hidden_of(network), head_of(network))
        self._tail = context.team.parallel(tail, context.device)
        self._teacher = Teacher([Path(one) for one in settings.teacher], context) if settings.teacher else None
        self._dropout = dropout_of(network).p if settings.dropout is None else settings.dropout
        self._trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._optimizer = optimiser_for(self._trained, settings)
        self.average: nn.Module = copy.deepcopy(network)
        self.seconds: float = 0.0
        labels = labels_of(context.photos)
        self._labels = torch.from_numpy(labels).to(context.device)
        classes = head_of(network).out_features
        adjustment, weights = balancing(labels, classes, settings.balance)
        self._adjustment = torch.from_numpy(adjustment).to(context.device)
        self._weights = torch.from_numpy(weights).to(context.device)

    def epoch(self, epoch: int, epochs: int, what: str = "") -> tuple[float, float]:
        """Train for one epoch of `epochs`; return the mean loss and the last learning rate.

        `what` stands before the epoch in what is reported.
        """
        context, settings = self._context, self._context.settings
        assert settings.learning_rate is not None
        started = time.perf_counter()
        # Blocks that are not trained always keep their statistics: they are compiled.
        self._network.eval()
        self._tail.train(settings.trains_statistics)
        steps = steps_of(len(context.photos), settings, epoch, context.team)
        losses: list[Tensor] = []
        rate = 0.0
        described = f"{what}epoch {epoch}/{epochs}"
        with self._convolutions(), context.reporter.task(described, len(context.photos)) as task:
            for number, (step, images) in enumerate(zip(steps, self._batches(steps, epoch), strict=True)):
                at = (epoch - 1 + number / len(steps)) / epochs
                rate = settings.learning_rate * share_of_rate(settings.schedule, at, settings.warm_up)
                for group in self._optimizer.param_groups:
                    group["lr"] = rate
                losses.append(self._step(step, images, [settings.seed, epoch, number]))
                task.advance(
                    step.size, f"loss {fixed(losses[-1].item(), 3)}" if context.device.type == "cpu" else ""
                )
        if settings.trains_statistics:
            # Each process has seen its share of the photographs, and all of them must go on with the same network.
            context.team.average(self._tail.buffers())
            self._copy_statistics()
        sums = context.team.all_gather([torch.stack(losses).sum().item()] if losses else [0.0])
        self.seconds = time.perf_counter() - started
        return float(np.sum(sums)) / len(steps), rate

    def _convolutions(self) -> AbstractContextManager[None]:
        if self._low_precision and self._context.device.type == "cpu":
            return strided_depthwise_in_float32(self._tail)
        return nullcontext()

    def _step(self, step: Step, images: Tensor, seed: list[int]) -> Tensor:
        """One optimiser step; return this process's part of the loss."""
        context = self._context
        labels = self._labels[to_device(step.mine, context.device)]
        mask = self._mask(step, seed)
        with torch.autocast(context.device.type, torch.bfloat16, enabled=self._low_precision):
            maps = self._maps(images)
            try:
                logits = self._tail(maps, mask)
            except ValueError:
                if len(step.mine) > 1:
                    raise
                # Of one picture that is pooled to a pixel, BatchNorm has nothing to take statistics of.
                self._tail.eval()
                logits = self._tail(maps, mask)
                self._tail.train(context.settings.trains_statistics)
        each = cross_entropy(
            logits.float() + self._adjustment,
            labels,
            self._weights,
            reduction="none",
            label_smoothing=context.settings.label_smoothing,
        )
        if self._teacher is not None:
            taught = distillation_loss(logits.float(), self._teacher.probabilities(images))
            each = (1 - WEIGHT) * each + WEIGHT * taught
        loss = step.weight * each.sum() / step.size
        self._optimizer.zero_grad(set_to_none=True)
        # Gradients are averaged over the processes, of which each holds its share of the batch.
        torch.autograd.backward(loss * context.team.size)
        if context.settings.max_grad_norm:
            nn.utils.clip_grad_norm_(self._trained, context.settings.max_grad_norm)
        self._optimizer.step()
        self._update_average()
        return loss.detach()

    @torch.no_grad()
    def _maps(self, images: Tensor) -> Tensor:
        """What enters the trained blocks, for uint8 images [batch, height, width, 3]."""
        if self._extract is None:
            maps: Tensor = self._prefix(normalised(to_device(images, self._context.device)))
            return maps
        parts = images.numpy()
        maps = torch.from_numpy(self._extract(parts[at : at + BATCH] for at in range(0, len(parts), BATCH)))
        return maps.to(memory_format=torch.channels_last)

    def _mask(self, step: Step, seed: list[int]) -> Tensor:
        """Dropout, drawn for the whole batch, so that it does not depend on how many processes share it."""
        width = head_of(self._network).in_features
        kept = np.random.default_rng(seed).random((step.size, width), np.float32)[step.rows] >= self._dropout
        return to_device(kept.astype(np.float32) / (1 - self._dropout), self._context.device)

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = self._context.settings.ema_decay
        for mine, new in zip(self.average.parameters(), self._network.parameters(), strict=True):
            if new.requires_grad:
                mine.lerp_(new, 1 - decay)

    @torch.no_grad()
    def _copy_statistics(self) -> None:
        """Statistics of BatchNorm are averages already: those of the weights' average are the network's own."""
        for statistic, now in zip(self.average.buffers(), self._network.buffers(), strict=True):
            statistic.copy_(now)

    def groups(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint must hold to continue from here."""
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
    """Initialise `head` in place as the settings say; the linear probe is in it already.

    `random` is torch's own initialisation, uniform within 1 / sqrt(features), drawn from the seed.
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


def _flat(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": tensor for index, entry in state.items() for key, tensor in entry.items()}


def _nested(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> dict[str, object]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}


def optimiser_for(parameters: Iterable[nn.Parameter], settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimiser that `settings` name, with torch's defaults where nothing else is said."""
    assert settings.learning_rate is not None
    kind: Optimizer = settings.optimizer
    rate, decay = settings.learning_rate, settings.weight_decay
    if kind == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=MOMENTUM, nesterov=True, weight_decay=decay)
    if kind == "rmsprop":
        return torch.optim.RMSprop(parameters, rate, weight_decay=decay)
    if kind == "adam":
        return torch.optim.Adam(parameters, rate, weight_decay=decay)
    return torch.optim.AdamW(parameters, rate, weight_decay=decay)


def share_of_rate(schedule: Schedule, at: float, warm_up: float) -> float:
    """Share of the learning rate at `at`, 0 to 1 of all steps: a linear rise during `warm_up`, then the schedule.

    `cosine` and `linear` fall to zero at the end, `step` to a tenth and a hundredth after a third and two thirds,
    `constant` stays.
    """
    if at < warm_up:
        return at / warm_up
    after = (at - warm_up) / (1 - warm_up)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * after))
    if schedule == "linear":
        return 1 - after
    if schedule == "step":
        return STEPS[min(int(after * len(STEPS)), len(STEPS) - 1)]
    return 1.0


@contextmanager
def strided_depthwise_in_float32(network: nn.Module) -> Iterator[None]:
    """Within the block, depthwise convolutions with a stride leave autocast and compute in float32.

    oneDNN has no fast gradient for them in bfloat16: 96 channels of 112 x 112 in batches of 32 take 195 ms forward
    and back, and 79 ms in float32 (two cores with AMX, torch 2.15). All others are faster in bfloat16.
    """
    slow = [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1 and max(module.stride) > 1
    ]
    for module in slow:
        module.forward = _in_float32(module.forward)  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        for module in slow:
            del module.forward


def _in_float32(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def precise(maps: Tensor) -> Tensor:
        with torch.autocast(maps.device.type, enabled=False):
            return forward(maps.float()).to(maps.dtype)

    return precise
