"""Figures from samples: percentiles, and how far each figure may be from the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
Z95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: two-sided 95 %."""
Z95_ONE_SIDED = 1.645
"""The 95 % quantile: one-sided 95 %."""


@dataclass(frozen=True)
class Latency:
    """What single inferences took, in milliseconds. `p50_ci95` is a 95 % confidence interval of `p50`."""

    n: int
    mean: float
    std: float
    min: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    p50_ci95: tuple[float, float]


def summarise(rounds: Sequence[Sequence[float]], seed: int = 0) -> Latency:
    """Summarise samples in milliseconds that were taken in several rounds.

    Percentiles are interpolated linearly. `std` is that of a sample (n - 1). Raises ValueError when there is none.
    """
    taken = [np.asarray(samples, np.float64) for samples in rounds if len(samples)]
    if not taken:
        raise ValueError("no samples")
    samples = np.concatenate(taken)
    p50, p90, p95, p99 = (float(value) for value in np.percentile(samples, (50, 90, 95, 99)))
    return Latency(
        n=len(samples),
        mean=float(samples.mean()),
        std=float(samples.std(ddof=1)) if len(samples) > 1 else 0.0,
        min=float(samples.min()),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        max=float(samples.max()),
        p50_ci95=median_ci95(taken, seed),
    )


def median_ci95(
    rounds: Sequence[NDArray[np.float64]], seed: int, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Bootstrap interval (percentile method, Efron 1979) of the median over all rounds.

    Samples of one round share the machine's state, so they are not independent: rounds are drawn first, then the
    samples within each. Drawing samples alone would give an interval that the next run falls out of.
    """
    rng = np.random.default_rng(seed)
    medians = np.empty(resamples)
    for index in range(resamples):
        chosen = [rounds[number] for number in rng.integers(len(rounds), size=len(rounds))]
        drawn = [samples[rng.integers(len(samples), size=len(samples))] for samples in chosen]
        medians[index] = np.median(np.concatenate(drawn))
    low, high = np.percentile(medians, (2.5, 97.5))
    return float(low), float(high)


def standard_error(share: float, n: int) -> float:
    """How far a share of `n` is from the truth, one standard deviation of the binomial distribution."""
    return math.sqrt(share * (1 - share) / n)


def wilson_ci95(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a share, `successes` of `n` (Wilson 1927): right near 0 and 1 and for few trials too."""
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"{successes} of {n}")
    share = successes / n
    scale = 1 + Z95**2 / n
    centre = (share + Z95**2 / (2 * n)) / scale
    half = Z95 / scale * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def ratio_ci95(old: Latency, new: Latency) -> tuple[float, float]:
    """95 % interval of the ratio of two medians, each known by its own interval (log-normal errors)."""
    spread = math.hypot(*(math.log(one.p50_ci95[1] / one.p50_ci95[0]) / 2 for one in (old, new)))
    ratio = new.p50 / old.p50
    return ratio * math.exp(-spread), ratio * math.exp(spread)


def paired_drop_ci95(old: Sequence[bool], new: Sequence[bool]) -> tuple[float, tuple[float, float]]:
    """Top-1 lost between two sets of answers to the same photographs, and its 95 % interval; fractions.

    Both say which answers are right. The adjusted Wald interval for paired shares (Bonett and Price 2012): only
    changed answers count.
    """
    n = len(old)
    lost = sum(a > b for a, b in zip(old, new, strict=True))
    won = sum(a < b for a, b in zip(old, new, strict=True))
    drop = (lost - won) / n
    p_lost, p_won = (lost + 1) / (n + 2), (won + 1) / (n + 2)
    half = Z95 * math.sqrt((p_lost + p_won - (p_lost - p_won) ** 2) / (n + 2))
    centre = p_lost - p_won
    return drop, (centre - half, centre + half)
