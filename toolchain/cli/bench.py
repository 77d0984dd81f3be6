"""`edgetl bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table

from toolchain.cli.console import Console, output_options
from toolchain.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import RenderableType

    from toolchain.bench.results import Report


@click.command(
    help="""Measure accuracy and latency on every device at hand.

ARTIFACT is a model file that `edgetl export` wrote, or a run folder: then its model.onnx and model.int8.onnx, and
the run itself in PyTorch. Each artifact on each device runs in a process of its own; they take turns, so that none
slows another."""
)
@click.argument("artifact", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--device",
    "devices",
    multiple=True,
    default=("all",),
    metavar="DEVICE",
    help="ort:cpu, openvino:CPU, torch:cpu, ...; can be given again. Default: all that are found.",
)
@click.option("--data", metavar="DATA", help="Photographs for accuracy. Default: those that the artifact names.")
@click.option("--split", default="test", show_default=True, help="The split of DATA to measure on.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Default: one for each core.")
@click.option("--batch", type=click.IntRange(1, 1024), default=1, show_default=True, help="Images an inference.")
@click.option("--rounds", type=click.IntRange(1, 1000), help="Turns that each arm has. Default: 6.")
@click.option(
    "--limit",
    type=click.IntRange(0),
    default=400,
    show_default=True,
    help="Photographs for accuracy at most; 0 for all.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for bench.json and bench.md.")
@output_options
def command(
    artifact: tuple[Path, ...],
    devices: tuple[str, ...],
    data: str | None,
    split: str,
    threads: int | None,
    batch: int,
    rounds: int | None,
    limit: int,
    out: Path | None,
    console: Console,
) -> int:
    from toolchain.artifact import read_artifact
    from toolchain.bench import report as reports
    from toolchain.bench.runner import DEFAULT_ROUNDS, Plan, bench, find_artifacts
    from toolchain.datasets import SPLITS
    from toolchain.errors import BadInputError
    from toolchain.runtimes.devices import expand

    if split not in SPLITS:
        raise BadInputError(f"unknown split {split!r}", f"Choose one of: {', '.join(SPLITS)}.")
    if out is not None and out.exists() and not out.is_dir():
        raise BadInputError(f"{out} is not a folder", "Name a folder with --out.")
    names = expand(devices)
    paths = dict.fromkeys(file for path in artifact for file in find_artifacts(path))
    plan = Plan(
        artifacts=tuple(read_artifact(path) for path in paths),
        devices=tuple(names),
        threads=(threads or 0,),
        batches=(batch,),
        rounds=rounds or DEFAULT_ROUNDS,
        data=data,
        split=split,
        limit=limit,
        distinct="all" in devices and "openvino:AUTO" not in devices,
    )
    if out is not None:
        # Before the minute of measuring, not after it.
        out.mkdir(parents=True, exist_ok=True)
    report = bench(plan, console)
    if out is not None:
        reports.write(report, out)
    console.result(report, *_tables(report))
    if out is not None:
        console.say(f"written: {out / reports.JSON_FILE} and {out / reports.MARKDOWN_FILE}")
    statuses = {arm.status for arm in report.arms}
    if "ok" in statuses:
        return ExitCode.DONE
    return ExitCode.BAD_INPUT if "failed" in statuses else ExitCode.MISSING


def _tables(report: Report) -> tuple[RenderableType, ...]:
    from toolchain.bench import report as reports

    names = reports.names_of(report.arms)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in reports.COLUMNS:
        is_text = column in {"artifact", "precision", "device"}
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    arms = reports.measured(report)
    for arm in arms:
        table.add_row(*(escape(text) for text in reports.row(arm, names[arm.artifact])))
    absent = [escape(line) for line in reports.absences(report)]
    sentences = [f"[bold]{escape(line)}[/bold]" for line in reports.conclusions(report)]
    lines = [*absent, "", *sentences] if absent else sentences
    return (table, "", *lines) if arms else tuple(lines)
