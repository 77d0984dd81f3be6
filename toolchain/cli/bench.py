"""`edgetl bench`."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from toolchain.cli import one_line, swapped
from toolchain.cli.console import Console, output_options
from toolchain.cli.model_argument import MODEL_OR_FILE, ModelArgument, ModelName
from toolchain.cli.options import (
    Finite,
    complete_data_sets,
    complete_devices,
    on_option,
    refuse_with,
    refuse_without,
)
from toolchain.cli.tables import Column, Table, strong
from toolchain.system import masking
from toolchain.system.text import harmless

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from toolchain.bench.results import BenchReport, LayersOf


def _counts(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...]:
    """Whole numbers from 1 to 1024 with commas between them."""
    words = text.split(",") if text is not None else []
    if all(word.strip().isdecimal() and 1 <= int(word) <= 1024 for word in words):
        return tuple(dict.fromkeys(int(word) for word in words))
    raise click.BadParameter(f"{text!r} is no list of numbers from 1 to 1024, such as 1,2", context, parameter)


MEASURING = ("devices", "on", "data", "split", "threads", "batch", "rounds", "budget", "limit", "layers")
"""Options that say what is measured, and how."""


@click.command(
    help=f"""Measure accuracy and latency on every device at hand.

{MODEL_OR_FILE}

For a run folder, its model.onnx and model.int8.onnx are measured, and the run itself in PyTorch. Every file runs on
every device in a process of its own (an arm). Arms take turns, so that none slows another. With --compare, MODEL
may also be a bench.json, which is compared without measuring again.

