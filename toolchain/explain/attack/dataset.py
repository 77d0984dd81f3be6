"""Robust accuracy: how many photographs of a data set a network still names right when they are attacked.

The attacked pictures are made with the gradients of the float run. All networks are asked about the same pictures,
each through its own preprocessing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from toolchain.datasets import SPLITS, Dataset, Photograph
from toolchain.datasets.index import describe_left_out
from toolchain.datasets.splits import stratified
from toolchain.errors import BadInputError, UnreadableImageError
from toolchain.evaluation.metrics import accuracy
from toolchain.evaluation.overlap import seen_photographs
from toolchain.explain.attack import AttackConfig, AttackResult, attack
from toolchain.explain.attack.victims import Victim
from toolchain.explain.pictures import CroppedImage
from toolchain.explain.torch_model import TorchModel
from toolchain.images.reader import whole
from toolchain.runs.grouping import open_as_trained
from toolchain.system.progress import Reporter

EXAMPLES = 3
"""Chunks from which one picture for each budget is kept, to be looked at."""
CHUNK = 8
"""Photographs that are attacked together. An interruption loses one chunk at most."""
CONFIDENCE = 10.0
"""An attack that has succeeded by so many logits stops early: it then fools int8 and other runtimes too."""


@dataclass(frozen=True)
class AttackRow:
    """What one network said to one photograph at one budget. `answering` is the network's place in the list.

    `label` is the photograph's class, `clean` the answer to the unchanged photograph. `largest` and `length` are
    the size of the change in L-infinity and in L2, in 1/255.
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
    """One network at one budget. Shares are fractions; `top1` is the accuracy on all `n` attacked photographs.

    `n_right` photographs were answered right before the attack. Of these, `turned` is the share that is answered
    wrong now, and `target` the share that is taken for the target. `transferred` is the same share (of the target,
    if there is one) among the pictures that fooled the attacked run in PyTorch. A network with other classes has no
    `top1`; its answer counts as wrong when it has changed. None: there was nothing to count.
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
    """An attacked photograph to look at, in the size of the network's input."""

    photograph: str
    placed: CroppedImage
    attacked: AttackResult
    budget: int


@dataclass(frozen=True)
class DatasetAttack:
    """The results of attacks on a data set. `examples` are a few pictures to look at.

    `victims` are the networks that were asked, the attacked one first. `complete` is False after an interruption.
    """

    dataset: Dataset
    split: str
    limit: int
    config: AttackConfig
    budgets: tuple[int, ...]
    target: str | None
    victims: tuple[Victim, ...]
    rows: tuple[AttackRow, ...]
    curve: tuple[RobustnessPoint, ...]
    examples: tuple[Example, ...]
    complete: bool


def attack_dataset(
    model: TorchModel,
    data: str,
    budgets: Sequence[int],
    load_victims: Callable[[], Sequence[Victim]],
    *,
    run: Path | None = None,
    split: str = "test",
    limit: int = 0,
    target: int | None = None,
    config: AttackConfig | None = None,
    reporter: Reporter,
) -> DatasetAttack:
    """Attack photographs of the data set `data`, and ask the networks that `load_victims` returns about them.

    The first of these is the attacked network. `run` is the run of `model`: photographs that it has seen are left
    out, and so are those that cannot be read, with a warning. After an interruption, the results so far are
    returned, if there are any. Raises BadInputError if there is no photograph to attack.
    """
    config = config or AttackConfig()
    dataset = open_as_trained(data, [run] if run else [], reporter)
    for line in describe_left_out(one for one in dataset.left_out if one.lost):
        reporter.warn(f"{data}: {line}")
    photographs = sample(dataset, split, limit, model, run, target, reporter)
    victims = load_victims()
    rows: list[AttackRow] = []
    examples: list[Example] = []
    complete = True
    with reporter.task("attacking", len(photographs)) as task:
        try:
            for start in range(0, len(photographs), CHUNK):
                chunk = photographs[start : start + CHUNK]
                if readable := list(_read(chunk, model, reporter)):
                    more, pictures = _attack_chunk(model, victims, readable, budgets, target, config)
                    rows += more
                    if len(examples) < EXAMPLES * len(budgets):
                        examples += [one for one in pictures if one.budget]
                task.advance(len(chunk))
        except KeyboardInterrupt:
            if not rows:
                raise
            complete = False
    if not rows:
        raise BadInputError(f"none of {len(photographs)} photographs can be read", "Try `edgetl data check`.")
    wanted = None if target is None else model.labels[target]
    return DatasetAttack(
        dataset=dataset,
        split=split,
        limit=limit,
        config=config,
        budgets=tuple(budgets),
        target=wanted,
        victims=tuple(victims),
        rows=tuple(rows),
        curve=tuple(points(rows, victims, wanted)),
        examples=tuple(examples),
        complete=complete,
    )


