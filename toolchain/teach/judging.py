"""How good a head is, told by heads that were not taught what they are asked: takes, and whole things.

Frames of one take are near-copies: a head that has seen half of them knows the other half. So each take is answered
by a head that was taught the others. What is none of the things is told from them by a threshold; the nearest that
there is to a thing that nobody has shown is one of the things themselves, before a head that was taught the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from toolchain.artifact.card import Reject
from toolchain.evaluation.calibration import HeldOut, fit_rejection, fit_temperature
from toolchain.evaluation.metrics import scores
from toolchain.evaluation.statistics import wilson_ci95
from toolchain.runs import Rejection, TemperatureFit
from toolchain.training.features import Floats
from toolchain.training.probe import fit_head, start_from

FOLDS = 5
"""Takes, and things, are left out in so many parts at most."""

LEAST_ACCEPTED = 0.8
"""The threshold accepts at least this share of the pictures of takes that were not taught."""

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Shown:
    """What was shown: features float32 [n, width], class labels [n], and which take of its class [n], from 0."""

    features: Floats
    labels: Labels
    takes: Labels

    def where(self, kept: NDArray[np.bool_]) -> Shown:
        """A part of it."""
        return Shown(self.features[kept], self.labels[kept], self.takes[kept])


@dataclass(frozen=True)
class Judgement:
    """`held` are answers to takes that were not taught, to the pictures `places`. Of `takes` takes, `right` were
    answered rightly by a camera with this `rejection`, counted in shares of their pictures. `by_class` is None for
    a class of which too few takes are there to know."""

    held: HeldOut | None
    places: NDArray[np.intp]
    right: float
    takes: int
    by_class: tuple[float | None, ...]
    temperature: float
    temperature_fit: TemperatureFit
    rejection: Rejection | None

    @property
    def top1(self) -> float | None:
        """Share of right answers to takes that were not taught, each take counting alike; None: not known."""
        return self.right / self.takes if self.takes else None

    @property
    def top1_ci95(self) -> tuple[float, float]:
        """Wilson's interval; what counts is the number of takes, since pictures of one take are near-copies."""
        return wilson_ci95(round(self.right), self.takes)


def fit(shown: Shown, classes: int, head: tuple[Tensor, Tensor] | None) -> tuple[Floats, Floats]:
    """Weight [classes, width] and bias [classes] of a head; `head` is the pretrained one that it starts from."""
    start = start_from(head, shown.features, shown.labels, classes) if head else None
    return fit_head(shown.features, shown.labels, classes, start)


def judge(shown: Shown, classes: int, head: tuple[Tensor, Tensor] | None, nothing: int | None) -> Judgement:
    """Judge what heads make of `shown`. `nothing` is the label of "nothing of these", if there is that class."""
    held, places = _untaught_takes(shown, classes, head)
    fitted = fit_temperature(held) if held is not None else None
    temperature = fitted.value if fitted else 1.0
    low, high = (fitted.low, fitted.high) if fitted else (temperature, temperature)
    record = TemperatureFit(low, high, val=0, out_of_fold=len(held) if held else 0)
    rejection = _rejection(shown, classes, head, nothing, held, temperature)
    by_class: list[float | None] = [None] * classes
    right, takes = 0.0, 0
    if held is not None:
        hits, own = _hits(held, rejection, nothing, temperature), shown.takes[places]
        for label in sorted(set(held.labels.tolist())):
            mine = held.labels == label
            shares = [float(hits[mine & (own == take)].mean()) for take in sorted(set(own[mine].tolist()))]
            by_class[label] = sum(shares) / len(shares)
            right, takes = right + sum(shares), takes + len(shares)
    return Judgement(held, places, right, takes, tuple(by_class), temperature, record, rejection)


def _hits(held: HeldOut, rejection: Rejection | None, nothing: int | None, temperature: float) -> NDArray[np.bool_]:
    """Which answers of a camera are right: bool [n]. "Not sure" is right before nothing of these alone."""
    sure = np.ones(len(held), bool)
    if rejection is not None:
        reject = rejection.reject
        sure = scores(reject.score, held.logits, temperature) >= reject.threshold
    answered = np.where(sure, held.logits.argmax(1), -1)
    hits = answered == held.labels
    if nothing is not None:
        hits |= (answered == -1) & (held.labels == nothing)
    return np.asarray(hits, np.bool_)


