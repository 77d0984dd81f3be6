"""Adversarial examples: pictures changed a little, by the network's own gradients, until it takes them for another.

FGSM is one step along the signs of the gradient (Goodfellow, Shlens, Szegedy: *Explaining and Harnessing
Adversarial Examples*, 2015). PGD takes several smaller steps from a random start, and projects the change back into
the budget after each (Madry et al.: *Towards Deep Learning Models Resistant to Adversarial Attacks*, 2018). Both
climb the cross-entropy.

A picture is stored as bytes. Saving rounds every change to whole steps of 1/255, and often loses what it did to the
network. So the change is kept unrounded here, but the network is only ever shown pictures of bytes
(`round_within_budget`), and the picture that is saved is the best one that it was shown.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from toolchain.errors import BadInputError
from toolchain.explain.torch_model import TorchModel

Method = Literal["fgsm", "pgd"]
Norm = Literal["linf", "l2"]
"""How the size of a change is measured, in steps of 1/255: its largest value, or its L2 length."""

BATCH = 16
BISECTIONS = 18
FIRST_STEP = 0.5
"""The first step of PGD, as a share of the budget; they become smaller along half a cosine."""


@dataclass(frozen=True)
class AttackConfig:
    """How a network is attacked. `steps` are those of PGD; `seed` draws its random start.

    An attack on a picture stops early once it has succeeded by `confidence` logits. By default no picture stops
    early: the further ahead, the more likely it fools other networks too, or the same one in int8.
    """

    method: Method = "pgd"
    norm: Norm = "linf"
    steps: int = 10
    seed: int = 0
    confidence: float = math.inf


@dataclass(frozen=True)
class AttackResult:
    """Attacked pictures, in the order in which they were given.

    `original` and `pixels` are uint8 [n, height, width, 3]; `before` and `after` are the network's probabilities
    for them, float32 [n, classes]. `labels`, int64 [n], are the classes that the answer should no longer be;
    `target`, int64 [n], those that it should become, or None. `margin`, float32 [n], is by how many logits the
    attack succeeded; it is below 0 where it did not.
    """

    original: NDArray[np.uint8]
    pixels: NDArray[np.uint8]
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    labels: NDArray[np.int64]
    target: NDArray[np.int64] | None
    margin: NDArray[np.float32]

    def __getitem__(self, place: int) -> AttackResult:
        """One of the pictures, as the result of an attack on that picture alone."""
        rows = slice(place, place + 1)
        return AttackResult(
            self.original[rows],
            self.pixels[rows],
            self.before[rows],
            self.after[rows],
            self.labels[rows],
            None if self.target is None else self.target[rows],
            self.margin[rows],
        )

    def or_else(self, smaller: AttackResult) -> AttackResult:
        """These pictures, and those of `smaller`, an attack on the same ones, where only that one succeeded.

        More budget is more freedom, but a larger step can overshoot what a smaller one finds.
        """
        other = ~self.turned & smaller.turned

        def choose(own: NDArray[Any], theirs: NDArray[Any]) -> NDArray[Any]:
            return np.where(other.reshape(-1, *[1] * (own.ndim - 1)), theirs, own)

        return replace(
            self,
            pixels=choose(self.pixels, smaller.pixels),
            after=choose(self.after, smaller.after),
            margin=choose(self.margin, smaller.margin),
        )

    @property
    def turned(self) -> NDArray[np.bool_]:
        """[n]: whether the attack succeeded: the answer is `target`, or without one, anything but `labels`."""
        return self.margin > 0

    @property
    def change(self) -> NDArray[np.int16]:
        """What was added to `original`, int16 [n, height, width, 3]."""
        change: NDArray[np.int16] = self.pixels.astype(np.int16) - self.original.astype(np.int16)
        return change

    @property
    def largest(self) -> NDArray[np.int64]:
        """[n]: by how much a value changed at most (L-infinity), in 1/255."""
        largest: NDArray[np.int64] = np.abs(self.change).max((1, 2, 3)).astype(np.int64)
        return largest

    @property
    def length(self) -> NDArray[np.float64]:
        """[n]: the L2 length of the change, in 1/255."""
        lengths: NDArray[np.float64] = np.sqrt(np.square(self.change.astype(np.float64)).sum((1, 2, 3)))
        return lengths


def largest_budget(norm: Norm, height: int, width: int) -> int:
    """The smallest budget that allows every picture."""
    return 255 if norm == "linf" else math.ceil(255 * math.sqrt(height * width * 3))


def attack(
    model: TorchModel,
    pixels: NDArray[np.uint8],
    budget: int | Sequence[int],
    *,
    target: int | Sequence[int] | None = None,
    labels: Sequence[int] | None = None,
    config: AttackConfig | None = None,
) -> AttackResult:
    """Change pictures within a budget until the answer is `target`, or without a target, until it is another.

    `pixels` is what the network's preprocessing gives, uint8 [n, height, width, 3]. `budget`, in steps of 1/255, is
    one number for all pictures or one for each, and so is the class `target`. `labels` are the classes that the
    answer should move away from; by default these are the present answers. Raises BadInputError for a budget or a
    number of steps that is out of range.
    """
    config = config or AttackConfig()
    count, height, width = pixels.shape[:3]
    budgets = np.broadcast_to(np.asarray(budget, np.int64), count)
    most = largest_budget(config.norm, height, width)
    if count == 0 or budgets.min() < 0 or budgets.max() > most:
        raise BadInputError(f"a budget in {config.norm} lies between 0 and {most}, in steps of 1/255")
    if config.steps < 1:
        raise BadInputError(f"an attack takes at least 1 step, not {config.steps}")
    targets = None
    if target is not None:
        targets = torch.from_numpy(np.broadcast_to(np.asarray(target, np.int64), count).copy())
    given = None if labels is None else torch.from_numpy(np.asarray(labels, np.int64))
    parts = []
    for start in range(0, count, BATCH):
        rows = slice(start, start + BATCH)
        parts.append(
            _attack(
                model,
                torch.from_numpy(pixels[rows].astype(np.float32)),
                torch.from_numpy(budgets[rows].astype(np.float32))[:, None, None, None],
                None if targets is None else targets[rows],
                None if given is None else given[rows],
                config,
            )
        )
    best, before, after, left, margins = (torch.cat(part) for part in zip(*parts, strict=True))
    return AttackResult(
        original=pixels,
        pixels=best.numpy().astype(np.uint8),
        before=before.numpy(),
        after=after.numpy(),
        labels=left.numpy(),
        target=None if targets is None else targets.numpy(),
        margin=margins.numpy(),
    )


def _attack(
    model: TorchModel,
    start: Tensor,
    budget: Tensor,
    target: Tensor | None,
    labels: Tensor | None,
    config: AttackConfig,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One batch: (best pixels, probabilities before and after, labels, margins)."""
    with torch.no_grad():
        logits = model.logits(start)
    before = model.probabilities_of(logits)
    labels = logits.argmax(1) if labels is None else labels
    best, best_logits, best_margin = start.clone(), logits.clone(), _margin(logits, target, labels)
    # The pictures that are still attacked, by their place in the batch.
    places = torch.nonzero((best_margin < config.confidence) & (budget.flatten() > 0)).flatten()
    change = _initial_change(start, budget, config)[places]
    for step in range(config.steps + 1 if config.method == "pgd" else 2):
        if not len(places):
            break
        here, size = start[places], budget[places]
        wanted = None if target is None else target[places]
        tried = (here + round_within_budget(change, here, size, config.norm)).requires_grad_()
        logits = model.logits(tried)
        margin = _margin(logits.detach(), wanted, labels[places])
        # PGD keeps the best picture so far; FGSM takes its one step, whatever comes of it.
        better = (margin > best_margin[places]) | (config.method == "fgsm")
        chosen = places[better]
        best[chosen], best_logits[chosen] = tried.detach()[better], logits.detach()[better]
        best_margin[chosen] = margin[better]
        if step == (config.steps if config.method == "pgd" else 1):
            break
        (gradient,) = torch.autograd.grad(_objective(logits, wanted, labels[places]), tried)
        share = 1.0 if config.method == "fgsm" else FIRST_STEP * (1 + math.cos(math.pi * step / config.steps)) / 2
        change = project(change + share * size * _step_direction(gradient, config.norm), here, size, config.norm)
        going = best_margin[places] < config.confidence
        places, change = places[going], change[going]
    after = model.probabilities_of(best_logits)
    return best, before, after, labels, best_margin


