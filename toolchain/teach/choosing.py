"""Which frames of a take are worth keeping: sharp ones that show something new.

Thirty frames a second of one thing are near-copies. They would fill the disk, and teach nothing.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from statistics import median

import cv2
import numpy as np

from toolchain.camera.frames import BgrImage
from toolchain.camera.smoothing import Thumbnail, is_uniform, thumbnail

INTERVAL_S = 0.15
"""Of the frames in so many seconds, the sharpest is looked at."""
BLURRED = 0.5
"""A frame is blurred if it is less than so many times as sharp as the middle one of its take."""
RECENT = 1000
"""Frames whose middle one that is: a take that nobody ends goes on for days."""
ALIKE = 4.0
"""Two pictures whose thumbnails differ by less (mean over pixels and colours, of 255) show the same."""
DARK = 10
"""A picture whose brightest part, of the thumbnail, is darker shows nothing."""
SIDE = 320
"""Sharpness is measured on pictures of this longest side, so that noise of large sensors does not count for it."""


@dataclass(frozen=True)
class _Candidate:
    bgr: BgrImage
    sharpness: float
    seen: Thumbnail


class Chooser:
    """Chooses among the frames of one take. `left_out` counts the others by reason: empty, blurred, alike."""

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self._sharpness: deque[float] = deque(maxlen=RECENT)
        self._kept: list[Thumbnail] = []
        self._best: _Candidate | None = None
        self._since_s: float | None = None

    def see(self, bgr: BgrImage, time_s: float) -> BgrImage | None:
        """Look at the frame, uint8 BGR, at `time_s` of the source; return one that is to be kept, if any.

        The frame must stay as it is.
        """
        seen = thumbnail(bgr)
        if is_uniform(seen) or seen.max() < DARK:
            self.left_out["empty"] += 1
            return None
        sharp = sharpness(bgr)
        self._sharpness.append(sharp)
        chosen = None
        if self._since_s is None:
            self._since_s = time_s
        elif time_s - self._since_s >= INTERVAL_S:
            chosen = self.end()
            self._since_s = time_s
        if self._best is None or sharp > self._best.sharpness:
            self._best = _Candidate(bgr, sharp, seen)
        return chosen

    def end(self) -> BgrImage | None:
        """The frame that waits for its decision, if it is to be kept: called at the end of the take."""
        best, self._best = self._best, None
        if best is None:
            return None
        if best.sharpness < BLURRED * median(self._sharpness):
            self.left_out["blurred"] += 1
            return None
        if any(cv2.norm(best.seen, kept, cv2.NORM_L1) < ALIKE * kept.size for kept in self._kept):
            self.left_out["alike"] += 1
            return None
        self._kept.append(best.seen)
        return best.bgr


def sharpness(bgr: BgrImage) -> float:
    """Variance of the Laplacian over that of the picture: blur lowers it, more or less light does not."""
    grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    scale = SIDE / max(grey.shape)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var() / (np.var(grey) + 1.0))