def sample(
    dataset: Dataset,
    split: str,
    limit: int,
    model: TorchModel,
    run: Path | None,
    target: int | None,
    reporter: Reporter,
) -> list[tuple[Photograph, int]]:
    """At most `limit` photographs of `split` (0: all), each with the index of its class in `model.labels`.

    Classes take turns, so the choice is balanced for any `limit`. Photographs of the class `target` are left out,
    and so are those that the run was trained on or selected by. Raises BadInputError if nothing is left, or if the
    data set has classes that the network does not know.
    """
    if split not in SPLITS:
        raise BadInputError(f"unknown split {split!r}", f"Choose one of: {', '.join(SPLITS)}.")
    unknown = [name for name in dataset.classes if name not in model.labels]
    if unknown:
        raise BadInputError(
            f"{dataset.name} has classes that {model.name} does not know: {', '.join(unknown[:5])}",
            "Pass photographs of the classes that the run knows.",
        )
    seen = set() if run is None else seen_photographs(run)
    photographs = dataset.splits.get(split, ())
    labels = {place: model.labels.index(name) for place, name in enumerate(dataset.classes)}
    fresh = [photo for photo in photographs if photo.sha256 not in seen and labels[photo.label] != target]
    known = sum(photo.sha256 in seen for photo in photographs)
    if known:
        reporter.warn(f"left out: {known} of the {len(photographs)} photographs in {split}, which the run has seen")
    if not fresh:
        raise BadInputError(
            f"{dataset.name} has no photograph in {split} to attack", "Choose another --split, or other --data."
        )
    order = stratified([labels[photo.label] for photo in fresh], [photo.sha256 for photo in fresh])
    return [(fresh[place], labels[fresh[place].label]) for place in order[: limit or None]]


def _read(
    photographs: Sequence[tuple[Photograph, int]], model: TorchModel, reporter: Reporter
) -> Iterator[tuple[str, int, CroppedImage]]:
    for photo, label in photographs:
        try:
            placed = CroppedImage.of(whole(photo), model.preprocess)
        except UnreadableImageError as error:
            reporter.warn(f"skipped: {error.message}")
            continue
        yield photo.name, label, placed


def _attack_chunk(
    model: TorchModel,
    victims: Sequence[Victim],
    chunk: Sequence[tuple[str, int, CroppedImage]],
    budgets: Sequence[int],
    target: int | None,
    config: AttackConfig,
) -> tuple[list[AttackRow], list[Example]]:
    names, labels, places = zip(*chunk, strict=True)
    pixels = np.stack([placed.pixels for placed in places])
    clean = [one.probabilities([placed.whole for placed in places]).argmax(1) for one in victims]
    rows, examples = [], []
    config = replace(config, confidence=CONFIDENCE)
    smaller: AttackResult | None = None
    for budget in sorted(budgets):
        attacked = attack(model, pixels, budget, target=target, labels=labels, config=config)
        if smaller is not None and config.method == "pgd":  # FGSM is its one step, whatever a smaller one does
            attacked = attacked.or_else(smaller)
        smaller = attacked
        wholes = [placed.with_pixels(one) for placed, one in zip(places, attacked.pixels, strict=True)]
        for number, one in enumerate(victims):
            for place_, probabilities in enumerate(one.probabilities(wholes)):
                best = int(probabilities.argmax())
                rows.append(
                    AttackRow(
                        photograph=names[place_],
                        label=model.labels[labels[place_]],
                        budget=budget,
                        answering=number,
                        clean=one.labels[clean[number][place_]],
                        answer=one.labels[best],
                        probability=float(probabilities[best]),
                        largest=int(attacked.largest[place_]),
                        length=float(attacked.length[place_]),
                    )
                )
        examples.append(Example(names[0], places[0], attacked[0], budget))
    return rows, examples


def points(rows: Sequence[AttackRow], victims: Sequence[Victim], target: str | None) -> list[RobustnessPoint]:
    """The curve: a point for each network at each budget, in the order of `victims`."""
    budgets = sorted({row.budget for row in rows})
    fooled = {
        (row.photograph, row.budget)
        for row in rows
        if row.answering == 0
        and row.clean == row.label
        and (row.answer == target if target else row.answer != row.label)
    }
    found = []
    for number, one in enumerate(victims):
        for budget in budgets:
            here = [row for row in rows if row.answering == number and row.budget == budget]
            found.append(_point(one, budget, here, fooled, target))
    return found


def _point(
    one: Victim, budget: int, rows: Sequence[AttackRow], fooled: set[tuple[str, int]], target: str | None
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
