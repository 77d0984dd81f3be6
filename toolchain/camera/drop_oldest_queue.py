"""Where one thread leaves what another one takes: a few places, and never a queue that grows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition
from typing import Generic, TypeVar

T = TypeVar("T")

LOOK_S = 0.2
"""How often who waits for room looks whether anybody still wants it."""


class DropOldestQueue(Generic[T]):
    """Holds `capacity` values at most. Who puts one into a full handover pushes out the oldest.

    With `every`, it waits for room instead: for files, which can wait, and of which each frame counts; until
    `given_up` says that nobody waits for the end any longer.
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
        self.dropped = 0
        """Values that were pushed out."""

    @property
    def ended(self) -> bool:
        """Whether it is closed and everything was taken."""
        with self._changed:
            return self._closed and not self._values

    def put(self, value: T) -> None:
        """Leave `value`; a closed handover forgets it."""
        with self._changed:
            if self._every:
                while not (self._closed or len(self._values) < self._capacity or self._given_up()):
                    self._changed.wait(LOOK_S)
            if self._closed:
                return
            if len(self._values) == self._capacity:
                self._values.popleft()
                self.dropped += 1
            self._values.append(value)
            self._changed.notify_all()

    def take(self, limit_s: float) -> T | None:
        """The oldest value that is there; waits for one `limit_s` at most. None: nothing came, or it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._values or self._closed, timeout=limit_s)
            if not self._values:
                return None
            value = self._values.popleft()
            self._changed.notify_all()
            return value

    def discard(self) -> None:
        """Count what nobody took as dropped, and forget it."""
        with self._changed:
            self.dropped += len(self._values)
            self._values.clear()
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more will be put; nobody waits any longer. What is there can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
