"""`edgetl bench`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from toolchain.cli import completion
from toolchain.cli.console import Console, output_options
from toolchain.cli.tables import Column, Table, strong
from toolchain.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from toolchain.artifact import Artifact
    from toolchain.bench.compare import Tolerance
    from toolchain.bench.results import Comparison, Report


def _counts(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...]:
    """Whole numbers from 1 to 1024 with commas between them."""
    words = text.split(",") if text is not None else []
    if all(word.strip().isdecimal() and 1 <= int(word) <= 1024 for word in words):
        return tuple(dict.fromkeys(int(word) for word in words))
    raise click.BadParameter(f"{text!r} is no list of numbers from 1 to 1024, such as 1,2", context, parameter)


@click.command(
    help="""Measure accuracy and latency on every device at hand.

ARTIFACT is a model file that `edgetl export` wrote, or a run folder: then its model.onnx and model.int8.onnx, and
the run itself in PyTorch. Each artifact on each device runs in a process of its own; they take turns, so that none
slows another. With --compare, ARTIFACT may also be a bench.json, which is then compared and not measured again."""
)
@click.argument("artifact", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--device",
    "devices",
    multiple=True,
    default=("all",),
    metavar="DEVICE",
    shell_complete=completion.devices,
    help="ort:cpu, openvino:CPU, torch:cpu+bf16+compile, ...; can be given again. Default: all that are found.",
)
@click.option(
    "--data",
    metavar="DATA",
    shell_complete=completion.data_sets,
    help="Photographs for accuracy. Default: those that the artifact names.",
)
@click.option("--split", default="test", show_default=True, help="The split of DATA to measure on.")
@click.option(
    "--threads", callback=_counts, metavar="N,...", help="Numbers of threads, an arm for each. Default: all cores."
)
@click.option(
    "--batch",
    callback=_counts,
    default="1",
    show_default=True,
    metavar="N,...",
    help="Numbers of images an inference, an arm for each.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    help="Turns that each arm has. Default: until its median is known to 2 %, within --budget.",
)
@click.option(
    "--budget",
    type=click.FloatRange(1, 86400),
    default=20.0,
    show_default=True,
    metavar="SECONDS",
    help="For measuring latencies, when --rounds does not say how long.",
)
@click.option(
    "--limit",
    type=click.IntRange(0),
    default=400,
    show_default=True,
    help="Photographs for accuracy at most; 0 for all.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for bench.json, bench.md and bench.html.")
@click.option(
    "--compare",
    type=click.Path(path_type=Path),
    metavar="OLD.json",
    help="Compare with an older bench.json; exit code 1 when something became worse beyond the tolerance.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    default=5.0,
    show_default=True,
    metavar="PERCENT",
    help="Latency that may be lost.",
)
@click.option(
    "--tolerance-top1",
    type=click.FloatRange(0),
    default=0.5,
    show_default=True,
    metavar="PP",
    help="Top-1 that may be lost, in percentage points.",
)
@click.option("--force", is_flag=True, help="Compare runs of different machines, settings or data all the same.")
@output_options
def command(
    artifact: tuple[Path, ...],
    devices: tuple[str, ...],
    data: str | None,
    split: str,
    threads: tuple[int, ...],
    batch: tuple[int, ...],
    rounds: int | None,
    budget: float,
    limit: int,
    out: Path | None,
    compare: Path | None,
    tolerance: float,
    tolerance_top1: float,
    force: bool,
    console: Console,
) -> int:
    from toolchain.bench.compare import Tolerance, read_report
    from toolchain.bench.runner import Plan, bench
    from toolchain.datasets import SPLITS
    from toolchain.errors import BadInputError
    from toolchain.runtimes.devices import expand

    if split not in SPLITS:
        raise BadInputError(f"unknown split {split!r}", f"Choose one of: {', '.join(SPLITS)}.")
    if out is not None and out.exists() and not out.is_dir():
        raise BadInputError(f"{out} is not a folder", "Name a folder with --out.")
    old = read_report(compare) if compare is not None else None
    if [path.suffix for path in artifact] == [".json"] and old is not None:
        report = read_report(artifact[0])
    else:
        plan = Plan(
            artifacts=_read(artifact),
            devices=tuple(expand(devices)),
            threads=threads or (0,),
            batches=batch,
            rounds=rounds,
            budget_s=budget,
            data=data,
            split=split,
            limit=limit,
            distinct="all" in devices and "openvino:AUTO" not in devices,
            command=_command_line(),
        )
        if old is not None and not force:
            _refuse_early(old, str(compare))
        if out is not None:
            # Before the minute of measuring, not after it.
            out.mkdir(parents=True, exist_ok=True)
        if any(path.is_dir() for path in artifact):
            console.say(f"measuring {', '.join(str(one.path) for one in plan.artifacts)}")
        report = bench(plan, console)
    if old is not None:
        report = _compared(old, report, str(compare), Tolerance(tolerance, tolerance_top1), force, out, console)
    console.result(report, *_tables(report))
    if out is not None:
        _write(report, out, console)
    return _exit_code(report)


def _write(report: Report, out: Path, console: Console) -> None:
    from toolchain.bench import report as reports

    reports.write(report, out)
    names = [reports.JSON_FILE, reports.MARKDOWN_FILE]
    try:
        from toolchain.bench import page

        names.append(page.write(report, out).name)
    except ModuleNotFoundError as error:
        console.say(f"no bench.html: {error.name} is not installed (pip install 'edgetl[report]')")
    console.say(f"written: {', '.join(str(out / name) for name in names)}")


def _read(paths: tuple[Path, ...]) -> tuple[Artifact, ...]:
    from toolchain.artifact import read_artifact
    from toolchain.bench.runner import find_artifacts

    files = dict.fromkeys(file for path in paths for file in find_artifacts(path))
    return tuple(read_artifact(path) for path in files)


def _refuse_early(old: Report, old_path: str) -> None:
    """What can be known before a minute of measuring."""
    from toolchain.bench import machine
    from toolchain.bench.compare import machine_differences, refusal

    if differences := machine_differences(old.environment, machine.describe()):
        raise refusal(old_path, differences)


def _compared(
    old: Report, new: Report, old_path: str, tolerance: Tolerance, force: bool, out: Path | None, console: Console
) -> Report:
    """`new` with its comparison. What was measured is stored even when it turns out to be of another kind."""
    from dataclasses import replace

    from toolchain.bench.compare import compare, version_changes
    from toolchain.errors import BadInputError

    try:
        comparison = compare(old, new, old_path, tolerance, force=force)
    except BadInputError:
        if out is not None:
            _write(new, out, console)
        raise
    for name, report in ((old_path, old), ("this run", new)):
        if report.noisy:
            console.warn(f"{name} is marked noisy: differences may be the machine's")
    if changed := version_changes(old.environment, new.environment):
        console.say(f"other versions than before: {', '.join(changed)}")
    return replace(new, comparison=comparison)


def _command_line() -> str:
    """The command that would measure the same again, without --compare and what else changes nothing measured."""
    context = click.get_current_context()
    words = ["edgetl", "bench"]
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") == click.core.ParameterSource.COMMANDLINE
        value = context.params.get(parameter.name or "")
        if isinstance(parameter, click.Argument):
            words += [str(path) for path in value or ()]
        elif given and parameter.name in _MEASURING:
            if isinstance(value, tuple) and not parameter.multiple:
                value = ",".join(str(one) for one in value)
            each = value if isinstance(value, tuple) else (value,)
            words += [word for one in each for word in (parameter.opts[0], str(one))]
    return shlex.join(words)


RANKS = {
    "top-1": 1,
    "threads": 2,
    "batch": 2,
    "p50 ms before": 2,
    "images/s": 3,
    "MB": 3,
    "agreement": 3,
    "end to end ms": 3,
    "p90": 4,
    "p99": 4,
    "precision": 5,
}
"""Columns that a narrow terminal does without, the highest first."""

_MEASURING = {"devices", "data", "split", "threads", "batch", "rounds", "budget", "limit"}


def _exit_code(report: Report) -> int:
    statuses = {arm.status for arm in report.arms}
    if report.comparison is not None and report.comparison.regressions:
        return ExitCode.PROMISE_BROKEN
    if "ok" in statuses:
        return ExitCode.DONE
    return ExitCode.BAD_INPUT if "failed" in statuses else ExitCode.MISSING


def _tables(report: Report) -> tuple[RenderableType, ...]:
    from toolchain.bench import report as reports

    names = reports.names_of(report.arms)
    table = _table(reports.COLUMNS)
    arms = reports.measured(report)
    for arm in arms:
        table.add(*reports.row(arm, names[arm.artifact]))
    absent = reports.absences(report)
    sentences = [strong(line) for line in reports.conclusions(report)]
    lines: list[RenderableType] = [*absent, "", *sentences] if absent else [*sentences]
    shown: list[RenderableType] = [table, "", *lines] if arms else lines
    if report.comparison is not None:
        shown += ["", _changes(report), *_sentences(report.comparison)]
    return tuple(shown)


def _table(columns: Sequence[str]) -> Table:
    words = {"artifact", "precision", "device", "verdict"}
    return Table(*(Column(name, RANKS.get(name, 0), name not in words, name == "verdict") for name in columns))


def _sentences(comparison: Comparison) -> list[Text]:
    from toolchain.bench import report as reports

    style = "bold red" if comparison.regressions else "bold"
    return [Text(sentence, style=style) for sentence in reports.verdict(comparison)]


def _changes(report: Report) -> Table:
    from toolchain.bench import report as reports

    assert report.comparison is not None
    table = _table(reports.CHANGE_COLUMNS)
    for change in report.comparison.changes:
        table.add(*reports.change_row(change))
    return table
