"""Accuracy of logits, and how well their probabilities can be believed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from toolchain.runs import Metrics

ECE_BINS = 15


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
