"""`edgetl camera`."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolchain.cli.console import Console, output_options
from toolchain.errors import BadInputError, ExitCode

if TYPE_CHECKING:
    from rich.console import RenderableType

    from toolchain.camera.loop import Summary


class Finite(click.FloatRange):
    """A range that does not let `nan` and `inf` pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number to reckon with", param, ctx)
        return number


@click.command(
    help="""Name what a camera sees, as it sees it.

ARTIFACT is a model file that `edgetl export` wrote, or a run folder; without it, the ready-made pets model answers.
In the window, q or Escape ends, space pauses, s saves a picture. With --json, each answer is one JSON object on a
line of its own, and a last line holds the summary."""
)
@click.argument("artifact", required=False, type=click.Path(path_type=Path))
@click.option(
    "--source",
    default="0",
    show_default=True,
    metavar="0|FILE|URL|FOLDER",
    help="A camera's number, a video file, a stream (rtsp://, http://), an image or a folder of images.",
)
@click.option("--device", metavar="DEVICE", help="Default: ort:cpu; openvino:CPU for an OpenVINO file (.xml).")
@click.option("--headless", is_flag=True, help="No window: print a line whenever the label changes.")
@click.option("--record", type=click.Path(path_type=Path), metavar="FILE.mp4", help="Record what is shown.")
@click.option("--duration", type=Finite(0, min_open=True), metavar="S", help="End after S seconds.")
@click.option("--frames", type=click.IntRange(1), metavar="N", help="End after N answers.")
@click.option(
    "--as-fast-as-possible", "every_frame", is_flag=True, help="Answer every frame of a file, without pacing."
)
@click.option(
    "--seconds-per-image",
    type=Finite(0.01, 3600),
    default=2.0,
    show_default=True,
    metavar="S",
    help="How long each image of a folder is shown.",
)
@click.option(
    "--min-probability",
    type=Finite(0, 1),
    default=0.0,
    metavar="P",
    help="Reject answers below this probability, besides those that the model file says to reject.",
)
@click.option(
    "--stall-limit",
    "stall_s",
    type=Finite(0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="S",
    help="End when the source gives no frame for so long.",
)
@click.option("--threads", type=click.IntRange(1, 1024), help="Default: one for each core.")
@output_options
def command(
    artifact: Path | None,
    source: str,
    device: str | None,
    headless: bool,
    record: Path | None,
    duration: float | None,
    frames: int | None,
    every_frame: bool,
    seconds_per_image: float,
    min_probability: float,
    stall_s: float,
    threads: int | None,
    console: Console,
) -> int:
    from toolchain.artifact import find_artifact
    from toolchain.camera.capture import Capture
    from toolchain.camera.interruption import ended_by_signals
    from toolchain.camera.loop import Control, Limits, Sink, run
    from toolchain.camera.opening import Manner, open_source
    from toolchain.camera.printing import Changes, JsonLines
    from toolchain.camera.recorder import recording
    from toolchain.camera.screen import Display, Screen
    from toolchain.classifier import load
    from toolchain.ready_made import ready_made_artifact

    if record and record.exists() and Path(source).exists() and record.samefile(source):
        raise BadInputError(f"{record} is the source itself", "Record into another file.")
    limits = Limits(duration, frames, stall_s, min_probability)
    control = Control()
    with contextlib.ExitStack() as stack:
        stack.enter_context(ended_by_signals(control))
        recorder = stack.enter_context(recording(record)) if record else None
        path = find_artifact(artifact) if artifact else ready_made_artifact()
        classifier = load(path, device, threads or 0)
        frames_from = open_source(source, Manner(every_frame, seconds_per_image), reporter=console)
        displays: list[Display] = [recorder] if recorder else []
        if not headless and not console.json:
            from toolchain.camera.window import KEYS, Window

            displays.append(stack.enter_context(Window(control, console)))
            console.say(KEYS)
        if recorder:
            recorder.begin(frames_from.fps)
        sinks: list[Sink] = []
        if console.json:
            sinks.append(JsonLines(click.echo))
        elif headless:
            sinks.append(Changes(click.echo))
        if displays:
            sinks.append(Screen(displays))
        capture = Capture(frames_from, every=every_frame)
        summary = run(classifier, capture, sinks, limits=limits, control=control)
    return _conclude(summary, path, recorder.frames if recorder else None, record, console)


def _conclude(
    summary: Summary, artifact: Path, recorded_frames: int | None, record: Path | None, console: Console
) -> int:
    import msgspec

    if summary.ended in {"stalled", "lost"}:
        gone = "gave no frame in time" if summary.ended == "stalled" else "gives no frames any more"
        console.warn(f"{summary.source} {gone}; check cable, power and network")
    if recorded_frames == 0:
        console.warn(f"{record} was not written: there was nothing to record")
    if console.json:
        document = msgspec.to_builtins(summary) | {"artifact": str(artifact)}
        if record:
            document["recorded"] = str(record) if recorded_frames else None
        click.echo(msgspec.json.encode({"summary": document}))
    else:
        console.result(None, *_summary_lines(summary, record if recorded_frames else None))
    endings = {"interrupted": ExitCode.INTERRUPTED, "stalled": ExitCode.MISSING, "lost": ExitCode.MISSING}
    return endings.get(summary.ended, ExitCode.DONE)


def _summary_lines(summary: Summary, recorded: Path | None) -> list[RenderableType]:
    from rich.markup import escape

    def text(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}"

    age, infer = summary.age_ms, summary.infer_ms
    lines = [
        f"{summary.source} on {summary.device}: {summary.frames_answered} of {summary.frames_in} frames answered "
        f"in {summary.seconds:.1f} s, {summary.fps:.1f} per second",
        f"frame age p50 {text(age.p50)} ms, p95 {text(age.p95)} ms, p99 {text(age.p99)} ms; "
        f"inference p50 {text(infer.p50)} ms, p95 {text(infer.p95)} ms",
    ]
    if recorded:
        lines.append(f"recorded: {recorded}")
    return [escape(line) for line in lines]
