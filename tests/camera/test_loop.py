"""The loop answers the newest frame, measures its age, and ends when it should."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from threading import Event

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.camera.camera_support import Collect, Colours, run_all
from tests.clips import HeldClock
from toolchain.camera.answering import Answered
from toolchain.camera.engine import Engine
from toolchain.camera.frames import Frame, SourceLostError
from toolchain.camera.loop import Control, StopConditions, run
from toolchain.camera.sources.capture import Capture
from toolchain.classifier import Classifier
from toolchain.runtimes import Answer


def test_every_frame_of_a_clip_is_answered_and_the_loop_ends(classifier: Classifier) -> None:
    colours = ["red"] * 20 + ["green"] * 20 + ["blue"] * 20
    summary, answers = run_all(classifier, Colours(colours))
    assert summary.ended == "end"
    assert (summary.frames_in, summary.frames_answered, summary.frames_dropped) == (60, 60, 0)
    assert [answers[index].prediction.label for index in (19, 39, 59)] == ["red", "green", "blue"]
    assert answers[-1].frame.number == 59


def test_age_is_from_capture_to_answer(classifier: Classifier) -> None:
    """Measured with a held clock: 40 ms in the inference, and whatever passed between capture and the loop."""
    clock = HeldClock()

    class Slow:
        device, provider_effective, threads = "ort:cpu", "held", 1

        def infer(self, images: NDArray[np.uint8]) -> Answer:
            clock.time_s += 0.040
            return classifier.runtime.infer(images)

    summary, answers = run_all(Classifier(classifier.card, Slow()), Colours(["red"]), clock=clock)
    assert answers[0].infer_ms == pytest.approx(40)
    assert answers[0].age_ms == pytest.approx(80), "the rehearsal before the loop delays the first frame here"
    assert summary.infer_ms.p50 == pytest.approx(40)
    assert summary.age_ms.p95 == pytest.approx(80)
    assert summary.age_ms.p99 is None, "one frame knows no 99th percentile"


def test_slow_network_drops_frames_and_answers_the_newest(classifier: Classifier) -> None:
    """Frames arrive faster than they are answered: those in between are dropped, nothing queues."""
    arrived = Event()

    class Burst(Colours):
        """Two frames at first; ten more while the first answer is being worked on."""

        def read(self) -> Frame | None:
            if self._number == 1:
                arrived.wait(10)
            return super().read()

    sink = Collect()
    capture = Capture(Burst(["red"] * 11))

    class Slow:
        device, provider_effective, threads = "ort:cpu", "slow", 1
        calls = 0

        def infer(self, images: NDArray[np.uint8]) -> Answer:
            self.calls += 1
            if self.calls == 2:  # the first is the rehearsal before the loop
                arrived.set()
                while capture.frames_in < 11:
                    Event().wait(0.001)
            return classifier.runtime.infer(images)

    summary = run(Engine(Classifier(classifier.card, Slow())), capture, [sink])
    assert [answered.frame.number for answered in sink.answers] == [0, 10]
    assert (summary.frames_in, summary.frames_answered, summary.frames_dropped) == (11, 2, 9)


def test_frames_and_duration_end_the_loop(classifier: Classifier) -> None:
    summary, answers = run_all(classifier, Colours(["red"] * 50), limits=StopConditions(frames=3))
    assert (summary.ended, len(answers)) == ("frames", 3)
    clock = HeldClock()

    def a_second(_: Answered) -> None:
        clock.time_s += 1

    limits = StopConditions(duration_s=3)
    summary, answers = run_all(classifier, Colours(["red"] * 50), Collect(a_second), limits, clock=clock)
    assert (summary.ended, len(answers)) == ("duration", 3)
    assert summary.fps == pytest.approx(1)


def test_source_that_stalls_for_good_is_lost(classifier: Classifier) -> None:
    sink = Collect()
    capture = Capture(Colours(["red"], then="silence"), stall_s=0.15)
    summary = run(Engine(classifier), capture, [sink])
    assert (summary.ended, summary.lost, len(sink.answers)) == ("lost", True, 1)
    assert sink.idled, "sinks are told while nothing comes"


def test_lost_source_is_told_and_other_errors_are_raised(classifier: Classifier) -> None:
    summary, _ = run_all(classifier, Colours(["red"], then=SourceLostError("cable")))
    assert summary.ended == "lost"
    with pytest.raises(ZeroDivisionError):
        run_all(classifier, Colours(["red"], then=ZeroDivisionError()))


def test_pause_and_quit(classifier: Classifier) -> None:
    control = Control()

    class Paused(Collect):
        """Somebody pauses at the first answer, and ends a while later."""

        def show(self, answered: Answered) -> None:
            super().show(answered)
            control.paused = True

    class Screen(Collect):
        delivery = "main"

        def idle(self, state: str) -> None:
            super().idle(state)
            if self.idled == 5 and told:
                control.end("quit")

    told: list[str] = []

    class Page(Collect):
        def idle(self, state: str) -> None:
            told.append(state)

    sink = Paused()
    summary = run(
        Engine(classifier), Capture(Colours(["red"] * 50), every=True), [sink, Screen(), Page()], control=control
    )
    assert summary.ended == "quit"
    assert set(told) == {"paused"}, "others are told, too"
    assert len(sink.answers) == 1, "no frame is answered while it is paused"


def test_drawing_does_not_hold_back_answers(classifier: Classifier) -> None:
    """A screen that takes 100 ms for a picture gets the newest answer each time; all frames are answered."""

    class Sluggish(Collect):
        delivery = "main"

        def show(self, answered: Answered) -> None:
            super().show(answered)
            time.sleep(0.1)

    class Timed(Colours):
        def read(self) -> Frame | None:
            time.sleep(0.01)
            frame = super().read()
            return frame and replace(frame, captured_s=time.monotonic())

    sink, screen = Collect(), Sluggish()
    summary = run(Engine(classifier), Capture(Timed(["red"] * 60)), [sink, screen])
    assert summary.frames_answered > 40
    assert len(screen.answers) < 20
    assert screen.answers[-1].frame.number == 59, "the last one is shown in the end"
    assert summary.age_ms.p50 is not None
    assert summary.age_ms.p50 < 50


def test_every_frame_is_shown_where_each_counts(classifier: Classifier) -> None:
    screen = Collect()
    screen.delivery = "main"
    run(Engine(classifier), Capture(Colours(["red"] * 40), every=True), [screen])
    assert [answered.frame.number for answered in screen.answers] == list(range(40))


def test_what_the_screen_raises_ends_the_loop(classifier: Classifier) -> None:
    class Broken(Collect):
        delivery = "main"

        def show(self, answered: Answered) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(Engine(classifier), Capture(Colours(["red"] * 40), every=True), [Broken()])
    end = time.monotonic() + 10
    while (left := _threads_of_the_loop()) and time.monotonic() < end:
        time.sleep(0.01)
    assert not left


def _threads_of_the_loop() -> list[str]:
    names = {"answer", "capture colours", "read colours"}
    return [thread.name for thread in threading.enumerate() if thread.name in names]


def test_the_first_reason_to_end_is_kept() -> None:
    control = Control()
    control.end("interrupted")
    control.end("quit")
    assert control.ending == "interrupted"
