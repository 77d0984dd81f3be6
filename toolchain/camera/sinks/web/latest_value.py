"""The newest of a thing, for many who look at their own pace. Never a queue."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestValue(Generic[T]):
    """One value, replaced as newer ones come. Lives in one event loop and is touched in its thread only."""

    def __init__(self) -> None:
        self._value: T | None = None
        self._version = 0
        self._closed = False
        self._changed = asyncio.Event()

    def put(self, value: T) -> None:
        self._value = value
        self._version += 1
        self._wake()

    def forget(self) -> None:
        """Let nobody who comes later get what is old by then."""
        self._value = None

    def close(self) -> None:
        """Let all who wait and all who come know that nothing will follow."""
        self._closed = True
        self._wake()

    async def newer(self, than: int) -> tuple[int, T] | None:
        """The newest value and its version, once that is above `than` (0: any); None when nothing will follow."""
        while not self._closed:
            if self._value is not None and self._version > than:
                return self._version, self._value
            await self._changed.wait()
        return None

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
