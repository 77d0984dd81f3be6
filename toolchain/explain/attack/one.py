"""The attack on one photograph: pictures saved, read back, and asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolchain.errors import BadInputError
from toolchain.explain.attack import AttackConfig, Attacked, attack, largest_budget
from toolchain.explain.attack.answering import Answering
from toolchain.explain.pictures import CroppedImage, as_png
from toolchain.explain.torch_model import TorchModel
from toolchain.images.preprocess import Image, read
from toolchain.system import files

BEFORE_FILE = "before.png"
AFTER_FILE = "after.png"
MIN_FILE = "smallest.png"

AT_ONCE = 4
"""Budgets that are tried in one batch."""
AHEAD = 0.1
"""Logits by which the answer must be what is wanted: other runtimes round a little differently."""


@dataclass(frozen=True)
class Said:
    """An answer."""

    label: str
    probability: float


@dataclass(frozen=True)
class Verdict:
    """What one network says to the saved files, read back through its own preprocessing.

    `turned`: its answer to the attacked picture is another than before. `reached`: it is the target; None without a
    target, or where the network has no class of that name. `smallest` is its answer at the smallest budget.
    """

    name: str
    device: str
    precision: str
    own: bool
    before: Said
    after: Said
    turned: bool
    reached: bool | None
    smallest: Said | None = None


@dataclass(frozen=True)
class Smallest:
    """`budget` in steps of 1/255 turned the answer, and `attacked` (of one picture) is how.

    `tried` are the budgets that were tried and whether they did, in the order of their size.
    """

    budget: int
    attacked: Attacked
    tried: dict[int, bool]


@dataclass(frozen=True)
class OneAttack:
    """An attacked photograph. `verdicts` begin with the attacked run in PyTorch."""

    photograph: Path
    target: str | None
    budget: int
    manner: AttackConfig
    placed: CroppedImage
    attacked: Attacked
    least: Smallest | None
    verdicts: tuple[Verdict, ...]

    @property
    def change(self) -> NDArray[np.int16]:
        """int16 [height, width, 3], in steps of 1/255."""
        change: NDArray[np.int16] = self.attacked.change[0]
        return change

    @property
    def magnified(self) -> int:
        """By how much the change can be multiplied to be seen without being cut off."""
        return max(1, 127 // max(1, int(np.abs(self.change).max())))

    @property
    def change_picture(self) -> Image:
        """The change, magnified, around middle grey."""
        shown: Image = np.clip(128 + self.change.astype(np.int32) * self.magnified, 0, 255).astype(np.uint8)
        return shown


def attack_photograph(
    subject: TorchModel,
    photograph: Path,
    budget: int,
    folder: Path,
    answering: Sequence[Answering],
    *,
    target: int | None = None,
    manner: AttackConfig | None = None,
) -> OneAttack:
    """Attack a photograph, look for the smallest budget too, write the pictures to `folder` and ask about them.

    Raises UnreadableImageError, and BadInputError where the answer is the target already.
    """
    manner = manner or AttackConfig()
    placed = CroppedImage.of(read(photograph), subject.preprocess)
    attacked = attack(subject, placed.pixels[None], budget, target=target, manner=manner)
    present = int(attacked.leave[0])
    if target == present:
        raise BadInputError(
            f"{photograph} is taken for {subject.labels[present]!r} already", "Choose another class as --target."
        )
    least = smallest(subject, placed.pixels, target=target, manner=manner)
    pictures = {BEFORE_FILE: placed.whole, AFTER_FILE: placed.with_pixels(attacked.pixels[0])}
    if least is not None:
        pictures[MIN_FILE] = placed.with_pixels(least.attacked.pixels[0])
    for name, picture in pictures.items():
        files.write_bytes(folder / name, as_png(picture))
    wanted = None if target is None else subject.labels[target]
    verdicts = tuple(_ask(one, [folder / name for name in pictures], wanted) for one in answering)
    return OneAttack(photograph, wanted, budget, manner, placed, attacked, least, verdicts)


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
                found[budget] = done[place]
        above = min((budget for budget, turned in tried.items() if turned), default=most + 1)
        below = max((budget for budget, turned in tried.items() if not turned and budget < above), default=0)
    if not found:
        return None
    return Smallest(above, found[above], dict(sorted(tried.items())))


def _ask(one: Answering, paths: Sequence[Path], target: str | None) -> Verdict:
    said = [_said(one, probabilities) for probabilities in one.probabilities(paths)]
    before, after = said[:2]
    reached = after.label == target if target in one.labels else None
    turned = before.label != after.label
    least = said[2] if len(said) > 2 else None
    return Verdict(one.name, one.device, one.precision, one.own, before, after, turned, reached, least)


def _said(one: Answering, probabilities: NDArray[np.float32]) -> Said:
    best = int(probabilities.argmax())
    return Said(one.labels[best], float(probabilities[best]))
