"""`edgetl camera`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from toolchain.cli import swapped
from toolchain.cli.camera_report import conclude
from toolchain.cli.camera_values import PixelFormat, Size, no_model, read_address
from toolchain.cli.console import Console, output_options
from toolchain.cli.model_argument import MODEL_OR_FILE, ModelArgument, ModelName
from toolchain.cli.options import (
    Finite,
    SectionedCommand,
    SectionedOption,
    device_option,
    threads_option,
    viewer_options,
)
from toolchain.errors import BadInputError, ExitCode, StoppedError


def _may_be_stopped(function: Callable[..., int]) -> Callable[..., int]:
    """Let a service that is stopped before its first answer end with exit code 0."""

    @functools.wraps(function)
    def wrapped(*args: Any, console: Console, **kwargs: Any) -> int:
        try:
            return function(*args, console=console, **kwargs)
        except StoppedError:
            console.say("stopped before the first answer")
            return ExitCode.DONE

    return wrapped


_source_option = functools.partial(click.option, cls=SectionedOption, section="Source")
_output_option = functools.partial(click.option, cls=SectionedOption, section="Outputs")


@click.command(
    cls=SectionedCommand,
    help=f"""Say what a camera sees, live.

{MODEL_OR_FILE} The default is ready-made.

A camera or stream that is lost is opened again as soon as it is back.

