"""The camera's threads, some of which hang, and the short queue by which they hand values to each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from threading import Condition, Thread
from typing import Any, Generic, TypeVar

from toolchain.camera.frames import CABLE
from toolchain.errors import MissingError

_Opened = TypeVar("_Opened")

T = TypeVar("T")
POLL_S = 0.2
"""How often a thread that waits for room checks whether it should stop waiting."""


class Worker(Thread):
    """A daemon thread that may hang in a driver for ever.

    At its end, Python stops such a thread in the middle of the driver's C++, which may abort the process. So
    `toolchain.cli.main` leaves by `os._exit` if one of them is still alive.
    """

    def __init__(self, target: Callable[[], object], name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)


class Attempts:
    """Attempts to open one source, one at a time, each in a thread of its own: a broken camera or a silent server
    may hang."""

    def __init__(self) -> None:
        self._hanging: Future[Any] | None = None

    def within(self, limit_s: float, attempt: Callable[[], _Opened], name: str) -> _Opened:
        """Run `attempt`, `limit_s` at most. While one hangs, the next call waits for it and starts no other.

        Raises MissingError after `limit_s`, and whatever `attempt` raises.
        """
        opened, self._hanging = self._hanging or _started(attempt, name), None
        try:
            result: _Opened = opened.result(limit_s)
        except FutureTimeoutError:
            self._hanging = opened
            raise MissingError(f"{name} gave no sign within {limit_s:g} s", CABLE) from None
        return result


def _started(attempt: Callable[[], _Opened], name: str) -> Future[_Opened]:
    opened: Future[_Opened] = Future()

    def open_it() -> None:
        try:
            opened.set_result(attempt())
        except Exception as error:
            opened.set_exception(error)

    Worker(open_it, f"open {name}").start()
    return opened


class DropOldestQueue(Generic[T]):
    """Holds `capacity` values at most. Putting one more drops the oldest.

    With `every`, putting waits for room instead, until `given_up` returns True. That is for files, which can wait,
    and of which each frame counts.
    """

    def __init__(
        self, capacity: int = 1, *, every: bool = False, given_up: Callable[[], bool] = lambda: False
    ) -> None:
        self._values: deque[T] = deque()
        self._capacity = capacity
        self._every = every
        self._given_up = given_up
        self._changed = Condition()
        self._closed = False
        self.dropped: int = 0
        """How many values were dropped."""

    @property
    def ended(self) -> bool:
        """Whether it is closed and everything was taken."""
        with self._changed:
            return self._closed and not self._values

    def put(self, value: T) -> None:
        """Add `value`. A closed queue ignores it."""
        with self._changed:
            if self._every:
                while not (self._closed or len(self._values) < self._capacity or self._given_up()):
                    self._changed.wait(POLL_S)
            if self._closed:
                return
            if len(self._values) == self._capacity:
                self._values.popleft()
                self.dropped += 1
            self._values.append(value)
            self._changed.notify_all()

    def take(self, limit_s: float) -> T | None:
        """Remove and return the oldest value; waits `limit_s` at most. None: nothing came, or it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._values or self._closed, timeout=limit_s)
            if not self._values:
                return None
            value = self._values.popleft()
            self._changed.notify_all()
            return value

    def discard(self) -> None:
        """Drop all values that were not taken."""
        with self._changed:
            self.dropped += len(self._values)
            self._values.clear()
            self._changed.notify_all()

    def close(self) -> None:
        """Accept no more values, and wake whoever waits. Values that are there can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
