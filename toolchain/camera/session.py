"""One run of the camera: a source, a network, and all that is done with the answers, put together."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from toolchain.artifact import find_artifact, read_artifact
from toolchain.camera.engine import Engine
from toolchain.camera.frames import FrameSource
from toolchain.camera.latency import GlassToGlass, LatencyScreen
from toolchain.camera.loop import Control, Sink, StopConditions, Summary, ended_by_signals, run
from toolchain.camera.sinks.background import AnswerConsumer, BackgroundSink
from toolchain.camera.sinks.command import OnChange
from toolchain.camera.sinks.lines import Changes, JsonLines, Output
from toolchain.camera.sinks.log import Log
from toolchain.camera.sinks.recorder import Recorder, recording
from toolchain.camera.sinks.screen import Screen
from toolchain.camera.sinks.web import Address, WebView
from toolchain.camera.sources.capture import Capture
from toolchain.camera.sources.opening import CaptureOptions, Opener, camera_index, refuse_missing
from toolchain.classifier import load
from toolchain.errors import BadInputError
from toolchain.runs.ready_made import ready_made_artifact
from toolchain.system.masking import shown
from toolchain.system.progress import Reporter

MAX_LINES = 4096
"""Lines that wait for a slow reader. Older ones are lost then, and the camera goes on."""
REOPEN_LIMIT_S = 2.5
"""How long one attempt to open a lost source again may take."""


@dataclass(frozen=True)
class CameraSettings:
    """What a person asked for. `answers`: seen in a window, or printed as changes of label or as JSON lines."""

    source: str = "0"
    artifact: Path | None = None
    device: str | None = None
    threads: int = 0
    exclusive: bool = False
    answers: Literal["window", "changes", "json"] = "window"
    record: Path | None = None
    log: Path | None = None
    on_change: str | None = None
    on_unsure: str | None = None
    web: Address | None = None
    web_token: str | None = None
    web_hosts: tuple[str, ...] = ()
    measure_latency: bool = False
    reconnect: bool = True
    stall_s: float | None = None
    """None: as long as the source has shown to need."""
    manner: CaptureOptions = field(default_factory=CaptureOptions)
    limits: StopConditions = field(default_factory=StopConditions)

    def __post_init__(self) -> None:
        if (
            self.record
            and self.record.exists()
            and Path(self.source).exists()
            and self.record.samefile(self.source)
        ):
            raise BadInputError(f"{self.record} is the source itself", "Record into another file.")
        if self.record and self.log and self.record.absolute() == self.log.absolute():
            raise BadInputError(f"{self.log} cannot be the log and the recording", "Name two files.")
        for name, command in (("--on-change", self.on_change), ("--on-unsure", self.on_unsure)):
            if command is not None and not command.strip():
                raise BadInputError(f"{name} has no command", "Name one, or leave it out.")
        if self.record and self.measure_latency:
            raise BadInputError("--measure-latency shows markers, not the picture", "Leave out --record.")


@dataclass(frozen=True)
class CameraReport:
    """What came of it. `unwritten` says what was asked for and could not be written to its end, `lines_unwritten`
    how many lines of answers that were."""

    summary: Summary
    artifact: Path
    recorded: Path | None
    unwritten: tuple[str, ...]
    lines_unwritten: int
    latency: GlassToGlass | None
    remedy: str
    """What to look at where the source was lost."""


def watch(settings: CameraSettings, reporter: Reporter, output: Output) -> CameraReport:
    """Open what `settings` name, answer until it ends, and close all of it.

    Raises BadInputError and MissingError for what cannot be opened.
    """
    refuse_missing(settings.source)
    control = Control()
    with ExitStack() as stack:
        stack.enter_context(ended_by_signals(control))
        every = settings.manner.every_frame
        recorder = None
        if settings.record:
            recorder = stack.enter_context(recording(settings.record, reporter, every=every))
        log = stack.enter_context(Log(settings.log)) if settings.log else None
        artifact = read_artifact(find_artifact(settings.artifact) if settings.artifact else ready_made_artifact())
        classifier = load(artifact, settings.device, settings.threads, exclusive=settings.exclusive)
        engine = Engine(
            classifier, artifact, threads=settings.threads, exclusive=settings.exclusive, reporter=reporter
        )

        outputs = _Outputs(settings, stack, control, reporter)
        if settings.answers != "window":
            form = JsonLines if settings.answers == "json" else Changes
            outputs.add(form(output.write, output.give_up), "printing", ends_loop=True)
        if log is not None:
            outputs.add(JsonLines(log.write), f"writing {settings.log}")
        if settings.on_change or settings.on_unsure:
            commands = OnChange(settings.on_change, settings.on_unsure, reporter)
            outputs.add(commands, "--on-change", newest_only=True)
        if settings.web is not None:
            about = {
                "artifact": artifact.path.name,
                "device": engine.network.name,
                "source": settings.source if os.path.lexists(settings.source) else shown(settings.source),
            }
            page = WebView(
                settings.web, about, token=settings.web_token, hosts=settings.web_hosts, reporter=reporter
            )
            outputs.sinks.append(stack.enter_context(page))
        screen = outputs.screen(engine, recorder)

        # Last of all, so that nothing waits for a camera, and none is opened in vain.
        opener = Opener(settings.source, settings.manner, reporter=reporter)
        source = opener.open()
        reporter.say(f"{source.name}: {source.given}{_asked(source, settings, reporter)}")
        reporter.say(artifact.on(classifier.runtime.device))
        if recorder is not None:
            recorder.begin(source.fps)
        capture = Capture(
            source,
            every=every,
            reopen=partial(opener.again, REOPEN_LIMIT_S) if source.live and settings.reconnect else None,
            stall_s=settings.stall_s if source.live else None,
            reporter=reporter,
        )
        summary = run(engine, capture, outputs.sinks, screen, limits=settings.limits, control=control)
    outputs.raise_what_ended_it()
    unwritten = outputs.failures()
    if recorder is not None and recorder.failure is not None:
        unwritten = (*unwritten, f"{settings.record}: {recorder.failure}")
    recorded = settings.record if recorder is not None and recorder.kept else None
    latency = screen.result() if isinstance(screen, LatencyScreen) else None
    return CameraReport(summary, artifact.path, recorded, unwritten, outputs.lost(), latency, source.remedy)


class _Outputs:
    """What is done with answers. What takes time has a thread of its own."""

    def __init__(self, settings: CameraSettings, stack: ExitStack, control: Control, reporter: Reporter) -> None:
        self.sinks: list[Sink] = []
        self._complete: list[BackgroundSink] = []
        self._settings, self._stack, self._control, self._reporter = settings, stack, control, reporter
        self._error: Exception | None = None

    def add(self, line: AnswerConsumer, name: str, *, newest_only: bool = False, ends_loop: bool = False) -> None:
        """Give `line` the answers: all of them, unless `newest_only`. With `ends_loop`, there is nothing to go on
        for without it."""
        aside = BackgroundSink(
            line,
            name,
            self._reporter,
            capacity=1 if newest_only else MAX_LINES,
            every=self._settings.manner.every_frame,
            given_up=lambda: self._control.ending is not None,
            at_failure=self._end if ends_loop else None,
        )
        self.sinks.append(self._stack.enter_context(aside))
        if not newest_only:
            self._complete.append(aside)

    def screen(self, engine: Engine, recorder: Recorder | None) -> Sink | None:
        """What draws for a person, in a window or for the recording; None if nobody asked for either."""
        if self._settings.answers != "window":
            return Screen(None, recorder) if recorder else None
        from toolchain.camera.sinks.window import KEYS, Window

        window = self._stack.enter_context(Window(self._control, self._reporter, engine=engine))
        self._reporter.say(KEYS)
        return LatencyScreen(window) if self._settings.measure_latency else Screen(window, recorder)

    def raise_what_ended_it(self) -> None:
        """Raise the error of a line that ended the loop, if one did."""
        if self._error is not None:
            raise self._error

    def failures(self) -> tuple[str, ...]:
        """What is not complete, in words."""
        return tuple(
            f"{aside.name}: {aside.lost} answers lost ({aside.failure or 'it was too slow'})"
            for aside in self._complete
            if aside.lost
        )

    def lost(self) -> int:
        """Answers that were not written, once for each place where they should have been."""
        return sum(aside.lost for aside in self._complete)

    def _end(self, error: Exception) -> None:
        self._error = error
        self._control.end("quit")


def _asked(source: FrameSource, settings: CameraSettings, reporter: Reporter) -> str:
    """What a camera was asked for, to stand beside what it gives."""
    wish = settings.manner.wish
    asked = ["{} x {}".format(*wish.size)] if wish.size else []
    asked += [f"{wish.fps:g} fps"] if wish.fps else []
    asked += [wish.pixel_format] if wish.pixel_format else []
    if asked and camera_index(settings.source) is None:
        if wish.size or wish.pixel_format or source.fps != wish.fps:  # a snapshot is fetched so often
            reporter.warn("--size, --fps and --pixel-format are for cameras; this source gives what it has")
        return ""
    return f" (asked for: {', '.join(asked)})" if asked else ""
