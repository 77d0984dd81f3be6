"""The end of the interpreter while daemon threads are still inside C++ libraries.

When such a thread returns to an interpreter that has ended, Python 3.13 and older unwind its stack through C++
frames, and that aborts the process. So the end of the interpreter waits for threads inside, and lets no others in.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

WAIT_S = 5.0
"""How long the end waits for threads that are still inside."""


class _Inside(threading.local):
    depth = 0


_mine = _Inside()
_lock = threading.Lock()
_inside = 0
_ending = False


@contextmanager
def awaited() -> Iterator[None]:
    """The end of the interpreter waits for this block. A daemon thread that enters it later sleeps for ever."""
    if _mine.depth == 0:
        _count(1)
    _mine.depth += 1
    try:
        yield
    finally:
        _mine.depth -= 1
        if _mine.depth == 0:
            _count(-1)


def _count(step: int) -> None:
    global _inside
    with _lock:
        # The main thread ends last, so its own `atexit` functions may still enter.
        if step < 0 or not _ending or not threading.current_thread().daemon:
            _inside += step
            return
    threading.Event().wait()


@atexit.register
def _wait() -> None:
    global _ending
    with _lock:
        _ending = True
    until = time.monotonic() + WAIT_S
    while _inside and time.monotonic() < until:
        time.sleep(0.001)


def _forked() -> None:
    """The new process has only the thread that forked."""
    global _lock, _inside
    _lock, _inside = threading.Lock(), int(_mine.depth > 0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
