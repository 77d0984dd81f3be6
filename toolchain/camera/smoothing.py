"""Smoothing over time: answers do not flicker, and change at once with a new scene."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from toolchain.evaluation.metrics import softmax
from toolchain.runtimes import Answer

TIME_CONSTANT_S = 0.2
"""After this time, a new picture has a weight of 63 %."""
HOLD_S = 0.1
"""How long another answer must have led before it is shown."""
CUT = 12.0
"""Two thumbnails that differ by more (mean over pixels and colours, of 255) show different scenes."""
THUMBNAIL_SIDE = 16
MAX_UNIFORM_RANGE = 6
"""A thumbnail that varies by less than this in each colour shows nothing: a lens cap, a broken frame."""

Thumbnail = NDArray[np.uint8]
"""A small copy of a picture, uint8 [16, 16, 3]."""


def thumbnail(pixels: NDArray[np.uint8]) -> Thumbnail:
    """A small copy of a picture, uint8 [height, width, 3]."""
    return cv2.resize(pixels, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def is_uniform(seen: Thumbnail) -> bool:
    """Whether the picture shows nothing."""
    return bool(np.ptp(seen, axis=(0, 1)).max() < MAX_UNIFORM_RANGE)


class Smoother:
    """An exponential average of logits over time, also of frames that come unevenly. It restarts at each cut.

    A `time_constant_s` of 0 leaves every answer as it is.
    """

    def __init__(self, time_constant_s: float = TIME_CONSTANT_S) -> None:
        self._time_constant_s = time_constant_s
        self._logits: NDArray[np.float32] | None = None
        self._time_s = 0.0
        self._seen: Thumbnail | None = None
        self.restarted: bool = True
        """Whether the last frame was the first of a scene."""

    def __call__(
        self, logits: NDArray[np.float32], temperature: float, time_s: float, seen: Thumbnail | None = None
    ) -> Answer:
        """Average in the logits, float32 [classes], of the frame at `time_s`, and return a batch of one answer.

        `temperature` is the card's. `seen` is the thumbnail of the frame; by it a cut is found, across which logits
        are not averaged.
        """
        self.restarted = self._logits is None or self._is_cut(seen)
        if self._logits is None or self._time_constant_s <= 0 or self.restarted:
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
    """What counts as the answer when it changes: the label, or None for "not sure"."""
    return None if rejected else label


class Debouncer:
    """Keeps the label that is shown, and whether it is rejected, until another has led for `hold_s` or the scene
    changes.
    """

    def __init__(self, hold_s: float = HOLD_S) -> None:
        self._hold_s = hold_s
        self._shown: tuple[str, bool] | None = None
        self._rival: tuple[str, bool] | None = None
        self._rival_since_s = 0.0
        self._time_s = -math.inf
        self.changes: int = 0
        """How often the answer changed. "Not sure" counts as one answer, whatever the label beneath."""

    def __call__(self, label: str, rejected: bool, time_s: float, *, new_scene: bool = False) -> tuple[str, bool]:
        """The label to show, and whether it is rejected, for a frame at `time_s` with the answer `label` and
        `rejected`. With `new_scene`, what was shown before does not matter.
        """
        leading = (label, rejected)
        if leading != self._rival:
            self._rival, self._rival_since_s = leading, time_s
        # If answers are further apart than `hold_s`, the first one that differs counts.
        led_s = max(time_s - self._rival_since_s, time_s - self._time_s)
        if self._shown is None or new_scene or led_s >= self._hold_s:
            self.changes += self._shown is not None and seen_as(*leading) != seen_as(*self._shown)
            self._shown = leading
        self._time_s = time_s
        return self._shown
