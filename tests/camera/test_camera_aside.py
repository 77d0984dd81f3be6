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
from toolchain.camera.sinks.background import BackgroundSink, LineLostError
from toolchain.camera.threads import DropOldestQueue


class Held:
    """Keeps what it is shown; the first waits until it is let go."""

    def __init__(self) -> None:
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


def test_a_slow_line_gets_the_newest_and_nobody_waits_for_it() -> None:
    line = Held()
    with BackgroundSink(line, "slow", Remembering(), capacity=3) as aside:
        before = time.monotonic()
        for number in range(500):
            aside.show(_answer(number))
        assert time.monotonic() - before < 2
        line.go.set()
    assert line.numbers[-3:] == [497, 498, 499]
    assert len(line.numbers) <= 4
    assert aside.lost == 500 - len(line.numbers)
    assert line.closed


def test_waiting_answers_hold_no_frames() -> None:
    """Four thousand frames of a camera are gigabytes."""
    line = Held()
    frames = []
    with BackgroundSink(line, "slow", Remembering(), capacity=1000) as aside:
        for number in range(200):
            one = _answer(number)
            frames.append(weakref.ref(one.frame.bgr))
            aside.show(one)
        del one
        gc.collect()
        assert sum(frame() is not None for frame in frames) == 0
        line.go.set()
    assert line.numbers == list(range(200))


def test_where_each_counts_the_loop_waits_until_it_is_given_up() -> None:
    line, over = Held(), Event()
    with BackgroundSink(line, "slow", Remembering(), capacity=2, every=True, given_up=over.is_set) as aside:
        shown = threading.Thread(target=lambda: [aside.show(_answer(number)) for number in range(10)], daemon=True)
        shown.start()
        shown.join(0.3)
        assert shown.is_alive(), "it waits for room"
        over.set()
        shown.join(5)
        assert not shown.is_alive()
        line.go.set()


def test_a_line_that_fails_is_told_of_once_and_gets_no_more() -> None:
    class Broken(Held):
        def show(self, answered: Answered) -> None:
            self.numbers.append(answered.frame.number)
            raise OSError(28, "No space left on device")

    line, reporter = Broken(), Remembering()
    with BackgroundSink(line, "writing log", reporter, capacity=100) as aside:
        for number in range(50):
            aside.show(_answer(number))
            time.sleep(0.002)
    assert line.numbers == [0]
    assert aside.lost == 50, "each answer that was not written counts"
    assert isinstance(aside.failure, OSError)
    assert len(reporter.warned) == 1
    assert "No space left" in reporter.warned[0]


def test_a_line_that_loses_an_answer_is_tried_again_with_the_next() -> None:
    """A disk that was full has room again."""

    class Full(Held):
        def show(self, answered: Answered) -> None:
            if 3 <= answered.frame.number < 10:
                raise LineLostError("No space left on device")
            self.numbers.append(answered.frame.number)

    line, reporter = Full(), Remembering()
    with BackgroundSink(line, "writing log", reporter, capacity=100) as aside:
        for number in range(20):
            aside.show(_answer(number))
    assert line.numbers == [0, 1, 2, *range(10, 20)]
    assert aside.lost == 7
    assert len(reporter.warned) == 1
    assert reporter.said == ["writing log works again; 7 lines were lost"]


def test_values_that_are_there_can_be_taken_after_closing() -> None:
    handover: DropOldestQueue[int] = DropOldestQueue(2)
    handover.put(1)
    handover.put(2)
    handover.close()
    handover.put(3)
    assert [handover.take(0), handover.take(0), handover.take(0)] == [1, 2, None]
    assert handover.ended


@pytest.mark.parametrize("capacity", [1, 3])
def test_the_oldest_is_pushed_out(capacity: int) -> None:
    handover: DropOldestQueue[int] = DropOldestQueue(capacity)
    for number in range(10):
        handover.put(number)
    assert handover.take(0) == 10 - capacity
    assert handover.dropped == 10 - capacity


def test_what_a_line_had_no_time_for_in_the_end_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolchain.camera.sinks.background.CLOSE_LIMIT_S", 0.1)
    line = Held()
    with BackgroundSink(line, "printing", Remembering(), capacity=100) as aside:
        for number in range(50):
            aside.show(_answer(number))
        time.sleep(0.1)
    assert aside.lost == 49
    line.go.set()
