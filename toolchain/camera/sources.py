"""Where frames come from: a camera, a video file, a stream, a folder of images."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from threading import Event

# FFmpeg would write its own lines between ours. OpenCV reads this when it opens the first video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2

from toolchain.camera.frames import USUAL_FPS, BgrImage, Frame, SourceLostError
from toolchain.camera.pacing import Clock, Pacer
from toolchain.errors import BadInputError, UnreadableImageError
from toolchain.preprocess import read as read_image
from toolchain.progress import Reporter

PLAUSIBLE_FPS = (1.0, 240.0)


def plausible_fps(claimed: float) -> float:
    """The rate that a source claims, or the usual one where that cannot be (files and drivers say 0, nan, 90000)."""
    lowest, highest = PLAUSIBLE_FPS
    return claimed if math.isfinite(claimed) and lowest <= claimed <= highest else USUAL_FPS


class LiveSource:
    """A camera or a stream: frames come when they come, and should not end."""

    def __init__(self, name: str, capture: cv2.VideoCapture, clock: Clock) -> None:
        self.name = name
        self.fps = plausible_fps(capture.get(cv2.CAP_PROP_FPS))
        self._capture = capture
        self._clock = clock
        self._number = 0
        self._start: float | None = None
        self._stopped = Event()

    def read(self) -> Frame | None:
        if self._stopped.is_set():
            return None
        # The moment of capture is when the driver hands the frame over, before it is decoded.
        grabbed = self._capture.grab()
        captured_s = self._clock.now()
        whole, bgr = self._capture.retrieve() if grabbed else (False, None)
        if not whole or bgr is None:
            if self._stopped.is_set():
                return None
            raise SourceLostError(f"{self.name} gives no frames any more", "Check cable, power and network.")
        if self._start is None:
            self._start = captured_s
        frame = Frame(self._number, _three_channels(bgr), captured_s, captured_s - self._start)
        self._number += 1
        return frame

    def stop(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        self._capture.release()


class ClipSource:
    """A video of finite length. Paced, its frames come as a camera would have taken them: those whose time has
    passed are skipped. Otherwise each comes as soon as it is asked for.
    """

    def __init__(self, name: str, capture: cv2.VideoCapture, clock: Clock, *, paced: bool) -> None:
        self.name = name
        self.fps = plausible_fps(capture.get(cv2.CAP_PROP_FPS))
        self._capture = capture
        self._clock = clock
        self._pacer = Pacer(clock) if paced else None
        self._stopped = Event()
        self._number = 0
        whole, self._ahead = capture.read()
        if not whole:
            capture.release()
            raise BadInputError(f"{name} holds no frame that can be decoded", "Copy it again, or convert it to MP4.")

    def read(self) -> Frame | None:
        bgr = self._decode()
        if bgr is None or self._stopped.is_set():
            return None
        time_s = self._number / self.fps
        captured_s = self._pacer.wait(time_s) if self._pacer else self._clock.now()
        if captured_s is None:
            return None
        frame = Frame(self._number, _three_channels(bgr), captured_s, time_s)
        self._number += 1
        return frame

    def stop(self) -> None:
        self._stopped.set()
        if self._pacer:
            self._pacer.stop()

    def close(self) -> None:
        self._capture.release()

    def _decode(self) -> BgrImage | None:
        if self._ahead is not None:
            bgr, self._ahead = self._ahead, None
            return bgr  # type: ignore[return-value]
        # What is late by a frame or more was never going to be shown; but the last frame of a clip always is.
        whole, bgr = self._capture.read()
        while whole and self._pacer and self._pacer.behind(self._number / self.fps) > 1 / self.fps:
            more, later = self._capture.read()
            if not more:
                break
            bgr = later
            self._number += 1
        return bgr if whole else None  # type: ignore[return-value]


class ImagesSource:
    """Image files, one after the other, each shown for some seconds. Unreadable ones are named and skipped."""

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        clock: Clock,
        *,
        seconds_per_image: float,
        paced: bool,
        reporter: Reporter,
    ) -> None:
        self.name = name
        self.fps = 1 / seconds_per_image
        self._paths = iter(paths)
        self._seconds = seconds_per_image
        self._clock = clock
        self._pacer = Pacer(clock) if paced else None
        self._stopped = Event()
        self._reporter = reporter
        self._number = 0

    def read(self) -> Frame | None:
        bgr = self._next()
        time_s = self._number * self._seconds
        if bgr is None:
            if self._pacer and self._number:
                self._pacer.wait(time_s)  # the last image is shown as long as the others
            return None
        captured_s = self._pacer.wait(time_s) if self._pacer else self._clock.now()
        if captured_s is None or self._stopped.is_set():
            return None
        self._number += 1
        return Frame(self._number - 1, bgr, captured_s, time_s)

    def stop(self) -> None:
        self._stopped.set()
        if self._pacer:
            self._pacer.stop()

    def close(self) -> None:
        pass

    def _next(self) -> BgrImage | None:
        for path in self._paths:
            with contextlib.suppress(_Skipped):
                return self._read(path)
        return None

    def _read(self, path: Path) -> BgrImage:
        try:
            return cv2.cvtColor(read_image(path), cv2.COLOR_RGB2BGR)  # type: ignore[return-value]
        except UnreadableImageError as error:
            self._reporter.warn(f"skipped: {error.message}")
            raise _Skipped from None


class _Skipped(Exception):
    pass


def _three_channels(picture: object) -> BgrImage:
    bgr: BgrImage = picture  # type: ignore[assignment]
    if bgr.ndim == 3 and bgr.shape[2] == 3:
        return bgr
    code = cv2.COLOR_GRAY2BGR if bgr.ndim == 2 or bgr.shape[2] == 1 else cv2.COLOR_BGRA2BGR
    return cv2.cvtColor(bgr, code)  # type: ignore[return-value]
