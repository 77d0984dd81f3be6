"""The camera's threads, some of which hang."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from threading import Thread
from typing import Any, TypeVar

from toolchain.camera.frames import CABLE
from toolchain.errors import MissingError

_Opened = TypeVar("_Opened")


class Worker(Thread):
    """A thread that may hang in a driver for ever, and does not keep the process from ending.

    Python ends such a thread in the middle of the driver's C++, which may abort the process: `toolchain.cli.main`
    leaves without waiting for Python's own end where one of them is left.
    """

    def __init__(self, target: Callable[[], object], name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)


_hanging: dict[str, Future[Any]] = {}
"""Attempts to open something that have not come back yet, by its name."""


def within(limit_s: float, attempt: Callable[[], _Opened], name: str) -> _Opened:
    """Run `attempt` in a thread of its own: a broken camera or a silent server may hang whoever opens it.

    While one hangs, the next call waits for it instead of starting another.
    """
    opened = _hanging.pop(name) if name in _hanging else _started(attempt, name)
    try:
        result: _Opened = opened.result(limit_s)
    except FutureTimeoutError:
        _hanging[name] = opened
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
