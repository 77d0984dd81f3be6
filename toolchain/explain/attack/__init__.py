"""Pictures that fool a network, by its own gradients.

FGSM is one step along the gradient's signs (Goodfellow, Shlens, Szegedy: *Explaining and Harnessing Adversarial
Examples*, 2015); PGD takes several smaller ones from a random start and comes back within the budget after each
(Madry et al.: *Towards Deep Learning Models Resistant to Adversarial Attacks*, 2018). Both climb the cross-entropy.
Here the steps add up without rounding, while every gradient is that of a picture of bytes (`whole_pixels`): the
best picture that the network was asked about is the one that is saved.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from toolchain.errors import BadInputError
from toolchain.explain.attack.rounding import Norm, length, project, round_within_budget
from toolchain.explain.torch_model import TorchModel
from toolchain.system.progress import Reporter, Silent

Method = Literal["fgsm", "pgd"]

BATCH = 16
FIRST_STEP = 0.5
"""The first step of PGD, as a share of the budget; they become smaller along half a cosine."""


@dataclass(frozen=True)
class AttackConfig:
    """How a network is attacked: `steps` are those of PGD, `seed` draws where it starts.

    A picture is left alone once it is what was wanted by `enough` logits. Far ahead is what another network, or the
    same in int8, is fooled by too; so by default every picture gets all steps.
    """

    method: Method = "pgd"
    norm: Norm = "linf"
    steps: int = 10
    seed: int = 0
    enough: float = math.inf


@dataclass(frozen=True)
class Attacked:
    """What an attack made of pictures, in their order.

    `original` and `pixels` are uint8 [n, height, width, 3], `before` and `after` float32 [n, classes] probabilities
    of them, in that network. `leave` int64 [n] are the classes that the answer should not be, `target` int64 [n]
    those that it should be, or None. `margin` float32 [n] is by how many logits that is so (or not, below 0).
    """

    original: NDArray[np.uint8]
    pixels: NDArray[np.uint8]
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    leave: NDArray[np.int64]
    target: NDArray[np.int64] | None
    margin: NDArray[np.float32]

    @property
    def turned(self) -> NDArray[np.bool_]:
        """[n]: whether the answer is what was wanted: `target`, or without one, any but `leave`."""
        return self.margin > 0

    @property
    def change(self) -> NDArray[np.int16]:
        """What was added to `original`, int16 [n, height, width, 3]."""
        change: NDArray[np.int16] = self.pixels.astype(np.int16) - self.original.astype(np.int16)
        return change

    @property
    def largest(self) -> NDArray[np.int64]:
        """[n]: the most that a value changed, in 1/255."""
        largest: NDArray[np.int64] = np.abs(self.change).max((1, 2, 3)).astype(np.int64)
        return largest

    @property
    def length(self) -> NDArray[np.float64]:
        """[n]: the length of the change in L2, in 1/255."""
        lengths: NDArray[np.float64] = np.sqrt(np.square(self.change.astype(np.float64)).sum((1, 2, 3)))
        return lengths


def largest_budget(norm: Norm, height: int, width: int) -> int:
    """The budget that allows any picture."""
    return 255 if norm == "linf" else math.ceil(255 * math.sqrt(height * width * 3))


def attack(
    subject: TorchModel,
    pixels: NDArray[np.uint8],
    budget: int | Sequence[int],
    *,
    target: int | Sequence[int] | None = None,
    leave: Sequence[int] | None = None,
    manner: AttackConfig | None = None,
    reporter: Reporter | None = None,
) -> Attacked:
    """Change pictures within a budget so that the answer is `target`, or without one, not what it is now.

    `pixels` is uint8 [n, height, width, 3], what the network's preprocessing gives. `budget` is in steps of 1/255,
    one for all or one for each, and so is the class `target`. `leave` are the classes that the answer should not be
    any more, when those are not the present answers. Raises BadInputError for a budget or a manner that cannot be.
    """
    manner = manner or AttackConfig()
    count, height, width = pixels.shape[:3]
    budgets = np.broadcast_to(np.asarray(budget, np.int64), count)
    most = largest_budget(manner.norm, height, width)
    if count == 0 or budgets.min() < 0 or budgets.max() > most:
        raise BadInputError(f"a budget in {manner.norm} lies between 0 and {most}, in steps of 1/255")
    if manner.steps < 1:
        raise BadInputError(f"an attack takes at least 1 step, not {manner.steps}")
    targets = (
        None if target is None else torch.from_numpy(np.broadcast_to(np.asarray(target, np.int64), count).copy())
    )
    classes = None if leave is None else torch.from_numpy(np.asarray(leave, np.int64))
    parts = []
    with (reporter or Silent()).task("attacking", count) as task:
        for start in range(0, count, BATCH):
            rows = slice(start, start + BATCH)
            parts.append(
                _attack(
                    subject,
                    torch.from_numpy(pixels[rows].astype(np.float32)),
                    torch.from_numpy(budgets[rows].astype(np.float32))[:, None, None, None],
                    None if targets is None else targets[rows],
                    None if classes is None else classes[rows],
                    manner,
                )
            )
            task.advance(len(pixels[rows]))
    best, before, after, left, margins = (torch.cat(part) for part in zip(*parts, strict=True))
    return Attacked(
        original=pixels,
        pixels=best.numpy().astype(np.uint8),
        before=before.numpy(),
        after=after.numpy(),
        leave=left.numpy(),
        target=None if targets is None else targets.numpy(),
        margin=margins.numpy(),
    )


def _attack(
    subject: TorchModel,
    start: Tensor,
    budget: Tensor,
    target: Tensor | None,
    leave: Tensor | None,
    manner: AttackConfig,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One batch: (best pixels, probabilities before and after, classes to leave, margins)."""
    with torch.no_grad():
        logits = subject.logits(start)
    before = subject.probabilities_of(logits)
    leave = logits.argmax(1) if leave is None else leave
    best, best_logits, best_margin = start.clone(), logits.clone(), _margin(logits, target, leave)
    # Those that are not done yet, by their place in the batch; all that is named `here` belongs to them.
    places = torch.nonzero((best_margin < manner.enough) & (budget.flatten() > 0)).flatten()
    change = _first(start, budget, manner)[places]
    for step in range(manner.steps + 1 if manner.method == "pgd" else 2):
        if not len(places):
            break
        here, size = start[places], budget[places]
        wanted = None if target is None else target[places]
        tried = (here + round_within_budget(change, here, size, manner.norm)).requires_grad_()
        logits = subject.logits(tried)
        margin = _margin(logits.detach(), wanted, leave[places])
        # FGSM is its one step, whatever that does.
        better = (
            margin > best_margin[places] if manner.method == "pgd" else torch.ones_like(margin, dtype=torch.bool)
        )
        chosen = places[better]
        best[chosen], best_logits[chosen] = tried.detach()[better], logits.detach()[better]
        best_margin[chosen] = margin[better]
        if step == (manner.steps if manner.method == "pgd" else 1):
            break
        (slope,) = torch.autograd.grad(_height(logits, wanted, leave[places]), tried)
        share = 1.0 if manner.method == "fgsm" else FIRST_STEP * (1 + math.cos(math.pi * step / manner.steps)) / 2
        change = project(change + share * size * _direction(slope, manner.norm), here, size, manner.norm)
        going = best_margin[places] < manner.enough
        places, change = places[going], change[going]
    after = subject.probabilities_of(best_logits)
    return best, before, after, leave, best_margin


