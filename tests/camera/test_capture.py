"""The newest frame and never a queue."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from threading import Event

import numpy as np
import pytest

from tests.clips import HeldClock, plain
from tests.datasets.datasets_support import Remembering
from toolchain.camera.frames import Frame, SourceLostError, UndecodableError
from toolchain.camera.sources.capture import Capture, FreezeDetector
from toolchain.errors import BadInputError, MissingError


class Scripted:
    """A source that gives a frame whenever the test lets it."""

    name = given = "scripted"
    fps = 30.0
    live = False
    patience_s = 0.0
    resting = False
    remedy = "Look at the script."

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


def _comes_true(condition: Callable[[], bool], limit_s: float = 10.0) -> bool:
    """Wait for what another thread does."""
    end = time.monotonic() + limit_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


def test_only_the_newest_frame_is_kept() -> None:
    source = Scripted(100)
    with Capture(source) as capture:
        assert source.closed.wait(10)
        frame = capture.take(1)
        assert frame is not None
        assert frame.number == 99, "the last frame is there, those before it are gone"
        assert capture.frames_in == 100
        assert capture.take(0) is None
        assert _comes_true(lambda: capture.ended)


def test_last_frame_comes_before_the_end() -> None:
    with Capture(source := Scripted(1)) as capture:
        assert source.closed.wait(10)
        assert not capture.ended
        assert capture.take(1) is not None
        assert _comes_true(lambda: capture.ended)


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
        assert _comes_true(lambda: capture.ended)
        assert capture.error is fault


def test_nothing_within_the_limit_is_none_and_not_the_end() -> None:
    class Silent(Scripted):
        def read(self) -> Frame | None:
            self.stopped.wait(10)
            return None

    with Capture(Silent(1)) as capture:
        assert capture.take(0.01) is None
        assert not capture.ended


class Live(Scripted):
    """Frames without end but for the `count` it is made with; then it is lost, or hangs."""

    live = True

    def __init__(self, count: int, *, hangs: bool = False) -> None:
        super().__init__(count, SourceLostError("the cable is out"))
        self.hangs = hangs
        self._start: float | None = None

    def read(self) -> Frame | None:
        if self.hangs and not self._left:
            threading.Event().wait(20)  # and does not hear `stop`, like a broken driver
        frame = super().read()
        now = time.monotonic()
        self._start = self._start or now
        return frame and Frame(frame.number, frame.bgr, now, now - self._start)


def test_lost_source_is_opened_again_and_its_frames_are_counted_on() -> None:
    sources = [Live(3), Live(1), Live(2)]
    reporter = Remembering()
    opened = iter(sources[1:])

    def reopen() -> Live:
        try:
            return next(opened)
        except StopIteration:
            raise MissingError("still out") from None

    numbers, times = [], []
    with Capture(sources[0], every=True, reopen=reopen, reporter=reporter) as capture:
        while len(numbers) < 6:
            frame = capture.take(5)
            assert frame is not None
            numbers.append(frame.number)
            times.append(frame.time_s)
        assert _comes_true(lambda: capture.outage is not None)
        assert capture.outage is not None
        assert capture.outage.reason == "the cable is out"
        assert not capture.ended, "it goes on trying"
    assert numbers == [0, 1, 2, 3, 4, 5]
    assert times == sorted(times)
    assert times[3] - times[2] >= 0.1, "time went on while it was lost"
    assert capture.reconnects == 2
    assert all(source.closed.is_set() for source in sources)
    assert [line for line in reporter.warned if "trying again" in line] == reporter.warned
    assert len(reporter.warned) == len(reporter.said) == 1, "losses that follow upon one another are told of once"


def test_without_reopen_a_lost_source_is_the_end() -> None:
    with Capture(Live(1)) as capture:
        assert capture.take(5) is not None
        assert _comes_true(lambda: capture.ended)
        assert isinstance(capture.error, SourceLostError)


def test_a_read_that_hangs_is_left_behind() -> None:
    """And what it gives when it comes back after all is not taken for the present."""
    hanging, fresh = Live(1, hangs=True), Live(1000)
    with Capture(hanging, reopen=lambda: fresh, stall_s=0.2) as capture:
        assert capture.take(5) is not None
        before = time.monotonic()
        frame = None
        while frame is None and time.monotonic() - before < 10:
            frame = capture.take(0.1)
        assert frame is not None
        assert frame.number >= 1
        assert time.monotonic() - before < 5
        assert hanging.stopped.is_set()
    assert time.monotonic() - before < 8, "leaving does not wait for it"


def test_a_source_that_stalls_for_good_ends_with_a_reason() -> None:
    with Capture(Live(1, hangs=True), stall_s=0.2) as capture:
        assert capture.take(5) is not None
        assert _comes_true(lambda: capture.ended)
    assert "gave no frame for" in str(capture.error)


def test_waiting_for_a_taker_is_no_stall() -> None:
    with Capture(Scripted(3), every=True, stall_s=0.1) as capture:
        time.sleep(0.5)
        assert [capture.take(5), capture.take(5), capture.take(5)].count(None) == 0
        assert _comes_true(lambda: capture.ended)
        assert capture.error is None


def test_a_source_that_comes_back_while_the_loop_is_left_is_closed() -> None:
    """The camera is opened again at the very moment when nobody wants it any more."""
    opening, go_on = Event(), Event()
    fresh = Live(1000)

    def reopen() -> Live:
        opening.set()
        go_on.wait(10)
        return fresh

    with Capture(Live(1), reopen=reopen) as capture:
        assert opening.wait(10)
        threading.Timer(0.1, go_on.set).start()
    assert _comes_true(fresh.closed.is_set)
    assert capture.frames_in == 1


def test_a_source_that_opens_and_is_lost_again_is_not_hammered() -> None:
    opened: list[float] = []

    def reopen() -> Live:
        opened.append(time.monotonic())
        return Live(0)

    with Capture(Live(1), reopen=reopen):
        time.sleep(2.0)
    assert 2 <= len(opened) <= 6
    gaps = [later - earlier for earlier, later in itertools.pairwise(opened)]
    assert gaps[-1] > gaps[0]


def test_what_is_not_there_yet_is_tried_again_whatever_it_is_called() -> None:
    """A path by id, which goes with the camera, was first taken for a file: a mistake, not an absence."""
    errors = iter([BadInputError("no such file"), MissingError("nothing there")])

    def reopen() -> Live:
        for error in errors:
            raise error
        return Live(1000)

    with Capture(Live(1), reopen=reopen) as capture:
        assert _comes_true(lambda: capture.reconnects == 1)


def test_a_thread_that_breaks_says_why() -> None:
    def reopen() -> Live:
        raise ZeroDivisionError

    with Capture(Live(1), reopen=reopen) as capture:
        assert capture.take(5) is not None
        assert _comes_true(lambda: capture.ended)
    assert isinstance(capture.error, ZeroDivisionError)


def test_pacing_is_no_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's next frame may be a minute away: it is there, and its moment is not."""

    class Resting(Scripted):
        def read(self) -> Frame | None:
            self.resting = True
            time.sleep(0.4)
            self.resting = False
            return super().read()

    monkeypatch.setattr("toolchain.camera.sources.capture.FILE_STALL_S", 0.1)
    with Capture(Resting(2), every=True) as capture:
        assert [capture.take(5), capture.take(5)].count(None) == 0
        assert _comes_true(lambda: capture.ended)
    assert capture.error is None


