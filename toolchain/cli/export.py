"""`edgetl export`."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import swapped
from toolchain.cli.console import Console, needs, output_options
from toolchain.cli.model_argument import ModelName
from toolchain.cli.options import (
    Finite,
    complete_data_sets,
    complete_devices,
    on_option,
    refuse_with,
    refuse_without,
)
from toolchain.cli.tables import Column, Table
from toolchain.errors import BadInputError, ExitCode

if TYPE_CHECKING:
    from rich.console import RenderableType

    from toolchain.artifact import Artifact
    from toolchain.browser import Page
    from toolchain.export.results import Attempt, Exported, Measurement
    from toolchain.export.server_folder import Server


@click.command(
    help="""Write a run as one ONNX file, and quantise it.

RUN_DIR is a run folder, as `edgetl finetune` writes it. The file holds weights, class names, preprocessing and what
was measured. With --browser, RUN_DIR may also be a model file, or `ready-made`: it is taken as it is.

int8 makes two promises: it loses at most --max-drop, and it is faster than float. Recipes are tried here and
timed on the machines of --on. If none keeps both promises on a target, the exit code is 1;
4 if nothing is known against it but something could not be timed."""
)
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--int8", is_flag=True, help="Write model.int8.onnx too; exit 1 if a promise is broken.")
@click.option(
    "--max-drop",
    "max_drop_pp",
    type=Finite(0, 100),
    default=0.5,
    show_default=True,
    metavar="PP",
    help="Percentage points of top-1 that int8 (and --int8-weights) may lose, by the validation photographs.",
)
@click.option(
    "--min-speed-up",
    type=Finite(0, 100),
    default=1.0,
    show_default=True,
    metavar="R",
    help="int8 must be more than R times as fast as float on each machine of --on; 0: do not measure it.",
)
@on_option("Time int8")
@click.option(
    "--target",
    shell_complete=complete_devices,
    default="any",
    show_default=True,
    metavar="DEVICE",
    help="Where int8 must keep its promises: a device, or any (ort:cpu and openvino:CPU).",
)
@click.option("--qat", is_flag=True, help="Train the int8 network too, with the float one as its teacher.")
@click.option(
    "--qat-epochs", type=click.IntRange(1, 100), default=1, show_default=True, metavar="N", help="Epochs of --qat."
)
@click.option("--symmetric", is_flag=True, help="Symmetric int8 with float biases, as TensorRT reads it.")
@click.option(
    "--per-tensor",
    is_flag=True,
    help="One scale for all weights of a layer, as some NPUs want it; it may cost accuracy.",
)
@click.option(
    "--portable",
    is_flag=True,
    help="Use 7 bits for int8 weights: right on x86 CPUs without VNNI too. Always on if a machine of --on "
    "has such a CPU.",
)
@click.option(
    "--max-minutes",
    type=Finite(0, min_open=True),
    default=3.0,
    show_default=True,
    metavar="M",
    help="Recipes of int8 are tried for 0.6 of M minutes. Training that comes unasked takes as much at most; --qat "
    "takes what it needs.",
)
@click.option(
    "--raw-frame",
    is_flag=True,
    help="Write model.frame.onnx too: frames of any size go in, and the graph resizes.",
)
@click.option("--fp16", is_flag=True, help="Write model.fp16.onnx too: half the size, for GPUs and NPUs.")
@click.option(
    "--int8-weights", is_flag=True, help="Write model.w8.onnx too: under a third of the size, computed in float32."
)
@click.option(
    "--openvino",
    is_flag=True,
    help="Write OpenVINO's model.xml and model.bin beside each ONNX file but those of --raw-frame and rejected "
    "ones.",
)
@click.option("--litert", is_flag=True, help="Write LiteRT's model.tflite too, and with --int8 model.int8.tflite.")
@click.option(
    "--browser",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write a page into DIR that classifies in the browser, with the camera of a phone or computer.",
)
@click.option(
    "--runtime",
    type=click.Path(path_type=Path),
    metavar="DIR|FILE",
    help="The npm package onnxruntime-web for --browser, as a folder or .tgz. Default: npm fetches it once.",
)
@click.option(
    "--server",
    nargs=2,
    type=(click.Choice(["ovms", "triton"]), click.Path(path_type=Path)),
    metavar="ovms|triton DIR",
    help="Write DIR too, as OpenVINO Model Server or Triton loads it.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    shell_complete=complete_data_sets,
    metavar="FOLDER",
    help="Where the run's photographs are now, if they were moved or renamed. Their content identifies them.",
)
@click.option("--out", type=click.Path(path_type=Path), help="The float file. Default: RUN_DIR/model.onnx.")
@output_options
def command(
    run_dir: Path,
    int8: bool,
    max_drop_pp: float,
    min_speed_up: float,
    on: tuple[str, ...],
    target: str,
    qat: bool,
    qat_epochs: int,
    symmetric: bool,
    per_tensor: bool,
    portable: bool,
    max_minutes: float,
    raw_frame: bool,
    fp16: bool,
    int8_weights: bool,
    openvino: bool,
    litert: bool,
    browser: Path | None,
    runtime: Path | None,
    server: tuple[Server, Path] | None,
    data: Path | None,
    out: Path | None,
    console: Console,
) -> int | None:
    if runtime and not browser:
        raise BadInputError("--runtime is for the page of --browser, and there is none", "Add --browser DIR.")
    wants_int8 = int8 or qat or symmetric or per_tensor or portable
    if not wants_int8:
        refuse_without("--int8", "min_speed_up", "max_minutes", *(() if int8_weights else ("max_drop_pp",)))
    if not qat:
        refuse_without("--qat", "qat_epochs")
    for_runs = (
        int8,
        qat,
        symmetric,
        per_tensor,
        portable,
        raw_frame,
        fp16,
        int8_weights,
        openvino,
        litert,
        server,
        data,
        out,
    )
    if browser and not any(for_runs) and (named := _model_file(run_dir)):
        from toolchain.browser import choose

        refuse_with("--browser of a model file, which is taken as it is", "on", "target")
        artifact, why = choose(named)
        written = _page(browser, runtime, console)(artifact, why)
        console.result(written, *_told(written))
        return None
    quoted = shlex.quote(str(run_dir))
    taught = f"Train first: edgetl finetune {quoted if run_dir.is_dir() else 'PHOTOS'}"
    hints: dict[swapped.Kind, str] = {"photographs": taught, "photograph": taught, "video": taught}
    swapped.refuse(run_dir, "RUN_DIR", "the folder of a run", hints)
    swapped.refuse_file(run_dir, "edgetl export", place="RUN_DIR")
    needs("torch")
    from toolchain.runs import read_run, read_splits
    from toolchain.timing.machines import checked
    from toolchain.timing.protocol import LOCAL

    run = read_run(run_dir)  # what is wrong with it is told before torch is loaded for seconds
    read_splits(run_dir)
    machines = checked(on)
    if machines != (LOCAL,) and not wants_int8:
        raise BadInputError("--on names machines to time int8 on, and int8 was not asked for", "Add --int8.")
    page = _page(browser, runtime, console) if browser else None
    if server:
        from toolchain.export.server_folder import check_folder

        check_folder(*server, run_dir, run.data.classes, run.preprocess)
    console.say(f"exporting {run_dir}: {run.model.name} on {run.data.name}")
    from toolchain.export.exporting import export
    from toolchain.export.results import QuantizationSettings, Variants, recommendation

    settings = QuantizationSettings(
        max_drop_pp, min_speed_up, symmetric, qat_epochs if qat else 0, max_minutes, portable, machines, per_tensor
    )
    done = export(
        run_dir,
        int8=settings if wants_int8 else None,
        target=target,
        out=out,
        further=Variants(openvino, fp16, int8_weights, raw_frame, litert, max_drop_pp),
        data=data,
        reporter=console,
    )
    if page:
        from toolchain.browser import WHY_FLOAT, choose

        done = replace(done, page=page(choose(Path(done.float_file))[0], WHY_FLOAT))
    unserved: Exception | None = None
    if server:
        from toolchain.export.server_folder import write_server_folder

        try:
            done = replace(done, server=write_server_folder(*server, done))
        except (BadInputError, OSError) as error:  # what was exported is told in any case
            unserved = error
    console.result(done, *_summary(done))
    for reason in (*done.broken.values(), *(one.broken for one in done.further if one.broken)):
        console.warn(reason)
    if done.broken and not console.json:
        # After the warnings, so that it is the last thing that a person reads.
        console.result(None, *recommendation(done))
    if unserved:
        raise unserved
    return exit_code(done)


def exit_code(done: Exported) -> ExitCode | None:
    """What a command that exported ends with: None where all promises are kept."""
    if any(one.broken for one in done.further) or set(done.broken) - set(done.undecided):
        return ExitCode.PROMISE_BROKEN
    return ExitCode.UNDECIDED if done.undecided else None


def _model_file(word: Path) -> Path | None:
    """The model file, or a folder of them, that a page is made of; None for a run, which is exported first."""
    from toolchain.runs import RUN_FILE

    name = ModelName.of(str(word))
    if name.kind == "ready-made":
        return name.artifact_file()
    return word if swapped.kind_of(word) in swapped.MODEL and not (word / RUN_FILE).is_file() else None


def _page(folder: Path, given: Path | None, console: Console) -> Callable[[Artifact, str], Page]:
    """What makes a page of a model file. What is wrong with `folder` and --runtime is told before anything runs."""
    from toolchain.browser import check_folder, write_page
    from toolchain.browser.runtime import find_runtime

    check_folder(folder)
    runtime = find_runtime(given, console)
    return lambda artifact, why: write_page(artifact, why, folder, runtime)


def _told(page: Page) -> tuple[str, ...]:
    return (
        f"{page.folder}: a page with {page.file} ({page.precision}: {page.why}), {page.size_mb:.1f} MB",
        f"Look at it: python -m http.server --bind 127.0.0.1 --directory {shlex.quote(page.folder)} 8000, and open "
        "http://localhost:8000",
        "Other devices need https: any web server that has a certificate serves the folder as it is.",
    )


def _summary(done: Exported) -> tuple[RenderableType, ...]:
    from toolchain.export.results import benchmark

    table = Table(
        Column("file", folds=True, least=len("model.int8.openvino.onnx:")),
        Column("device"),
        Column("top-1", 1, right=True),
        Column("per-class", 3, right=True),
        Column("agreement", 2, right=True),
        Column("logits differ", 3, right=True),
        Column("drop (at most)", right=True),
        Column("speed-up"),
        title=f"On {done.n} {_of(done.split)} photographs; drop and agreement over views of each",
    )
    for one in done.float_hops:
        table.add(Path(done.float_file).name, *_cells(one), "", "")
    for attempt in done.attempts:
        for device in attempt.devices:
            chosen = device in attempt.chosen_for
            name = Path(done.int8_files[device]).name + ": " if chosen else ""
            judged = attempt.on(device)
            if judged:
                cells = (*_cells(judged), _drop(judged))
            else:
                compared = next(one for one in attempt.nearness if one.device == device)
                cells = (device, "", "", "", "", f"agrees {compared.agreement:.3f}")
            table.add(name + attempt.label, *cells, _speed_up(attempt, device), bold=chosen)
    for written in done.further:
        for one in written.hops:
            table.add(Path(written.file).name, *_cells(one), _drop(one), "")
    lines = [f"{done.float_file}: {done.float_mb:.2f} MB"]
    if any(attempt.nearness and not attempt.hops for attempt in done.attempts):
        lines.insert(0, "agrees: with float, on training photographs, by which recipes were compared.")
    for file in dict.fromkeys(filter(None, (*done.int8_files.values(), done.int8_for_all))):
        size_mb = Path(file).stat().st_size / 1e6
        is_further = file not in done.int8_files.values()
        for_all = "; for all devices" if is_further else ""
        lines.append(f"{file}: {size_mb:.2f} MB, {size_mb / done.float_mb:.2f} of float{for_all}")
    for written in done.further:
        size = f"{written.size_mb:.2f} MB, {written.size_mb / done.float_mb:.2f} of float"
        alike = f"; {written.as_onnx:.3f} of its answers are those of the ONNX file" if written.as_onnx else ""
        lines.append(f"{written.file}: {'not written' if written.broken else size + alike}")
    if done.server:
        lines.append(f"{done.server.folder}: {', '.join(done.server.models)}, as {done.server.server} loads them")
    lines += [one.sentence() for one in done.recommended]
    lines += _told(done.page) if done.page else ()
    if not done.broken:
        lines.append(f"Next: {benchmark(done)}")
    return table, *lines


def _cells(measured: Measurement) -> tuple[str, ...]:
    accuracy = measured.accuracy
    return (
        measured.device,
        f"{accuracy.top1:.3f}",
        f"{accuracy.per_class_top1:.3f}",
        f"{accuracy.agreement:.3f}",
        f"{accuracy.relative_difference:.1e}",
    )


def _drop(measured: Measurement) -> str:
    most = measured.drop_upper_pp if measured.expected_pp is None else measured.most_lost_pp
    drop, upper = (round(value or 0.0, 2) + 0.0 for value in (measured.lost_pp, most))  # never "-0.00"
    return f"{drop:.2f} pp ({upper:.2f})"


def _speed_up(attempt: Attempt, device: str) -> str:
    """By number of threads, and machine."""
    from toolchain.timing.protocol import LOCAL

    found = [
        f"{speed.ratio:.2f}x ({speed.threads}t{'' if speed.on == LOCAL else f', {speed.on}'})"
        for speed in attempt.speeds
        if speed.device == device
    ]
    return " ".join(found) or "not timed"


def _of(split: str) -> str:
    return "validation" if split == "val" else split
