"""Sources, sinks and folders of images for the tests of the camera."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event

import cv2

from tests.clips import plain
from toolchain.camera.answering import Answered
from toolchain.camera.engine import Engine
from toolchain.camera.frames import Frame, FrameSource
from toolchain.camera.loop import StopConditions, Summary, run
from toolchain.camera.sinks import Sink
from toolchain.camera.sources.capture import Capture
from toolchain.camera.sources.opening import (
    CaptureOptions,
)
from toolchain.classifier import Classifier

COLOURS = ["red"] * 4 + ["green"] * 4 + ["blue"] * 4
EVERY = CaptureOptions(every_frame=True)


def all_frames(source: FrameSource) -> list[Frame]:
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return frames


def write_images(folder: Path, count: int) -> None:
    for number, colour in zip(range(count), ("red", "green", "blue"), strict=False):
        cv2.imwrite(str(folder / f"{number}.png"), plain(colour))


Keep = list[Answered]


class Collect(Sink):
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


def run_all(
    classifier: Classifier,
    source: Colours,
    sink: Collect | None = None,
    limits: StopConditions | None = None,
    **keywords,
) -> tuple[Summary, Keep]:
    sink = sink or Collect()
    summary = run(Engine(classifier), Capture(source, every=True), [sink], limits=limits, **keywords)
    return summary, sink.answers