def _untaught_takes(
    shown: Shown, classes: int, head: tuple[Tensor, Tensor] | None
) -> tuple[HeldOut | None, NDArray[np.intp]]:
    """Answers to each take by a head that was taught others; the only take of a class is never left out."""
    single = np.array([shown.takes[shown.labels == label].max() == 0 for label in range(classes)])
    usable = ~single[shown.labels]
    folds = min(FOLDS, 1 + int(shown.takes.max()))
    logits = np.zeros((len(shown.labels), classes), np.float32)
    for fold in range(folds) if usable.any() else ():
        out = usable & (shown.takes % folds == fold)
        if out.any():
            weight, bias = fit(shown.where(~out), classes, head)
            logits[out] = shown.features[out] @ weight.T + bias
    places = np.flatnonzero(usable)
    return (HeldOut(logits[places], shown.labels[places]) if len(places) else None), places


def _rejection(
    shown: Shown,
    classes: int,
    head: tuple[Tensor, Tensor] | None,
    nothing: int | None,
    held: HeldOut | None,
    temperature: float,
) -> Rejection | None:
    """The threshold that tells things from others best; None where nothing is known about either."""

    def energy(logits: Floats) -> NDArray[np.float64]:
        return np.asarray(scores("energy", logits, temperature), np.float64)

    if held is None:
        weight, bias = fit(shown, classes, head)
        held = HeldOut(np.asarray(shown.features @ weight.T + bias, np.float32), shown.labels)
        known = False
    else:
        known = True
    of_things = (held.logits.argmax(1) == held.labels) & (held.labels != (-1 if nothing is None else nothing))
    others, refused = _unknown_things(shown, classes, head, nothing, energy)
    if not others or not of_things.any():
        return fit_rejection(held, held.logits, held.logits, None, temperature) if known else None
    things, strange = energy(held.logits[of_things]), np.concatenate(others)
    threshold = _between(things, strange)
    total = len(strange) + refused
    return Rejection(
        Reject("energy", threshold),
        {"val": float((things >= threshold).mean())},
        outliers=total,
        outliers_rejected=(float((strange < threshold).sum()) + refused) / total,
    )


def _unknown_things(
    shown: Shown,
    classes: int,
    head: tuple[Tensor, Tensor] | None,
    nothing: int | None,
    score: Callable[[Floats], NDArray[np.float64]],
) -> tuple[list[NDArray[np.float64]], int]:
    """Scores of things before heads that were not taught them, and how many pictures were nothing of these."""
    things = [label for label in range(classes) if label != nothing]
    parts = min(FOLDS, len(things))
    found: list[NDArray[np.float64]] = []
    refused = 0
    for part in range(parts):
        gone = things[part::parts]
        left = [label for label in range(classes) if label not in gone]
        if len(left) < 2:
            continue
        out = np.isin(shown.labels, gone)
        taught = shown.where(~out)
        position = np.full(classes, -1, np.int64)
        position[left] = np.arange(len(left))
        weight, bias = fit(Shown(taught.features, position[taught.labels], taught.takes), len(left), head)
        logits = np.asarray(shown.features[out] @ weight.T + bias, np.float32)
        named = np.ones(len(logits), bool) if nothing is None else logits.argmax(1) != position[nothing]
        refused += int((~named).sum())
        found.append(score(logits[named]))
    return [one for one in found if len(one)], refused


def _between(things: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """The threshold at which most things are above and most others below, both shares counting alike (Youden)."""
    values = np.unique(np.concatenate([things, others]))
    candidates = np.concatenate([[values[0] - 1.0], (values[1:] + values[:-1]) / 2])
    accepted = 1 - np.searchsorted(np.sort(things), candidates) / len(things)
    refused = np.searchsorted(np.sort(others), candidates) / len(others)
    worth = np.where(accepted >= LEAST_ACCEPTED, accepted + refused, -1.0)
    best = np.flatnonzero(worth >= worth.max() - 1e-9)
    return float(candidates[best[len(best) // 2]])


def order_of_takes(takes: Sequence[tuple[int, str]]) -> Labels:
    """For pairs of a label and the take's name: which take of its class it is, from 0, by first appearance."""
    seen: dict[int, dict[str, int]] = {}
    found = [seen.setdefault(label, {}).setdefault(take, len(seen[label])) for label, take in takes]
    return np.array(found, np.int64)
