"""The end of the interpreter, while threads of the program are still inside C++ libraries.

A daemon thread that comes back from there to an interpreter that has ended is made to leave its stack, through
frames of C++ that abort the process (Python 3.13 and older). So the end waits for who is inside, and lets nobody
else in.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

WAIT_S = 5.0
"""How long the end waits for what still runs."""


class _Inside(threading.local):
    depth = 0


_mine = _Inside()
_lock = threading.Lock()
_inside = 0
_ending = False


@contextmanager
def awaited() -> Iterator[None]:
    """What runs in here is waited for when the interpreter ends; a daemon thread that comes later sleeps on."""
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
    # The main thread ends last: what its own `atexit` functions do is no danger.
    if step > 0 and _ending and threading.current_thread().daemon:
        threading.Event().wait()
    with _lock:
        _inside += step


@atexit.register
def _wait() -> None:
    global _ending
    _ending = True
    until = time.monotonic() + WAIT_S
    while _inside and time.monotonic() < until:
        time.sleep(0.001)


def _forked() -> None:
    """Only the thread that forked is in the new process."""
    global _lock, _inside
    _lock, _inside = threading.Lock(), int(_mine.depth > 0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
