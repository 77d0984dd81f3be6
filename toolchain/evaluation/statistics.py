"""Figures from samples: percentiles, and how far each figure may be from the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
BETWEEN_RUNS = 0.02
"""Runs of one file on a machine at rest differ by so much more than their processes show: half of a 95 % interval,
as a fraction. Measured: `benchmarks/results/aa.csv`."""
THROUGHPUT_BETWEEN_RUNS = 0.03
"""The same of images a second, which one flood of each process tells. With 1.5 %, 83 % of reruns at rest were in
the interval; for normal errors, 95 % are within 1.4 times its width."""
MIN_FOR_P99 = 299
"""Samples of which, with 95 % confidence, at least one lies above the true 99th percentile (0.99 ** n < 0.05)."""
Z95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: two-sided 95 %."""
Z95_ONE_SIDED = 1.645
"""The 95 % quantile: one-sided 95 %."""
T95_ONE_SIDED = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833)
"""The same of Student's t, for 1 degree of freedom and more."""
T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
)
"""The 97.5 % quantile of Student's t (two-sided 95 %), for 1 degree of freedom and more."""


@dataclass(frozen=True)
class Latency:
    """What single inferences took, in milliseconds. With 95 % another run like it has its `p50` within `p50_ci95`.

    `p99` is null where there are fewer than MIN_FOR_P99 samples.
    """

    n: int
    mean: float
    std: float
    min: float
    p50: float
    p90: float
    p95: float
    p99: float | None
    max: float
    p50_ci95: tuple[float, float]


Rounds = Sequence[Sequence[float]]


def summarise(*processes: Rounds, seed: int = 0) -> Latency:
    """Summarise samples in milliseconds that were taken in several rounds, of one process or of several.

    Percentiles are interpolated linearly. `std` is that of a sample (n - 1). Raises ValueError when there is none.
    """
    arrays = [[np.asarray(samples, np.float64) for samples in rounds if len(samples)] for rounds in processes]
    taken = [rounds for rounds in arrays if rounds]
    if not taken:
        raise ValueError("no samples")
    samples = np.concatenate([np.concatenate(rounds) for rounds in taken])
    p50, p90, p95, p99 = (float(value) for value in np.percentile(samples, (50, 90, 95, 99)))
    return Latency(
        n=len(samples),
        mean=float(samples.mean()),
        std=float(samples.std(ddof=1)) if len(samples) > 1 else 0.0,
        min=float(samples.min()),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99 if len(samples) >= MIN_FOR_P99 else None,
        max=float(samples.max()),
        p50_ci95=median_ci95(taken, seed),
    )


def median_ci95(
    processes: Sequence[Sequence[NDArray[np.float64]]],
    seed: int,
    resamples: int = RESAMPLES,
    between_runs: float = BETWEEN_RUNS,
) -> tuple[float, float]:
    """Where the median of all samples lies with 95 % in another run that measures in as many processes.

    Samples of one process share where its memory lies and how its threads were placed: they are not independent,
    and processes are the sample. Their medians are few, so it is Student's t of their logarithms; a bootstrap of
    three finds their spread too small, and the next run falls out of its interval once in four times. A single
    process tells nothing of others; then it is a bootstrap (percentile method, Efron 1979) of its rounds first,
    since samples of a round share the machine's state, and of the samples of each.
    """
    pooled = float(np.median(np.concatenate([np.concatenate(list(rounds)) for rounds in processes])))
    if len(processes) > 1:
        own = [float(np.median(np.concatenate(list(rounds)))) for rounds in processes]
        return next_ci95(pooled, own, between_runs)
    (rounds,) = processes
    rng = np.random.default_rng(seed)
    medians = np.empty(resamples)
    for index in range(resamples):
        chosen = [rounds[number] for number in rng.integers(len(rounds), size=len(rounds))]
        drawn = [samples[rng.integers(len(samples), size=len(samples))] for samples in chosen]
        medians[index] = np.median(np.concatenate(drawn))
    low, high = (float(bound) for bound in np.percentile(medians, (2.5, 97.5)))
    return low, high


