"""`edgetl finetune`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from toolchain.cli.console import Console, output_options
from toolchain.errors import BadInputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from toolchain.runs import Run

MODELS = ("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")


@click.command(
    help="""Train a network on your photographs.

DATA is pets, cats-vs-dogs, drawn-pets, or a folder with a folder of photographs for each class."""
)
@click.argument("data", required=False)
@click.option("--model", type=click.Choice(MODELS), default="mobilenet_v2", show_default=True)
@click.option(
    "--weights",
    metavar="FILE|imagenet|none",
    default="imagenet",
    show_default=True,
    help="What to start from: a state dict (.safetensors or .pth) in torchvision's names, torchvision's download, "
    "or nothing.",
)
@click.option("--probe-only", is_flag=True, help="Train only a new head on frozen features.")
@click.option("--epochs", type=int, default=6, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run. Default: runs/DATA-MODEL-N.")
@click.option(
    "--resume", "resumed", type=click.Path(path_type=Path), help="Continue the interrupted run in a folder."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--batch-size", type=int, default=32, show_default=True)
@click.option("--learning-rate", type=float, help="Of AdamW, at its highest. Default: 6e-5, from scratch 1e-3.")
@output_options
def command(data: str | None, out: Path | None, resumed: Path | None, console: Console, **options: Any) -> None:
    words = "edgetl " + shlex.join(sys.argv[1:])
    if resumed is not None:
        _check_resume_alone()
    elif data is None:
        raise BadInputError("no photographs were named", "edgetl finetune DATA: a folder, pets, or drawn-pets.")

    from toolchain.training.finetune import finetune, resume
    from toolchain.training.settings import Settings

    if resumed is not None:
        folder = resumed
        run = resume(resumed, command=words, reporter=console)
    else:
        assert data is not None
        folder = out or _free_folder(data, options["model"])
        settings = Settings(data=data, **options)
        try:
            run = finetune(settings, folder, command=words, reporter=console)
        except KeyboardInterrupt:
            console.say(f"continue with: edgetl finetune --resume {shlex.quote(str(folder))}")
            raise
    console.result(run, *_summary(run, folder))


def _check_resume_alone() -> None:
    """A resumed run has its settings already; others beside it would be silently ignored."""
    context = click.get_current_context()
    free = {"resumed", "as_json", "quiet", "debug"}
    given = [
        name
        for name in context.params
        if name not in free and context.get_parameter_source(name) == ParameterSource.COMMANDLINE
    ]
    if given:
        names = ", ".join("DATA" if name == "data" else "--" + name.replace("_", "-") for name in given)
        raise BadInputError(
            f"--resume continues a run with the settings it began with; {names} cannot be given beside it",
            "Leave them out, or start a new run.",
        )


def _free_folder(data: str, model: str) -> Path:
    stem = f"{Path(data).resolve().name if Path(data).is_dir() else data}-{model}"
    number = 1
    while (folder := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return folder


def _summary(run: Run, folder: Path) -> tuple[RenderableType, ...]:
    from rich.table import Table

    table = Table(
        "", "photographs", "top-1", "per-class top-1", "top-5", "ECE", title=f"{run.model.name} on {run.data.name}"
    )
    rows = {f"probe, {split}": metrics for split, metrics in run.probe_metrics.items()}
    if run.model.kept == "finetune":
        rows |= {f"fine-tuned, {split}": metrics for split, metrics in run.metrics.items()}
    for name, metrics in rows.items():
        figures = (metrics.top1, metrics.per_class_top1, metrics.top5, metrics.ece)
        table.add_row(name, str(metrics.n), *(f"{figure:.3f}" for figure in figures))
    kept = "the linear probe" if run.model.kept == "probe" else f"epoch {run.model.best_epoch} of fine-tuning"
    line = (
        f"Kept {kept}: test top-1 {run.metrics['test'].top1:.3f}, in {run.timings_s['total']:.0f} s. Run: {folder}"
    )
    return table, line, f"Next: edgetl export {shlex.quote(str(folder))} --int8"
