"""A thread for a slow sink, so that it never delays the next answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from toolchain.camera.answering import Answered
from toolchain.camera.frames import FrameSource
from toolchain.camera.sinks import AnswerLostError, Delivery, Sink, SinkReport
from toolchain.camera.threads import DropOldestQueue, Worker
from toolchain.system.progress import Reporter

MAX_WAITING = 4096
"""Answers that wait for a sink that gets all of them. If it is slower than that, the oldest are lost."""
POLL_S = 0.1
CLOSE_LIMIT_S = 5.0
NO_PIXELS = np.empty((0, 0, 3), np.uint8)


class BackgroundSink(Sink):
    """Hands answers on to `sink` in a thread of its own, without their pixels.

    At most `capacity` answers wait for it (one, unless it gets all answers); then the oldest are lost. With
    `every`, the loop waits for it instead, until `given_up` returns True. An answer for which `sink` raises
    is lost, too, and the next one is tried. But after a BrokenPipeError, and after any error but
    AnswerLostError of an essential sink (with `at_failure`), `sink` gets nothing more, and `at_failure` is called.
    """

    delivery: Delivery = "loop"

    def __init__(
        self,
        sink: Sink,
        reporter: Reporter,
        *,
        capacity: int | None = None,
        every: bool = False,
        given_up: Callable[[], bool] = lambda: False,
        at_failure: Callable[[Exception], None] | None = None,
    ) -> None:
        self.name: str = sink.name
        self.failure: Exception | None = None
        """Why answers were lost, if that is known: the last reason."""
        self._failed = 0
        self._losing = 0
        """Answers lost since `sink` worked last."""
        self._ended = self._leaving = False
        self._state = ""
        self._sink = sink
        self._reporter = reporter
        self._at_failure = at_failure
        capacity = capacity or (MAX_WAITING if sink.delivery == "all" else 1)
        self._answers: DropOldestQueue[Answered] = DropOldestQueue(capacity, every=every, given_up=given_up)
        self._thread = Worker(self._run, sink.name)

    def __enter__(self) -> BackgroundSink:
        self._thread.start()
        return self

    def start(self, source: FrameSource) -> None:
        self._sink.start(source)

    def show(self, answered: Answered) -> None:
        if self._ended:
            self._failed += 1
            return
        self._state = ""
        self._answers.put(replace(answered, frame=replace(answered.frame, bgr=NO_PIXELS)))

    def idle(self, state: str) -> None:
        self._state = state

    def close(self) -> None:
        self._answers.close()
        self._thread.join(CLOSE_LIMIT_S)
        self._leaving = True
        self._answers.discard()
        self._sink.close()
        self._thread.join(POLL_S)

    @property
    def lost(self) -> int:
        """Answers that the sink did not get or could not write."""
        return self._answers.dropped + self._failed

    def report(self) -> SinkReport:
        report = self._sink.report()
        if self._sink.delivery == "all" and self.lost:
            reason = self.failure or "it was too slow"
            return replace(report, unwritten=f"{self.name}: {self.lost} answers lost ({reason})", lost=self.lost)
        if self.failure is not None:
            return replace(report, unwritten=f"{self.name}: failed {self._failed} times ({self.failure})")
        return report

    def _run(self) -> None:
        try:
            while not self._answers.ended:
                self._call(self._answers.take(POLL_S))
        except Exception as error:
            self.failure = error
            self._failed += 1
            self._ended = True
            self._answers.close()
            self._answers.discard()
            if self._at_failure:
                self._at_failure(error)
            else:
                self._reporter.warn(f"{self.name} failed: {error}; the camera goes on without it")

    def _call(self, answered: Answered | None) -> None:
        try:
            if answered is None:
                self._sink.idle(self._state)
            else:
                self._sink.show(answered)
        except Exception as error:
            is_final = self._at_failure is not None and not isinstance(error, AnswerLostError)
            if is_final or isinstance(error, BrokenPipeError):
                raise
            self.failure = error
            self._failed += 1
            if not self._losing and not self._leaving:
                self._reporter.warn(f"{self.name} failed: {error}; the camera goes on without it, and tries again")
            self._losing += 1
        else:
            if self._losing and answered is not None:
                self._reporter.say(f"{self.name} works again; {self._losing} answers were lost")
                self._losing = 0
