"""Videos through OpenCV: cameras and streams, whose frames come when they come, and files."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

# FFmpeg would write its own lines between ours. OpenCV reads these when it opens a video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
# Seconds that Linux's driver is waited for. With the default of 10, a camera that hangs stays open that long.
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")
# Windows' Media Foundation takes up to half a minute to open a camera with its hardware transforms.
os.environ.setdefault("OPENCV_VIDEOIO_MSMF_ENABLE_HW_TRANSFORMS", "0")
# FFmpeg begins live HLS three segments before its end, up to half a minute ago. The first is OpenCV's own default.
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_flags;prefer_tcp|live_start_index;-1")

import cv2

from toolchain.camera.frames import (
    CABLE,
    DISK,
    USUAL_FPS,
    BgrImage,
    Clock,
    Frame,
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
"""Of the four letters by which containers know them."""


SLOWEST_LIVE, SLOWEST_CLIP, FASTEST = 1.0, 0.01, 240.0
"""Frames per second that can be; a time lapse has few."""
MAX_CORRUPT = 10
"""Frames in a row that cannot be had or decoded before the source counts as lost."""
OLDEST_S = 1.0
"""A driver that says a new frame is older than this counts on another clock."""
MAX_SKIPPED_S = 0.5
"""Seconds of a clip that are skipped at once to catch up."""
MAX_SHORT = 0.95
"""Share of the frames that a clip says it has which it must have to count as whole."""


def codec_of(fourcc: str) -> str:
    """A codec as people know it; its four letters where nobody does; empty where there are none."""
    return NAMES.get(fourcc.lower(), fourcc)


def undecodable(name: str, fourcc: str, path: Path | None = None) -> BadInputError:
    """What to say of a video that opens and gives no frame. With PyAV, whose FFmpeg decodes more, it is known
    whether the file `path` is at fault or this OpenCV."""
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
    """What to say of a stream that opens and gives no frame, and what to do."""
    codec = codec_of(fourcc)
    told = f"; its codec is {codec}" if codec else ""
    return f"{name} gives no frame that can be decoded{told}", "Let the sender use H.264 or motion JPEG."


def _codec_that_pyav_decodes(path: Path) -> str | None:
    """The codec of a file of which PyAV, where it is installed, decodes a frame."""
    with suppress(ImportError, OSError, ValueError, IndexError):  # FFmpeg's own errors are OSErrors and ValueErrors
        import av

        with files.encodable(path) as named, av.open(str(named)) as container:
            if next(container.decode(video=0), None) is not None:
                return str(container.streams.video[0].codec_context.name)
    return None


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


class ClipSource:
    """A video of finite length. Paced, its frames come as a camera would have taken them: those whose time has
    passed are skipped. Otherwise each comes as soon as it is asked for. `path` is where it lies on this machine.
    """

    live = False
    patience_s = 0.0
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
        self.name = name
        self.fps = plausible_fps(capture.get(cv2.CAP_PROP_FPS), SLOWEST_CLIP)
        self.given = given(capture, SLOWEST_CLIP)
        self._capture = capture
        self._clock = clock
        self._pacer = Pacer(clock) if paced else None
        self._stopped = Event()
        self._reporter = reporter or Silent()
        self._expected = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._number = -1
        self._times = Timeline(name, self.fps, reporter)
        self._ahead: Any = self._decoded()
        if self._ahead is None:
            code = fourcc(capture)
            capture.release()
            raise undecodable(name, code, path)

    @property
    def resting(self) -> bool:
        return self._pacer is not None and self._pacer.waiting

    def read(self) -> Frame | None:
        bgr = self._next()
        if bgr is None or self._stopped.is_set():
            return None
        captured_s = self._pacer.wait(self._times.time_s) if self._pacer else self._clock.now()
        if captured_s is None:
            return None
        return Frame(self._number, three_channels(bgr), captured_s, self._times.time_s)

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
            if got < MAX_SHORT * self._expected - self.fps:
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
        self._times.advance(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        return bgr

    def _caught_up(self, pacer: Pacer, bgr: Any) -> Any:
        """Skip what is late by a frame or more: its moment has passed. A clip's last frame is never skipped."""
        # The rate of a file whose time stamps jump is far from that of its frames.
        interval_s = min(1 / self.fps, self._times.interval_s)
        for _ in range(max(1, round(MAX_SKIPPED_S / interval_s))):
            if pacer.behind(self._times.time_s) <= interval_s or self._stopped.is_set():
                return bgr
            later = self._decoded()
            if later is None:
                return bgr
            bgr = later
        # This machine decodes more slowly than the clip plays, or it slept: the clip goes on from here.
        pacer.restart(self._times.time_s)
        return bgr
