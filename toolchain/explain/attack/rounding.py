"""Changes that a file can hold: whole steps of 1/255, within a budget.

A picture is stored as bytes. Saving rounds every change to whole steps, and often loses what it did to the network.
So the network is only ever shown pictures of bytes here.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Norm = Literal["linf", "l2"]
"""How the size of a change is measured, in steps of 1/255: its largest value, or its L2 length."""

BISECTIONS = 18


def project(change: Tensor, pixels: Tensor, budget: Tensor, norm: Norm) -> Tensor:
    """The nearest change, unrounded, that is within the budget and keeps all values between 0 and 255.

    `change` and `pixels` are float32 [n, height, width, 3], `budget` float32 [n, 1, 1, 1].
    """
    if norm == "linf":
        change = torch.minimum(torch.maximum(change, -budget), budget)
    else:
        change = change * (budget / length(change).clamp_min(1e-12)).clamp_max(1)
    return torch.minimum(torch.maximum(change, -pixels), 255 - pixels)


def round_within_budget(change: Tensor, pixels: Tensor, budget: Tensor, norm: Norm) -> Tensor:
    """A change in whole steps, within the budget, in the direction of `change`; for shapes see `project`.

    A small L2 change that is spread over 150,000 values is less than half a step in each, and would be rounded to
    nothing. So it is stretched first, as far as the budget allows after rounding: the largest values become whole
    steps, and the others are dropped.
    """
    if norm == "l2":
        change = change * _stretch(change, budget)
    return torch.minimum(torch.maximum(change.round(), -pixels), 255 - pixels)


def length(change: Tensor) -> Tensor:
    """Length in L2, float32 [n, 1, 1, 1]."""
    return change.square().sum((1, 2, 3), keepdim=True).sqrt()


def _stretch(change: Tensor, budget: Tensor) -> Tensor:
    """The largest factor, [n, 1, 1, 1], with which `change` is within `budget` after rounding (by bisection)."""
    values = change[0].numel()
    low = torch.zeros_like(budget)
    # Rounding shortens a change by at most half the square root of its number of values.
    high = (budget + 0.5 * values**0.5) / length(change).clamp_min(1e-12)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        fits = length((change * middle).round()) <= budget
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return low
