"""Cameras and streams: frames come when they come."""

from __future__ import annotations

import math
import os
from threading import Event

# FFmpeg would write its own lines between ours. OpenCV reads these when it opens a video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
# Seconds that Linux's driver is waited for. With the default of 10, a camera that hangs stays open that long.
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")
# Windows' Media Foundation takes up to half a minute to open a camera with its hardware transforms.
os.environ.setdefault("OPENCV_VIDEOIO_MSMF_ENABLE_HW_TRANSFORMS", "0")
# FFmpeg begins live HLS three segments before its end, up to half a minute ago. The first is OpenCV's own default.
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_flags;prefer_tcp|live_start_index;-1")

import cv2

from toolchain.camera.frames import CABLE, USUAL_FPS, BgrImage, Frame, SourceLostError, UndecodableError
from toolchain.camera.pacing import Clock
from toolchain.camera.sources.codecs import undecodable_stream

SLOWEST_LIVE, SLOWEST_CLIP, FASTEST = 1.0, 0.01, 240.0
"""Frames per second that can be; a time lapse has few."""
MAX_CORRUPT = 10
"""Frames in a row that cannot be had or decoded before the source counts as lost."""
OLDEST_S = 1.0
"""A driver that says a new frame is older than this counts on another clock."""


def plausible_fps(claimed: float, lowest: float = SLOWEST_LIVE) -> float:
    """The rate that a source claims, or the usual one where that cannot be (0, nan, 90000)."""
    return claimed if math.isfinite(claimed) and lowest <= claimed <= FASTEST else USUAL_FPS


class LiveSource:
    """A camera or a stream: frames come when they come, and should not end.

    Frames that cannot be decoded are passed over. With `driver_times`, the moment of capture is what the driver
    noted, where that can be (Linux counts it on the clock that Python calls monotonic).
    """

    live = True
    patience_s = 0.0
    remedy = CABLE

    def __init__(self, name: str, capture: cv2.VideoCapture, clock: Clock, *, driver_times: bool = False) -> None:
        self.name = name
        self.fps = plausible_fps(capture.get(cv2.CAP_PROP_FPS))
        self.given = given(capture)
        self._capture = capture
        self._clock = clock
        self._driver_times = driver_times
        self._number = 0
        self._start: float | None = None
        self._stopped = Event()

    @property
    def resting(self) -> bool:
        return False

    def read(self) -> Frame | None:
        for _ in range(MAX_CORRUPT):
            grabbed = self._capture.grab()
            captured_s = self._captured_s()
            whole, bgr = self._capture.retrieve() if grabbed else (False, None)
            if self._stopped.is_set():
                return None
            if whole and bgr is not None:
                return self._frame(three_channels(bgr), captured_s)
        raise self._lost()

    def _lost(self) -> SourceLostError:
        if self._number:
            return SourceLostError(f"{self.name} gives no frames any more", self.remedy)
        return UndecodableError(*undecodable_stream(self.name, fourcc(self._capture)))

    def _frame(self, bgr: BgrImage, captured_s: float) -> Frame:
        if self._start is None:
            self._start = captured_s
        self._number += 1
        return Frame(self._number - 1, bgr, captured_s, captured_s - self._start)

    def _captured_s(self) -> float:
        """When the frame that was just grabbed was taken; at the latest, when it was handed over."""
        now = self._clock.now()
        if self._driver_times:
            noted = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if 0 <= now - noted < OLDEST_S:
                return noted
        return now

    def stop(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        self._capture.release()


def given(capture: cv2.VideoCapture, slowest: float = SLOWEST_LIVE) -> str:
    """Size, rate and format as the opened source tells them; what it does not tell is left out."""
    width, height = (int(capture.get(code)) for code in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    fps = capture.get(cv2.CAP_PROP_FPS)
    parts = [f"{width} x {height}"] if width > 0 and height > 0 else []
    if plausible_fps(fps, slowest) == fps:
        parts.append(f"{fps:.4g} fps")
    if code := fourcc(capture):
        parts.append(code)
    return ", ".join(parts)


def fourcc(capture: cv2.VideoCapture) -> str:
    """The format of the pixels as it was opened, such as MJPG or YUYV; empty if it does not tell."""
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    letters = code.to_bytes(4, "little", signed=code < 0).decode("latin-1").strip("\0 ")
    return letters if letters.isascii() and letters.isprintable() else ""


def three_channels(picture: object) -> BgrImage:
    """A picture as BGR, whether it came grey or with alpha."""
    bgr: BgrImage = picture  # type: ignore[assignment]
    if bgr.ndim == 3 and bgr.shape[2] == 3:
        return bgr
    code = cv2.COLOR_GRAY2BGR if bgr.ndim == 2 or bgr.shape[2] == 1 else cv2.COLOR_BGRA2BGR
    return cv2.cvtColor(bgr, code)  # type: ignore[return-value]
