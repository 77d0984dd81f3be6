"""What is done with answers, in threads of their own, so that it never holds back the next answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from toolchain.camera.answering import Answered
from toolchain.camera.threads import DropOldestQueue, Worker
from toolchain.system.progress import Reporter

LOOK_S = 0.1
CLOSE_LIMIT_S = 5.0
NO_PIXELS = np.empty((0, 0, 3), np.uint8)


class LineLostError(Exception):
    """One answer could not be written; the next one may be."""


class AnswerConsumer(Protocol):
    """What is done with one answer after another. It may take its time; it gets no pixels."""

    def show(self, answered: Answered) -> None: ...

    def close(self) -> None:
        """There are no more answers, or nobody waits any longer: end what is still going on."""


class BackgroundSink:
    """A sink of the loop that hands answers on to `line`, in a thread of its own and without their pixels.

    `line` gets the last `capacity` answers it has not seen yet; the others are lost. With `every` the loop waits
    for it instead, until `given_up` says that it is to end. An answer for which `line` raises LineLostError is
    lost, too. If it fails otherwise, it gets nothing more, and `at_failure` is called.
    """

    def __init__(
        self,
        line: AnswerConsumer,
        name: str,
        reporter: Reporter,
        *,
        capacity: int = 1,
        every: bool = False,
        given_up: Callable[[], bool] = lambda: False,
        at_failure: Callable[[Exception], None] | None = None,
    ) -> None:
        self.name = name
        self.failure: Exception | None = None
        """Why answers were lost, where that is known: the last reason."""
        self._failed = 0
        self._losing = 0
        """Answers lost since `line` worked last."""
        self._ended = self._leaving = False
        self._line = line
        self._reporter = reporter
        self._at_failure = at_failure
        self._answers: DropOldestQueue[Answered] = DropOldestQueue(capacity, every=every, given_up=given_up)
        self._thread = Worker(self._run, name)

    def __enter__(self) -> BackgroundSink:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()
        self._thread.join(CLOSE_LIMIT_S)
        self._leaving = True
        self._answers.discard()
        self._line.close()
        self._thread.join(LOOK_S)

    @property
    def lost(self) -> int:
        """Answers that were not written: `line` was too slow for them, or failed."""
        return self._answers.dropped + self._failed

    def show(self, answered: Answered) -> None:
        if self._ended:
            self._failed += 1
            return
        self._answers.put(replace(answered, frame=replace(answered.frame, bgr=NO_PIXELS)))

    def idle(self, state: str) -> None:
        pass

    def _run(self) -> None:
        try:
            while not self._answers.ended:
                answered = self._answers.take(LOOK_S)
                if answered is not None:
                    self._show(answered)
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

    def _show(self, answered: Answered) -> None:
        try:
            self._line.show(answered)
        except LineLostError as error:
            self.failure = error
            self._failed += 1
            if not self._losing and not self._leaving:
                self._reporter.warn(f"{self.name} failed: {error}; the camera goes on without it, and tries again")
            self._losing += 1
        else:
            if self._losing:
                self._reporter.say(f"{self.name} works again; {self._losing} lines were lost")
                self._losing = 0
