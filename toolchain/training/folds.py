"""Cross-validation of the linear probe: every photograph answered by a head that was not fitted on it.

With sixty photographs, eight are left to validate on. They are all answered rightly, and tell nothing of how sure a
network may be. Out of fold, all sixty tell. A head on frozen features is solved in milliseconds: it costs little.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from toolchain.datasets import Photograph
from toolchain.datasets.splits import hash_fraction
from toolchain.evaluation.calibration import HeldOut
from toolchain.evaluation.metrics import measure
from toolchain.evaluation.statistics import wilson_ci95
from toolchain.runs import CrossValidation
from toolchain.training.features import labels_of
from toolchain.training.frozen import Floats
from toolchain.training.probe import fit_head, start_from

FOLDS = 10
FEW = 500
"""Photographs up to which ten folds cost nothing; above, five do."""


def folds_for(photographs: int) -> int:
    """How many folds so many photographs are worth."""
    return FOLDS if photographs <= FEW else FOLDS // 2


def assign(photos: Sequence[Photograph], folds: int) -> NDArray[np.int64]:
    """The fold of each photograph, int64 [n], by its content: classes are spread evenly, copies stay together."""
    found = np.zeros(len(photos), np.int64)
    by_label: dict[int, list[str]] = {}
    for photo in photos:
        by_label.setdefault(photo.label, []).append(photo.sha256)
    first = 0
    fold_of: dict[str, int] = {}
    for label in sorted(by_label):
        contents = sorted(set(by_label[label]) - fold_of.keys(), key=lambda sha256: hash_fraction(sha256, "fold"))
        # Small classes begin where the last one ended: all folds have as many photographs.
        fold_of |= {sha256: (first + rank) % folds for rank, sha256 in enumerate(contents)}
        first += len(contents)
    for index, photo in enumerate(photos):
        found[index] = fold_of[photo.sha256]
    return found


def out_of_fold(
    features: Floats,
    photos: Sequence[Photograph],
    classes: int,
    head: tuple[Tensor, Tensor] | None,
    folds: int,
) -> HeldOut | None:
    """What linear probes answer on photographs that they were not fitted on.

    `features` float32 [n, width] are those of `photos`; `head` is the pretrained one that probes start from. A
    photograph that is all of its class cannot be answered and is left out; None when that are all.
    """
    labels = labels_of(photos)
    fold = assign(photos, folds)
    logits = np.zeros((len(photos), classes), np.float32)
    answered = np.zeros(len(photos), bool)
    for number in range(folds):
        held = fold == number
        if not held.any() or len(np.unique(labels[~held])) < classes:
            continue
        taught, own = features[~held], labels[~held]
        start = start_from(head, taught, own, classes) if head else None
        weight, bias = fit_head(taught, own, classes, start)
        logits[held] = features[held] @ weight.T + bias
        answered |= held
    return HeldOut(logits[answered], labels[answered]) if answered.any() else None


def cross_validation(held: HeldOut, folds: int, temperature: float) -> CrossValidation:
    """Metrics of answers out of fold, at a `temperature` that was chosen elsewhere."""
    metrics = measure(held.logits, held.labels, temperature)
    return CrossValidation(folds, metrics, wilson_ci95(round(metrics.top1 * metrics.n), metrics.n))