def test_a_file_has_no_cable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolchain.camera.sources.capture.FILE_STALL_S", 0.1)

    class Asleep(Scripted):
        def read(self) -> Frame | None:
            time.sleep(0.5)
            return None

    with Capture(Asleep(1)) as capture:
        assert _comes_true(lambda: capture.ended)
    assert isinstance(capture.error, SourceLostError)
    assert capture.error.hint == Asleep.remedy


def test_sleep_is_no_stall() -> None:
    """The process was stopped, or the lid of the laptop closed."""
    clock = HeldClock()
    with Capture(Live(1, hangs=True), clock=clock, stall_s=2.0) as capture:
        assert capture.take(5) is not None
        clock.time_s += 3600
        time.sleep(0.3)
        assert not capture.ended
        for _ in range(12):
            clock.time_s += 0.5
            time.sleep(0.08)
        assert _comes_true(lambda: capture.ended)
    assert "gave no frame for" in str(capture.error)


def test_a_stream_that_cannot_be_decoded_is_not_waited_for() -> None:
    class Unknown(Live):
        def read(self) -> Frame | None:
            raise UndecodableError("its codec is AV1")

    with Capture(Unknown(1), reopen=lambda: Unknown(1)) as capture:
        assert _comes_true(lambda: capture.ended)
    assert isinstance(capture.error, MissingError)
    assert not isinstance(capture.error, SourceLostError), "which would be told as an outage"


