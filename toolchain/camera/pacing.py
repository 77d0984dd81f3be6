"""Time, as the camera sees it: a clock that tests can hold, and waits that can be ended."""

from __future__ import annotations

import time
from threading import Event
from typing import Protocol


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
        while (left := moment - self._clock.now()) > 0 and not self._stopped.is_set():
            self._clock.wait(self._stopped, left)
        return None if self._stopped.is_set() else moment

    def restart(self, time_s: float) -> None:
        """Let the clip go on from `time_s`, now."""
        self._start = self._clock.now() - time_s

    def stop(self) -> None:
        """End a wait; may be called from another thread."""
        self._stopped.set()
