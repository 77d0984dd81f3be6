"""A limit of time for calls into native code, which nothing can interrupt."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Generic, TypeVar

T = TypeVar("T")


class _Call(Thread, Generic[T]):
    """`toolchain.cli.main` leaves by `os._exit` while one of them is alive."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(name="a call with a limit", daemon=True)
        self._work = work
        self.results: list[T] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.results.append(self._work())
        except BaseException as error:  # it belongs to the caller, whatever it is
            self.error = error


def within(limit_s: float, work: Callable[[], T]) -> T:
    """What `work` returns. Raises TimeoutError after `limit_s`, and lets it go on in its thread, which ends with
    the process."""
    call = _Call(work)
    call.start()
    call.join(limit_s)
    if call.error is not None:
        raise call.error
    if not call.results:
        raise TimeoutError
    return call.results[0]
