"""The smallest budget that turns an answer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from toolchain.explain.attack import AttackConfig, Attacked, attack, largest_budget
from toolchain.explain.torch_model import TorchModel

AT_ONCE = 4
"""Budgets that are tried in one batch."""
AHEAD = 0.1
"""Logits by which the answer must be what is wanted: other runtimes round a little differently."""


@dataclass(frozen=True)
class Smallest:
    """`budget` in steps of 1/255 turned the answer, and `attacked` (of one picture) is how.

    `tried` are the budgets that were tried and whether they did, in the order of their size.
    """

    budget: int
    attacked: Attacked
    tried: dict[int, bool]


def smallest(
    subject: TorchModel,
    picture: NDArray[np.uint8],
    *,
    target: int | None = None,
    manner: AttackConfig | None = None,
) -> Smallest | None:
    """Search whole budgets for the smallest that turns the answer to `picture`, uint8 [height, width, 3].

    Powers of two come first, then what lies between the largest that failed and the smallest that did not, a few at
    once; so a budget below one that failed is not tried. None where no budget does it.
    """
    manner = replace(manner or AttackConfig(), enough=AHEAD)
    most = largest_budget(manner.norm, picture.shape[0], picture.shape[1])
    powers = [2**power for power in range(most.bit_length()) if 2**power < most]
    found: dict[int, Attacked] = {}
    tried: dict[int, bool] = {}
    below, above = 0, most + 1
    while above - below > 1:
        if found:
            steps = min(AT_ONCE, above - below - 1)
            budgets = [below + (above - below) * step // (steps + 1) for step in range(1, steps + 1)]
        else:
            budgets = [budget for budget in (*powers, most) if budget > below][:AT_ONCE]
        pictures = np.repeat(picture[None], len(budgets), axis=0)
        done = attack(subject, pictures, budgets, target=target, manner=manner)
        for place, budget in enumerate(budgets):
            tried[budget] = bool(done.margin[place] >= AHEAD)
            if tried[budget]:
                found[budget] = one_of(done, place)
        above = min((budget for budget, turned in tried.items() if turned), default=most + 1)
        below = max((budget for budget, turned in tried.items() if not turned and budget < above), default=0)
    if not found:
        return None
    return Smallest(above, found[above], dict(sorted(tried.items())))


def one_of(attacked: Attacked, place: int) -> Attacked:
    """A single picture of several, as an attack on one."""
    rows = slice(place, place + 1)
    return Attacked(
        attacked.original[rows],
        attacked.pixels[rows],
        attacked.before[rows],
        attacked.after[rows],
        attacked.leave[rows],
        None if attacked.target is None else attacked.target[rows],
        attacked.margin[rows],
    )
