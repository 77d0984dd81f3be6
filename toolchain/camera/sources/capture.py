"""The threads that read a source. They keep the newest frame only, and bring back a source that was lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Event

import numpy as np
from numpy.typing import NDArray

from toolchain.camera.frames import (
    SYSTEM_CLOCK,
    BgrImage,
    Clock,
    Frame,
    FrameSource,
    SourceLostError,
    Turn,
    UndecodableError,
)
from toolchain.camera.threads import DropOldestQueue, Worker
from toolchain.errors import EdgetlError, MissingError
from toolchain.system.progress import Reporter, Silent

CLOSE_LIMIT_S = 2.0
POLL_S = 0.05
"""How often the reading thread is checked."""
ASLEEP_S = 1.0
"""If no check happened for so long, the process was stopped or the machine slept."""
STALL_S = 3.0
FIRST_FRAME_S = 10.0
SLOW_FIRST_FRAME_S = 20.0
"""Of motion JPEG with one frame in 5 s, the first is decoded only after the next two have come."""
MAX_STALL_S = 60.0
USUAL_INTERVALS = 3
"""A slow source counts as silent after so many of its usual intervals."""
FEW_FRAMES = 3
"""A source that was lost after fewer frames may only be slow."""
FILE_STALL_S = 30.0
"""For files: a disk may have to spin up."""
FIRST_PAUSE_S, MAX_PAUSE_S = 0.1, 0.8
"""The pause between attempts to reopen a source doubles from the first to the longest."""
STEADY_S = 2.0
"""After a source gave frames for so long, the pauses begin with the first again."""
TELL_AGAIN_S = 10.0
"""The least time between two warnings about a source that is lost again and again."""

FROZEN_S = 10.0
SAMPLES = 64
"""How many rows and columns are compared. A working camera never gives the same noise twice."""


@dataclass(frozen=True)
class Outage:
    """Why there are no frames at the moment, and since when, by the clock."""

    reason: str
    since_s: float


class Capture:
    """Reads `source` in a thread of its own and keeps the newest frame only.

    Entering it starts reading; leaving it stops reading and closes the source. With `every`, reading waits until
    each frame was taken, which is for files. A frame gets its `turn` when it is taken, so that one that nobody
    takes costs nothing.

    A live source that is lost or gives nothing for `stall_s` is opened again by `reopen`, until that succeeds or
    returns None because the source had ended. Without `reopen`, the source ends. The default of `stall_s` is
    `STALL_S`, or longer for a source that has proved slow. A read that hangs is abandoned in its thread: a driver
    may never return from it.
    """

    def __init__(
        self,
        source: FrameSource,
        *,
        every: bool = False,
        reopen: Callable[[], FrameSource | None] | None = None,
        stall_s: float | None = None,
        turn: Turn | None = None,
        clock: Clock = SYSTEM_CLOCK,
        reporter: Reporter | None = None,
    ) -> None:
        self.source = source
        self.every = every
        self.error: Exception | None = None
        """The error that ended the source, if it did not end by itself."""
        self.outage: Outage | None = None
        """Set while the source is lost."""
        self.reconnects: int = 0
        self.frames_in: int = 0
        """How many frames the source has given, including those that were never taken."""
        self._reopen = reopen
        self._stall_s = stall_s
        self._turn = turn or Turn()
        self._patience = 1.0
        """The factor of the usual limit for a source that seems to be slow."""
        self._clock = clock
        self._reporter = reporter or Silent()
        self._frames: DropOldestQueue[Frame] = DropOldestQueue(every=every)
        self._stopping = Event()
        self._reader: _Reader | None = None
        self._start_s: float | None = None
        self._pause_s = FIRST_PAUSE_S
        self._told_s: float | None = None
        self._told_of_outage = True
        self._freeze_detector = FreezeDetector(source.name, self._reporter) if source.live else None
        self._thread = Worker(self._supervise, f"capture {source.name}")

    def __enter__(self) -> Capture:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._frames.close()
        reader = self._reader
        if reader is not None:
            reader.stop()
        # A thread that hangs is a daemon, which does not keep the process from ending.
        self._thread.join(CLOSE_LIMIT_S)

    @property
    def ended(self) -> bool:
        """Whether there is no frame and none will come."""
        return self._frames.ended

    def take(self, limit_s: float) -> Frame | None:
        """The newest frame that was not taken yet; waits `limit_s` at most. None: nothing came, or it ended."""
        frame = self._frames.take(limit_s)
        return None if frame is None else self._turn(frame)

    def _supervise(self) -> None:
        source: FrameSource | None = self.source
        try:
            while source is not None:
                self._reader = _Reader(source, self._publish, self._clock)
                self._reader.start()
                self.error = self._watch(self._reader)
                self._reader = None
                if isinstance(self.error, UndecodableError) and not self.frames_in:
                    self.error = MissingError(self.error.message, self.error.hint)  # waiting would not help
                if self._stopping.is_set() or not isinstance(self.error, SourceLostError) or self._reopen is None:
                    return
                source = self._opened_again(self.error, self._reopen)
        except Exception as error:  # reported where the answers are read
            self.error = error
        finally:
            self._frames.close()

    def _watch(self, reader: _Reader) -> Exception | None:
        """Wait until `reader` ends or hangs, and return the error."""
        looked_s = awake_since_s = self._clock.now()
        while not reader.done.wait(POLL_S):
            if self._stopping.is_set():
                reader.stop()
                reader.done.wait(CLOSE_LIMIT_S)
                return None
            now = self._clock.now()
            if now - looked_s > ASLEEP_S:
                awake_since_s = now  # nothing could be read in that time
            looked_s = now
            waited_s = min(reader.waited_s(), now - awake_since_s)
            if waited_s > self._limit_s(reader) + 1 / reader.source.fps:
                reader.stop()
                if reader.frames < FEW_FRAMES:
                    self._patience *= 2
                reason = f"{reader.source.name} gave no frame for {waited_s:.1f} s (--stall-limit)"
                return SourceLostError(reason, reader.source.remedy)
        return reader.error

    def _limit_s(self, reader: _Reader) -> float:
        """How many seconds the source may give nothing."""
        if self._stall_s is not None:
            # A stream gives nothing before its next key frame, which may take longer than later frames.
            return self._stall_s if reader.frames else max(self._stall_s, FIRST_FRAME_S)
        if not reader.source.live:
            return FILE_STALL_S
        usual_s = max(STALL_S, reader.source.patience_s, USUAL_INTERVALS * reader.interval_s)
        if reader.frames >= FEW_FRAMES:
            self._patience = 1.0
            return usual_s
        return max(usual_s, min(MAX_STALL_S, SLOW_FIRST_FRAME_S * self._patience))

    def _publish(self, reader: _Reader, frame: Frame) -> None:
        if reader is not self._reader:
            return  # it hung, was abandoned, and has returned
        if self._start_s is None:
            self._start_s = frame.captured_s - frame.time_s
        if reader.shift is None:
            # After an outage, numbers and times continue.
            time_s = frame.captured_s - frame.time_s - self._start_s if self.reconnects or self.outage else 0.0
            reader.shift = (self.frames_in, time_s)
        if self.outage is not None:
            lost_s = self._clock.now() - self.outage.since_s
            self.outage = None
            self.reconnects += 1
            if self._told_of_outage:
                self._reporter.say(f"{self.source.name} is back after {lost_s:.1f} s")
        now = self._clock.now()
        if reader.first_s is None:
            reader.first_s = now
        elif now - reader.first_s > STEADY_S:
            self._pause_s = FIRST_PAUSE_S
        if self._freeze_detector is not None:
            self._freeze_detector.look(frame.bgr, now)
        reader.count(now)
        number, time_s = reader.shift
        if number:
            frame = replace(frame, number=number + frame.number, time_s=time_s + frame.time_s)
        self.frames_in = frame.number + 1
        self._frames.put(frame)

    def _opened_again(self, lost: SourceLostError, reopen: Callable[[], FrameSource | None]) -> FrameSource | None:
        """Try until the source is back; None if it had ended, or the camera ends."""
        if self.outage is None:  # else it was lost again before its first frame
            self.outage = Outage(lost.message, self._clock.now())
            now = self._clock.now()
            self._told_of_outage = self._told_s is None or now - self._told_s > TELL_AGAIN_S
            if self._told_of_outage:
                self._told_s = now
                self._reporter.warn(f"{lost.message}; trying again until it is back")
        while not self._clock.wait(self._stopping, self._pause_s):
            self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)
            with suppress(EdgetlError):
                source = reopen()
                if source is None:
                    self.error = self.outage = None
                    return None
                if not self._stopping.is_set():
                    return source
                source.close()
        return None


class _Reader:
    """One opened source, read in a thread of its own."""

    def __init__(self, source: FrameSource, publish: Callable[[_Reader, Frame], None], clock: Clock) -> None:
        self.source = source
        self.error: Exception | None = None
        self.done = Event()
        self.shift: tuple[int, float] | None = None
        """What is added to the numbers and times of its frames."""
        self.first_s: float | None = None
        """When its first frame came."""
        self.frames = 0
        self.interval_s = 0.0
        """Recent seconds between two frames, a moving average."""
        self._publish = publish
        self._clock = clock
        self._reading_since_s: float | None = clock.now()
        self._last_s: float | None = None
        self._stopping = False
        self._thread = Worker(self._read_all, f"read {source.name}")

    def start(self) -> None:
        self._thread.start()

    def waited_s(self) -> float:
        """How many seconds `read` has waited for the source, not counting waits until a frame is due."""
        since_s = self._reading_since_s
        return 0.0 if since_s is None or self.source.resting else self._clock.now() - since_s

    def count(self, now_s: float) -> None:
        """Count a frame, and update the interval."""
        if self._last_s is not None:
            gap_s = now_s - self._last_s
            self.interval_s = gap_s if self.frames == 1 else 0.8 * self.interval_s + 0.2 * gap_s
        self._last_s = now_s
        self.frames += 1

    def stop(self) -> None:
        self._stopping = True
        self.source.stop()

    def _read_all(self) -> None:
        try:
            while not self._stopping and (frame := self.source.read()) is not None:
                self._reading_since_s = None
                self._publish(self, frame)
                self._reading_since_s = self._clock.now()
        except Exception as error:  # reported where the answers are read
            self.error = error
        finally:
            self._reading_since_s = None
            self.source.close()
            self.done.set()


class FreezeDetector:
    """Warns once when a source has given exactly the same picture for `FROZEN_S`: its sender hangs, or has lost its
    camera. Reports once when the picture changes again.

    For a source that freezes again and again, such as a picture that is renewed each minute, it warns again only
    after twice the longest time so far.
    """

    def __init__(self, name: str, reporter: Reporter) -> None:
        self._name = name
        self._reporter = reporter
        self._limit_s = FROZEN_S
        self._sample: NDArray[np.uint8] | None = None
        self._since_s = 0.0
        self._told = False

    def look(self, bgr: BgrImage, now_s: float) -> None:
        """Compare the frame that came at `now_s` with the one before it."""
        sample = bgr[:: max(1, bgr.shape[0] // SAMPLES), :: max(1, bgr.shape[1] // SAMPLES)].copy()
        still_s = now_s - self._since_s
        if self._sample is None or not np.array_equal(sample, self._sample):
            if self._told:
                self._reporter.say(f"{self._name} moves again after {still_s:.0f} s")
                self._limit_s = max(self._limit_s, 2 * still_s)
                self._told = False
            self._sample, self._since_s = sample, now_s
        elif not self._told and still_s >= self._limit_s:
            self._told = True
            self._reporter.warn(f"{self._name} has given the same picture for {still_s:.0f} s; it may be frozen")
