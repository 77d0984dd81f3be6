"""A stream that goes on and shows the same picture again and again: its sender hangs, or lost its own camera."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolchain.camera.frames import BgrImage
from toolchain.system.progress import Reporter

FROZEN_S = 10.0
SAMPLES = 64
"""Rows and columns that are compared. A camera that works never gives the same noise twice."""


class Stillness:
    """Says once when a source has given the very same picture for `frozen_s`, and once when it moves again.

    Of a source that stands still again and again, such as a picture that is made anew each minute, it says so only
    when it does for twice as long as before.
    """

    def __init__(self, name: str, reporter: Reporter, frozen_s: float = FROZEN_S) -> None:
        self._name = name
        self._reporter = reporter
        self._limit_s = frozen_s
        self._sample: NDArray[np.uint8] | None = None
        self._since_s = 0.0
        self._told = False

    def look(self, bgr: BgrImage, now_s: float) -> None:
        """Compare the frame that came at `now_s` with the one before it."""
        sample = bgr[:: max(1, bgr.shape[0] // SAMPLES), :: max(1, bgr.shape[1] // SAMPLES)].copy()
        still_s = now_s - self._since_s
        if self._sample is None or not np.array_equal(sample, self._sample):
            if self._told:
                self._reporter.say(f"{self._name} moves again after {still_s:.0f} s")
                self._limit_s = max(self._limit_s, 2 * still_s)
                self._told = False
            self._sample, self._since_s = sample, now_s
        elif not self._told and still_s >= self._limit_s:
            self._told = True
            self._reporter.warn(f"{self._name} has given the same picture for {still_s:.0f} s; it may be frozen")
