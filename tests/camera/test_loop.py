"""The loop answers the newest frame, measures its age, and ends when it should."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.artifacts import tiny_artifact
from tests.clips import HeldClock, plain
from tests.datasets.datasets_support import Remembering
from toolchain.artifact import Artifact
from toolchain.artifact.card import Reject
from toolchain.camera.answering import KEPT, Answering, Busy, Rate, Series
from toolchain.camera.engine import Engine
from toolchain.camera.frames import Frame, SourceLostError
from toolchain.camera.loop import Answered, Control, StopConditions, Summary, run
from toolchain.camera.sources.capture import Capture
from toolchain.classifier import Classifier, load
from toolchain.errors import MissingError
from toolchain.runtimes import Answer

Keep = list[Answered]


class Collect:
    """A sink that keeps the answers, and does something at each."""

    def __init__(self, at_each: Callable[[Answered], None] | None = None) -> None:
        self.answers: Keep = []
        self.idled = 0
        self._at_each = at_each

    def show(self, answered: Answered) -> None:
        self.answers.append(answered)
        if self._at_each:
            self._at_each(answered)

    def idle(self, state: str) -> None:
        self.idled += 1


class Colours:
    """A source: one frame for each colour, captured `interval_s` apart; then its end, an error, or silence."""

    name = given = "colours"
    live = False
    patience_s = 0.0
    resting = False
    remedy = "Look at the colours."

    def __init__(self, colours: list[str], interval_s: float = 1 / 30, then: str | Exception = "end") -> None:
        self.fps = 1 / interval_s
        self._colours = colours
        self._interval_s = interval_s
        self._then = then
        self._number = 0
        self._stopped = Event()

    def read(self) -> Frame | None:
        if self._number < len(self._colours):
            time_s = self._number * self._interval_s
            frame = Frame(self._number, plain(self._colours[self._number]), 100 + time_s, time_s)
            self._number += 1
            return frame
        if isinstance(self._then, Exception):
            raise self._then
        if self._then == "silence":
            self._stopped.wait(30)
        return None

    def stop(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return load(tiny_artifact(tmp_path_factory.mktemp("tiny") / "tiny.onnx"))


def _run(
    classifier: Classifier,
    source: Colours,
    sink: Collect | None = None,
    limits: StopConditions | None = None,
    **keywords,
) -> tuple[Summary, Keep]:
    sink = sink or Collect()
    summary = run(Engine(classifier), Capture(source, every=True), [sink], limits=limits, **keywords)
    return summary, sink.answers


def test_every_frame_of_a_clip_is_answered_and_the_loop_ends(classifier: Classifier) -> None:
    colours = ["red"] * 20 + ["green"] * 20 + ["blue"] * 20
    summary, answers = _run(classifier, Colours(colours))
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

    summary, answers = _run(Classifier(classifier.card, Slow()), Colours(["red"]), clock=clock)
    assert answers[0].infer_ms == pytest.approx(40)
    assert answers[0].age_ms == pytest.approx(80), "the rehearsal before the loop delays the first frame here"
    assert summary.infer_ms.p50 == pytest.approx(40)
    assert summary.age_ms.p99 == pytest.approx(80)


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
    summary, answers = _run(classifier, Colours(["red"] * 50), limits=StopConditions(frames=3))
    assert (summary.ended, len(answers)) == ("frames", 3)
    clock = HeldClock()

    def a_second(_: Answered) -> None:
        clock.time_s += 1

    limits = StopConditions(duration_s=3)
    summary, answers = _run(classifier, Colours(["red"] * 50), Collect(a_second), limits, clock=clock)
    assert (summary.ended, len(answers)) == ("duration", 3)
    assert summary.fps == pytest.approx(1)


def test_source_that_stalls_for_good_is_lost(classifier: Classifier) -> None:
    sink = Collect()
    capture = Capture(Colours(["red"], then="silence"), stall_s=0.15)
    summary = run(Engine(classifier), capture, [sink])
    assert (summary.ended, summary.lost, len(sink.answers)) == ("lost", True, 1)
    assert sink.idled, "sinks are told while nothing comes"


def test_lost_source_is_told_and_other_errors_are_raised(classifier: Classifier) -> None:
    summary, _ = _run(classifier, Colours(["red"], then=SourceLostError("cable")))
    assert summary.ended == "lost"
    with pytest.raises(ZeroDivisionError):
        _run(classifier, Colours(["red"], then=ZeroDivisionError()))


def test_pause_and_quit(classifier: Classifier) -> None:
    control = Control()

    class Paused(Collect):
        """Somebody pauses at the first answer, and ends a while later."""

        def show(self, answered: Answered) -> None:
            super().show(answered)
            control.paused = True

    class Screen(Collect):
        def idle(self, state: str) -> None:
            super().idle(state)
            if self.idled == 5:
                control.end("quit")

    sink = Paused()
    summary = run(Engine(classifier), Capture(Colours(["red"] * 50), every=True), [sink], Screen(), control=control)
    assert summary.ended == "quit"
    assert len(sink.answers) == 1, "no frame is answered while it is paused"


def test_drawing_does_not_hold_back_answers(classifier: Classifier) -> None:
    """A screen that takes 100 ms for a picture gets the newest answer each time; all frames are answered."""

    class Sluggish(Collect):
        def show(self, answered: Answered) -> None:
            super().show(answered)
            time.sleep(0.1)

    class Timed(Colours):
        def read(self) -> Frame | None:
            time.sleep(0.01)
            frame = super().read()
            return frame and replace(frame, captured_s=time.monotonic())

    sink, screen = Collect(), Sluggish()
    summary = run(Engine(classifier), Capture(Timed(["red"] * 60)), [sink], screen)
    assert summary.frames_answered > 40
    assert len(screen.answers) < 20
    assert screen.answers[-1].frame.number == 59, "the last one is shown in the end"
    assert summary.age_ms.p50 is not None
    assert summary.age_ms.p50 < 50


def test_every_frame_is_shown_where_each_counts(classifier: Classifier) -> None:
    screen = Collect()
    run(Engine(classifier), Capture(Colours(["red"] * 40), every=True), [], screen)
    assert [answered.frame.number for answered in screen.answers] == list(range(40))


def test_what_the_screen_raises_ends_the_loop(classifier: Classifier) -> None:
    class Broken(Collect):
        def show(self, answered: Answered) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(Engine(classifier), Capture(Colours(["red"] * 40), every=True), [], Broken())
    end = time.monotonic() + 10
    while (left := _threads_of_the_loop()) and time.monotonic() < end:
        time.sleep(0.01)
    assert not left


def _threads_of_the_loop() -> list[str]:
    names = {"answer", "capture colours", "read colours"}
    return [thread.name for thread in threading.enumerate() if thread.name in names]


class Failing:
    """A device that answers `good` times; then it raises, or hangs."""

    device, provider_effective, threads = "ort:cuda", "failing", 1

    def __init__(self, classifier: Classifier, good: int, hang: Event | None = None) -> None:
        self._classifier, self._good, self._hang = classifier, good, hang

    def infer(self, images: NDArray[np.uint8]) -> Answer:
        if not self._good:
            if self._hang is None:
                raise RuntimeError("CUDA error: device lost\nand much more")
            self._hang.wait(20)
        self._good -= 1
        return self._classifier.runtime.infer(images)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_artifact(tmp_path_factory.mktemp("failing") / "tiny.onnx")


def test_a_device_that_fails_is_replaced_by_the_cpu(classifier: Classifier, artifact: Artifact) -> None:
    failing = Classifier(classifier.card, Failing(classifier, good=5))
    reporter = Remembering()
    sink = Collect()
    engine = Engine(failing, artifact, reporter=reporter)
    summary = run(engine, Capture(Colours(["red"] * 20), every=True), [sink])
    assert [answered.frame.number for answered in sink.answers] == list(range(20)), "no frame goes unanswered"
    assert (summary.ended, summary.device) == ("end", "ort:cpu")
    assert len(summary.failures) == 1
    assert "ort:cuda failed (CUDA error: device lost)" in summary.failures[0]
    assert len(reporter.warned) == 1
    assert "going on with float32 on ort:cpu" in reporter.warned[0]


def test_a_device_that_hangs_is_left_behind(classifier: Classifier, artifact: Artifact) -> None:
    released = Event()
    failing = Classifier(classifier.card, Failing(classifier, good=5, hang=released))
    sink = Collect()
    engine = Engine(failing, artifact)
    limits = StopConditions(inference_s=0.3)
    summary = run(engine, Capture(Colours(["red"] * 20), every=True), [sink], limits=limits)
    released.set()
    assert (summary.ended, summary.device) == ("end", "ort:cpu")
    numbers = [answered.frame.number for answered in sink.answers]
    assert numbers == [*range(4), *range(5, 20)], "the frame that it hung on is given up"
    assert "gave no answer for 0.3 s" in summary.failures[0]


def test_a_device_that_is_only_slow_to_look_at_is_not_given_up(classifier: Classifier, artifact: Artifact) -> None:
    """The process was stopped (Ctrl-Z) or the machine slept: the clock went on, and nobody could answer."""
    clock = HeldClock()

    class Slept(Failing):
        def infer(self, images: NDArray[np.uint8]) -> Answer:
            self._good -= 1
            if self._good == 5:
                clock.time_s += 3600
                time.sleep(0.2)
            return self._classifier.runtime.infer(images)

    sleeping = Classifier(classifier.card, Slept(classifier, good=100))
    engine = Engine(sleeping, artifact)
    summary = run(engine, Capture(Colours(["red"] * 100), every=True), [], clock=clock)
    assert summary.failures == ()
    assert summary.frames_answered == 100


def test_an_inference_is_given_up_once_and_only_while_it_runs(classifier: Classifier) -> None:
    answering = Answering(Engine(classifier), 0.0, HeldClock())
    running = Busy(Engine(classifier).network, 0.0)
    assert not answering.abandon(running)
    answering.busy = running
    assert not answering.abandon(Busy(running.network, 0.0)), "another one than was looked at"
    assert answering.abandon(running)
    assert not answering.abandon(running)


@pytest.mark.slow
def test_ending_does_not_wait_for_a_device_that_hangs(classifier: Classifier, artifact: Artifact) -> None:
    control, released = Control(), Event()
    hanging = Classifier(classifier.card, Failing(classifier, good=2, hang=released))
    threading.Timer(0.3, control.end, ["interrupted"]).start()
    before = time.monotonic()
    summary = run(Engine(hanging, artifact), Capture(Colours(["red"] * 20), every=True), [], control=control)
    released.set()
    assert summary.ended == "interrupted"
    assert time.monotonic() - before < 8


def test_the_first_reason_to_end_is_kept() -> None:
    control = Control()
    control.end("interrupted")
    control.end("quit")
    assert control.ending == "interrupted"


def test_a_cpu_that_fails_too_ends_with_its_error(classifier: Classifier) -> None:
    failing = Classifier(classifier.card, Failing(classifier, good=3))
    with pytest.raises(MissingError, match="no other device"):
        run(Engine(failing), Capture(Colours(["red"] * 20), every=True), [])


def test_answers_below_the_thresholds_are_rejected(classifier: Classifier, tmp_path: Path) -> None:
    careful = load(tiny_artifact(tmp_path / "unsure.onnx", scale=0.001, reject=Reject("max_probability", 0.9)))
    assert _run(careful, Colours(["red"]))[1][0].prediction.rejected
    assert not _run(classifier, Colours(["red"]))[1][0].prediction.rejected
    [answered] = _run(classifier, Colours(["red"]), limits=StopConditions(min_probability=1.0))[1]
    assert answered.prediction.rejected
    assert answered.prediction.label == "red", "what it would have been is told all the same"


def test_a_frame_on_which_nothing_is_to_be_seen_is_rejected(classifier: Classifier) -> None:
    """One colour all over: a lens cap, a broken cable. The tiny network would be sure of its colour."""

    class Pictured(Colours):
        def read(self) -> Frame | None:
            frame = super().read()
            if frame is not None and not frame.number % 2:
                frame.bgr[:] = (0, 0, 255)
            return frame

    *_, covered, seen = _run(classifier, Pictured(["red"] * 60, interval_s=1.0))[1]
    assert (covered.plain, covered.prediction.rejected) == (True, True)
    assert (seen.plain, seen.prediction.rejected) == (False, False)


def test_lines_have_exactly_the_documented_fields(classifier: Classifier) -> None:
    [answered] = _run(classifier, Colours(["red"]))[1]
    line = answered.line()
    assert list(line) == ["frame", "time_s", "label", "probability", "rejected", "age_ms", "infer_ms", "answer"]


def test_percentiles_are_of_the_latest_values() -> None:
    series = Series(kept=100)
    assert series.percentiles().p50 is None
    for value in [*range(1000), *range(100)]:
        series.add(value)
    assert series.percentiles().p50 == pytest.approx(49.5)
    assert KEPT * 8 < 1 << 20, "memory stays flat however long it runs"


def test_rate_counts_events_per_second() -> None:
    rate = Rate()
    assert rate.event(0) == 0
    for number in range(1, 100):
        per_second = rate.event(number / 25)
    assert per_second == pytest.approx(25)
