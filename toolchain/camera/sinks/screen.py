"""What a person sees: the picture with its answer, in a window and in a recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from toolchain.camera.answering import Answered
from toolchain.camera.drawing import draw, draw_state, fit
from toolchain.camera.frames import BgrImage

LARGEST = (1920, 1080)
MIN_SIDE = 160
"""Pictures with a shorter side are enlarged: the text would not fit."""


class Display(Protocol):
    """Takes finished pictures, all of one size. They stay as they are."""

    def show(self, picture: BgrImage, time_s: float) -> None: ...


class Watched(Display, Protocol):
    """A display that somebody watches: it also shows that there is nothing new, and has keys to be looked at."""

    def idle(self, picture: BgrImage | None) -> None:
        """Called often while there is nothing new; `picture`, if any, is to be shown meanwhile."""


class Screen:
    """Draws each answer once, for both displays. The first frame decides how large the pictures are."""

    def __init__(self, window: Watched | None, recorder: Display | None) -> None:
        self._window = window
        self._displays: Sequence[Display] = [display for display in (window, recorder) if display is not None]
        self._size: tuple[int, int] | None = None
        self._latest: BgrImage | None = None

    def show(self, answered: Answered) -> None:
        bgr = answered.frame.bgr
        if self._size is None:
            self._size = size_for(*bgr.shape[:2])
        picture = fit(bgr, *self._size)
        if picture is bgr:
            picture = bgr.copy()  # others look at the frame too
        draw(picture, answered)
        self._latest = picture
        for display in self._displays:
            display.show(picture, answered.frame.time_s)

    def idle(self, state: str) -> None:
        if self._window is None:
            return
        told = None
        if state and self._latest is not None:
            told = self._latest.copy()
            draw_state(told, state)
        self._window.idle(told)


def size_for(height: int, width: int) -> tuple[int, int]:
    """Width and height of the pictures shown for frames of a size: readable, no larger than a screen, and even,
    as video needs it.
    """
    scale = max(1.0, MIN_SIDE / min(height, width))
    scale = min(scale, LARGEST[0] / width, LARGEST[1] / height)
    return max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2)
