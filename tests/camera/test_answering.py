"""Answers: thresholds, frames that show nothing, the documented line, and the figures about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.artifacts import tiny_artifact
from tests.camera.camera_support import Colours, run_all
from toolchain.artifact.card import Reject
from toolchain.camera.answering import KEPT, Rate, Series
from toolchain.camera.frames import Frame
from toolchain.camera.loop import StopConditions
from toolchain.classifier import Classifier, load


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
    assert KEPT * 8 < 1 << 20, "memory stays flat however long it runs"


def test_rate_counts_events_per_second() -> None:
    rate = Rate()
    assert rate.event(0) == 0
    for number in range(1, 100):
        per_second = rate.event(number / 25)
    assert per_second == pytest.approx(25)
