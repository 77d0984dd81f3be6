"""What is done with answers, in threads of their own, so that it never holds back the next answer."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

from toolchain.camera.answering import Answered
from toolchain.camera.handover import Handover
from toolchain.camera.loop import Sink
from toolchain.progress import Reporter

LOOK_S = 0.1
CLOSE_LIMIT_S = 5.0


class Aside:
    """A sink that hands answers on to another one in a thread of its own.

    The other gets the last `capacity` answers it has not seen yet, or with `every` all of them. If it fails, it is
    told so once and gets nothing any more; `failure` says why, and `at_failure` is called.
    """

    def __init__(
        self,
        sink: Sink,
        name: str,
        reporter: Reporter,
        *,
        capacity: int = 1,
        every: bool = False,
        at_failure: Callable[[Exception], None] | None = None,
    ) -> None:
        self.name = name
        self.failure: Exception | None = None
        self._sink = sink
        self._reporter = reporter
        self._at_failure = at_failure
        self._state = ""
        self._answers: Handover[Answered] = Handover(capacity, every=every)
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Aside:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()
        self._thread.join(CLOSE_LIMIT_S)

    @property
    def dropped(self) -> int:
        """Answers that the other never got, since it was too slow."""
        return self._answers.dropped

    def show(self, answered: Answered) -> None:
        self._answers.put(answered)

    def idle(self, state: str) -> None:
        self._state = state

    def _run(self) -> None:
        try:
            while not self._answers.ended:
                answered = self._answers.take(LOOK_S)
                if answered is None:
                    self._sink.idle(self._state)
                else:
                    self._sink.show(answered)
        except Exception as error:
            self.failure = error
            self._answers.close()
            if self._at_failure:
                self._at_failure(error)
            else:
                self._reporter.warn(f"{self.name} failed: {error}; the camera goes on without it")
