"""What a person sees: the picture with its answer, in a window and in a recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from toolchain.camera.drawing import draw, fit
from toolchain.camera.frames import BgrImage
from toolchain.camera.loop import Answered

LARGEST = (1920, 1080)
SMALLEST_SIDE = 160
"""Pictures with a shorter side are enlarged: the text would not fit."""


class Display(Protocol):
    """Takes finished pictures, all of one size. They stay as they are until the next comes."""

    def show(self, picture: BgrImage, time_s: float) -> None: ...

    def idle(self) -> None:
        """Called often while there is nothing new."""


class Screen:
    """Draws each answer once, for all displays. The first frame decides how large the pictures are."""

    def __init__(self, displays: Sequence[Display]) -> None:
        self._displays = displays
        self._size: tuple[int, int] | None = None

    def show(self, answered: Answered) -> None:
        bgr = answered.frame.bgr
        if self._size is None:
            self._size = size_for(*bgr.shape[:2])
        picture = fit(bgr, *self._size)
        draw(picture, answered)
        for display in self._displays:
            display.show(picture, answered.frame.time_s)

    def idle(self) -> None:
        for display in self._displays:
            display.idle()


def size_for(height: int, width: int) -> tuple[int, int]:
    """Width and height of the pictures shown for frames of a size: readable, no larger than a screen, and even,
    as video needs it.
    """
    scale = max(1.0, SMALLEST_SIDE / min(height, width))
    scale = min(scale, LARGEST[0] / width, LARGEST[1] / height)
    return max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2)
