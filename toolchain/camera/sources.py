"""Where frames come from: a camera, a video file, a stream, a folder of images."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any

# FFmpeg would write its own lines between ours. OpenCV reads these when it opens a video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
# Seconds that Linux's driver is waited for. With the default of 10, a camera that hangs stays open that long.
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")
# Windows' Media Foundation takes up to half a minute to open a camera with its hardware transforms.
os.environ.setdefault("OPENCV_VIDEOIO_MSMF_ENABLE_HW_TRANSFORMS", "0")

import cv2

from toolchain.camera.frames import USUAL_FPS, BgrImage, Frame, SourceLostError
from toolchain.camera.pacing import Clock, Pacer
from toolchain.errors import BadInputError, UnreadableImageError
from toolchain.preprocess import read as read_image
from toolchain.progress import Reporter, Silent

SLOWEST_LIVE, SLOWEST_CLIP, FASTEST = 1.0, 0.01, 240.0
"""Frames per second that can be; a time lapse has few."""
MOST_SKIPPED_S = 0.5
"""Seconds of a clip that are skipped at once to catch up."""
MOST_SHORT = 0.95
"""Share of the frames that a clip says it has which it must have to count as whole."""
MOST_CORRUPT = 10
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

    def __init__(
        self, name: str, capture: cv2.VideoCapture, clock: Clock, *, given: str = "", driver_times: bool = False
    ) -> None:
        self.name = name
        self.fps = plausible_fps(capture.get(cv2.CAP_PROP_FPS))
        self.given = given or _given(capture)
        self._capture = capture
        self._clock = clock
        self._driver_times = driver_times
        self._number = 0
        self._start: float | None = None
        self._stopped = Event()

    def read(self) -> Frame | None:
        for _ in range(MOST_CORRUPT):
            grabbed = self._capture.grab()
            captured_s = self._captured_s()
            whole, bgr = self._capture.retrieve() if grabbed else (False, None)
            if self._stopped.is_set():
                return None
            if whole and bgr is not None:
                return self._frame(_three_channels(bgr), captured_s)
        raise SourceLostError(f"{self.name} gives no frames any more", "Check cable, power and network.")

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


class ClipSource:
    """A video of finite length. Paced, its frames come as a camera would have taken them: those whose time has
    passed are skipped. Otherwise each comes as soon as it is asked for.
    """

    live = False

    def __init__(
        self, name: str, capture: cv2.VideoCapture, clock: Clock, *, paced: bool, reporter: Reporter | None = None
    ) -> None:
        self.name = name
        self.fps = plausible_fps(capture.get(cv2.CAP_PROP_FPS), SLOWEST_CLIP)
        self.given = _given(capture, SLOWEST_CLIP)
        self._capture = capture
        self._clock = clock
        self._pacer = Pacer(clock) if paced else None
        self._stopped = Event()
        self._reporter = reporter or Silent()
        self._expected = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._number = -1
        self._time_s = 0.0
        self._first_stamp_s: float | None = None
        self._ahead: Any = self._decoded()
        if self._ahead is None:
            capture.release()
            raise BadInputError(
                f"{name} holds no frame that can be decoded",
                "It may be cut off, or hold no pictures. On a server, it must be a file whose index comes first: "
                "ffmpeg -i FILE -c copy -movflags +faststart NEW.mp4",
            )

    def read(self) -> Frame | None:
        bgr = self._next()
        if bgr is None or self._stopped.is_set():
            return None
        captured_s = self._pacer.wait(self._time_s) if self._pacer else self._clock.now()
        if captured_s is None:
            return None
        return Frame(self._number, _three_channels(bgr), captured_s, self._time_s)

    def stop(self) -> None:
        self._stopped.set()
        if self._pacer:
            self._pacer.stop()

    def close(self) -> None:
        self._capture.release()

    def _next(self) -> Any:
        if self._ahead is not None:
            bgr, self._ahead = self._ahead, None
            return bgr
        bgr = self._decoded()
        if bgr is None:
            got = self._number + 1
            # Formats may be wrong about their length by some frames.
            if got < MOST_SHORT * self._expected - self.fps:
                cut = f"after {got} of {self._expected:.0f} frames"
                self._reporter.warn(f"{self.name} ends {cut}; the file may be cut off")
            return None
        return self._caught_up(self._pacer, bgr) if self._pacer else bgr

    def _decoded(self) -> Any:
        """The next frame; its number and its time become those of the source."""
        whole, bgr = self._capture.read()
        if not whole:
            return None
        self._number += 1
        stamp_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self._first_stamp_s is None:
            self._first_stamp_s = stamp_s
        elif stamp_s - self._first_stamp_s > self._time_s:
            self._time_s = stamp_s - self._first_stamp_s
        else:  # a format without time stamps
            self._time_s += 1 / self.fps
        return bgr

    def _caught_up(self, pacer: Pacer, bgr: Any) -> Any:
        """Skip what is late by a frame or more: its moment has passed. A clip's last frame is never skipped."""
        for _ in range(max(1, round(self.fps * MOST_SKIPPED_S))):
            if pacer.behind(self._time_s) <= 1 / self.fps or self._stopped.is_set():
                return bgr
            later = self._decoded()
            if later is None:
                return bgr
            bgr = later
        # This machine decodes more slowly than the clip plays, or it slept: the clip goes on from here.
        pacer.restart(self._time_s)
        return bgr


class ImagesSource:
    """Image files, one after the other, each shown for some seconds. Unreadable ones are named and skipped."""

    live = False

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
        self.given = f"{len(paths)} images, {seconds_per_image:g} s each"
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
        if self._pacer:
            self._pacer.wait(time_s)
        if self._stopped.is_set():
            return None
        self._number += 1
        return Frame(self._number - 1, bgr, self._clock.now(), time_s)

    def stop(self) -> None:
        self._stopped.set()
        if self._pacer:
            self._pacer.stop()

    def close(self) -> None:
        pass

    def _next(self) -> BgrImage | None:
        for path in self._paths:
            if (bgr := self._read_image(path)) is not None:
                return bgr
        if not self._number:
            raise BadInputError(f"{self.name}: no image can be read", "Look at the files; they may be damaged.")
        return None

    def _read_image(self, path: Path) -> BgrImage | None:
        try:
            return cv2.cvtColor(read_image(path), cv2.COLOR_RGB2BGR)  # type: ignore[return-value]
        except UnreadableImageError as error:
            self._reporter.warn(f"skipped: {error.message}")
            return None


def _given(capture: cv2.VideoCapture, slowest: float = SLOWEST_LIVE) -> str:
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


def _three_channels(picture: object) -> BgrImage:
    bgr: BgrImage = picture  # type: ignore[assignment]
    if bgr.ndim == 3 and bgr.shape[2] == 3:
        return bgr
    code = cv2.COLOR_GRAY2BGR if bgr.ndim == 2 or bgr.shape[2] == 1 else cv2.COLOR_BGRA2BGR
    return cv2.cvtColor(bgr, code)  # type: ignore[return-value]
