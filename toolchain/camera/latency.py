"""Latency from glass to glass: from an event before the lens to its answer on the screen.

The screen shows a marker that changes with every answer, and the camera looks at the screen. The marker in a frame
tells when the light of that frame left the screen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from toolchain.camera.answering import Answered, Percentiles, Series
from toolchain.camera.drawing import FONT
from toolchain.camera.frames import SYSTEM_CLOCK, BgrImage, Clock
from toolchain.camera.sinks import Delivery, Sink

MARKERS = 100
"""Enough for three seconds at 30 pictures per second."""
WIDTH, HEIGHT, SIDE = 640, 480, 360
WORDS = "Hold the camera before this screen; q ends."


@dataclass(frozen=True)
class GlassToGlass:
    """Milliseconds from showing a marker to showing the answer to it. `capture`: screen, light, sensor and driver;
    `wait`, `resize`, `infer`: the loop; `draw`: the rest.
    """

    frames: int
    total: Percentiles
    capture: Percentiles
    wait: Percentiles
    resize: Percentiles
    infer: Percentiles
    draw: Percentiles


class Display(Protocol):
    """Shows finished pictures, uint8 BGR. They stay as they are."""

    def put(self, picture: BgrImage) -> None: ...

    def idle(self, state: str) -> None: ...

    def close(self) -> None: ...


class LatencyScreen(Sink):
    """Shows one marker after another in `window`, and finds them in the frames that were answered."""

    name = "the window"
    delivery: Delivery = "main"

    def __init__(self, window: Display, clock: Clock = SYSTEM_CLOCK) -> None:
        self._window = window
        self._clock = clock
        self._dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_5X5_100)
        self._detector = cv2.aruco.ArucoDetector(self._dictionary)
        self._number = 0
        self._shown_s: dict[int, float] = {}
        self._last_seen: tuple[int, float] | None = None
        self._frames = 0
        self._times = {name: Series() for name in ("total", "capture", "wait", "resize", "infer", "draw")}

    def result(self) -> GlassToGlass:
        """The measurement so far; `frames` counts those in which a new marker was read."""
        return GlassToGlass(self._frames, **{name: times.percentiles() for name, times in self._times.items()})

    def show(self, answered: Answered) -> None:
        self._number = (self._number + 1) % MARKERS
        self._window.put(self._page(self._number))
        now = self._clock.now()
        self._shown_s[self._number] = now
        frame = answered.frame
        seen = self._newest_marker(frame.bgr, frame.captured_s)
        if seen is None or seen == self._last_seen:
            return  # the same marker once more: the screen has not changed since
        self._last_seen = seen
        parts = {
            "total": 1000 * (now - seen[1]),
            "capture": 1000 * (frame.captured_s - seen[1]),
            "wait": answered.wait_ms,
            "resize": answered.resize_ms,
            "infer": answered.infer_ms,
            "draw": 1000 * (now - frame.captured_s) - answered.wait_ms - answered.resize_ms - answered.infer_ms,
        }
        self._frames += 1
        for name, value in parts.items():
            self._times[name].add(value)

    def idle(self, state: str) -> None:
        if not self._shown_s:
            self._window.put(self._page(self._number))
            self._shown_s[self._number] = self._clock.now()
        self._window.idle("")

    def close(self) -> None:
        self._window.close()

    def _newest_marker(self, bgr: BgrImage, captured_s: float) -> tuple[int, float] | None:
        """The latest marker in a frame that was shown before its capture, and when it was shown.

        This leaves out half-faded markers of earlier pictures, and misread ones that had not been shown yet.
        """
        _, ids, _ = self._detector.detectMarkers(bgr)
        found = [int(number) for number in np.ravel(ids)] if ids is not None else []
        shown = [(number, self._shown_s[number]) for number in found if number in self._shown_s]
        return max((one for one in shown if one[1] <= captured_s), key=lambda one: one[1], default=None)

    def _page(self, number: int) -> BgrImage:
        page = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
        marker = cv2.aruco.generateImageMarker(self._dictionary, number, SIDE)
        top, left = (HEIGHT - SIDE) // 3, (WIDTH - SIDE) // 2
        page[top : top + SIDE, left : left + SIDE] = marker[:, :, None]
        cv2.putText(page, WORDS, (40, HEIGHT - 24), FONT, 0.6, (90, 90, 90), 1, cv2.LINE_AA)
        return page