def _height(logits: Tensor, target: Tensor | None, leave: Tensor) -> Tensor:
    """What is climbed, summed over the batch: a picture's slope does not depend on the others."""
    if target is not None:
        return -cross_entropy(logits, target, reduction="sum")
    return cross_entropy(logits, leave, reduction="sum")


def _margin(logits: Tensor, target: Tensor | None, leave: Tensor) -> Tensor:
    """[n]: logits by which the answer is what is wanted."""
    wanted = leave if target is None else target
    own = logits.gather(1, wanted[:, None])[:, 0]
    others = logits.scatter(1, wanted[:, None], -math.inf).amax(1)
    return others - own if target is None else own - others


def _direction(slope: Tensor, norm: Norm) -> Tensor:
    return slope.sign() if norm == "linf" else slope / length(slope).clamp_min(1e-30)


def _first(start: Tensor, budget: Tensor, manner: AttackConfig) -> Tensor:
    """Where the attack starts: at the picture itself (FGSM), or at random within the budget (PGD).

    It is drawn from the seed and the picture, so that it is the same whatever else is in the batch.
    """
    if manner.method == "fgsm":
        return torch.zeros_like(start)
    drawn = []
    for picture in start:
        content = zlib.crc32(picture.numpy().astype(np.uint8).tobytes())
        rng = np.random.default_rng([manner.seed, content])
        if manner.norm == "linf":
            noise = rng.uniform(-1, 1, picture.shape)
        else:
            noise = rng.standard_normal(picture.shape)
            noise *= 0.5 / np.linalg.norm(noise)
        drawn.append(torch.from_numpy(noise.astype(np.float32)))
    return project(torch.stack(drawn) * budget, start, budget, manner.norm)
