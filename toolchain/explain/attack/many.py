"""How much of its accuracy a network keeps under attack: pictures of a data set, budget after budget.

The pictures are made on the float run, with its gradients; all networks answer to the same ones, through their own
preprocessing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from toolchain.datasets import Photograph
from toolchain.errors import UnreadableImageError
from toolchain.evaluation.metrics import accuracy
from toolchain.explain.attack import AttackConfig, Attacked, attack
from toolchain.explain.attack.answering import Answering
from toolchain.explain.attack.smallest import one_of
from toolchain.explain.cropped_image import CroppedImage, place
from toolchain.explain.torch_model import TorchModel
from toolchain.images.preprocess import read
from toolchain.system.progress import Reporter

CHUNK = 8
"""Photographs that are attacked together; what is done is kept after each chunk."""
AHEAD = 10.0
"""Logits by which a picture is what was wanted when it is left alone: enough for int8 and other runtimes."""


@dataclass(frozen=True)
class AttackRow:
    """What one network said to one photograph at one budget. `answering` is its place in the list of networks.

    `label` is the photograph's, `clean` the answer to it unchanged. `largest` and `length` are those of the change,
    in 1/255.
    """

    photograph: str
    label: str
    budget: int
    answering: int
    clean: str
    answer: str
    probability: float
    largest: int
    length: float


@dataclass(frozen=True)
class RobustnessPoint:
    """One network at one budget. Shares are fractions; `top1` counts all `n` photographs, as they were attacked.

    Those that it answered right before the attack are `n_right`; `turned` is the share of these that it answers
    wrong now, `target` the share that it takes for the target. `transferred` is the same share (of the target, if
    there is one) among those that fooled the attacked run in PyTorch. Where a network has other classes, there is
    no `top1`, and an answer counts as wrong when it is another than before. None: there was nothing to count.
    """

    name: str
    device: str
    precision: str
    budget: int
    n: int
    top1: float | None
    top1_ci95: tuple[float, float] | None
    n_right: int
    turned: float | None
    target: float | None
    transferred: float | None


@dataclass(frozen=True)
class Example:
    """An attacked photograph to look at, in the network's size."""

    photograph: str
    placed: CroppedImage
    attacked: Attacked
    budget: int


def attack_many(
    subject: TorchModel,
    answering: Sequence[Answering],
    photographs: Sequence[tuple[Photograph, int]],
    budgets: Sequence[int],
    *,
    target: int | None = None,
    manner: AttackConfig | None = None,
    keep: Callable[[Sequence[AttackRow], Sequence[Example]], None],
    reporter: Reporter,
) -> None:
    """Attack `photographs`, each with its class in `subject.labels`, with every budget; hand rows to `keep` as they
    come, a chunk at a time, so that an interruption loses no more than one.

    Photographs that cannot be read are left out, with a warning. The first of `answering` is the attacked run.
    """
    manner = replace(manner or AttackConfig(), enough=AHEAD)
    with reporter.task("attacking", len(photographs)) as task:
        for start in range(0, len(photographs), CHUNK):
            chunk = photographs[start : start + CHUNK]
            read_ones = list(_read(chunk, subject, reporter))
            if read_ones:
                keep(*_attack_chunk(subject, answering, read_ones, budgets, target, manner))
            task.advance(len(chunk))


def _read(
    photographs: Sequence[tuple[Photograph, int]], subject: TorchModel, reporter: Reporter
) -> Iterator[tuple[str, int, CroppedImage]]:
    for photo, label in photographs:
        try:
            placed = place(read(photo.path), subject.preprocess)
        except UnreadableImageError as error:
            reporter.warn(f"skipped: {error.message}")
            continue
        yield photo.name, label, placed


def _attack_chunk(
    subject: TorchModel,
    answering: Sequence[Answering],
    chunk: Sequence[tuple[str, int, CroppedImage]],
    budgets: Sequence[int],
    target: int | None,
    manner: AttackConfig,
) -> tuple[list[AttackRow], list[Example]]:
    names, labels, places = zip(*chunk, strict=True)
    pixels = np.stack([placed.pixels for placed in places])
    clean = [one.probabilities([placed.whole for placed in places]).argmax(1) for one in answering]
    rows, examples = [], []
    for budget in budgets:
        attacked = attack(subject, pixels, budget, target=target, leave=labels, manner=manner)
        wholes = [placed.with_pixels(one) for placed, one in zip(places, attacked.pixels, strict=True)]
        for number, one in enumerate(answering):
            for place_, probabilities in enumerate(one.probabilities(wholes)):
                best = int(probabilities.argmax())
                rows.append(
                    AttackRow(
                        photograph=names[place_],
                        label=subject.labels[labels[place_]],
                        budget=budget,
                        answering=number,
                        clean=one.labels[clean[number][place_]],
                        answer=one.labels[best],
                        probability=float(probabilities[best]),
                        largest=int(attacked.largest[place_]),
                        length=float(attacked.length[place_]),
                    )
                )
        examples.append(Example(names[0], places[0], one_of(attacked, 0), budget))
    return rows, examples


def points(rows: Sequence[AttackRow], answering: Sequence[Answering], target: str | None) -> list[RobustnessPoint]:
    """The curve: a point for each network at each budget, in the order of `answering`."""
    budgets = sorted({row.budget for row in rows})
    fooled = {
        (row.photograph, row.budget)
        for row in rows
        if row.answering == 0
        and row.clean == row.label
        and (row.answer == target if target else row.answer != row.label)
    }
    found = []
    for number, one in enumerate(answering):
        for budget in budgets:
            here = [row for row in rows if row.answering == number and row.budget == budget]
            found.append(_point(one, budget, here, fooled, target))
    return found


def _point(
    one: Answering, budget: int, rows: Sequence[AttackRow], fooled: set[tuple[str, int]], target: str | None
) -> RobustnessPoint:
    knows = {row.label for row in rows} <= set(one.labels)
    right = [row for row in rows if not knows or row.clean == row.label]
    answers, labels = np.array([row.answer for row in rows]), np.array([row.label for row in rows])
    kept = accuracy(answers, labels) if knows else None
    aimed = target if target in one.labels else None
    meant = [row for row in right if (row.photograph, row.budget) in fooled]

    def share(among: Sequence[AttackRow], to_target: bool) -> float | None:
        if not among:
            return None
        return sum(row.answer == aimed if to_target else row.answer != row.clean for row in among) / len(among)

    return RobustnessPoint(
        name=one.name,
        device=one.device,
        precision=one.precision,
        budget=budget,
        n=len(rows),
        top1=kept.top1 if kept else None,
        top1_ci95=kept.top1_ci95 if kept else None,
        n_right=len(right),
        turned=share(right, False),
        target=share(right, True) if aimed else None,
        transferred=share(meant, aimed is not None),
    )
