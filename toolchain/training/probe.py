"""The linear probe: a new head on frozen features."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from toolchain.evaluation.metrics import log_softmax, softmax

L2 = 0.055
"""Chosen by cross-validation on the training photographs of the pets, for features of unit size."""

PRIOR_STRENGTH = 0.5
MAX_ITERATIONS = 50

Floats = NDArray[np.float32]


def fit_head(
    features: Floats, labels: NDArray[np.int64], classes: int, start: Floats | None = None
) -> tuple[Floats, Floats]:
    """Solve multinomial logistic regression with L-BFGS; return weight [classes, features] and bias [classes].

    `features` float32 [n, width], `labels` [n]. The penalty pulls the weights towards `start`
    [classes, width + 1] (bias last), which is zero when not given. Class frequencies are partly taken out of the
    logits while fitting (logit adjustment, Menon et al., ICLR 2021), so that rare classes are not neglected.
    """
    n, width = features.shape
    size = np.float32(max(np.sqrt(np.square(features).mean()), 1e-12))
    # Centred features change nothing but the bias, and L-BFGS needs half the iterations.
    centre = features.mean(0)
    inputs = np.concatenate([(features - centre) / size, np.ones((n, 1), np.float32)], axis=1)
    targets = np.zeros((n, classes), np.float32)
    targets[np.arange(n), labels] = 1
    adjustment = logit_adjustment(labels, classes)
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
        gradient = ((np.exp(log_probabilities) - targets) / n).T @ inputs + L2 * away
        return float(value), gradient.ravel().astype(np.float64)

    solved = minimize(
        loss, anchor.ravel().astype(np.float64), jac=True, method="L-BFGS-B", options={"maxiter": MAX_ITERATIONS}
    )
    weights = solved.x.reshape(classes, width + 1).astype(np.float32) / units
    return weights[:, :-1], weights[:, -1] - weights[:, :-1] @ centre


def logit_adjustment(labels: NDArray[np.int64], classes: int) -> Floats:
    """What is added to logits in training, float32 [classes]: half the log frequency of each class.

    The network then has to be surer of rare classes to be as right, and answers them more often without it.
    """
    frequency = np.bincount(labels, minlength=classes).astype(np.float32) / len(labels)
    return np.asarray(PRIOR_STRENGTH * np.log(np.maximum(frequency, 1e-6)), np.float32)


def start_from(head: tuple[Tensor, Tensor], features: Floats, labels: NDArray[np.int64], classes: int) -> Floats:
    """Start each class from the rows of an old head (weight, bias), as often as they answer its photographs.

    Of the 37 breeds, 24 are classes of ImageNet: their rows are better than anything 30 photographs can teach. A
    class that ImageNet splits into many (dog) starts from their mean.
    Returns float32 [classes, width + 1], bias last; rows are centred, which changes no probability.
    """
    rows = torch.cat([head[0], head[1][:, None]], dim=1).numpy()
    rows = rows - rows.mean(0)
    answers = softmax(features @ rows[:, :-1].T + rows[:, -1])
    shares = np.stack([answers[labels == label].mean(0) for label in range(classes)])
    return np.asarray(shares @ rows, np.float32)
