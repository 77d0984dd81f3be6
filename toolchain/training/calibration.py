"""What turns logits into probabilities that can be believed, and into the answer "none of these"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from toolchain.card import Reject
from toolchain.rejection import Score, scores
from toolchain.runs import Rejection

ACCEPTED_SHARES = (0.98, 0.97, 0.96, 0.95)
"""Shares of validation photographs that the threshold may let through, the kindest first; the last is the least."""
REJECTED_SHARE = 0.95
"""Share of other things that is to be rejected for the kinder ones."""

Logits = NDArray[np.float32]


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature that makes the probabilities of held-out photographs most likely (Guo et al., ICML 2017)."""
    index = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits / np.exp(log_temperature), axis=1)[index, labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x))


def fit_rejection(val: Logits, test: Logits, outliers: Logits | None, temperature: float) -> Rejection:
    """Choose a score and a threshold above which most validation photographs lie.

    `outliers` are logits of pictures of other things. As many validation photographs are accepted as leave 95 % of
    every second one of them rejected, 95 to 98 %, by the score that rejects more of them; what is rejected of the
    rest is reported. Without outliers it is 95 %, and the energy, the better score on the pets.
    """
    if outliers is None:
        reject = _reject("energy", val, ACCEPTED_SHARES[-1], temperature)
    else:
        reject = _kindest(val, outliers[::2], temperature)
    reported = outliers[1::2] if outliers is not None else None
    return Rejection(
        reject=reject,
        accepted={"val": 1 - _rejected(val, reject, temperature), "test": 1 - _rejected(test, reject, temperature)},
        outliers=0 if reported is None else len(reported),
        outliers_rejected=None if reported is None else _rejected(reported, reject, temperature),
    )


def _kindest(val: Logits, outliers: Logits, temperature: float) -> Reject:
    kinds: tuple[Score, ...] = ("energy", "max_probability")
    for share in ACCEPTED_SHARES:
        ways = [_reject(kind, val, share, temperature) for kind in kinds]
        best = max(ways, key=lambda way: _rejected(outliers, way, temperature))
        if _rejected(outliers, best, temperature) >= REJECTED_SHARE:
            break
    return best


def _reject(kind: Score, val: Logits, accepted: float, temperature: float) -> Reject:
    return Reject(kind, float(np.quantile(scores(kind, val, temperature), 1 - accepted)))


def _rejected(logits: Logits, reject: Reject, temperature: float) -> float:
    return float((scores(reject.score, logits, temperature) < reject.threshold).mean())
