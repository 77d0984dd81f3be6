"""What logits are worth: probabilities, accuracy, agreement, calibration error. NumPy alone: a device has no SciPy.

Logits are float32 [n, classes], labels and answers are class numbers [n], and all shares are fractions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolchain.artifact.card import Score
from toolchain.evaluation.statistics import poisson_bounds, wilson_ci95
from toolchain.runs import CONFUSION_CLASSES, Metrics

BINS = 15
"""Bins of confidence, as Guo et al. (ICML 2017) use them."""

Logits = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]


def softmax(logits: Floats, temperature: float = 1.0) -> Any:
    """Probabilities over the last axis, in the type of `logits`."""
    scaled = logits / temperature
    powers = np.exp(scaled - scaled.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def log_softmax(logits: Floats, temperature: float = 1.0) -> Any:
    """Logarithms of the probabilities over the last axis, in the type of `logits`."""
    scaled = logits / temperature
    shifted = scaled - scaled.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def log_sum_exp(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(sum(exp(logits))) over the last axis, float64 [n]."""
    largest = logits.max(-1)
    found: NDArray[np.float64] = largest + np.log(np.exp(logits - largest[..., None]).sum(-1))
    return found


def log_odds(logits: Logits, class_index: int) -> NDArray[np.float64]:
    """How much the logit of one class is above those of all others together, float64 [n].

    Unlike a probability, it does not saturate where a network is sure.
    """
    others = np.delete(logits.astype(np.float64), class_index, axis=1)
    found: NDArray[np.float64] = logits[:, class_index] - log_sum_exp(others)
    return found


def scores(kind: Score, logits: Logits, temperature: float) -> NDArray[np.float64]:
    """How sure the network is that it sees one of its classes at all, float64 [n]; higher means surer.

    `max_probability` is the largest probability after `temperature` (Hendrycks and Gimpel, ICLR 2017); `energy` is
    temperature * log(sum(exp(logits / temperature))), the negative free energy (Liu et al., NeurIPS 2020).
    """
    scaled = logits.astype(np.float64) / temperature
    log_sum = log_sum_exp(scaled)
    return np.asarray(np.exp(scaled.max(1) - log_sum) if kind == "max_probability" else temperature * log_sum)


@dataclass(frozen=True)
class Top1:
    """Top-1 of `n` answers with Wilson's 95 % interval, and its mean over the classes that are present.

    `right` is bool [n].
    """

    n: int
    top1: float
    top1_ci95: tuple[float, float]
    per_class_top1: float
    right: NDArray[np.bool_]


def accuracy(answers: NDArray[Any], labels: NDArray[Any]) -> Top1:
    """Compare `answers` [n] with `labels` [n], which are numbers or names of classes."""
    right = answers == labels
    return Top1(
        n=len(right),
        top1=float(right.mean()),
        top1_ci95=wilson_ci95(int(right.sum()), len(right)),
        per_class_top1=float(np.mean([right[labels == label].mean() for label in np.unique(labels)])),
        right=right,
    )


def agreement(answers: NDArray[Any], reference: NDArray[Any]) -> float:
    """Share of photographs that two networks answer alike. Both are answers [n]."""
    return float((answers == reference).mean())


def relative_difference(logits: Logits, reference: Logits) -> float:
    """Largest difference of logits, relative to the largest logit of the reference (which may be all zeros).

    Infinite where one of them is not finite, so that it is above any limit.
    """
    if not (np.isfinite(logits).all() and np.isfinite(reference).all()):
        return math.inf
    return float(np.abs(logits - reference).max() / max(np.abs(reference).max(), 1e-6))


def divergence(logits: Logits, reference: Logits, temperature: float) -> NDArray[np.float64]:
    """How far the probabilities of `logits` are from those of `reference`, in nats of each photograph, float64 [n].

    The Kullback-Leibler divergence from the reference: it needs no labels.
    """
    wanted, found = (log_softmax(one.astype(np.float64), temperature) for one in (reference, logits))
    return np.asarray((np.exp(wanted) * (wanted - found)).sum(-1))


