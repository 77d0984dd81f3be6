"""What turns logits into probabilities that can be believed, and into the answer "none of these"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from toolchain.card import Reject
from toolchain.rejection import Score, scores
from toolchain.runs import Rejection

ACCEPTED_SHARE = 0.95
"""Share of validation photographs that the threshold lets through."""

Logits = NDArray[np.float32]


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature that makes the probabilities of held-out photographs most likely (Guo et al., ICML 2017)."""
    index = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits / np.exp(log_temperature), axis=1)[index, labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x))


def fit_rejection(val: Logits, test: Logits, outliers: Logits | None, temperature: float) -> Rejection:
    """Choose a score and the threshold above which 95 % of the validation photographs lie.

    `outliers` are logits of pictures of other things. The score that rejects more of every second one of them is
    chosen; what it rejects of the rest is reported. Without outliers it is the energy, the better one on the pets.
    """
    kind: Score = "energy"
    chosen_by = outliers[::2] if outliers is not None else None
    if chosen_by is not None:
        kinds: tuple[Score, ...] = ("energy", "max_probability")
        kind = max(kinds, key=lambda one: _below(one, chosen_by, _threshold(one, val, temperature), temperature))
    threshold = _threshold(kind, val, temperature)
    reported = outliers[1::2] if outliers is not None else None
    return Rejection(
        reject=Reject(kind, threshold),
        accepted={
            "val": 1 - _below(kind, val, threshold, temperature),
            "test": 1 - _below(kind, test, threshold, temperature),
        },
        outliers=0 if reported is None else len(reported),
        outliers_rejected=None if reported is None else _below(kind, reported, threshold, temperature),
    )


def _threshold(kind: Score, logits: Logits, temperature: float) -> float:
    return float(np.quantile(scores(kind, logits, temperature), 1 - ACCEPTED_SHARE))


def _below(kind: Score, logits: Logits, threshold: float, temperature: float) -> float:
    return float((scores(kind, logits, temperature) < threshold).mean())