class Slow(Live):
    """A frame each `interval_s`, as a time lapse camera gives them."""

    interval_s = 0.25

    def read(self) -> Frame | None:
        time.sleep(self.interval_s)
        return super().read()


def test_a_slow_camera_is_waited_for_unless_a_limit_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolchain.camera.sources.capture.STALL_S", 0.05)
    reporter = Remembering()
    with Capture(Slow(10**6), every=True, reopen=lambda: Slow(10**6), reporter=reporter) as capture:
        assert [capture.take(5) for _ in range(5)].count(None) == 0
    assert capture.reconnects == 0
    assert not reporter.warned
    with Capture(Slow(10**6), reopen=lambda: Slow(10**6), stall_s=0.05, reporter=reporter) as capture:
        assert capture.take(5) is not None
        assert _comes_true(lambda: capture.outage is not None)
    assert "(--stall-limit)" in reporter.warned[0]


def test_a_source_that_seems_slow_is_given_more_time_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolchain.camera.sources.capture.STALL_S", 0.05)
    monkeypatch.setattr("toolchain.camera.sources.capture.SLOW_FIRST_FRAME_S", 0.1)
    with Capture(Slow(10**6), every=True, reopen=lambda: Slow(10**6)) as capture:
        assert [capture.take(10) for _ in range(4)].count(None) == 0
        before = capture.reconnects
        assert [capture.take(5) for _ in range(3)].count(None) == 0
        assert capture.reconnects == before, "now it is known to be slow"


def test_a_stream_that_had_ended_is_not_opened_again() -> None:
    with Capture(Live(2), every=True, reopen=lambda: None) as capture:
        assert [capture.take(5), capture.take(5)].count(None) == 0
        assert _comes_true(lambda: capture.ended)
    assert capture.error is None
    assert capture.outage is None


def test_a_picture_that_stands_still_is_told_once_and_that_it_moves_again_once() -> None:
    """A stream of 1 frame a second: it freezes for 20 s, then for 5, then for 15, then for 60."""
    reporter = Remembering()
    stillness = FreezeDetector("rtsp://camera", reporter)
    now_s, told = 0.0, []
    for still_s in (0, 20, 5, 15, 60):
        picture = np.random.default_rng(int(now_s)).integers(0, 255, (480, 640, 3), np.uint8)
        for _ in range(still_s + 1):
            stillness.look(picture.copy(), now_s)
            now_s += 1
        told.append((len(reporter.warned), len(reporter.said)))
    stillness.look(np.zeros((480, 640, 3), np.uint8), now_s)
    assert told == [(0, 0), (1, 0), (1, 1), (1, 1), (2, 1)], "only what lasts longer than before is told again"
    assert reporter.warned[0] == "rtsp://camera has given the same picture for 10 s; it may be frozen"
    assert "moves again after" in reporter.said[-1]


def test_a_stream_may_take_longer_for_its_first_frame() -> None:
    class Late(Live):
        def read(self) -> Frame | None:
            if not self._number:
                time.sleep(0.6)
            return super().read()

    with Capture(Late(1), stall_s=0.2) as capture:
        assert capture.take(5) is not None
