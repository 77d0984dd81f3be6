"""Accuracy and calibration of logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from toolchain.artifact import Reject
from toolchain.runs import Metrics

ECE_BINS = 15
ACCEPTED_SHARE = 0.95


def measure(logits: NDArray[np.float32], labels: NDArray[np.int64], temperature: float) -> Metrics:
    """Metrics of `logits` [n, classes] against `labels` [n]."""
    n, classes = logits.shape
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, logits.argmax(1)), 1)
    totals = confusion.sum(1)
    present = totals > 0
    log_probabilities = log_softmax(logits / temperature, axis=1)
    ranks = (logits > logits[np.arange(n), labels][:, None]).sum(1)
    return Metrics(
        n=n,
        top1=float(np.trace(confusion) / n),
        top5=float((ranks < 5).mean()),
        per_class_top1=float((np.diag(confusion)[present] / totals[present]).mean()),
        nll=float(-log_probabilities[np.arange(n), labels].mean()),
        ece=expected_calibration_error(logits / temperature, labels),
        ece_uncalibrated=expected_calibration_error(logits, labels),
        confusion=confusion.tolist(),
    )


def expected_calibration_error(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Mean distance of confidence from accuracy over 15 bins of confidence (Guo et al., ICML 2017)."""
    probabilities = np.exp(log_softmax(logits, axis=1))
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == labels
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    error = 0.0
    for index in range(ECE_BINS):
        inside = bins == index
        if inside.any():
            error += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return float(error)


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature that makes the probabilities of held-out photographs most likely (Guo et al., ICML 2017)."""
    index = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits / np.exp(log_temperature), axis=1)[index, labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x))


def fit_rejection(logits: NDArray[np.float32], temperature: float) -> Reject:
    """The threshold of the largest probability above which 95 % of held-out photographs lie."""
    confidence = np.exp(log_softmax(logits / temperature, axis=1)).max(1)
    return Reject("max_probability", float(np.quantile(confidence, 1 - ACCEPTED_SHARE)))
