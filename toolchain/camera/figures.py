"""Figures of a run that may last for weeks, in memory that does not grow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KEPT = 1 << 16
"""Values that percentiles are taken of: the last 36 minutes at 30 frames per second."""


@dataclass(frozen=True)
class Percentiles:
    """Of the values that were seen last (at most `KEPT`); None where there were none."""

    p50: float | None
    p95: float | None
    p99: float | None


class Series:
    """The last values of one quantity."""

    def __init__(self, kept: int = KEPT) -> None:
        self._values = np.empty(kept, np.float64)
        self._seen = 0

    def add(self, value: float) -> None:
        self._values[self._seen % len(self._values)] = value
        self._seen += 1

    def percentiles(self) -> Percentiles:
        values = self._values[: self._seen]
        if not len(values):
            return Percentiles(None, None, None)
        return Percentiles(*(round(float(value), 3) for value in np.percentile(values, (50, 95, 99))))


class Rate:
    """Events per second, over the last second or so."""

    TIME_CONSTANT_S = 1.0

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._interval_s: float | None = None

    def event(self, now_s: float) -> float:
        """Count one event at `now_s`; the rate, 0 while it is unknown."""
        if self._last_s is not None:
            interval = max(now_s - self._last_s, 1e-6)
            share = 1 - np.exp(-interval / self.TIME_CONSTANT_S)
            before = interval if self._interval_s is None else self._interval_s
            self._interval_s = float(before + share * (interval - before))
        self._last_s = now_s
        return 1 / self._interval_s if self._interval_s else 0.0
