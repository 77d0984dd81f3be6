"""One network for many threads of a program, also in a process that was forked."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from toolchain.runtimes import Answer, Infer
from toolchain.system.ending import awaited

PATIENCE = 16
"""Calls that had to wait for another one before streams are made: a single burst is not worth making them."""

_everyone: weakref.WeakSet[Shared] = weakref.WeakSet()


class Shared:
    """A way to infer that any number of threads may call at once.

    A single caller computes with all threads, which gives the lowest latency. Where calls keep coming at once,
    `crowd` makes streams that compute side by side and share these threads, which gives the highest throughput.
    Both are made again after a fork, which the threads of a library do not survive.
    """

    _alone: Infer | None
    _idle: SimpleQueue[Infer]
    _streams: bool
    _inside: int
    _met: int

    def __init__(self, alone: Callable[[], Infer], crowd: Callable[[], Sequence[Infer]] | None = None) -> None:
        self._make_alone, self._make_crowd = alone, crowd
        self._begin()
        self._alone = alone()
        _everyone.add(self)

    def __call__(self, images: NDArray[np.uint8]) -> Answer:
        with awaited():
            with self._counting:
                self._inside += 1
                first = self._inside == 1
            try:
                if first or not self._crowded():
                    with self._one:
                        if self._alone is None:
                            self._alone = self._make_alone()
                        return self._alone(images)
                stream = self._idle.get()
                try:
                    return stream(images)
                finally:
                    self._idle.put(stream)
            finally:
                with self._counting:
                    self._inside -= 1

    def _crowded(self) -> bool:
        """Whether there are streams. The caller that exceeds PATIENCE makes them."""
        if self._make_crowd is None or self._streams:
            return self._streams
        with self._making:
            self._met += 1
            if not self._streams and self._met > PATIENCE:
                for stream in self._make_crowd():
                    self._idle.put(stream)
                    self._streams = True
        return self._streams

    def _begin(self) -> None:
        self._one, self._counting, self._making = threading.Lock(), threading.Lock(), threading.Lock()
        self._inside = self._met = 0
        self._idle = SimpleQueue()
        self._streams = False
        self._alone = None


def _forked() -> None:
    for shared in list(_everyone):
        shared._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
