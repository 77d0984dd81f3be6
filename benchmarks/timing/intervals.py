"""How often the interval of a median holds what it says, in simulated runs whose processes differ.

    python benchmarks/timing/intervals.py [--runs 1000] [--out FILE.csv]

A run measures in so many processes; the median of each is off by a normal error of its own. `student` is the
interval of `edgetl bench`; `bootstrap` draws processes and takes the median (percentile method, widened by the root
of n / (n - 1)), as earlier versions did.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolchain.evaluation.statistics import next_ci95

RESULTS = Path(__file__).resolve().parent.parent / "results"
RESAMPLES = 300

Interval = tuple[float, float]


def student(medians: NDArray[np.float64]) -> Interval:
    return next_ci95(float(np.median(medians)), medians.tolist(), between_runs=0)


def bootstrap(medians: NDArray[np.float64]) -> Interval:
    n = len(medians)
    rng = np.random.default_rng(0)
    drawn = np.median(medians[rng.integers(n, size=(RESAMPLES, n))], axis=1)
    centre, wider = float(np.median(medians)), math.sqrt(n / (n - 1))
    low, high = (centre * (float(bound) / centre) ** wider for bound in np.percentile(drawn, (2.5, 97.5)))
    return low, high


METHODS: dict[str, Callable[[NDArray[np.float64]], Interval]] = {"student": student, "bootstrap": bootstrap}


def coverage(method: str, processes: int, deviation: float, runs: int) -> dict[str, str]:
    """Shares of simulated runs whose interval holds the truth, and the median of the next run; its mean width."""
    rng = np.random.default_rng([processes, round(1e4 * deviation)])
    truth = rerun = width = 0.0
    for _ in range(runs):
        mine, its = np.exp(rng.normal(0, deviation, (2, processes)))
        low, high = METHODS[method](mine)
        truth += low <= 1 <= high
        rerun += low <= np.median(its) <= high
        width += high - low
    return {
        "method": method,
        "processes": str(processes),
        "deviation": f"{deviation:g}",
        "holds_truth": f"{truth / runs:.3f}",
        "holds_rerun": f"{rerun / runs:.3f}",
        "width": f"{width / runs:.4f}",
        "runs": str(runs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULTS / "interval-coverage.csv")
    options = parser.parse_args()
    rows = [coverage(method, processes, 0.0175, options.runs) for method in METHODS for processes in (3, 5, 10)]
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
