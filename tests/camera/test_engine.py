"""The network that answers is exchanged while frames come, and replaced when its device fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from tests.artifacts import tiny_artifact
from tests.clips import HeldClock, plain
from tests.datasets.datasets_support import Remembering
from toolchain.artifact import Artifact, write_artifact
from toolchain.camera import engine as engines
from toolchain.camera.answering import Answering
from toolchain.camera.engine import Engine, Network
from toolchain.camera.frames import Frame
from toolchain.classifier import Classifier, load
from toolchain.errors import MissingError
from toolchain.export.raw_frame import with_raw_frame
from toolchain.runtimes import Answer


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return tiny_artifact(tmp_path / "model.onnx")


class Broken:
    """A device that answers once, when it is tried, and never again."""

    device, provider_effective, threads = "openvino:GPU", "broken", 1

    def __init__(self, classifier: Classifier) -> None:
        self._classifier, self._tried = classifier, False

    def infer(self, images: NDArray[np.uint8]) -> Answer:
        if self._tried:
            raise RuntimeError("the driver is gone")
        self._tried = True
        return self._classifier.runtime.infer(images)


def _frame(number: int = 0) -> Frame:
    return Frame(number, plain("red"), 0.0, number / 30)


def _comes_true(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_a_replacement_that_fails_too_is_passed_over(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's own errors are not edgetl's: the next CPU is tried whatever the first one raises."""

    def no_kernels(given: Artifact, device: str, threads: int, *, exclusive: bool) -> Classifier:
        if device == "ort:cpu":
            raise RuntimeError("no kernel for this CPU")
        return load(given, device, threads, exclusive=exclusive)

    monkeypatch.setattr(engines, "load", no_kernels)
    classifier = load(artifact)
    engine = Engine(Classifier(classifier.card, Broken(classifier)), artifact)
    answered = Answering(engine, 0.0, HeldClock()).answer(_frame())
    assert answered.prediction.label == "red"
    assert answered.network == "float32 on openvino:CPU"
    assert engine.failures == ["float32 on openvino:GPU failed (the driver is gone)"]


def test_a_file_is_not_taken_to_a_device_it_was_not_proven_on(tmp_path: Path) -> None:
    artifact = tiny_artifact(tmp_path / "model.int8.onnx", precision="int8", runtimes=("openvino:CPU",))
    classifier = load(artifact, "openvino:CPU")
    engine = Engine(Classifier(classifier.card, Broken(classifier)), artifact)
    assert Answering(engine, 0.0, HeldClock()).answer(_frame()).network == "int8 on openvino:CPU"


def test_without_anything_to_go_on_with_the_device_is_missing(tmp_path: Path) -> None:
    artifact = tiny_artifact(tmp_path / "model.onnx")
    classifier = load(artifact)
    engine = Engine(Classifier(classifier.card, Broken(classifier)))
    with pytest.raises(MissingError, match="the driver is gone"):
        Answering(engine, 0.0, HeldClock()).answer(_frame())


def test_a_compared_answer_is_of_the_same_frame_and_may_fail(artifact: Artifact, tmp_path: Path) -> None:
    tiny_artifact(tmp_path / "model.int8.onnx", precision="int8")
    tiny_artifact(tmp_path / "others.onnx", labels=("cyan", "magenta", "yellow"))
    reporter = Remembering()
    engine = Engine(load(artifact), artifact, reporter=reporter)
    answering = Answering(engine, 0.0, HeldClock())
    engine.toggle_comparison()
    assert _comes_true(lambda: engine.compared is not None)
    answered = answering.answer(_frame())
    assert answered.compared is not None
    assert (answered.compared.name, answered.compared.prediction.label) == ("int8 on ort:cpu", "red")
    engine.compared = Network(Classifier(load(artifact).card, Broken(load(artifact))))
    assert answering.answer(_frame(1)).compared is None
    assert engine.compared is None
    assert answering.answer(_frame(2)).prediction.label == "red"
    assert "the comparison ends" in reporter.warned[0]
    assert engine.failures == [], "what answers has not failed"


def test_where_there_is_nothing_else_the_camera_goes_on_with_what_it_has(artifact: Artifact) -> None:
    reporter = Remembering()
    engine = Engine(load(artifact), artifact, reporter=reporter)
    before = engine.network
    engine.next_precision()
    assert _comes_true(lambda: bool(reporter.warned))
    assert engine.network is before
    assert "no other model file" in reporter.warned[0]


def test_a_file_that_resizes_by_itself_is_no_other_of_one_that_does_not(tmp_path: Path) -> None:
    """It answers one region only, and the camera may answer several."""
    plain = tiny_artifact(tmp_path / "model.onnx")
    tiny_artifact(tmp_path / "model.int8.onnx", precision="int8")
    frame = with_raw_frame(onnx.load(plain.path), plain.card.preprocess)
    framed = write_artifact(frame, replace(plain.card, input="frame"), tmp_path / "model.frame.onnx")
    names = {}
    for one in (plain, framed):
        engine = Engine(load(one), one, reporter=Remembering())
        names[one.path.name] = [other.path.name for other, _ in engine._others(one)]
        assert engine.network.takes_one == (one is framed)
    assert names == {"model.onnx": ["model.int8.onnx"], "model.frame.onnx": []}


def test_a_device_that_compiles_has_time_for_each_new_number_of_pictures(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second region is a batch of two: TensorRT compiles for it, and has not failed."""
    network = Network(load(artifact), artifact)
    one, two = np.zeros((1, 32, 32, 3), np.uint8), np.zeros((2, 32, 32, 3), np.uint8)
    assert not network.compiles_for(two), "a CPU does not"
    monkeypatch.setattr(engines, "is_cpu", lambda device: False)
    network = Network(load(artifact), artifact)
    assert [network.compiles_for(pixels) for pixels in (one, two, two)] == [False, True, False]
