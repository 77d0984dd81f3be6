"""The loop: take the newest frame, answer, hand the answer on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Event
from typing import Literal, Protocol

import cv2
import numpy as np

from toolchain.camera.capture import Capture
from toolchain.camera.figures import Percentiles, Rate, Series
from toolchain.camera.frames import Frame, SourceLostError
from toolchain.camera.pacing import SYSTEM_CLOCK, Clock
from toolchain.camera.smoothing import Smoother
from toolchain.classifier import Classifier, Prediction

SLICE_S = 0.05
"""The longest that the loop waits before it looks at keys and signals again."""
STALL_S = 10.0

Ending = Literal["end", "duration", "frames", "quit", "interrupted", "stalled", "lost"]


@dataclass(frozen=True)
class Answered:
    """A frame with its answer, smoothed. `age_ms` is from its capture to this answer; `fps` counts answers."""

    frame: Frame
    prediction: Prediction
    age_ms: float
    infer_ms: float
    fps: float

    def line(self) -> dict[str, object]:
        """What `edgetl camera --json` prints for it."""
        return {
            "frame": self.frame.number,
            "time_s": round(self.frame.time_s, 4),
            "label": self.prediction.label,
            "probability": round(self.prediction.probability, 6),
            "rejected": self.prediction.rejected,
            "age_ms": round(self.age_ms, 3),
            "infer_ms": round(self.infer_ms, 3),
        }


class Sink(Protocol):
    """What is done with an answer: print it, show it, record it. The frame's pixels may be drawn on."""

    def show(self, answered: Answered) -> None: ...

    def idle(self) -> None:
        """Called often while there is nothing to show."""


class Control:
    """What a person wants meanwhile; set by keys and signals."""

    def __init__(self) -> None:
        self.ending: Ending | None = None
        self.paused = False
        self.running = False
        """Whether the loop is there to obey."""


@dataclass(frozen=True)
class Limits:
    """When to stop; None is never. `stall_s` is how late a frame may be before the source counts as stalled."""

    duration_s: float | None = None
    frames: int | None = None
    stall_s: float = STALL_S
    min_probability: float = 0.0


@dataclass(frozen=True)
class Summary:
    """What the loop did. `frames_dropped` were captured and never answered, since a newer one was there."""

    source: str
    device: str
    provider_effective: str
    ended: Ending
    seconds: float
    frames_in: int
    frames_answered: int
    frames_dropped: int
    fps: float
    age_ms: Percentiles
    infer_ms: Percentiles


def run(
    classifier: Classifier,
    capture: Capture,
    sinks: Sequence[Sink],
    *,
    limits: Limits | None = None,
    control: Control | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Summary:
    """Answer the newest frame of `capture`, not yet started, until it, a limit or `control` ends the loop.

    A source that stalls or is lost ends the loop and is told in `ended`; what else the source raised is raised, and
    so is what the runtime raises.
    """
    limits, control = limits or Limits(), control or Control()
    answering = _Answering(classifier, limits.min_probability, clock)
    start = clock.now()
    control.running = True
    try:
        with capture:
            ending = _answer_until_end(answering, capture, sinks, limits, control, clock)
            seconds = clock.now() - start
    finally:
        control.running = False
    frames_in = capture.frames_in
    return Summary(
        source=capture.source.name,
        device=classifier.runtime.device,
        provider_effective=classifier.runtime.provider_effective,
        ended=ending,
        seconds=round(seconds, 3),
        frames_in=frames_in,
        frames_answered=answering.count,
        frames_dropped=frames_in - answering.count,
        fps=round(answering.count / seconds, 2) if seconds > 0 else 0.0,
        age_ms=answering.ages.percentiles(),
        infer_ms=answering.inferences.percentiles(),
    )


def _answer_until_end(
    answering: _Answering,
    capture: Capture,
    sinks: Sequence[Sink],
    limits: Limits,
    control: Control,
    clock: Clock,
) -> Ending:
    never = Event()
    patience_s = limits.stall_s + 1 / capture.source.fps
    start = alive = clock.now()
    while True:
        frame = None if control.paused else capture.take(SLICE_S)
        if frame is not None:
            answered = answering.answer(frame)
            for sink in sinks:
                sink.show(answered)
        else:
            for sink in sinks:
                sink.idle()
        if control.paused:
            clock.wait(never, SLICE_S)
        now = clock.now()
        if frame is not None or control.paused:
            alive = now
        if control.ending is not None:
            return control.ending
        if limits.frames is not None and answering.count >= limits.frames:
            return "frames"
        if limits.duration_s is not None and now - start >= limits.duration_s:
            return "duration"
        if capture.ended:
            return _source_ending(capture)
        if now - alive > patience_s:
            return "stalled"


class _Answering:
    def __init__(self, classifier: Classifier, min_probability: float, clock: Clock) -> None:
        self._classifier = classifier
        self._min_probability = min_probability
        self._clock = clock
        self._smooth = Smoother(classifier.card.temperature)
        self._rate = Rate()
        self.count = 0
        self.ages = Series()
        self.inferences = Series()
        # Runtimes prepare themselves at the first inference; no frame should grow old over that.
        side = classifier.card.preprocess
        classifier.runtime.infer(np.zeros((1, side.height, side.width, 3), np.uint8))

    def answer(self, frame: Frame) -> Answered:
        rgb = cv2.cvtColor(frame.bgr, cv2.COLOR_BGR2RGB)
        pixels = self._classifier.preprocess(rgb)  # type: ignore[arg-type]
        before = self._clock.now()
        answer = self._classifier.runtime.infer(pixels[None])
        infer_ms = 1000 * (self._clock.now() - before)
        [prediction] = self._classifier.interpret(self._smooth(answer.logits[0], frame.time_s))
        if prediction.probability < self._min_probability:
            prediction = replace(prediction, rejected=True)
        now = self._clock.now()
        age_ms = 1000 * (now - frame.captured_s)
        self.count += 1
        self.ages.add(age_ms)
        self.inferences.add(infer_ms)
        return Answered(frame, prediction, age_ms, infer_ms, self._rate.event(now))


def _source_ending(capture: Capture) -> Ending:
    if capture.error is None:
        return "end"
    if isinstance(capture.error, SourceLostError):
        return "lost"
    raise capture.error
