"""The attack on one photograph: the smallest budget, and what each network says to the saved files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolchain.errors import BadInputError
from toolchain.explain.attack import AttackConfig, AttackResult, attack, largest_budget
from toolchain.explain.attack.victims import Victim
from toolchain.explain.pictures import CroppedImage, as_png
from toolchain.explain.torch_model import TorchModel
from toolchain.images.preprocess import Image
from toolchain.system import files

BEFORE_FILE = "before.png"
AFTER_FILE = "after.png"
MIN_FILE = "smallest.png"

AT_ONCE = 4
"""Budgets that are tried in one batch."""
CONFIDENCE = 0.1
"""Logits by which an attack must succeed: other runtimes round a little differently."""


@dataclass(frozen=True)
class Answer:
    """The class that a network names, and its probability."""

    label: str
    probability: float


@dataclass(frozen=True)
class Verdict:
    """What one network says to the saved files, which it reads through its own preprocessing.

    `turned`: its answer to the attacked picture differs from that to the original. `reached`: its answer is the
    target; None without a target, or if the network has no class of that name. `smallest` is its answer to the
    picture of the smallest budget.
    """

    name: str
    device: str
    precision: str
    own: bool
    before: Answer
    after: Answer
    turned: bool
    reached: bool | None
    smallest: Answer | None = None


@dataclass(frozen=True)
class SmallestBudget:
    """The smallest `budget`, in steps of 1/255, that turned the answer; `attacked` is the result, of one picture.

    `tried` tells for each budget that was tried, in order of size, whether it turned the answer.
    """

    budget: int
    attacked: AttackResult
    tried: dict[int, bool]


@dataclass(frozen=True)
class OneAttack:
    """An attacked photograph. The first of `verdicts` is that of the attacked network in PyTorch."""

    photograph: Path
    target: str | None
    budget: int
    config: AttackConfig
    placed: CroppedImage
    attacked: AttackResult
    least: SmallestBudget | None
    verdicts: tuple[Verdict, ...]


def attack_photograph(
    model: TorchModel,
    photograph: Path,
    picture: Image,
    budget: int,
    folder: Path,
    victims: Sequence[Victim],
    *,
    target: int | None = None,
    config: AttackConfig | None = None,
) -> OneAttack:
    """Attack `picture` with `budget` and with the smallest budget, and ask `victims` about both results.

    `photograph` is the file that it comes from. The results are written to `folder`. Raises BadInputError if the
    answer is the target already.
    """
    config = config or AttackConfig()
    placed = CroppedImage.of(picture, model.preprocess)
    attacked = attack(model, placed.pixels[None], budget, target=target, config=config)
    present = int(attacked.labels[0])
    if target == present:
        raise BadInputError(
            f"{photograph} is already taken for {model.labels[present]!r}", "Choose another class as --target."
        )
    least = smallest_budget(model, placed.pixels, target=target, config=config)
    if least is not None and least.budget <= budget:
        attacked = attacked.or_else(least.attacked)
    pictures = {BEFORE_FILE: placed.whole, AFTER_FILE: placed.with_pixels(attacked.pixels[0])}
    if least is not None:
        pictures[MIN_FILE] = placed.with_pixels(least.attacked.pixels[0])
    for name, picture in pictures.items():
        files.write_bytes(folder / name, as_png(picture))
    wanted = None if target is None else model.labels[target]
    verdicts = tuple(_ask(one, [folder / name for name in pictures], wanted) for one in victims)
    return OneAttack(photograph, wanted, budget, config, placed, attacked, least, verdicts)


def smallest_budget(
    model: TorchModel,
    picture: NDArray[np.uint8],
    *,
    target: int | None = None,
    config: AttackConfig | None = None,
) -> SmallestBudget | None:
    """Find the smallest whole budget that turns the answer to `picture`, uint8 [height, width, 3].

    Powers of two are tried first, then budgets between the largest that failed and the smallest that succeeded, a
    few in one batch. Budgets below one that failed are not tried. None if no budget is enough.
    """
    config = replace(config or AttackConfig(), confidence=CONFIDENCE)
    most = largest_budget(config.norm, picture.shape[0], picture.shape[1])
    powers = [2**power for power in range(most.bit_length()) if 2**power < most]
    found: dict[int, AttackResult] = {}
    tried: dict[int, bool] = {}
    below, above = 0, most + 1
    while above - below > 1:
        if found:
            steps = min(AT_ONCE, above - below - 1)
            budgets = [below + (above - below) * step // (steps + 1) for step in range(1, steps + 1)]
        else:
            budgets = [budget for budget in (*powers, most) if budget > below][:AT_ONCE]
        pictures = np.repeat(picture[None], len(budgets), axis=0)
        done = attack(model, pictures, budgets, target=target, config=config)
        for place, budget in enumerate(budgets):
            tried[budget] = bool(done.margin[place] >= CONFIDENCE)
            if tried[budget]:
                found[budget] = done[place]
        above = min((budget for budget, turned in tried.items() if turned), default=most + 1)
        below = max((budget for budget, turned in tried.items() if not turned and budget < above), default=0)
    if not found:
        return None
    return SmallestBudget(above, found[above], dict(sorted(tried.items())))


def _ask(one: Victim, paths: Sequence[Path], target: str | None) -> Verdict:
    said = [_said(one, probabilities) for probabilities in one.probabilities(paths)]
    before, after = said[:2]
    reached = after.label == target if target in one.labels else None
    turned = before.label != after.label
    least = said[2] if len(said) > 2 else None
    return Verdict(one.name, one.device, one.precision, one.own, before, after, turned, reached, least)


def _said(one: Victim, probabilities: NDArray[np.float32]) -> Answer:
    best = int(probabilities.argmax())
    return Answer(one.labels[best], float(probabilities[best]))
