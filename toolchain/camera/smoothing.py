"""Answers that do not flicker: logits averaged over the last moments."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from toolchain.runtimes import Answer

TIME_CONSTANT_S = 0.2
"""After this time, a new picture has 63 % of the say."""


class Smoother:
    """An exponential average of logits over time, however unevenly the frames come.

    `temperature` is the card's. A `time_constant_s` of 0 leaves every answer as it is.
    """

    def __init__(self, temperature: float, time_constant_s: float = TIME_CONSTANT_S) -> None:
        self._temperature = temperature
        self._time_constant_s = time_constant_s
        self._logits: NDArray[np.float32] | None = None
        self._time_s = 0.0

    def __call__(self, logits: NDArray[np.float32], time_s: float) -> Answer:
        """Average in the logits, float32 [classes], of the frame at `time_s`; the answer is a batch of one."""
        if self._logits is None or self._time_constant_s <= 0:
            self._logits = logits
        else:
            elapsed = max(0.0, time_s - self._time_s)
            share = 1 - math.exp(-elapsed / self._time_constant_s)
            self._logits = (self._logits + share * (logits - self._logits)).astype(np.float32)
        self._time_s = time_s
        scaled = self._logits / self._temperature
        exponentials = np.exp(scaled - scaled.max())
        probabilities = (exponentials / exponentials.sum()).astype(np.float32)
        return Answer(self._logits[None], probabilities[None])
