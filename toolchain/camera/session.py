"""One run of the camera: a source, a network, and all that is done with the answers, put together."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from toolchain.camera.answering import Answered
from toolchain.camera.engine import Engine
from toolchain.camera.frames import FrameSource, Turn
from toolchain.camera.loop import Control, StopConditions, Summary, ended_by_signals, run
from toolchain.camera.regions import Region, parse_regions
from toolchain.camera.sinks import Sink, SinkContext, SinkOptions
from toolchain.camera.sinks.background import BackgroundSink
from toolchain.camera.sinks.collect import CollectOptions
from toolchain.camera.sinks.recorder import RecordOptions, part_of
from toolchain.camera.sinks.window import GlassToGlass, LatencyScreen
from toolchain.camera.sources.capture import Capture
from toolchain.camera.sources.opening import CaptureOptions, Opener, camera_index
from toolchain.classifier import load
from toolchain.errors import BadInputError
from toolchain.recommended import advice
from toolchain.runs.ready_made import ready_made_artifact
from toolchain.runtimes.machine import artifact_to_run
from toolchain.system.masking import shown
from toolchain.system.progress import Reporter, Silent

REOPEN_LIMIT_S = 2.5
"""How long one attempt to open a lost source again may take."""


@dataclass(frozen=True)
class CameraSettings:
    """What a person asked for. Without an artifact, the ready-made one answers."""

    source: str = "0"
    artifact: Path | None = None
    device: str | None = None
    threads: int = 0
    exclusive: bool = False
    mirror_average: bool = False
    sinks: tuple[SinkOptions, ...] = ()
    """What is done with the answers."""
    reconnect: bool = True
    stall_s: float | None = None
    """None: as long as the source has shown to need."""
    capture: CaptureOptions = field(default_factory=CaptureOptions)
    stop: StopConditions = field(default_factory=StopConditions)
    regions: tuple[Region, ...] = ()
    """Parts of the picture that are answered instead of the whole."""

    def __post_init__(self) -> None:
        roles: dict[Path, str] = {}
        for options in self.sinks:
            path: Path | None = getattr(options, "path", None)
            if path is None:
                continue
            if isinstance(options, RecordOptions | CollectOptions):
                written = [path, part_of(path)] if isinstance(options, RecordOptions) else [path]
                if source := next(filter(self._is_source, written), None):
                    raise BadInputError(f"{source} is the source itself", "Write to another place.")
            role = getattr(options, "role", "another output")
            if other := roles.get(path.absolute()):
                both = " and ".join(sorted((role, other)))
                raise BadInputError(f"{path} cannot be {both}", "Name two files.")
            roles[path.absolute()] = role

    def _is_source(self, path: Path) -> bool:
        return path.exists() and Path(self.source).exists() and path.samefile(self.source)


@dataclass(frozen=True)
class CameraReport:
    """What came of a run."""

    summary: Summary
    artifact: Path
    recorded: Path | None
    unwritten: tuple[str, ...]
    """What was asked for and could not be written to its end, in words."""
    lines_unwritten: int
    """How many answers were not written, counted once for each place where they should have been."""
    latency: GlassToGlass | None
    notes: tuple[str, ...]
    """What outputs say for the summary."""
    remedy: str
    """What to look at if the source was lost."""


def watch(
    model: str | os.PathLike[str] | None = None,
    source: str | int | os.PathLike[str] = 0,
    *,
    on_answer: Callable[[Answered], object] | None = None,
    sinks: Sequence[SinkOptions] = (),
    device: str | None = None,
    threads: int = 0,
    duration_s: float | None = None,
    frames: int | None = None,
    min_probability: float = 0.0,
    every_frame: bool = False,
    rotate: Literal[0, 90, 180, 270] = 0,
    mirror: bool = False,
    regions: Sequence[str] = (),
    reconnect: bool = True,
    insecure: bool = False,
    reporter: Reporter | None = None,
) -> CameraReport:
    """Name what a camera, a stream or a file shows, until it ends, and return how that went.

    >>> import toolchain
    >>> def act(answered):
    ...     print(answered.prediction.answer or "not sure", answered.age_ms < 1000)
    >>> report = toolchain.watch("model.onnx", source="photos/tulip", on_answer=act, frames=1)
    tulip True
    >>> report.summary.frames_answered
    1

    `model` is what `toolchain.load` takes; without one, the ready-made pets model answers. `source` is what
    `edgetl camera --source` takes: a camera's number, a file, a folder of images, or an address. The certificate
    of a server is verified, unless `insecure`. Frames are turned clockwise by `rotate` degrees and then mirrored
    left to right with `mirror`, before they are answered or handed on. `regions`, such as `"door=10%,0%,40%,100%"`
    or `"320,0,320,480"` (x, y, width and height), are answered instead of the whole picture: `answered.regions`.
    `on_answer` is called in the thread that called `watch`, with the newest answer each time: the smoothed
    prediction, and the frame (`answered.frame.bgr`, uint8 [height, width, 3], BGR, which must stay as it is).
    Answers that come while it runs are skipped, unless `every_frame` says that each frame of a file counts. If it
    returns False, the run ends; if it raises, the run ends and `watch` raises the same. `sinks` are further
    outputs, such as `toolchain.camera.sinks.log.LogOptions(Path("answers.jsonl"))`.

    Raises BadInputError, ArtifactError and MissingError if something cannot be opened, or if no device can go on. A
    lost source does not raise: with `reconnect` it is opened again until it is back, else the summary says `lost`.
    Ctrl-C raises KeyboardInterrupt; recordings and logs are closed first.
    """
    wanted = (*sinks, _Callback(on_answer)) if on_answer is not None else tuple(sinks)
    settings = CameraSettings(
        source=os.fspath(source) if not isinstance(source, int) else str(source),
        artifact=None if model is None else Path(model),
        device=device,
        threads=threads,
        sinks=wanted,
        reconnect=reconnect,
        capture=CaptureOptions(every_frame=every_frame, insecure=insecure, turn=Turn(rotate, mirror)),
        stop=StopConditions(duration_s, frames, min_probability),
        regions=parse_regions(regions),
    )
    return run_camera(settings, Control(), reporter or Silent())


def watch_until_signal(settings: CameraSettings, reporter: Reporter) -> CameraReport:
    """As `run_camera`, but Ctrl-C, SIGTERM and SIGHUP end the run in order: the summary says so."""
    control = Control()
    with ended_by_signals(control):
        return run_camera(settings, control, reporter)


def run_camera(settings: CameraSettings, control: Control, reporter: Reporter) -> CameraReport:
    """Open what `settings` name, answer until it ends, and close everything.

    Raises BadInputError, ArtifactError and MissingError if something cannot be opened.
    """
    opener = Opener(settings.source, settings.capture, reporter=reporter)
    every = settings.capture.every_frame
    control.regions = settings.regions
    failures: list[Exception] = []

    def end(error: Exception) -> None:
        failures.append(error)
        control.end("quit")

    # Receivers are closed last: they may hang, and `docker stop` kills after ten seconds.
    with ExitStack() as receivers, ExitStack() as at_hand:
        advised = None if settings.device else advice(settings.artifact, settings.threads)
        if advised:
            artifact = advised.artifact
        else:
            artifact = artifact_to_run(settings.artifact or ready_made_artifact(), settings.device or "")
        device = advised.chosen.way if advised else settings.device
        classifier = load(artifact, device, settings.threads, exclusive=settings.exclusive)
        engine = Engine(
            classifier,
            artifact,
            threads=settings.threads,
            exclusive=settings.exclusive,
            mirror_average=settings.mirror_average,
            reporter=reporter,
        )
        named = settings.source if os.path.lexists(settings.source) else shown(settings.source)
        context = SinkContext(reporter, engine, artifact, named, every, control)
        sinks: list[Sink] = []
        for options in settings.sinks:
            sink = options.open(context)
            is_here = sink.delivery == "main" or getattr(options, "path", None) is not None
            if sink.delivery in {"all", "newest"}:
                sink = BackgroundSink(
                    sink,
                    reporter,
                    every=every,
                    given_up=lambda: control.ending is not None,
                    at_failure=end if sink.essential else None,
                )
            sinks.append((at_hand if is_here else receivers).enter_context(sink))

        # The source comes last, so that nothing waits for a camera, and none is opened in vain.
        source = opener.open()
        turned = f", {settings.capture.turn}" if str(settings.capture.turn) else ""
        reporter.say(f"{source.name}: {source.given}{turned}{_asked(source, settings, reporter)}")
        reporter.say(artifact.on(classifier.runtime.device) + (f". {advised}" if advised else ""))
        for sink in sinks:
            sink.start(source)
        capture = Capture(
            source,
            every=every,
            reopen=partial(opener.again, REOPEN_LIMIT_S) if source.live and settings.reconnect else None,
            stall_s=settings.stall_s if source.live else None,
            turn=settings.capture.turn,
            reporter=reporter,
        )
        summary = run(engine, capture, sinks, limits=settings.stop, control=control)
    for error in failures:
        raise error
    reports = [sink.report() for sink in sinks]
    return CameraReport(
        summary,
        artifact.path,
        recorded=next((report.file for report in reports if report.file), None),
        unwritten=tuple(report.unwritten for report in reports if report.unwritten),
        lines_unwritten=sum(report.lost for report in reports),
        latency=next((sink.result() for sink in sinks if isinstance(sink, LatencyScreen)), None),
        notes=tuple(report.note for report in reports if report.note),
        remedy=source.remedy,
    )


@dataclass(frozen=True)
class _Callback:
    function: Callable[[Answered], Any]

    def open(self, context: SinkContext) -> Sink:
        return _Call(self.function, context.control)


class _Call(Sink):
    name = "on_answer"
    delivery = "main"

    def __init__(self, function: Callable[[Answered], Any], control: Control) -> None:
        self._function = function
        self._control = control
        self._over = False

    def show(self, answered: Answered) -> None:
        if not self._over and self._function(answered) is False:
            self._over = True
            self._control.end("quit")


def _asked(source: FrameSource, settings: CameraSettings, reporter: Reporter) -> str:
    """What a camera was asked for, to stand beside what it gives."""
    requested = settings.capture.requested
    asked = ["{} x {}".format(*requested.size)] if requested.size else []
    asked += [f"{requested.fps:g} fps"] if requested.fps else []
    asked += [requested.pixel_format] if requested.pixel_format else []
    if asked and camera_index(settings.source) is None:
        # A snapshot is fetched as often as asked.
        if requested.size or requested.pixel_format or source.fps != requested.fps:
            reporter.warn("--size, --fps and --pixel-format are for cameras; this source gives what it has")
        return ""
    return f" (asked for: {', '.join(asked)})" if asked else ""
