"""What is done with answers holds nothing back, loses nothing that counts, and holds no frames."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from threading import Event

import numpy as np
import pytest

from tests.camera.test_drawing import answered
from tests.datasets.datasets_support import Remembering
from toolchain.camera.answering import Answered
from toolchain.camera.sinks import AnswerLostError, Delivery, Sink
from toolchain.camera.sinks.background import BackgroundSink
from toolchain.camera.threads import DropOldestQueue


class Held(Sink):
    """Keeps what it is shown; the first waits until it is let go."""

    delivery: Delivery = "all"

    def __init__(self, name: str = "slow") -> None:
        self.name = name
        self.numbers: list[int] = []
        self.go = Event()
        self.closed = False

    def show(self, answered: Answered) -> None:
        self.go.wait(20)
        self.numbers.append(answered.frame.number)

    def close(self) -> None:
        self.closed = True


def _answer(number: int) -> Answered:
    return answered(np.zeros((48, 64, 3), np.uint8), number=number)


def test_a_slow_sink_gets_the_newest_and_nobody_waits_for_it() -> None:
    sink = Held()
    with BackgroundSink(sink, Remembering(), capacity=3) as background:
        before = time.monotonic()
        for number in range(500):
            background.show(_answer(number))
        assert time.monotonic() - before < 2
        sink.go.set()
    assert sink.numbers[-3:] == [497, 498, 499]
    assert len(sink.numbers) <= 4
    assert background.lost == 500 - len(sink.numbers)
    assert sink.closed


def test_waiting_answers_hold_no_frames() -> None:
    """Four thousand frames of a camera are gigabytes."""
    sink = Held()
    frames = []
    with BackgroundSink(sink, Remembering(), capacity=1000) as background:
        for number in range(200):
            one = _answer(number)
            frames.append(weakref.ref(one.frame.bgr))
            background.show(one)
        del one
        gc.collect()
        assert sum(frame() is not None for frame in frames) == 0
        sink.go.set()
    assert sink.numbers == list(range(200))


def test_where_each_counts_the_loop_waits_until_it_is_given_up() -> None:
    sink, over = Held(), Event()
    with BackgroundSink(sink, Remembering(), capacity=2, every=True, given_up=over.is_set) as background:
        shown = threading.Thread(
            target=lambda: [background.show(_answer(number)) for number in range(10)], daemon=True
        )
        shown.start()
        shown.join(0.3)
        assert shown.is_alive(), "it waits for room"
        over.set()
        shown.join(5)
        assert not shown.is_alive()
        sink.go.set()


def test_a_sink_that_fails_is_told_of_once_and_tried_again() -> None:
    class Broken(Held):
        def show(self, answered: Answered) -> None:
            self.numbers.append(answered.frame.number)
            raise OSError(28, "No space left on device")

    sink, reporter = Broken("writing log"), Remembering()
    with BackgroundSink(sink, reporter, capacity=100) as background:
        for number in range(50):
            background.show(_answer(number))
    assert sink.numbers == list(range(50))
    assert background.lost == 50, "each answer that was not written counts"
    assert "No space left" in background.report().unwritten
    assert len(reporter.warned) == 1
    assert "No space left" in reporter.warned[0]


def test_a_sink_whose_reader_has_gone_gets_no_more() -> None:
    class Closed(Held):
        def show(self, answered: Answered) -> None:
            self.numbers.append(answered.frame.number)
            raise BrokenPipeError

    sink, reporter = Closed("writing pipe"), Remembering()
    with BackgroundSink(sink, reporter, capacity=100) as background:
        for number in range(50):
            background.show(_answer(number))
            time.sleep(0.001)
    assert sink.numbers == [0]
    assert background.lost == 50
    assert len(reporter.warned) == 1


def test_the_report_remembers_that_a_sink_of_the_newest_failed_once() -> None:
    class Once(Held):
        delivery: Delivery = "newest"

        def show(self, answered: Answered) -> None:
            if not self.numbers:
                self.numbers.append(answered.frame.number)
                raise OSError(24, "Too many open files")

    sink = Once("--on-change")
    with BackgroundSink(sink, Remembering()) as background:
        for number in range(50):
            background.show(_answer(number))
            time.sleep(0.001)
    assert background.report().unwritten == "--on-change: failed 1 times ([Errno 24] Too many open files)"
    assert not background.report().lost, "nobody promised it all answers"


def test_a_sink_that_loses_an_answer_is_tried_again_with_the_next() -> None:
    """A disk that was full has room again."""

    class Full(Held):
        def show(self, answered: Answered) -> None:
            if 3 <= answered.frame.number < 10:
                raise AnswerLostError("No space left on device")
            self.numbers.append(answered.frame.number)

    sink, reporter = Full("writing log"), Remembering()
    with BackgroundSink(sink, reporter, capacity=100) as background:
        for number in range(20):
            background.show(_answer(number))
    assert sink.numbers == [0, 1, 2, *range(10, 20)]
    assert background.lost == 7
    assert len(reporter.warned) == 1
    assert reporter.said == ["writing log works again; 7 answers were lost"]


def test_values_that_are_there_can_be_taken_after_closing() -> None:
    queue: DropOldestQueue[int] = DropOldestQueue(2)
    queue.put(1)
    queue.put(2)
    queue.close()
    queue.put(3)
    assert [queue.take(0), queue.take(0), queue.take(0)] == [1, 2, None]
    assert queue.ended


@pytest.mark.parametrize("capacity", [1, 3])
def test_the_oldest_is_pushed_out(capacity: int) -> None:
    queue: DropOldestQueue[int] = DropOldestQueue(capacity)
    for number in range(10):
        queue.put(number)
    assert queue.take(0) == 10 - capacity
    assert queue.dropped == 10 - capacity


def test_what_a_sink_had_no_time_for_in_the_end_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolchain.camera.sinks.background.CLOSE_LIMIT_S", 0.1)
    sink = Held()
    with BackgroundSink(sink, Remembering(), capacity=100) as background:
        for number in range(50):
            background.show(_answer(number))
        time.sleep(0.1)
    assert background.lost == 49
    sink.go.set()