def _objective(logits: Tensor, target: Tensor | None, labels: Tensor) -> Tensor:
    """What the attack maximises, summed over the batch: a picture's gradient does not depend on the others."""
    if target is not None:
        return -cross_entropy(logits, target, reduction="sum")
    return cross_entropy(logits, labels, reduction="sum")


def _margin(logits: Tensor, target: Tensor | None, labels: Tensor) -> Tensor:
    """[n]: the logits by which the attack has succeeded; below 0 where it has not."""
    wanted = labels if target is None else target
    own = logits.gather(1, wanted[:, None])[:, 0]
    others = logits.scatter(1, wanted[:, None], -math.inf).amax(1)
    return others - own if target is None else own - others


def _step_direction(gradient: Tensor, norm: Norm) -> Tensor:
    return gradient.sign() if norm == "linf" else gradient / length(gradient).clamp_min(1e-30)


def _initial_change(start: Tensor, budget: Tensor, config: AttackConfig) -> Tensor:
    """Where the attack starts: at the picture itself (FGSM), or at a random change within the budget (PGD).

    The random change depends on the seed and the picture alone, not on what else is in the batch.
    """
    if config.method == "fgsm":
        return torch.zeros_like(start)
    drawn = []
    for picture in start:
        content = zlib.crc32(picture.numpy().astype(np.uint8).tobytes())
        rng = np.random.default_rng([config.seed, content])
        if config.norm == "linf":
            noise = rng.uniform(-1, 1, picture.shape)
        else:
            noise = rng.standard_normal(picture.shape)
            noise *= 0.5 / np.linalg.norm(noise)
        drawn.append(torch.from_numpy(noise.astype(np.float32)))
    return project(torch.stack(drawn) * budget, start, budget, config.norm)


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
