"""A device that fails or hangs: a CPU goes on, or the error is told."""

from __future__ import annotations

import threading
import time
from threading import Event

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.artifacts import tiny_artifact
from tests.camera.camera_support import Collect, Colours
from tests.clips import HeldClock
from tests.datasets.datasets_support import Remembering
from toolchain.artifact import Artifact
from toolchain.camera.answering import Answering, RunningInference
from toolchain.camera.engine import Engine
from toolchain.camera.loop import Control, StopConditions, run
from toolchain.camera.sources.capture import Capture
from toolchain.classifier import Classifier
from toolchain.errors import MissingError
from toolchain.runtimes import Answer


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


class Nonsense:
    """A device that answers `good` times, then with what is not a number."""

    device, provider_effective, threads = "ort:cuda", "nonsense", 1

    def __init__(self, classifier: Classifier, good: int) -> None:
        self._classifier, self._good = classifier, good

    def infer(self, images: NDArray[np.uint8]) -> Answer:
        answer = self._classifier.runtime.infer(images)
        self._good -= 1
        return answer if self._good >= 0 else Answer(answer.logits * np.nan, answer.probabilities * np.nan)


def test_an_answer_that_is_not_a_number_is_a_failed_device(classifier: Classifier, artifact: Artifact) -> None:
    sink = Collect()
    engine = Engine(Classifier(classifier.card, Nonsense(classifier, good=5)), artifact)
    summary = run(engine, Capture(Colours(["red"] * 20), every=True), [sink])
    assert [answered.prediction.answer for answered in sink.answers] == ["red"] * 20
    assert "its answer is not a number" in summary.failures[0]


def test_a_network_that_no_device_answers_with_numbers_ends(
    classifier: Classifier, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its two CPUs would replace each other for ever."""
    loaded: list[str] = []

    def load(artifact: Artifact, device: str, *_: object, **__: object) -> Classifier:
        loaded.append(device)
        nonsense = Nonsense(classifier, good=1)
        nonsense.device = device
        return Classifier(classifier.card, nonsense)

    monkeypatch.setattr("toolchain.camera.engine.load", load)
    engine = Engine(Classifier(classifier.card, Nonsense(classifier, good=1)), artifact)
    with pytest.raises(MissingError, match="no other device can run it"):
        run(engine, Capture(Colours(["red"] * 20), every=True), [Collect()])
    assert loaded == ["ort:cpu", "openvino:CPU"]


def test_a_device_that_failed_is_tried_again_once_another_has_answered(
    classifier: Classifier, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that is overloaded now and then, each CPU may hang once in a while."""
    loaded: list[str] = []

    def load(artifact: Artifact, device: str, *_: object, **__: object) -> Classifier:
        loaded.append(device)
        failing = Failing(classifier, good=6)
        failing.device = device
        return Classifier(classifier.card, failing)

    monkeypatch.setattr("toolchain.camera.engine.load", load)
    engine = Engine(Classifier(classifier.card, Failing(classifier, good=6)), artifact)
    summary = run(engine, Capture(Colours(["red"] * 20), every=True), [Collect()])
    assert summary.frames_answered == 20
    assert loaded == ["ort:cpu", "openvino:CPU", "ort:cpu"]


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
    running = RunningInference(Engine(classifier).network, 0.0)
    assert not answering.abandon(running)
    answering.running = running
    assert not answering.abandon(RunningInference(running.network, 0.0)), "another one than was looked at"
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


def test_a_cpu_that_fails_too_ends_with_its_error(classifier: Classifier) -> None:
    failing = Classifier(classifier.card, Failing(classifier, good=3))
    with pytest.raises(MissingError, match="no other device"):
        run(Engine(failing), Capture(Colours(["red"] * 20), every=True), [])
