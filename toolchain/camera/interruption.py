"""Ctrl-C, a polite kill and a closed terminal end the camera in order: recording closed, summary printed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from toolchain.camera.loop import Control
from toolchain.errors import StoppedError


@contextmanager
def ended_by_signals(control: Control) -> Iterator[None]:
    """While the block runs, SIGINT, SIGTERM and SIGHUP ask the loop to end: a service ends by SIGTERM, which is as
    good an end as any. One that comes before there is a loop raises KeyboardInterrupt (StoppedError, unless it is
    Ctrl-C), and so does a second one. A SIGHUP that was ignored before (by `nohup`) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python hands signals to the main thread only
        return

    once = False

    def asked(number: int, frame: FrameType | None) -> None:
        nonlocal once
        by_hand = number == signal.SIGINT
        if once or not control.begun:
            raise KeyboardInterrupt if once or by_hand else StoppedError
        once = True
        control.end("interrupted" if by_hand else "terminated")

    heard = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        heard.append(signal.SIGHUP)
    before = {number: signal.signal(number, asked) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
