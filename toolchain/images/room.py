"""Room for large photographs: all threads together hold no more than the largest photograph alone may take.

A photograph of `MAX_PIXELS` takes up to 1.6 GB while it is decoded. Four threads that decode one each would take
four times that, and end a small machine. Photographs of cameras are small beside it: they do not wait.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from toolchain.images.picture_size import MAX_PIXELS

FILE_BYTES = 1 << 30


class Room:
    """So much of something, `limit`, for all threads. Who wants more than that gets it while nobody has any."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    @contextmanager
    def taken(self, amount: int) -> Iterator[None]:
        """Hold `amount`, as soon as it is there. What a holder takes besides is not counted: no thread waits for
        itself."""
        if getattr(self._mine, "holds", False):
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + amount <= self._limit)
            self._used += amount
        self._mine.holds = True
        try:
            yield
        finally:
            self._mine.holds = False
            with self._changed:
                self._used -= amount
                self._changed.notify_all()

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._mine = threading.local()
        self._used = 0


for_files = Room(FILE_BYTES)
"""Bytes of encoded photographs. It is taken before `for_pixels`, never after it."""
for_pixels = Room(MAX_PIXELS)
"""Pixels that are being decoded, and not yet scaled down."""
