"""The loop answers the newest frame, measures its age, and ends when it should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.artifacts import tiny_artifact
from tests.clips import HeldClock, plain
from toolchain.camera.capture import Capture
from toolchain.camera.figures import KEPT, Rate, Series
from toolchain.camera.frames import Frame, SourceLostError
from toolchain.camera.loop import Answered, Control, Limits, Summary, run
from toolchain.camera.smoothing import Smoother
from toolchain.card import Reject
from toolchain.classifier import Classifier, load
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

    def idle(self) -> None:
        self.idled += 1


class Colours:
    """A source: one frame for each colour, captured `interval_s` apart; then its end, an error, or silence."""

    name = "colours"

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
    classifier: Classifier, source: Colours, sink: Collect | None = None, limits: Limits | None = None, **keywords
) -> tuple[Summary, Keep]:  # fmt: skip
    sink = sink or Collect()
    summary = run(classifier, Capture(source, every=True), [sink], limits=limits, **keywords)
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
    assert answers[0].age_ms == pytest.approx(80), (
        "the first inference, before the loop, delays the first frame here"
    )
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

    summary = run(Classifier(classifier.card, Slow()), capture, [sink])
    assert [answered.frame.number for answered in sink.answers] == [0, 10]
    assert (summary.frames_in, summary.frames_answered, summary.frames_dropped) == (11, 2, 9)


def test_frames_and_duration_end_the_loop(classifier: Classifier) -> None:
    summary, answers = _run(classifier, Colours(["red"] * 50), limits=Limits(frames=3))
    assert (summary.ended, len(answers)) == ("frames", 3)
    clock = HeldClock()

    def a_second(_: Answered) -> None:
        clock.time_s += 1

    limits = Limits(duration_s=3)
    summary, answers = _run(classifier, Colours(["red"] * 50), Collect(a_second), limits, clock=clock)
    assert (summary.ended, len(answers)) == ("duration", 3)
    assert summary.fps == pytest.approx(1)


def test_source_that_stalls_ends_the_loop(classifier: Classifier) -> None:
    sink = Collect()
    summary, answers = _run(classifier, Colours(["red"], then="silence"), sink, Limits(stall_s=0.15))
    assert (summary.ended, len(answers)) == ("stalled", 1)
    assert sink.idled, "keys are looked at while nothing comes"


def test_lost_source_is_told_and_other_errors_are_raised(classifier: Classifier) -> None:
    summary, _ = _run(classifier, Colours(["red"], then=SourceLostError("cable")))
    assert summary.ended == "lost"
    with pytest.raises(ZeroDivisionError):
        _run(classifier, Colours(["red"], then=ZeroDivisionError()))


def test_quit_and_pause(classifier: Classifier) -> None:
    control = Control()

    class Keys(Collect):
        def show(self, answered: Answered) -> None:
            super().show(answered)
            control.paused = True

        def idle(self) -> None:
            super().idle()
            if self.idled == 3:
                control.ending = "quit"

    sink = Keys()
    summary, answers = _run(classifier, Colours(["red"] * 50), sink, control=control)
    assert summary.ended == "quit"
    assert len(answers) == 1, "no frame is answered while it is paused"


def test_answers_below_the_thresholds_are_rejected(classifier: Classifier, tmp_path: Path) -> None:
    careful = load(tiny_artifact(tmp_path / "unsure.onnx", scale=0.001, reject=Reject("max_probability", 0.9)))
    assert _run(careful, Colours(["red"]))[1][0].prediction.rejected
    assert not _run(classifier, Colours(["red"]))[1][0].prediction.rejected
    [answered] = _run(classifier, Colours(["red"]), limits=Limits(min_probability=1.0))[1]
    assert answered.prediction.rejected
    assert answered.prediction.label == "red", "what it would have been is told all the same"


def test_lines_have_exactly_the_documented_fields(classifier: Classifier) -> None:
    [answered] = _run(classifier, Colours(["red"]))[1]
    line = answered.line()
    assert list(line) == ["frame", "time_s", "label", "probability", "rejected", "age_ms", "infer_ms"]


def test_smoothed_answer_follows_a_lasting_change_and_not_a_single_frame() -> None:
    smooth = Smoother(temperature=1, time_constant_s=0.2)
    red, green = np.array([5, 0], np.float32), np.array([0, 5], np.float32)
    for number in range(30):
        steady = smooth(red, number / 30)
    assert steady.logits[0] == pytest.approx(red)
    flicker = smooth(green, 1.0)
    assert flicker.logits[0].argmax() == 0
    for number in range(31, 60):
        answer = smooth(green, number / 30)
    assert answer.logits[0].argmax() == 1
    assert answer.probabilities.sum() == pytest.approx(1)


def test_smoothing_depends_on_time_and_not_on_the_number_of_frames() -> None:
    """Where half the frames are dropped, the answer after half a second is nearly the same."""
    ends = []
    for step in (1, 2):
        smooth = Smoother(temperature=1, time_constant_s=0.2)
        smooth(np.array([1, 0], np.float32), 0.0)
        for number in range(step, 31, step):
            answer = smooth(np.array([0, 1], np.float32), number / 60)
        ends.append(answer.logits[0])
    assert ends[0] == pytest.approx(ends[1], abs=1e-5)


def test_smoothing_uses_the_cards_temperature() -> None:
    logits = np.array([2, 0], np.float32)
    answer = Smoother(temperature=2, time_constant_s=0)(logits, 0)
    assert answer.probabilities[0, 0] == pytest.approx(1 / (1 + np.exp(-1)))
    assert answer.logits.dtype == answer.probabilities.dtype == np.float32


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
