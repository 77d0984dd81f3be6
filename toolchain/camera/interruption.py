"""Ctrl-C, a polite kill and a closed terminal end the camera in order: recording closed, summary printed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from toolchain.camera.loop import Control

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def ended_by_signals(control: Control) -> Iterator[None]:
    """While the block runs, SIGINT, SIGTERM and SIGHUP ask the loop to end. A second one, or one that comes while
    no loop runs, raises KeyboardInterrupt. What was ignored before (by `nohup`) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python hands signals to the main thread only
        return

    once = False

    def asked(number: int, frame: FrameType | None) -> None:
        nonlocal once
        if not control.running or once:
            raise KeyboardInterrupt
        once = True
        control.end("interrupted")

    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, asked) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