def next_ci95(centre: float, values: Sequence[float], between_runs: float = BETWEEN_RUNS) -> tuple[float, float]:
    """Where the mean of as many `values` of another run lies with 95 %, given that of this run; all are above 0.

    Errors are log-normal. `values` are two at least. They do not show by how much the machine differs from run to
    run, which is `between_runs`.
    """
    within = t95(len(values) - 1) * float(np.std(np.log(values), ddof=1)) * math.sqrt(2 / len(values))
    spread = math.hypot(within, between_runs)
    return centre * math.exp(-spread), centre * math.exp(spread)


def t95(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, or a little more."""
    return T95[min(freedom, len(T95)) - 1]


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


def ratio_ci95(
    old: Latency, new: Latency, old_processes: Sequence[float] = (), new_processes: Sequence[float] = ()
) -> tuple[float, float]:
    """95 % interval of the ratio of two medians (log-normal errors).

    Of two runs whose processes have these medians, it is that of Student's two-sample t; where either was measured
    in one process, that of the intervals of the two.
    """
    ratio = new.p50 / old.p50
    n, m = len(old_processes), len(new_processes)
    if n < 2 or m < 2:
        spread = math.hypot(*(math.log(one.p50_ci95[1] / one.p50_ci95[0]) / 2 for one in (old, new)))
    else:
        squares = sum(len(one) * float(np.var(np.log(one))) for one in (old_processes, new_processes))
        within = t95(n + m - 2) * math.sqrt(squares / (n + m - 2) * (1 / n + 1 / m))
        spread = math.hypot(within, BETWEEN_RUNS)
    return ratio * math.exp(-spread), ratio * math.exp(spread)


def paired_ratio_ci95(slow: Sequence[float], fast: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the ratio of `slow` to `fast`, medians of processes that ran side by side, in their order.

    What disturbs both at once is not in it. None where there are fewer than two pairs.
    """
    logs = [math.log(one / other) for one, other in zip(slow, fast, strict=False)]
    if len(logs) < 2:
        return None
    spread = t95(len(logs) - 1) * float(np.std(logs, ddof=1)) / math.sqrt(len(logs))
    return math.exp(np.mean(logs) - spread), math.exp(np.mean(logs) + spread)


def min_of_mean(values: Sequence[float]) -> float:
    """The mean of what `values` are a sample of is at least this, with 95 % confidence (Student's t)."""
    n = len(values)
    quantile = T95_ONE_SIDED[n - 2] if n - 2 < len(T95_ONE_SIDED) else T95_ONE_SIDED[-1]
    return float(np.mean(values) - quantile * np.std(values, ddof=1) / math.sqrt(n))


def min_ratio(slow_ms: Sequence[float], fast_ms: Sequence[float]) -> float | None:
    """How many times as fast the second is at least, with 95 % confidence; None where that is not known.

    Both are medians of processes, which are the sample: those at the same place ran side by side, on the same
    machine in the same state. Where one was measured in more of them, the rest has no partner and does not count.
    """
    logs = [math.log(slow / fast) for slow, fast in zip(slow_ms, fast_ms, strict=False)]
    return math.exp(min_of_mean(logs)) if len(logs) >= 2 else None


def poisson_bounds(weights: NDArray[np.float64]) -> tuple[float, float]:
    """One-sided 95 % bounds of an expected sum, of which each non-zero entry of `weights`, at most 1, was an event.

    The gamma bounds for weighted Poisson sums of Fay and Feuer (1997), with chi-squared quantiles by Wilson and
    Hilferty (1931). Without any event the upper bound is 3, as by the rule of three.
    """
    total, squares = float(weights.sum()), float((weights**2).sum())
    low = squares / (2 * total) * _chi2(2 * total**2 / squares, -Z95_ONE_SIDED) if total else 0.0
    # As if one event more, of the largest weight, had been seen.
    high = (squares + 1) / (2 * (total + 1)) * _chi2(2 * (total + 1) ** 2 / (squares + 1), Z95_ONE_SIDED)
    return low, high


def _chi2(freedom: float, z: float) -> float:
    """The quantile of the chi-squared distribution that is `z` of the normal one."""
    step = 2 / (9 * freedom)
    return freedom * max(0.0, 1 - step + z * math.sqrt(step)) ** 3


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
