"""Changes of pictures that a file can hold: whole steps of 1/255, no larger than a budget.

A picture is stored as bytes. A change that lies between them is rounded away when it is saved, and with it, often,
all that it did to the network. So what is asked of the network here is always a picture of bytes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Norm = Literal["linf", "l2"]
"""How large a change is, in steps of 1/255: the most that any value changes, or the length of all together."""

BISECTIONS = 18


def project(change: Tensor, pixels: Tensor, budget: Tensor, norm: Norm) -> Tensor:
    """The nearest change, not rounded yet, that keeps to the budget and leaves values between 0 and 255.

    `change` and `pixels` are float32 [n, height, width, 3], `budget` float32 [n, 1, 1, 1].
    """
    if norm == "linf":
        change = torch.minimum(torch.maximum(change, -budget), budget)
    else:
        change = change * (budget / length(change).clamp_min(1e-12)).clamp_max(1)
    return torch.minimum(torch.maximum(change, -pixels), 255 - pixels)


def round_within_budget(change: Tensor, pixels: Tensor, budget: Tensor, norm: Norm) -> Tensor:
    """A change in whole steps, within the budget, that points where `change` does; shapes as `project` has them.

    A short change in L2, spread over 150,000 values, is less than half a step in each, and would be rounded to
    nothing. It is stretched first, as far as the budget goes once it is rounded: the largest values stay, as whole
    steps, and the rest is left out.
    """
    if norm == "l2":
        change = change * _stretch(change, budget)
    return torch.minimum(torch.maximum(change.round(), -pixels), 255 - pixels)


def length(change: Tensor) -> Tensor:
    """Length in L2, float32 [n, 1, 1, 1]."""
    return change.square().sum((1, 2, 3), keepdim=True).sqrt()


def _stretch(change: Tensor, budget: Tensor) -> Tensor:
    """The largest factor, [n, 1, 1, 1], by which rounded `change` keeps to `budget`: found by halving."""
    values = change[0].numel()
    low = torch.zeros_like(budget)
    # Rounding shortens by half the square root of the number of values at most.
    high = (budget + 0.5 * values**0.5) / length(change).clamp_min(1e-12)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        fits = length((change * middle).round()) <= budget
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return low
