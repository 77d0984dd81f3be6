"""The linear probe: a new head on frozen features, and its cross-validation.

With sixty photographs, eight are left to validate on. They are all answered rightly, and do not tell how sure a
network may be. Out of fold, all sixty do: each is answered by a head that was not fitted on it. A head on frozen
features is solved in milliseconds, so that costs little.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from toolchain.datasets import Photograph
from toolchain.datasets.shares import hash_fraction
from toolchain.evaluation.calibration import HeldOut
from toolchain.evaluation.metrics import log_softmax, measure, softmax
from toolchain.evaluation.statistics import wilson_ci95
from toolchain.runs import CrossValidation
from toolchain.training.features import Floats, labels_of
from toolchain.training.settings import Balance

L2 = 0.055
"""Chosen by cross-validation on the training photographs of the pets, for features of unit size."""

PRIOR_STRENGTH = 0.5
MAX_ITERATIONS = 50

ALWAYS_TAUGHT = -1
"""The fold of what every head is fitted on."""
FOLDS = 10
FEW = 500
"""Up to so many photographs ten folds cost next to nothing; with more of them, five are enough."""


def fit_head(
    features: Floats,
    labels: NDArray[np.int64],
    classes: int,
    start: Floats | None = None,
    balance: Balance = "logit-adjustment",
) -> tuple[Floats, Floats]:
    """Solve multinomial logistic regression with L-BFGS; return weight [classes, features] and bias [classes].

    `features` float32 [n, width], `labels` [n]. The penalty pulls the weights towards `start`
    [classes, width + 1] (bias last), or towards zero. By `balance`, class frequencies are partly taken out of the
    logits while fitting (logit adjustment, Menon et al., ICLR 2021), or rare classes weigh more, or neither.
    """
    n, width = features.shape
    size = np.float32(max(np.sqrt(np.square(features).mean()), 1e-12))
    # Centred features change nothing but the bias, and L-BFGS needs half the iterations.
    centre = features.mean(0)
    inputs = np.concatenate([(features - centre) / size, np.ones((n, 1), np.float32)], axis=1)
    targets = np.zeros((n, classes), np.float32)
    targets[np.arange(n), labels] = 1
    adjustment, weight_of = balancing(labels, classes, balance)
    targets *= weight_of[labels, None]
    units = np.append(np.full(width, size), 1).astype(np.float32)  # from weights on features to weights on inputs
    anchor = np.zeros((classes, width + 1), np.float32)
    if start is not None:
        anchor = start * units
        anchor[:, -1] += start[:, :-1] @ centre

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(classes, width + 1).astype(np.float32)
        log_probabilities = log_softmax(inputs @ weights.T + adjustment)
        away = weights - anchor
        away[:, -1] = 0
        value = -(targets * log_probabilities).sum() / n + 0.5 * L2 * (away**2).sum()
        wanted = np.exp(log_probabilities) * weight_of[labels, None]
        gradient = ((wanted - targets) / n).T @ inputs + L2 * away
        return float(value), gradient.ravel().astype(np.float64)

    solved = minimize(
        loss, anchor.ravel().astype(np.float64), jac=True, method="L-BFGS-B", options={"maxiter": MAX_ITERATIONS}
    )
    weights = solved.x.reshape(classes, width + 1).astype(np.float32) / units
    return weights[:, :-1], weights[:, -1] - weights[:, :-1] @ centre


def balancing(labels: NDArray[np.int64], classes: int, balance: Balance) -> tuple[Floats, Floats]:
    """What is added to the logits in training, and the weight of each class in the loss: float32 [classes] each.

    A weight is the mean number of photographs a class over that of the class, so that all classes weigh alike.
    """
    nothing, alike = np.zeros(classes, np.float32), np.ones(classes, np.float32)
    if balance == "logit-adjustment":
        return logit_adjustment(labels, classes), alike
    if balance == "weights":
        counts = np.maximum(np.bincount(labels, minlength=classes), 1)
        return nothing, (len(labels) / (classes * counts)).astype(np.float32)
    return nothing, alike


def logit_adjustment(labels: NDArray[np.int64], classes: int) -> Floats:
    """What is added to logits in training, float32 [classes]: half the log frequency of each class.

    To reach the same loss, the network has to be surer of rare classes; without the adjustment it then answers them
    more often.
    """
    frequency = np.bincount(labels, minlength=classes).astype(np.float32) / len(labels)
    return np.asarray(PRIOR_STRENGTH * np.log(np.maximum(frequency, 1e-6)), np.float32)


def start_from(
    head: tuple[Tensor, Tensor],
    features: Floats,
    labels: NDArray[np.int64],
    classes: int,
    same: Mapping[int, int] | None = None,
) -> Floats:
    """Start each class from the rows of an old head (weight, bias), as often as they answer its photographs.

    Labels that are classes of the old head, by name, start from the `same` class's row alone.

    Of the 37 breeds, 24 are classes of ImageNet: their rows are better than anything 30 photographs can teach. A
    class that ImageNet splits into many (dog) starts from their mean.
    Returns float32 [classes, width + 1], bias last; rows are centred, which changes no probability.
    """
    rows = torch.cat([head[0], head[1][:, None]], dim=1).numpy()
    rows = rows - rows.mean(0)
    answers = softmax(features @ rows[:, :-1].T + rows[:, -1])
    shares = np.stack([answers[labels == label].mean(0) for label in range(classes)])
    for label, row in (same or {}).items():
        shares[label] = np.eye(len(rows))[row]
    return np.asarray(shares @ rows, np.float32)


def folds_for(photographs: int) -> int:
    """How many folds to use for so many photographs."""
    return FOLDS if photographs <= FEW else FOLDS // 2


def assign(photos: Sequence[Photograph], folds: int) -> NDArray[np.int64]:
    """The fold of each photograph, int64 [n]. Copies stay together, and groups; classes are spread as evenly as
    these allow.
    """
    contents: dict[str, dict[int, set[str]]] = {}
    for photo in photos:
        contents.setdefault(_key(photo), {}).setdefault(photo.label, set()).add(photo.sha256)
    sizes = {key: {label: len(held) for label, held in of.items()} for key, of in contents.items()}
    # By classes. In each, large groups first: the small ones even out what these leave uneven.
    order = sorted(sizes, key=lambda key: (min(sizes[key]), -sum(sizes[key].values()), hash_fraction(key, "fold")))
    held = np.zeros((folds, 1 + max(photo.label for photo in photos)), np.int64)
    fold_of: dict[str, int] = {}
    first = label = 0
    for rank, key in enumerate(order):
        if min(sizes[key]) != label:
            # Small classes begin where the last one ended: all folds have as many photographs.
            first, label = rank, min(sizes[key])
        own = held[:, list(sizes[key])].sum(1)
        fold_of[key] = min(range(folds), key=lambda fold: (own[fold], (fold - first) % folds))
        for one, count in sizes[key].items():
            held[fold_of[key], one] += count
    return np.array([fold_of[_key(photo)] for photo in photos], np.int64)


def _alone(photos: Sequence[Photograph]) -> NDArray[np.bool_]:
    """Which photographs are the only one, or of the only group, of a class: without them it would not be known."""
    keys: dict[int, set[str]] = {}
    for photo in photos:
        keys.setdefault(photo.label, set()).add(_key(photo))
    alone = {key for of_class in keys.values() if len(of_class) == 1 for key in of_class}
    return np.array([_key(photo) in alone for photo in photos], bool)


def parts_of(photos: Sequence[Photograph]) -> int:
    """How many folds there can be at most: groups, and different photographs without one."""
    return len({_key(photo) for photo in photos})


def _key(photo: Photograph) -> str:
    return photo.group or photo.sha256


def out_of_fold(
    features: Floats,
    photos: Sequence[Photograph],
    classes: int,
    head: tuple[Tensor, Tensor] | None,
    folds: int,
    balance: Balance = "logit-adjustment",
    *,
    same: Mapping[int, int] | None = None,
    seen: Collection[str] = (),
) -> HeldOut | None:
    """What linear probes answer on photographs that they were not fitted on.

    `features` float32 [n, width] are those of `photos`; `head` is the pretrained one that probes start from,
    `same` as in `start_from`. Left out are the only photograph of its class, which cannot be answered, and those,
    by SHA-256, that `head` or the features were taught with (`seen`); None where that leaves none.
    """
    labels = labels_of(photos)
    logits, answered = logits_out_of_fold(features, photos, classes, head, folds, balance, same)
    answered &= [photo.sha256 not in seen for photo in photos]
    return HeldOut(logits[answered], labels[answered]) if answered.any() else None


def logits_out_of_fold(
    features: Floats,
    photos: Sequence[Photograph],
    classes: int,
    head: tuple[Tensor, Tensor] | None,
    folds: int,
    balance: Balance = "logit-adjustment",
    same: Mapping[int, int] | None = None,
) -> tuple[Floats, NDArray[np.bool_]]:
    """Logits [n, classes] of heads that were not fitted on the photograph, and which photographs have any [n]."""
    labels = labels_of(photos)
    fold = assign(photos, folds)
    fold[_alone(photos)] = ALWAYS_TAUGHT
    logits = np.zeros((len(photos), classes), np.float32)
    answered = np.zeros(len(photos), bool)
    for number in range(folds):
        held = fold == number
        if not held.any() or len(np.unique(labels[~held])) < classes:
            continue
        taught, own = features[~held], labels[~held]
        start = start_from(head, taught, own, classes, same) if head else None
        weight, bias = fit_head(taught, own, classes, start, balance)
        logits[held] = features[held] @ weight.T + bias
        answered |= held
    return logits, answered


def cross_validation(held: HeldOut, folds: int, temperature: float) -> CrossValidation:
    """Metrics of answers out of fold, at a `temperature` that was chosen elsewhere."""
    metrics = measure(held.logits, held.labels, temperature)
    return CrossValidation(folds, metrics, wilson_ci95(round(metrics.top1 * metrics.n), metrics.n))
