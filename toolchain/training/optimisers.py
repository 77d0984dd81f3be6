"""What turns gradients into changed weights: the optimiser, and how its learning rate runs over the steps."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from toolchain.training.settings import Optimizer, Schedule, TrainSettings

MOMENTUM = 0.9
STEPS = (1.0, 0.1, 0.01)
"""`step`: shares of the learning rate in the first, second and last third of the training."""


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
