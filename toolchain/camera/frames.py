"""A frame, its moment, and what gives frames."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from statistics import median
from threading import Event
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from toolchain.errors import MissingError
from toolchain.system.progress import Reporter, Silent

CABLE = "Check cable, power and network."
"""What to look at where a camera or stream gives nothing."""
DISK = "Look at the disk or server that it lies on."
"""What to look at where a file does not come."""

BgrImage = NDArray[np.uint8]
"""uint8 [height, width, 3], BGR: as OpenCV captures, draws and writes it."""

USUAL_FPS = 30.0
"""Where a source does not say how many frames it has in a second."""


MAX_GAP_S = 2.0
"""Seconds between two frames of a file beyond which its time stamps are taken for a jump."""
USUAL_GAPS = 3
"""A gap of fewer usual ones is none: a time lapse may have minutes between its frames."""
GAPS_KEPT = 25


@dataclass(frozen=True)
class Frame:
    """One picture. `number` counts the source's frames from 0, those that nobody looked at included.

    `captured_s` is the moment of capture by the clock; `time_s` counts from the first frame, in the clip's own
    time where it is a file.
    """

    number: int
    bgr: BgrImage
    captured_s: float
    time_s: float


class SourceLostError(MissingError):
    """A camera or stream that gave frames and gives none any more. Exit code 3."""


class UndecodableError(SourceLostError):
    """A camera or stream that sends something, and never gave a frame."""


class FrameSource(Protocol):
    """A camera, a clip, a stream or a folder. `read` and `close` are called from one thread, `stop` from any."""

    name: str
    """As a person knows it; without the password of a stream."""
    fps: float
    """Frames in a second when all is well."""
    given: str
    """What it gives, in a few words: size, rate, format."""
    live: bool
    """Whether it shows the present and should never end: a camera or a stream."""
    patience_s: float
    """Seconds for which it may give nothing when all is well."""
    remedy: str
    """What to look at when it gives nothing."""

    @property
    def resting(self) -> bool:
        """Whether `read` waits for the moment of a frame that it has, and not for the source."""

    def read(self) -> Frame | None:
        """Wait for the next frame; None at the end. Raises SourceLostError when it should have gone on."""

    def stop(self) -> None:
        """Make a `read` that waits come back soon, with None."""

    def close(self) -> None:
        """Give the device or file back."""


class Clock(Protocol):
    """Seconds on a clock that never goes back, and waiting by it."""

    def now(self) -> float: ...

    def wait(self, event: Event, seconds: float) -> bool:
        """Wait until `event` is set, `seconds` at most; tell whether it is."""


class SystemClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        return time.monotonic()

    def wait(self, event: Event, seconds: float) -> bool:
        return event.wait(max(0.0, seconds))


SYSTEM_CLOCK = SystemClock()


class Pacer:
    """Lets the frames of a file go at the moments when a camera would have taken them."""

    def __init__(self, clock: Clock) -> None:
        self.waiting = False
        """Whether somebody waits here for a moment to come."""
        self._clock = clock
        self._stopped = Event()
        self._start: float | None = None

    def behind(self, time_s: float) -> float:
        """Seconds by which the frame at `time_s` of the clip is late already; negative when it is early."""
        return 0.0 if self._start is None else self._clock.now() - self._start - time_s

    def wait(self, time_s: float) -> float | None:
        """Wait for the moment of the frame at `time_s` and return it, by the clock. None: stopped meanwhile.

        The first call sets the clip going.
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
        """Let the clip go on from `time_s`, now."""
        self._start = self._clock.now() - time_s

    def stop(self) -> None:
        """End a wait; may be called from another thread."""
        self._stopped.set()


class Timeline:
    """Makes times that go on evenly out of a file's time stamps.

    Stamps that stand still or go back are counted by the usual rate. Those that jump ahead by more than some
    seconds, as where recordings were joined or nothing moved before a recorder that waits for movement, are
    believed for `MAX_GAP_S` only; that is said once.
    """

    def __init__(self, name: str, fps: float, reporter: Reporter | None = None) -> None:
        self.time_s = 0.0
        """The time of the last frame, from 0 on."""
        self._name = name
        self._interval_s = 1 / fps
        self._reporter = reporter or Silent()
        self._stamp_s: float | None = None
        self._offset_s = 0.0
        self._gaps: deque[float] = deque(maxlen=GAPS_KEPT)
        self._told = False

    @property
    def interval_s(self) -> float:
        """Seconds between two frames, as a rule."""
        return median(self._gaps) if self._gaps else self._interval_s

    def advance(self, stamp_s: float) -> float:
        """The time of the frame that is stamped so."""
        if self._stamp_s is None:
            self._offset_s = stamp_s
        else:
            gap_s = stamp_s - self._offset_s - self.time_s
            longest_s = self._longest_gap_s()
            if gap_s > longest_s:
                self._tell(gap_s)
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
        # Before there are any, all that is known is the average over the whole file, jumps included.
        usual_s = USUAL_GAPS * median(self._gaps) if self._gaps else 1.5 * self._interval_s
        return max(MAX_GAP_S, usual_s)

    def _tell(self, gap_s: float) -> None:
        if self._told:
            return
        self._told = True
        jump = f"jump by {gap_s:.0f} s after {self.time_s:.1f} s"
        self._reporter.warn(f"{self._name}: its time stamps {jump}; such jumps are shortened")
