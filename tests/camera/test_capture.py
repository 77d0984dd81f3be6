"""The newest frame and never a queue."""

from __future__ import annotations

from threading import Event

from tests.clips import plain
from toolchain.camera.capture import Capture
from toolchain.camera.frames import Frame


class Scripted:
    """A source that gives a frame whenever the test lets it."""

    name = "scripted"
    fps = 30.0

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self._left = count
        self._number = 0
        self._error = error
        self.closed = Event()
        self.stopped = Event()

    def read(self) -> Frame | None:
        if self.stopped.is_set():
            return None
        if not self._left:
            if self._error:
                raise self._error
            return None
        self._left -= 1
        self._number += 1
        return Frame(self._number - 1, plain("red", 8, 8), self._number / 30, self._number / 30)

    def stop(self) -> None:
        self.stopped.set()

    def close(self) -> None:
        self.closed.set()


def test_only_the_newest_frame_is_kept() -> None:
    source = Scripted(100)
    with Capture(source) as capture:
        assert source.closed.wait(10)
        frame = capture.take(1)
        assert frame is not None
        assert frame.number == 99, "the last frame is there, those before it are gone"
        assert capture.frames_in == 100
        assert capture.take(0) is None
        assert capture.ended


def test_last_frame_comes_before_the_end() -> None:
    with Capture(source := Scripted(1)) as capture:
        assert source.closed.wait(10)
        assert not capture.ended
        assert capture.take(1) is not None
        assert capture.ended


def test_every_frame_is_waited_for_when_asked() -> None:
    with Capture(Scripted(50), every=True) as capture:
        numbers = []
        while not capture.ended:
            frame = capture.take(5)
            if frame is not None:
                numbers.append(frame.number)
    assert numbers == list(range(50))


def test_leaving_ends_a_thread_that_waits_for_its_frame_to_be_taken() -> None:
    source = Scripted(10**9)
    with Capture(source, every=True) as capture:
        assert capture.take(5) is not None
    assert source.closed.is_set()


def test_error_in_the_thread_is_kept_for_the_loop() -> None:
    fault = RuntimeError("the driver broke")
    with Capture(source := Scripted(1, fault)) as capture:
        assert source.closed.wait(10)
        capture.take(1)
        assert capture.ended
        assert capture.error is fault


def test_nothing_within_the_limit_is_none_and_not_the_end() -> None:
    class Silent(Scripted):
        def read(self) -> Frame | None:
            self.stopped.wait(10)
            return None

    with Capture(Silent(1)) as capture:
        assert capture.take(0.01) is None
        assert not capture.ended