In the window, q or Escape ends, space pauses, s saves a picture, d and p change to the next device and precision,
b shows the answers of both precisions side by side. Dragging the mouse answers that region, the right button the
whole again. With --json, each answer is one JSON object on a line of its own, and a last line holds the
summary.""",
)
@click.argument("model", required=False, type=ModelArgument())
@device_option
@click.option("--headless", is_flag=True, help="No window: print a line whenever the label changes.")
@click.option("--duration", type=Finite(0, min_open=True), metavar="S", help="End after S seconds.")
@click.option("--frames", type=click.IntRange(1), metavar="N", help="End after N answers.")
@click.option(
    "--min-probability",
    type=Finite(0, 1),
    default=0.0,
    metavar="P",
    help="Reject answers below this probability, besides those that the model file rejects.",
)
@click.option(
    "--measure-latency",
    is_flag=True,
    help="Measure from glass to glass: hold the camera before the window. Without a window: the frame's age.",
)
@threads_option
@click.option(
    "--mirror-average",
    is_flag=True,
    help="Answer the mirror image of every other frame: often a little more accurate, at no cost.",
)
@click.option(
    "--exclusive",
    is_flag=True,
    help="For a machine that does nothing else: threads stay awake or keep their cores. Faster, but slows others.",
)
@_source_option(
    "--source",
    default="0",
    show_default=True,
    envvar="EDGETL_SOURCE",
    callback=read_address,
    metavar="0|FILE|URL|FOLDER",
    help="A camera's number or device path, a video file or animation, a stream or snapshot (rtsp://, http://), an "
    "image, a folder of images, or a GStreamer pipeline ('v4l2src ! videoconvert ! appsink'). Keep an address with "
    "a password out of the list of processes: in the variable EDGETL_SOURCE, or by @FILE in a file.",
)
@_source_option("--size", type=Size(), help="Ask a camera for frames of W x H pixels.")
@_source_option(
    "--fps",
    type=Finite(0, min_open=True),
    metavar="N",
    help="Ask a camera for N frames per second, or fetch a snapshot N times a second.",
)
@_source_option(
    "--pixel-format",
    type=PixelFormat(),
    help="Ask a camera for MJPG, YUYV, ... Default: MJPG for more than 640x480 or 30 fps, else as it comes.",
)
@_source_option(
    "--as-fast-as-possible", "every_frame", is_flag=True, help="Answer every frame of a file, without pacing."
)
@_source_option(
    "--rotate",
    type=click.Choice(["90", "180", "270"]),
    help="Turn every frame clockwise by so many degrees before anything else sees it: for a camera that hangs on "
    "its side or head.",
)
@_source_option(
    "--region",
    "regions",
    multiple=True,
    metavar="[NAME=]X,Y,W,H",
    help="Answer this part of the (turned) picture instead of the whole, in pixels or each number with %. Can be "
    "repeated up to 16 times: all are answered in one batch, and each has its own answer. A file of --raw-frame "
    "answers one.",
)
@_source_option(
    "--mirror",
    is_flag=True,
    help="Mirror every frame left to right, after --rotate: what is written reads backwards.",
)
@_source_option(
    "--seconds-per-image",
    type=Finite(0.01, 3600),
    default=2.0,
    show_default=True,
    metavar="S",
    help="How long each image of a folder is shown.",
)
@_source_option(
    "--stall-limit",
    "stall_s",
    type=Finite(0, min_open=True),
    metavar="S",
    help="A live source that gives no frame for S seconds is lost. Default: 3, and more for a slow source.",
)
@_source_option("--no-reconnect", is_flag=True, help="End when the source is lost, with exit code 3.")
@_source_option("--insecure", is_flag=True, help="Accept any certificate of the server.")
@_output_option(
    "--record",
    type=click.Path(path_type=Path),
    metavar="FILE.mp4",
    help="Record what is shown; an older file is replaced.",
)
@_output_option(
    "--log",
    type=click.Path(path_type=Path),
    metavar="FILE.jsonl",
    help="Append each answer to a file as JSON. The file may be rotated at any time.",
)
@_output_option(
    "--collect",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep frames as pictures in a folder, for review and training: at most one a second of each region. An "
    "uncertain or rejected frame that looks like one of the last 32 pictures is left out. Nothing is kept without "
    "this option.",
)
@_output_option(
    "--when",
    multiple=True,
    metavar="uncertain|rejected|changed|every=S",
    help="Which frames --collect keeps: those of which the network was unsure (the default; rejected ones, and "
    "those whose second class is near), rejected ones only, the first of each new answer, or one in S seconds. Can "
    "be repeated.",
)
@_output_option(
    "--collect-limit",
    type=click.IntRange(1),
    metavar="N",
    help="Keep at most N pictures in the folder of --collect. Default: 1000.",
)
@_output_option(
    "--collect-mb",
    type=Finite(0, min_open=True),
    metavar="N",
    help="Keep at most N MB in the folder of --collect. Default: 500.",
)
@_output_option(
    "--on-change",
    metavar="COMMAND",
    help="A shell command for each new label: it finds EDGETL_LABEL and EDGETL_PROBABILITY in its environment, and "
    'the answer as JSON on standard input. It never runs for "not sure". One runs at a time, for 30 seconds at '
    "most; changes meanwhile are skipped.",
)
@_output_option(
    "--on-unsure",
    metavar="COMMAND",
    help='A shell command for when the answer becomes "not sure": EDGETL_LABEL is empty, EDGETL_GUESS is the label '
    "that was rejected.",
)
@_output_option(
    "--mqtt",
    metavar="URL",
    help="Publish each change of the answer at mqtt://[USER@]HOST[:PORT]/TOPIC, or mqtts:// for TLS, where Home "
    "Assistant finds it. A password is taken from the variable EDGETL_MQTT_PASSWORD, or from a file.",
)
@_output_option(
    "--mqtt-password-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file that holds the password for --mqtt.",
)
@_output_option(
    "--webhook",
    callback=read_address,
    metavar="URL",
    help="Send each change of the answer as JSON by HTTP POST, until it is there or a newer one is. Keep a secret "
    "address out of the list of processes: --webhook @FILE.",
)
@_output_option(
    "--web",
    is_flag=False,
    flag_value="",
    metavar="[HOST:PORT]",
    callback=no_model,
    help="Show it on a page instead of in a window. Default: 127.0.0.1:8765; other addresses need a token. "
    "MODEL goes before this option.",
)
@viewer_options(_output_option)
@_output_option(
    "--sink",
    "more_sinks",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="Another output by its name, such as one of an installed package. Can be repeated.",
)
@output_options
@_may_be_stopped
def command(
    model: ModelName | None,
    source: str,
    device: str | None,
    headless: bool,
    record: Path | None,
    log: Path | None,
    collect: Path | None,
    when: tuple[str, ...],
    collect_limit: int | None,
    collect_mb: float | None,
    on_change: str | None,
    on_unsure: str | None,
    mqtt: str | None,
    mqtt_password_file: Path | None,
    webhook: str | None,
    web: str | None,
    web_token: str | None,
    web_hosts: tuple[str, ...],
    more_sinks: tuple[str, ...],
    duration: float | None,
    frames: int | None,
    size: tuple[int, int] | None,
    fps: float | None,
    pixel_format: str | None,
    every_frame: bool,
    rotate: str | None,
    mirror: bool,
    regions: tuple[str, ...],
    seconds_per_image: float,
    min_probability: float,
    stall_s: float | None,
    insecure: bool,
    no_reconnect: bool,
    measure_latency: bool,
    threads: int | None,
    exclusive: bool,
    mirror_average: bool,
    console: Console,
) -> int:
    # A token in the environment may stay there when there is no page.
    given = click.get_current_context().get_parameter_source("web_token")
    if web is None and given == ParameterSource.COMMANDLINE:
        raise BadInputError("--web-token is for --web", "Add --web HOST:PORT.")
    swapped.refuse_source(model, source)
    if web is None and web_hosts:
        raise BadInputError("--web-host is for --web", "Add --web.")
    if collect is None and (when or collect_limit or collect_mb):
        raise BadInputError("--when, --collect-limit and --collect-mb are for --collect", "Add --collect DIR.")
    if mqtt is None and mqtt_password_file:
        raise BadInputError("--mqtt-password-file is for --mqtt", "Add --mqtt URL.")
    if record and measure_latency:
        raise BadInputError("--measure-latency shows markers, not the picture", "Leave out --record.")
    from toolchain.camera.frames import CaptureOptions, RequestedFormat, Turn
    from toolchain.camera.loop import StopConditions
    from toolchain.camera.regions import parse_regions
    from toolchain.camera.session import CameraSettings, watch_until_signal
    from toolchain.camera.sinks import SinkOptions, sink_options
    from toolchain.camera.sinks.collect import CollectOptions, parse_when
    from toolchain.camera.sinks.command import CommandOptions
    from toolchain.camera.sinks.lines import LinesOptions, Output
    from toolchain.camera.sinks.log import LogOptions
    from toolchain.camera.sinks.mqtt import parse_url
    from toolchain.camera.sinks.recorder import RecordOptions
    from toolchain.camera.sinks.web import WebOptions, parse_address
    from toolchain.camera.sinks.webhook import WebhookOptions
    from toolchain.camera.sinks.window import WindowOptions

    output = Output(json=console.json)
    sinks: list[SinkOptions] = []
    if record:
        sinks.append(RecordOptions(record))
    window = not (console.json or headless or web is not None)
    if window and measure_latency and mirror:
        raise BadInputError(
            "--measure-latency reads markers, which --mirror makes unreadable", "Leave out --mirror."
        )
    if not window:
        sinks.append(LinesOptions(output, json=console.json))
    if log:
        sinks.append(LogOptions(log))
    if collect:
        limits = {"max_pictures": collect_limit, "max_mb": collect_mb}
        given_limits: dict[str, Any] = {name: limit for name, limit in limits.items() if limit is not None}
        sinks.append(CollectOptions(collect, parse_when(when or ("uncertain",)), **given_limits))
    if on_change is not None or on_unsure is not None:
        sinks.append(CommandOptions(on_change, on_unsure))
    if mqtt is not None:
        sinks.append(parse_url(mqtt, mqtt_password_file))
    if webhook is not None:
        sinks.append(WebhookOptions(webhook))
    if web is not None:
        sinks.append(WebOptions(parse_address(web), web_token, web_hosts))
    sinks += [sink_options(text) for text in more_sinks]
    if window:
        sinks.append(WindowOptions(measure_latency))
    settings = CameraSettings(
        source=source,
        artifact=None if model is None else model.path(),
        device=device,
        threads=threads or 0,
        exclusive=exclusive,
        mirror_average=mirror_average,
        sinks=tuple(sinks),
        reconnect=not no_reconnect,
        stall_s=stall_s,
        capture=CaptureOptions(
            every_frame,
            seconds_per_image,
            RequestedFormat(size, fps, pixel_format),
            insecure,
            Turn(int(rotate or 0), mirror),  # type: ignore[arg-type]  # click has checked it
        ),
        stop=StopConditions(duration, frames, min_probability),
        regions=parse_regions(regions),
    )
    report = watch_until_signal(settings, console)
    return conclude(report, console, output, record=record, shares=measure_latency)
