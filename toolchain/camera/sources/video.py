"""Videos through OpenCV: cameras, streams and files."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

# OpenCV reads these variables when it opens a video. FFmpeg would write its own lines between ours.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
# How many seconds to wait for a driver of Linux. A camera that hangs stays open that long; the default is 10.
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")
# Windows' Media Foundation takes up to half a minute to open a camera with its hardware transforms.
os.environ.setdefault("OPENCV_VIDEOIO_MSMF_ENABLE_HW_TRANSFORMS", "0")
# FFmpeg begins live HLS three segments before its end, up to half a minute ago. The first is OpenCV's own default.
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_flags;prefer_tcp|live_start_index;-1")

import cv2
import numpy as np

from toolchain.camera.frames import (
    DISK,
    USUAL_FPS,
    BgrImage,
    CaptureOptions,
    Clock,
    Frame,
    FrameSource,
    Pacer,
    SourceLostError,
    Timeline,
    UndecodableError,
)
from toolchain.errors import BadInputError
from toolchain.system import files
from toolchain.system.progress import Reporter, Silent

NAMES = {
    "av01": "AV1",
    "avc1": "H.264",
    "h264": "H.264",
    "hevc": "H.265 (HEVC)",
    "hvc1": "H.265 (HEVC)",
    "hev1": "H.265 (HEVC)",
    "vvc1": "H.266 (VVC)",
    "vp80": "VP8",
    "vp90": "VP9",
    "vp09": "VP9",
    "mjpg": "motion JPEG",
}
"""Names of codecs by the four letters that containers use."""

MIN_LIVE_FPS, MIN_CLIP_FPS, MAX_FPS = 1.0, 0.01, 240.0
"""Plausible frames per second; a time lapse has few."""
MAX_CORRUPT = 10
"""After so many frames in a row that cannot be read or decoded, the source counts as lost."""
MAX_AGE_S = 1.0
"""If a driver says that a new frame is older than this, it uses another clock."""
MAX_SKIPPED_S = 0.5
"""How many seconds of a clip are skipped at once to catch up."""
MAX_SHORT = 0.95
"""A clip with a smaller share of its announced frames counts as cut off."""


def codec_of(fourcc: str) -> str:
    """The name of a codec, or its four letters if it has no name here; empty if there are none."""
    return NAMES.get(fourcc.lower(), fourcc)


def undecodable(name: str, fourcc: str, path: Path | None = None) -> BadInputError:
    """The error for a video that opens but gives no frame. With PyAV, whose FFmpeg decodes more, it says whether
    the file `path` or this OpenCV is at fault."""
    codec = codec_of(fourcc)
    by_pyav = _codec_that_pyav_decodes(path) if path else None
    convert = "ffmpeg -i FILE -c:v libx264 NEW.mp4"
    if by_pyav:
        return BadInputError(
            f"{name}: this OpenCV cannot decode its codec, {codec or by_pyav}", f"Convert it: {convert}"
        )
    return BadInputError(
        f"{name} holds no frame that can be decoded" + (f"; its codec is {codec}" if codec else ""),
        f"This OpenCV may lack the codec ({convert}), or the file is cut off. On a server, its index must come "
        "first: ffmpeg -i FILE -c copy -movflags +faststart NEW.mp4",
    )


def undecodable_stream(name: str, fourcc: str) -> tuple[str, str]:
    """Message and hint for a stream that opens but gives no frame."""
    codec = codec_of(fourcc)
    told = f"; its codec is {codec}" if codec else ""
    return f"{name} gives no frame that can be decoded{told}", "Let the sender use H.264 or motion JPEG."


def _codec_that_pyav_decodes(path: Path) -> str | None:
    """The codec of a file, if PyAV is installed and decodes a frame of it."""
    try:
        import av
    except ImportError:
        return None
    with (
        suppress(av.FFmpegError, OSError, ValueError, IndexError),
        files.encodable(path) as named,
        av.open(str(named)) as container,
    ):
        if next(container.decode(video=0), None) is not None:
            return str(container.streams.video[0].codec_context.name)
    return None


def plausible_fps(claimed: float, lowest: float = MIN_LIVE_FPS) -> float:
    """The rate that a source claims, or the usual one if the claim is not plausible (0, nan, 90000)."""
    return claimed if math.isfinite(claimed) and lowest <= claimed <= MAX_FPS else USUAL_FPS


def refuse_every_frame(name: str, options: CaptureOptions) -> None:
    """Raise BadInputError if a live source is to be read as a file is."""
    if options.every_frame:
        raise BadInputError(f"{name} cannot be read as fast as possible", "Live sources have a rate of their own.")


class LiveSource(FrameSource):
    """A camera or a stream, which should never end.

    Frames that cannot be decoded are skipped. With `driver_times`, the time of capture is that of the driver, if it
    is plausible (on Linux, drivers use the clock that Python calls monotonic).
    """

    def __init__(self, name: str, capture: cv2.VideoCapture, clock: Clock, *, driver_times: bool = False) -> None:
        super().__init__(name, clock)
        self.fps: float = plausible_fps(capture.get(cv2.CAP_PROP_FPS))
        self.given: str = given(capture)
        self._capture = capture
        self._driver_times = driver_times
        self._start: float | None = None

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
        """When the frame that was just grabbed was captured, or else now."""
        now = self._clock.now()
        if self._driver_times:
            noted = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if 0 <= now - noted < MAX_AGE_S:
                return noted
        return now

    def close(self) -> None:
        self._capture.release()


def given(capture: cv2.VideoCapture, slowest: float = MIN_LIVE_FPS) -> str:
    """Size, rate and format of an opened source, as far as it tells them."""
    width, height = (int(capture.get(code)) for code in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    fps = capture.get(cv2.CAP_PROP_FPS)
    parts = [f"{width} x {height}"] if width > 0 and height > 0 else []
    if plausible_fps(fps, slowest) == fps:
        parts.append(f"{fps:.4g} fps")
    if code := fourcc(capture):
        parts.append(code)
    return ", ".join(parts)


def fourcc(capture: cv2.VideoCapture) -> str:
    """The format of an opened source, such as MJPG or YUYV; empty if it does not tell."""
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    letters = code.to_bytes(4, "little", signed=code < 0).decode("latin-1").strip("\0 ")
    return letters if letters.isascii() and letters.isprintable() else ""


def three_channels(picture: object) -> BgrImage:
    """A picture as BGR of 8 bits, also if it was grey, had alpha or 16 bits."""
    bgr: BgrImage = picture  # type: ignore[assignment]
    if bgr.dtype == np.uint16:
        bgr = (bgr >> 8).astype(np.uint8)
    if bgr.ndim == 3 and bgr.shape[2] == 3:
        return bgr
    code = cv2.COLOR_GRAY2BGR if bgr.ndim == 2 or bgr.shape[2] == 1 else cv2.COLOR_BGRA2BGR
    return cv2.cvtColor(bgr, code)  # type: ignore[return-value]


class ClipSource(FrameSource):
    """A video of finite length. With `paced`, its frames come when a camera would have captured them, and late ones
    are skipped. Otherwise each comes at once. `path` is the file, if it is on this machine.
    """

    live = False
    remedy = DISK

    def __init__(
        self,
        name: str,
        capture: cv2.VideoCapture,
        clock: Clock,
        *,
        paced: bool,
        reporter: Reporter | None = None,
        path: Path | None = None,
    ) -> None:
        super().__init__(name, clock, Pacer(clock) if paced else None)
        self.fps: float = plausible_fps(capture.get(cv2.CAP_PROP_FPS), MIN_CLIP_FPS)
        self.given: str = given(capture, MIN_CLIP_FPS)
        self._capture = capture
        self._reporter = reporter or Silent()
        self._expected = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._times = Timeline(name, self.fps, reporter)
        self._ahead: Any = self._decoded()
        if self._ahead is None:
            code = fourcc(capture)
            capture.release()
            raise undecodable(name, code, path)

    def read(self) -> Frame | None:
        bgr = self._next()
        if bgr is None or self._stopped.is_set():
            return None
        captured_s = self._pacer.wait(self._times.time_s) if self._pacer else self._clock.now()
        if captured_s is None:
            return None
        return Frame(self._number - 1, three_channels(bgr), captured_s, self._times.time_s)

    def close(self) -> None:
        self._capture.release()

    def _next(self) -> Any:
        if self._ahead is not None:
            bgr, self._ahead = self._ahead, None
            return bgr
        bgr = self._decoded()
        if bgr is None:
            # The announced length may be wrong by some frames.
            if self._number < MAX_SHORT * self._expected - self.fps:
                cut = f"after {self._number} of {self._expected:.0f} frames"
                self._reporter.warn(f"{self.name} ends {cut}; the file may be cut off")
            return None
        return self._caught_up(self._pacer, bgr) if self._pacer else bgr

    def _decoded(self) -> Any:
        """Decode the next frame, and advance number and time."""
        whole, bgr = self._capture.read()
        if not whole:
            return None
        self._number += 1
        self._times.advance(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        return bgr

    def _caught_up(self, pacer: Pacer, bgr: Any) -> Any:
        """Skip frames that are late by one interval or more, but never the last one of the clip."""
        # If time stamps jump, the rate of the file is far from that of its frames.
        interval_s = min(1 / self.fps, self._times.interval_s)
        for _ in range(max(1, round(MAX_SKIPPED_S / interval_s))):
            if pacer.behind(self._times.time_s) <= interval_s or self._stopped.is_set():
                return bgr
            later = self._decoded()
            if later is None:
                return bgr
            bgr = later
        # This machine decodes more slowly than the clip plays, or it slept. The clip continues from here.
        pacer.restart(self._times.time_s)
        return bgr
