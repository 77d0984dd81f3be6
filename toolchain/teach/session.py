"""One lesson before a camera, a clip or a stream: frames to the lesson and to the network that it has taught."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from toolchain.artifact import FLOAT_FILE, read_artifact
from toolchain.camera.answering import Answered, Answering
from toolchain.camera.engine import Engine
from toolchain.camera.frames import SYSTEM_CLOCK, Frame, FrameSource
from toolchain.camera.loop import SLICE_S, Control
from toolchain.camera.session import REOPEN_LIMIT_S
from toolchain.camera.sources.capture import Capture
from toolchain.camera.sources.opening import CaptureOptions, Opener
from toolchain.classifier import Prediction, load
from toolchain.system import claims
from toolchain.system.progress import Reporter
from toolchain.teach.album import NOTHING, Album
from toolchain.teach.learnt import Learnt
from toolchain.teach.lesson import Lesson, State, Teacher

DEVICE = "ort:cpu"
"""Where the taught network answers while it is taught: it is there everywhere, and ready at once."""


@dataclass(frozen=True)
class TeachSettings:
    """What a person asked for; `things` are added to those that the folder `out` knows."""

    out: Path
    things: tuple[str, ...] = ()
    source: str = "0"
    model: str = "mobilenet_v2"
    weights: str = "ready-made"
    capture: CaptureOptions = field(default_factory=CaptureOptions)


class Classroom:
    """A lesson, and the network that answers: the one that was taught last."""

    def __init__(self, settings: TeachSettings, reporter: Reporter) -> None:
        self.album = Album(settings.out)
        self.album.forget_unseen()
        for thing in settings.things:
            self.album.add(thing)
        self.album.add(NOTHING)
        self._settings, self._reporter = settings, reporter
        self.lesson = Lesson(self.album, self._teacher, reporter, self._taught)
        self._engine: Engine | None = None
        self._answering: tuple[Engine, Answering] | None = None
        if (self.album.run / FLOAT_FILE).exists():
            self._engine = self._loaded()

    def see(self, frame: Frame) -> Answered:
        """Hand a frame to the lesson, and answer it; without a network, the answer is empty and rejected."""
        self.lesson.see(frame)
        engine = self._engine
        if engine is None:
            nothing = Prediction("", 0.0, True, (), np.zeros(0, np.float32))
            return Answered(frame, nothing, 1000 * (SYSTEM_CLOCK.now() - frame.captured_s), 0.0, 0.0)
        if self._answering is None or self._answering[0] is not engine:
            # Smoothing begins anew: another network has other classes.
            self._answering = engine, Answering(engine, 0.0, SYSTEM_CLOCK)
        return self._answering[1].answer(frame)

    def _teacher(self) -> Teacher:
        from toolchain.teach.learning import Learner

        return Learner(self.album, self._reporter, self._settings.model, self._settings.weights)

    def _taught(self, learnt: Learnt) -> None:
        self._engine = self._loaded()

    def _loaded(self) -> Engine:
        artifact = read_artifact(self.album.run / FLOAT_FILE)
        return Engine(load(artifact, DEVICE), artifact, reporter=self._reporter)


class Surface(AbstractContextManager["Surface"], Protocol):
    """A window or page. Called in one thread, again and again."""

    def show(self, answered: Answered) -> None: ...

    def idle(self, why: str) -> None: ...


def teach(
    settings: TeachSettings,
    surface: Callable[[Classroom, Control], Surface],
    control: Control,
    reporter: Reporter,
    source: FrameSource | None = None,
) -> State:
    """Give a lesson until the person ends it, or the source does; return how things stand then.

    Everything that was recorded is in `settings.out`, where the next call goes on. `source` goes before that of the
    settings. Raises BadInputError and MissingError where something cannot be opened.
    """
    hint = "Wait until it has ended, or choose another --out."
    opener = None if source else Opener(settings.source, settings.capture, reporter=reporter)
    with claims.working_in(settings.out, "teaching", hint), ExitStack() as stack:
        room = Classroom(settings, reporter)
        shown = stack.enter_context(surface(room, control))
        reopen = None
        if opener is not None:
            source = opener.open()
            reopen = partial(opener.again, REOPEN_LIMIT_S) if source.live else None
        assert source is not None
        reporter.say(f"{source.name}: {source.given}")
        stack.enter_context(room.lesson)
        capture = stack.enter_context(Capture(source, reopen=reopen, reporter=reporter))
        control.begun = True
        while control.ending is None and not capture.ended:
            frame = capture.take(SLICE_S)
            if frame is None:
                outage = capture.outage
                shown.idle(outage.reason if outage else "")
            else:
                shown.show(room.see(frame))
        room.lesson.stop_take()
        if capture.error is not None and control.ending is None:
            raise capture.error
        return room.lesson.state()