def accuracy_drop(base: Logits, logits: Logits, labels: NDArray[np.int64]) -> tuple[float, float]:
    """Top-1 lost from `base` to `logits` in percentage points, and its one-sided 95 % upper bound.

    Both are logits [views * n, classes] of several views of the n photographs, one view of all after the other.
    The bound is that of a paired difference, for which only photographs whose answers changed count: losses and
    gains have bounds of their own, combined as by Zou and Donner (2008). Where nothing changed it is 3 of n
    photographs (rule of three).
    """
    n = len(labels)
    right = [(answers.argmax(1).reshape(-1, n) == labels).mean(0) for answers in (base, logits)]
    change = right[0] - right[1]
    lost, gained = np.maximum(change, 0), np.maximum(-change, 0)
    most_lost, least_gained = poisson_bounds(lost)[1], poisson_bounds(gained)[0]
    drop = change.sum()
    upper = drop + np.hypot(most_lost - lost.sum(), gained.sum() - least_gained)
    return float(100 * drop / n), float(100 * min(upper / n, 1.0))


def expected_drop(base: Logits, logits: Logits, n: int, temperature: float) -> tuple[float, float]:
    """Top-1 lost from `base` to `logits` as the probabilities of `base` have it, and its standard error; points.

    No labels are needed: where the two answer differently, what is lost is the probability of the one answer less
    that of the other. Only near ties change, so that is a few hundredths of a photograph, where a label says one or
    nothing: it is known far better, if the probabilities are right. Both are logits [views * n, classes].
    """
    probabilities = softmax(base.astype(np.float64), temperature)
    rows = np.arange(len(base))
    lost = probabilities[rows, base.argmax(1)] - probabilities[rows, logits.argmax(1)]
    each = lost.reshape(-1, n).mean(0)
    return float(100 * each.mean()), float(100 * each.std() / np.sqrt(n))


def confusion_matrix(answers: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """How many photographs of class i were answered j: int64 [classes, classes]."""
    found = np.zeros((classes, classes), np.int64)
    np.add.at(found, (labels, answers), 1)
    return found


@dataclass(frozen=True)
class CalibrationBins:
    """Photographs by the probability of their answer. All [bins]; the means of an empty bin are NaN."""

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def error(self) -> float:
        """The expected calibration error: mean distance of confidence from accuracy, over photographs."""
        return float(np.nansum(self.counts * np.abs(self.accuracy - self.confidence)) / self.counts.sum())


def calibration_bins(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> CalibrationBins:
    """Sort answers with `probabilities` [n, classes] into 15 bins of confidence (Guo et al., ICML 2017)."""
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == labels
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    filled = np.where(counts, counts, np.nan)
    return CalibrationBins(
        counts=counts,
        confidence=np.bincount(places, confidence, BINS) / filled,
        accuracy=np.bincount(places, right, BINS) / filled,
    )


def measure(logits: Logits, labels: NDArray[np.int64], temperature: float) -> Metrics:
    """All metrics of a split, as `run.json` has them."""
    n, classes = logits.shape
    answers = logits.argmax(1)
    found = accuracy(answers, labels)
    own = np.arange(n), labels
    ranks = (logits > logits[own][:, None]).sum(1)
    return Metrics(
        n=n,
        top1=found.top1,
        top5=float((ranks < 5).mean()),
        per_class_top1=found.per_class_top1,
        nll=float(-log_softmax(logits, temperature)[own].mean()),
        ece=calibration_bins(softmax(logits, temperature), labels).error,
        ece_uncalibrated=calibration_bins(softmax(logits), labels).error,
        confusion=confusion_matrix(answers, labels, classes).tolist() if classes <= CONFUSION_CLASSES else [],
    )
