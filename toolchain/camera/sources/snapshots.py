"""A camera that gives one picture for each request: fetched again and again."""

from __future__ import annotations

from threading import Event

import cv2

from toolchain.camera.frames import CABLE, BgrImage, Frame, SourceLostError
from toolchain.camera.pacing import Clock, Pacer
from toolchain.camera.sources.live import MAX_CORRUPT
from toolchain.camera.sources.served import fetch
from toolchain.errors import UnreadableImageError
from toolchain.images.preprocess import decode

USUAL_FPS = 1.0
"""Pictures in a second, unless somebody asks for more: cameras make each anew."""
FETCH_LIMIT_S = 10.0
MAX_FAILED = 3
"""Requests in a row that fail before the camera counts as lost."""


class SnapshotSource:
    """Fetches the picture at `url` `fps` times in a second, or as often as the server can. Pictures that are not
    whole are passed over. Raises OSError when there is none at first.
    """

    live = True
    patience_s = MAX_FAILED * FETCH_LIMIT_S
    remedy = CABLE

    def __init__(self, name: str, url: str, clock: Clock, *, fps: float | None = None) -> None:
        self.name = name
        self.fps = fps or USUAL_FPS
        self._url = url
        self._clock = clock
        self._pacer = Pacer(clock)
        self._stopped = Event()
        self._number = 0
        self._start_s = 0.0
        self._ahead: BgrImage | None = self._fetched()
        height, width = self._ahead.shape[:2]
        self.given = f"{width} x {height}, fetched every {1 / self.fps:.3g} s"

    @property
    def resting(self) -> bool:
        return self._pacer.waiting

    def read(self) -> Frame | None:
        due_s = self._number / self.fps
        if self._pacer.behind(due_s) > 0:
            self._pacer.restart(due_s)  # the server is slower than asked for
        if self._pacer.wait(due_s) is None:
            return None
        bgr = self._next()
        now = self._clock.now()
        if not self._number:
            self._start_s = now
        self._number += 1
        return None if self._stopped.is_set() else Frame(self._number - 1, bgr, now, now - self._start_s)

    def stop(self) -> None:
        self._stopped.set()
        self._pacer.stop()

    def close(self) -> None:
        pass

    def _next(self) -> BgrImage:
        if self._ahead is not None:
            bgr, self._ahead = self._ahead, None
            return bgr
        failed = corrupt = 0
        while True:
            try:
                return self._fetched()
            except UnreadableImageError as error:  # it is being written at this moment
                corrupt += 1
                reason = error.message
            except OSError as error:
                failed += 1
                reason = f"{self.name}: {error}"
            if failed == MAX_FAILED or corrupt == MAX_CORRUPT or self._stopped.is_set():
                raise SourceLostError(reason, self.remedy)
            self._clock.wait(self._stopped, 1 / self.fps)

    def _fetched(self) -> BgrImage:
        picture = decode(fetch(self._url, FETCH_LIMIT_S), self.name)
        return cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)  # type: ignore[return-value]
