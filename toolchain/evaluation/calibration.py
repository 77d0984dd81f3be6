"""Choosing a temperature, which makes probabilities honest, and the threshold of the answer "none of these"."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binom, nct, norm

from toolchain.artifact.card import Reject, Score
from toolchain.evaluation.metrics import Logits, log_softmax, scores, softmax
from toolchain.runs import Rejection

COLDEST, HOTTEST = 0.05, 20.0
"""Bounds of a temperature."""

PRIOR = 0.35
"""Standard deviation of log temperature around 0, before any photograph is seen."""

CHI2_95 = 3.841458820694124
"""The 95 % quantile of chi-squared with one degree of freedom."""

ACCEPTED_SHARES = (0.98, 0.97, 0.96, 0.95)
"""Shares of good photographs that the threshold may accept, the most lenient first."""
CONFIDENCE = 0.9
"""With which at least that share of new photographs is accepted, where few are there to choose by."""
MANY = 200
"""From so many held-out photographs on, their own share is close enough to that of new ones."""
REJECTED_SHARE = 0.95
"""Share of other things that must be rejected before more than the least share is accepted."""


@dataclass(frozen=True)
class Temperature:
    """Logits are divided by `value`; it lies between `low` and `high` with 95 % confidence, by `n` photographs."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class HeldOut:
    """Answers to photographs that nothing was trained on: `logits` float32 [n, classes], `labels` int64 [n]."""

    logits: Logits
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def and_(self, other: HeldOut | None) -> HeldOut:
        """These photographs and those of `other`, if there is one."""
        if other is None:
            return self
        return HeldOut(np.concatenate([self.logits, other.logits]), np.concatenate([self.labels, other.labels]))


def fit_temperature(held: HeldOut) -> Temperature:
    """The temperature that makes the probabilities of held-out photographs most likely (Guo et al., ICML 2017).

    If all of a few photographs are answered rightly, that would be 0. So a prior holds it near 1, and weakens as
    there are more photographs: log temperature is normal with a standard deviation of 0.35 (maximum a posteriori).
    And it is never so low that the mean confidence is above what n right answers of n can show, 1 - 1 / (2 n + 2)
    (the mean of a share after n successes, by Jeffreys' prior). The interval is that of the posterior's profile,
    above this bound.
    """
    index = np.arange(len(held))

    def cost(log_temperature: float) -> float:
        likelihood = log_softmax(held.logits, math.exp(log_temperature))[index, held.labels].sum()
        return float(-likelihood + log_temperature**2 / (2 * PRIOR**2))

    def excess(log_temperature: float) -> float:
        confidence = softmax(held.logits, math.exp(log_temperature)).max(1).mean()
        return float(confidence) - (1 - 1 / (2 * len(held) + 2))

    coldest, hottest = math.log(COLDEST), math.log(HOTTEST)
    best = float(minimize_scalar(cost, bounds=(coldest, hottest), method="bounded").x)

    def above(log_temperature: float) -> float:
        return cost(log_temperature) - cost(best) - CHI2_95 / 2

    low = float(brentq(above, coldest, best)) if above(coldest) > 0 else coldest
    high = float(brentq(above, best, hottest)) if above(hottest) > 0 else hottest
    if excess(best) > 0 > excess(hottest):
        low = best = float(brentq(excess, best, hottest))
    return Temperature(math.exp(best), math.exp(low), math.exp(max(high, best)), len(held))


def lower_limit(values: NDArray[np.float64], share: float, confidence: float = CONFIDENCE) -> float:
    """A limit that at least `share` of all values to come exceed, with `confidence`: a one-sided tolerance limit.

    By order statistics (Wilks, 1941), which hold for every distribution; where there are too few values for that
    (fewer than 45 for a share of 0.95), by a normal distribution.
    """
    n = len(values)
    ranks = np.arange(1, n + 1)
    usable = ranks[binom.sf(ranks - 1, n, 1 - share) >= confidence]
    if len(usable):
        return float(np.sort(values)[usable[-1] - 1])
    if n < 2:  # a single value says nothing of the spread
        return float(values.min()) - 1.0
    factor = nct.ppf(confidence, n - 1, norm.ppf(share) * math.sqrt(n)) / math.sqrt(n)
    return float(values.mean() - factor * values.std(ddof=1))


def fit_rejection(
    held: HeldOut, val: Logits, test: Logits, outliers: Logits | None, temperature: float
) -> Rejection:
    """Choose a score and a threshold above which most photographs of the classes lie, by those `held` out.

    `outliers` are logits of pictures of other things. As many photographs are accepted as leave 95 % of every
    second one of them rejected, 95 to 98 %, by the score that rejects more of them; what is rejected of the rest is
    reported. Without outliers it is 95 %, and the energy, the better score on the pets.
    """
    if outliers is None:
        reject = _reject("energy", held.logits, ACCEPTED_SHARES[-1], temperature)
    else:
        reject = _kindest(held.logits, outliers[::2], temperature)
    chosen = Rejection(reject, {"val": 1 - _rejected(val, reject, temperature)})
    return rejection_of(chosen, test, outliers, temperature)


def rejection_of(chosen: Rejection, test: Logits, outliers: Logits | None, temperature: float) -> Rejection:
    """The rejection that was `chosen`, and what it does to another network's logits on test and on other things."""
    reject, reported = chosen.reject, outliers[1::2] if outliers is not None else None
    return replace(
        chosen,
        accepted={**chosen.accepted, "test": 1 - _rejected(test, reject, temperature)},
        outliers=0 if reported is None else len(reported),
        outliers_rejected=None if reported is None else _rejected(reported, reject, temperature),
    )


def _kindest(held: Logits, outliers: Logits, temperature: float) -> Reject:
    kinds: tuple[Score, ...] = ("energy", "max_probability")
    for share in ACCEPTED_SHARES:
        ways = [_reject(kind, held, share, temperature) for kind in kinds]
        best = max(ways, key=lambda way: _rejected(outliers, way, temperature))
        if _rejected(outliers, best, temperature) >= REJECTED_SHARE:
            break
    return best


def _reject(kind: Score, held: Logits, accepted: float, temperature: float) -> Reject:
    found = scores(kind, held, temperature)
    threshold = lower_limit(found, accepted) if len(found) < MANY else float(np.quantile(found, 1 - accepted))
    return Reject(kind, min(max(threshold, 0.0), 1.0) if kind == "max_probability" else threshold)


def _rejected(logits: Logits, reject: Reject, temperature: float) -> float:
    return float((scores(reject.score, logits, temperature) < reject.threshold).mean())
