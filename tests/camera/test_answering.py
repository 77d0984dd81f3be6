"""Answers: thresholds, frames that show nothing, the documented line, and the figures about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.artifacts import tiny_artifact
from tests.camera.camera_support import Colours, run_all
from tests.clips import plain
from toolchain.artifact.card import Reject
from toolchain.camera.answering import KEPT, Answering, Rate, Series
from toolchain.camera.engine import Engine
from toolchain.camera.frames import SYSTEM_CLOCK, Frame
from toolchain.camera.loop import StopConditions
from toolchain.classifier import Classifier, load
from toolchain.runtimes import Answer


def test_answers_below_the_thresholds_are_rejected(classifier: Classifier, tmp_path: Path) -> None:
    careful = load(tiny_artifact(tmp_path / "unsure.onnx", scale=0.001, reject=Reject("max_probability", 0.9)))
    assert run_all(careful, Colours(["red"]))[1][0].prediction.rejected
    assert not run_all(classifier, Colours(["red"]))[1][0].prediction.rejected
    [answered] = run_all(classifier, Colours(["red"]), limits=StopConditions(min_probability=1.0))[1]
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

    *_, covered, seen = run_all(classifier, Pictured(["red"] * 60, interval_s=1.0))[1]
    assert (covered.uniform, covered.prediction.rejected) == (True, True)
    assert (seen.uniform, seen.prediction.rejected) == (False, False)


def test_every_other_frame_may_be_answered_as_its_mirror_image(classifier: Classifier) -> None:
    """Its thumbnail is not mirrored: that would look like a cut, across which nothing is averaged."""
    asked: list[np.ndarray] = []

    class Listening:
        device = classifier.runtime.device

        def infer(self, pixels: np.ndarray) -> Answer:
            asked.append(pixels)
            return classifier.runtime.infer(pixels)

    halves = np.concatenate([plain("red"), plain("blue")], axis=1)
    engine = Engine(Classifier(classifier.card, Listening()), mirror_average=True)  # type: ignore[arg-type]
    answering = Answering(engine, 0.0, SYSTEM_CLOCK)
    asked.clear()
    given = [answering.answer(Frame(number, halves, 100.0, number / 30)) for number in range(4)]
    for number, pixels in enumerate(asked):
        np.testing.assert_array_equal(pixels, asked[0][:, :, ::-1] if number % 2 else asked[0])
    assert not np.array_equal(asked[0], asked[1])
    assert answering._tracks[None].smooth.restarted is False
    assert len(given) == len(asked) == 4


def test_lines_have_exactly_the_documented_fields(classifier: Classifier) -> None:
    [answered] = run_all(classifier, Colours(["red"]))[1]
    line = answered.line()
    assert list(line) == ["frame", "time_s", "label", "probability", "rejected", "age_ms", "infer_ms", "answer"]


def test_percentiles_are_of_the_latest_values() -> None:
    series = Series(kept=100)
    assert series.percentiles().p50 is None
    for value in [*range(1000), *range(100)]:
        series.add(value)
    assert series.percentiles().p50 == pytest.approx(49.5)
    assert series.percentiles().p99 is None, "one in a hundred is not known of a hundred"
    many = Series()
    for value in range(299):
        many.add(value)
    assert many.percentiles().p99 == pytest.approx(295.02)
    assert KEPT * 8 < 1 << 20, "memory stays flat however long it runs"


def test_rate_counts_events_per_second() -> None:
    rate = Rate()
    assert rate.event(0) == 0
    for number in range(1, 100):
        per_second = rate.event(number / 25)
    assert per_second == pytest.approx(25)
