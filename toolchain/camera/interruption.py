"""Ctrl-C and a polite kill end the camera in order: the recording is closed, the summary printed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from toolchain.camera.loop import Control


@contextmanager
def ended_by_signals(control: Control) -> Iterator[None]:
    """While the block runs, SIGINT and SIGTERM ask the loop to end. A second one, or one that comes while no loop
    runs, raises KeyboardInterrupt.
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

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