Exit codes: 1 if something became worse than in OLD.json; 4 if a run was too noisy to tell; 2 if the two cannot be
compared."""
)
@click.argument("model", nargs=-1, required=True, type=ModelArgument())
@click.option(
    "--device",
    "devices",
    multiple=True,
    default=("all",),
    metavar="DEVICE",
    shell_complete=complete_devices,
    help="ort:cpu, openvino:CPU+bf16, torch:cpu+compile, ...; can be given again. Default: all that are found.",
)
@on_option("Measure")
@click.option(
    "--data",
    metavar="DATA",
    shell_complete=complete_data_sets,
    help="Measure accuracy on these photographs. Default: those that the model file names.",
)
@click.option("--split", default="test", show_default=True, help="The split of DATA to measure accuracy on.")
@click.option(
    "--threads",
    callback=_counts,
    metavar="N,...",
    help="Numbers of threads to measure, such as 1,2. Default: as many as can run at once.",
)
@click.option(
    "--batch",
    callback=_counts,
    default="1",
    show_default=True,
    metavar="N,...",
    help="Batch sizes to measure, such as 1,8.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    help="Turns of each arm. Default: as many as it takes to know its median to 2 %, within --budget.",
)
@click.option(
    "--budget",
    type=Finite(1, 86400),
    default=20.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for measuring latency if --rounds is not given.",
)
@click.option(
    "--limit",
    type=click.IntRange(0),
    default=400,
    show_default=True,
    help="Measure accuracy on at most so many photographs; 0: on all.",
)
@click.option(
    "--layers",
    is_flag=True,
    help="Measure the time of each layer, too, float beside int8, and tell which layers int8 made slower.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for bench.json, bench.md and bench.html. Default: bench-N in the run folder, or here.",
)
@click.option(
    "--compare",
    type=click.Path(path_type=Path),
    metavar="OLD.json",
    help="Compare with an older bench.json, or the one in a folder; exit code 1 if something became worse than the "
    "tolerance allows.",
)
@click.option(
    "--tolerance",
    type=Finite(0),
    default=5.0,
    show_default=True,
    metavar="PERCENT",
    help="How much slower it may become.",
)
@click.option(
    "--tolerance-top1",
    type=Finite(0),
    default=0.5,
    show_default=True,
    metavar="PP",
    help="How much top-1 may be lost, in percentage points.",
)
@click.option("--force", is_flag=True, help="Compare even runs of different machines, settings or data.")
@output_options
def command(
    model: tuple[ModelName, ...],
    devices: tuple[str, ...],
    on: tuple[str, ...],
    data: str | None,
    split: str,
    threads: tuple[int, ...],
    batch: tuple[int, ...],
    rounds: int | None,
    budget: float,
    limit: int,
    layers: bool,
    out: Path | None,
    compare: Path | None,
    tolerance: float,
    tolerance_top1: float,
    force: bool,
    console: Console,
) -> int:
    from toolchain.bench import benchmark
    from toolchain.bench.compare import Tolerance, read_report
    from toolchain.bench.runner import Plan
    from toolchain.datasets import SPLITS
    from toolchain.errors import BadInputError
    from toolchain.runtimes.devices import expand
    from toolchain.timing.machines import checked

    if compare is None:
        refuse_without("--compare", "tolerance", "tolerance_top1", "force")
    for one in model:
        swapped.refuse_as_model(one, _instead(one, comparing=compare is not None))
    if split not in SPLITS:
        raise BadInputError(f"unknown split {split!r}", f"Choose one of: {', '.join(SPLITS)}.")
    paths = [one.path() or one.artifact_file() for one in model]
    devices_named = "all" not in devices
    baseline = None
    if compare is not None:
        baseline = benchmark.Baseline(compare, read_report(compare), Tolerance(tolerance, tolerance_top1), force)
        if [path.suffix for path in paths] == [".json"]:
            refuse_with("an older benchmark in the place of MODEL, which is not measured again", *MEASURING)
            with benchmark.claimed(out, paths[0]) if out is not None else nullcontext() as folder:
                return _tell(benchmark.recompare(paths[0], baseline, console), folder, console, devices_named)
    plan = Plan(
        artifacts=benchmark.read_artifacts([file for one in model for file in one.artifact_files()]),
        devices=tuple(expand(devices)),
        threads=threads or (0,),
        batches=batch,
        rounds=rounds,
        budget_s=budget,
        data=data,
        split=split,
        limit=limit,
        distinct=not devices_named and "openvino:AUTO" not in devices,
        command=_command_line(),
        on=checked(on),
        layers=layers,
    )
    with benchmark.claimed(out, paths[0]) as folder:
        if folder is None:
            console.warn(f"neither the folder of {paths[0]} nor this one can be written to: name one with --out")
        return _tell(benchmark.measure(plan, baseline, console), folder, console, devices_named)


def _instead(model: ModelName, comparing: bool) -> dict[swapped.Kind, str]:
    """What to type where something of this kind stands in the place of MODEL."""
    quoted = shlex.quote(str(model))
    hints: dict[swapped.Kind, str] = {
        "photographs": f"edgetl bench MODEL --data {quoted}",
        "photograph": f"edgetl predict MODEL {quoted}",
        "video": f"edgetl camera MODEL --source {quoted}",
    }
    if not comparing:
        hints["benchmark"] = f"It is compared with an older one: edgetl bench {quoted} --compare OLD.json"
    return hints


def _tell(report: BenchReport, folder: Path | None, console: Console, devices_named: bool) -> int:
    """Write the report into `folder`, print it, and say at the end where it is and why it was not compared.

    `devices_named`: somebody asked for these very devices, so why one is not here is said.
    """
    from msgspec import to_builtins

    from toolchain.bench import benchmark
    from toolchain.bench.compare import HOW_TO_COMPARE

    written: list[Path] = []
    failure: Exception | None = None
    if folder is not None:
        try:
            # First, so that who reads no further, as `head` does, loses nothing.
            written = benchmark.write(report, folder, console)
        except Exception as error:  # of a full disk; what was measured is shown in any case
            failure = error
    console.result(
        {**to_builtins(report), "out": str(folder)} if written else report, *_tables(report, devices_named)
    )
    if failure:
        raise failure
    if written:
        where = f"Written: {', '.join(map(str, written))}"
        if console.json:
            console.say(where)
        else:
            console.result(None, where)
    if report.not_compared:
        click.echo(f"error: {one_line(report.not_compared)}\nhint: {HOW_TO_COMPARE}", err=True)
    return benchmark.exit_code_of(report)


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
            words += [word for one in each for word in (parameter.opts[0], *(() if one is True else (str(one),)))]
    return masking.command(words)


RANKS = {
    "now": 1,
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

_MEASURING = {"devices", "on", "data", "split", "threads", "batch", "rounds", "budget", "limit", "layers"}


def _tables(report: BenchReport, devices_named: bool) -> tuple[RenderableType, ...]:
    from toolchain.bench import layers
    from toolchain.bench import report as reports

    table = _table(reports.columns(report))
    rows = reports.rows(report)
    for row in rows:
        table.add(*row)
    absent = reports.absences_in_brief(report, devices_named=devices_named)
    sentences = [strong(line) for line in reports.conclusions(report)]
    lines: list[RenderableType] = [*absent, "", *sentences] if absent else [*sentences]
    shown: list[RenderableType] = [table, "", *lines] if rows else lines
    if comparison := report.comparison:
        changes = _table(reports.CHANGE_COLUMNS)
        for change in comparison.changes:
            changes.add(*reports.change_row(change))
        style = "bold red" if comparison.regressions else "bold"
        shown += ["", changes, *(Text(harmless(sentence), style=style) for sentence in reports.verdict(comparison))]
    for found in report.layers:
        shown += ["", _layer_table(found), *(strong(line) for line in layers.sentences(found))]
    return tuple(shown)


def _layer_table(found: LayersOf) -> Table:
    from toolchain.bench import layers

    # The kernels of the last file stay longest.
    ranks = {"shape": 1, "converting": 3} | dict.fromkeys(layers.KERNELS, 2) | {"float kernel": 4}
    columns = layers.columns(found)
    shown = (Column(name, ranks.get(name, 0), name not in layers.WORDS) for name in columns)
    table = Table(*shown, title=layers.title(found))
    for row in found.rows:
        table.add(*layers.row(row), bold=row.slower)
    return table


def _table(columns: Sequence[str]) -> Table:
    words = {"machine", "artifact", "precision", "device", "verdict"}
    return Table(*(Column(name, RANKS.get(name, 0), name not in words, name == "verdict") for name in columns))
