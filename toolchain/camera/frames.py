"""A frame, its moment, and what gives frames."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field, replace
from statistics import median
from threading import Event
from typing import Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from toolchain.errors import BadInputError, MissingError
from toolchain.system.progress import Reporter, Silent

CABLE = "Check cable, power and network."
"""A hint for a camera or stream that gives nothing."""
DISK = "Look at the disk or server that it lies on."
"""A hint for a file that cannot be read in time."""

BgrImage = NDArray[np.uint8]
"""uint8 [height, width, 3], BGR: as OpenCV captures, draws and writes it."""

USUAL_FPS = 30.0
"""Frames per second of a source that does not tell its rate."""

MAX_GAP_S = 2.0
"""Seconds between two frames of a file beyond which its time stamps are taken for a jump."""
USUAL_GAPS = 3
"""A gap is a jump if it is longer than this many usual gaps: frames of a time lapse may be minutes apart."""
GAPS_KEPT = 25


@dataclass(frozen=True)
class Frame:
    """One picture. `number` counts the frames of the source from 0, including those that were never answered.

    `captured_s` is when it was captured, in seconds of the clock. `time_s` counts from the first frame; for a file,
    it is the file's own time.
    """

    number: int
    bgr: BgrImage
    captured_s: float
    time_s: float


class SourceLostError(MissingError):
    """A camera or stream stopped giving frames. Exit code 3."""


class UndecodableError(SourceLostError):
    """A camera or stream sends data, but no frame of it could be decoded."""


@dataclass(frozen=True)
class RequestedFormat:
    """The format that a camera is asked for; it gives what it can. `size` is width and height in pixels,
    `pixel_format` a code of four letters, such as MJPG."""

    size: tuple[int, int] | None = None
    fps: float | None = None
    pixel_format: str | None = None


@dataclass(frozen=True)
class Turn:
    """How frames are turned before anything else sees them: clockwise by `degrees`, then mirrored left to right."""

    degrees: Literal[0, 90, 180, 270] = 0
    mirror: bool = False

    def __post_init__(self) -> None:
        if self.degrees not in (0, *_ROTATIONS):
            raise BadInputError(
                f"frames cannot be turned by {self.degrees!r}", "Turn them by 90, 180 or 270 degrees."
            )

    def __call__(self, frame: Frame) -> Frame:
        """The frame with its pixels turned; the same frame where there is nothing to do."""
        if not (self.degrees or self.mirror):
            return frame
        bgr = np.asarray(cv2.rotate(frame.bgr, _ROTATIONS[self.degrees])) if self.degrees else frame.bgr
        return replace(frame, bgr=np.asarray(cv2.flip(bgr, 1) if self.mirror else bgr, np.uint8))

    def __str__(self) -> str:
        parts = [f"turned by {self.degrees} degrees"] if self.degrees else []
        return " and ".join([*parts, "mirrored"] if self.mirror else parts)


_ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True)
class CaptureOptions:
    """How frames are read. With `every_frame`, files are not paced, and no frame is skipped."""

    every_frame: bool = False
    seconds_per_image: float = 2.0
    requested: RequestedFormat = field(default_factory=RequestedFormat)
    insecure: bool = False
    """Whether any certificate of a server is accepted."""
    turn: Turn = field(default_factory=Turn)


class Clock(Protocol):
    """Seconds on a clock that never goes back, and waiting by it."""

    def now(self) -> float: ...

    def wait(self, event: Event, seconds: float) -> bool:
        """Wait until `event` is set, `seconds` at most; return whether it is set."""


class SystemClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        return time.monotonic()

    def wait(self, event: Event, seconds: float) -> bool:
        return event.wait(max(0.0, seconds))


SYSTEM_CLOCK = SystemClock()


class FrameSource(ABC):
    """A camera, a clip, a stream or a folder. `read` and `close` are called from one thread, `stop` from any.

    A source with a `pacer` gives each frame when it is due.
    """

    fps: float
    """Frames per second when all is well."""
    given: str
    """What it gives, in a few words: size, rate, format."""
    live: bool = True
    """Whether it is a camera or a stream, which should never end."""
    patience_s: float = 0.0
    """How many seconds it may be silent when all is well."""
    remedy: str = CABLE
    """A hint for when it gives nothing."""

    def __init__(self, name: str, clock: Clock, pacer: Pacer | None = None) -> None:
        self.name = name
        """For messages; without the password of a stream."""
        self._clock = clock
        self._pacer = pacer
        self._stopped = Event()
        self._number = 0
        """The number of the next frame."""

    @property
    def resting(self) -> bool:
        """Whether `read` only waits until the next frame is due, not for the source."""
        return self._pacer is not None and self._pacer.waiting

    @abstractmethod
    def read(self) -> Frame | None:
        """Wait for the next frame; None at the end. Raises SourceLostError when it should have gone on."""

    def stop(self) -> None:
        """Make a `read` that waits return None soon."""
        self._stopped.set()
        if self._pacer:
            self._pacer.stop()

    def close(self) -> None:  # noqa: B027 - only some hold anything
        """Release the device or file."""


class Pacer:
    """Releases the frames of a file at the moments when a camera would have captured them."""

    def __init__(self, clock: Clock) -> None:
        self.waiting: bool = False
        """Whether a thread is waiting in `wait`."""
        self._clock = clock
        self._stopped = Event()
        self._start: float | None = None

    def behind(self, time_s: float) -> float:
        """By how many seconds the frame at `time_s` of the clip is late; negative if it is early."""
        return 0.0 if self._start is None else self._clock.now() - self._start - time_s

    def wait(self, time_s: float) -> float | None:
        """Wait until the frame at `time_s` is due, and return that moment by the clock. None: stopped meanwhile.

        The first call starts the clip.
        """
        if self._start is None:
            self._start = self._clock.now() - time_s
        moment = self._start + time_s
        self.waiting = True
        try:
            while (left := moment - self._clock.now()) > 0 and not self._stopped.is_set():
                self._clock.wait(self._stopped, left)
        finally:
            self.waiting = False
        return None if self._stopped.is_set() else moment

    def restart(self, time_s: float) -> None:
        """Continue the clip from `time_s`, now."""
        self._start = self._clock.now() - time_s

    def stop(self) -> None:
        """End a wait. May be called from another thread."""
        self._stopped.set()


class Timeline:
    """Turns the time stamps of a file into times that always advance.

    A stamp that does not advance counts as one usual interval. A jump ahead of several seconds, as between joined
    recordings or in those of a motion detector, is shortened to `MAX_GAP_S`; a warning says so once.
    """

    def __init__(self, name: str, fps: float, reporter: Reporter | None = None) -> None:
        self.time_s: float = 0.0
        """The time of the last frame, in seconds from 0."""
        self._name = name
        self._interval_s = 1 / fps
        self._reporter = reporter or Silent()
        self._stamp_s: float | None = None
        self._offset_s = 0.0
        self._gaps: deque[float] = deque(maxlen=GAPS_KEPT)
        self._told = False

    @property
    def interval_s(self) -> float:
        """The usual time between two frames, in seconds."""
        return median(self._gaps) if self._gaps else self._interval_s

    def advance(self, stamp_s: float) -> float:
        """The time of the frame with the stamp `stamp_s`."""
        if self._stamp_s is None:
            self._offset_s = stamp_s
        else:
            gap_s = stamp_s - self._offset_s - self.time_s
            longest_s = self._longest_gap_s()
            if gap_s > longest_s:
                self._warn_once(gap_s)
                gap_s = longest_s
            elif gap_s <= 0:  # a format without time stamps, or a recording that begins again
                gap_s = self._interval_s
                if stamp_s < self._stamp_s - MAX_GAP_S:
                    self._offset_s = stamp_s - self.time_s - gap_s
            elif stamp_s > self._stamp_s:
                self._gaps.append(gap_s)
            self.time_s += gap_s
            self._offset_s = max(self._offset_s, stamp_s - self.time_s)
        self._stamp_s = stamp_s
        return self.time_s

    def _longest_gap_s(self) -> float:
        # Before the first gaps, only the average over the whole file is known, which includes jumps.
        usual_s = USUAL_GAPS * median(self._gaps) if self._gaps else 1.5 * self._interval_s
        return max(MAX_GAP_S, usual_s)

    def _warn_once(self, gap_s: float) -> None:
        if self._told:
            return
        self._told = True
        jump = f"jump by {gap_s:.0f} s after {self.time_s:.1f} s"
        self._reporter.warn(f"{self._name}: its time stamps {jump}; such jumps are shortened")
