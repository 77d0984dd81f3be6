"""Answers that do not flicker, and still follow a new scene at once."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from toolchain.evaluation.metrics import softmax
from toolchain.runtimes import Answer

TIME_CONSTANT_S = 0.2
"""After this time, a new picture has 63 % of the say."""
HOLD_S = 0.1
"""How long another answer must have led before it is shown."""
CUT = 12.0
"""Two looks that differ by more (mean over pixels and colours, of 255) are of different scenes."""
LOOK_SIDE = 16
PLAIN = 6
"""A look that varies by less than this, in each colour, shows nothing: a lens cap, a broken frame."""

Thumbnail = NDArray[np.uint8]
"""A picture at a glance, uint8 [16, 16, 3]."""


def thumbnail(pixels: NDArray[np.uint8]) -> Thumbnail:
    """What is left of a picture, uint8 [height, width, 3], at a glance."""
    return cv2.resize(pixels, (LOOK_SIDE, LOOK_SIDE), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def is_uniform(seen: Thumbnail) -> bool:
    """Whether there is nothing to be seen."""
    return bool(np.ptp(seen, axis=(0, 1)).max() < PLAIN)


class Smoother:
    """An exponential average of logits over time, however unevenly the frames come; it begins anew at each cut.

    A `time_constant_s` of 0 leaves every answer as it is.
    """

    def __init__(self, time_constant_s: float = TIME_CONSTANT_S) -> None:
        self._time_constant_s = time_constant_s
        self._logits: NDArray[np.float32] | None = None
        self._time_s = 0.0
        self._seen: Thumbnail | None = None
        self.began_anew = True
        """Whether the last frame was the first of its scene."""

    def __call__(
        self, logits: NDArray[np.float32], temperature: float, time_s: float, seen: Thumbnail | None = None
    ) -> Answer:
        """Average in the logits, float32 [classes], of the frame at `time_s`; the answer is a batch of one.

        `temperature` is the card's. `seen` is what the frame looks like: across a cut, an average would be of two
        scenes and of neither.
        """
        self.began_anew = self._logits is None or self._is_cut(seen)
        if self._logits is None or self._time_constant_s <= 0 or self.began_anew:
            self._logits = logits
        else:
            elapsed = max(0.0, time_s - self._time_s)
            share = 1 - math.exp(-elapsed / self._time_constant_s)
            self._logits = (self._logits + share * (logits - self._logits)).astype(np.float32)
        self._time_s = time_s
        self._seen = seen
        return Answer(self._logits[None], softmax(self._logits, temperature)[None])

    def _is_cut(self, seen: Thumbnail | None) -> bool:
        if seen is None or self._seen is None:
            return False
        return bool(cv2.norm(seen, self._seen, cv2.NORM_L1) > CUT * seen.size)


def seen_as(label: str, rejected: bool) -> str | None:
    """What a person sees change: the label, or None for "not sure"."""
    return None if rejected else label


class Debouncer:
    """Holds what is shown until something else has led for `hold_s`, or another scene begins: a label, and whether
    it is rejected.
    """

    def __init__(self, hold_s: float = HOLD_S) -> None:
        self._hold_s = hold_s
        self._shown: tuple[str, bool] | None = None
        self._rival: tuple[str, bool] | None = None
        self._rival_since_s = 0.0
        self._time_s = -math.inf
        self.changes = 0
        """How often what is shown became something else; "not sure" is one thing, whatever the label beneath."""

    def __call__(self, label: str, rejected: bool, time_s: float, *, anew: bool = False) -> tuple[str, bool]:
        """What is to be shown for a frame at `time_s` whose own answer is `label` and `rejected`.

        `anew`: it is of another scene, and nothing that was shown has to do with it.
        """
        leading = (label, rejected)
        if leading != self._rival:
            self._rival, self._rival_since_s = leading, time_s
        # Where answers are further apart than that, the first one that differs is all there is to go by.
        led_s = max(time_s - self._rival_since_s, time_s - self._time_s)
        if self._shown is None or anew or led_s >= self._hold_s:
            self.changes += self._shown is not None and seen_as(*leading) != seen_as(*self._shown)
            self._shown = leading
        self._time_s = time_s
        return self._shown
