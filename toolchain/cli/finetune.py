"""`edgetl finetune`."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolchain.cli.console import Console, needs, output_options
from toolchain.cli.options import (
    SectionedCommand,
    complete_data_sets,
    complete_models,
    complete_weights,
    is_given,
    options_from,
    refuse_with,
)
from toolchain.cli.tables import Column, Table
from toolchain.errors import BadInputError
from toolchain.system import masking
from toolchain.system.options import settings_of
from toolchain.training.settings import TRICKS, TrainSettings

if TYPE_CHECKING:
    from rich.console import RenderableType

    from toolchain.images.preprocess import Resize
    from toolchain.runs import Continuation, Rejection, Run

FINE_TUNING = ("epochs", "patience", "max_minutes", "teacher")
"""Options that a linear probe has no use for, beside the tricks."""
MUCH_REJECTED = 0.05
"""The threshold is meant to reject at most this share of good photographs."""


class _Epochs(click.ParamType[int]):
    """A number of epochs, or `auto`, which is 0 in the settings."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int:
        if value == "auto":
            return 0
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor auto", param, context)
        if number < 1:
            raise BadInputError(f"--epochs must be at least 1, not {number}", "For no fine-tuning: --probe-only.")
        return number


@click.command(
    cls=SectionedCommand,
    help="""Train a network on your photographs.

DATA is pets, cats-vs-dogs, drawn-pets, or a folder with a folder of photographs for each class.

First it trains a linear probe, a new head on frozen features. From there it fine-tunes the last blocks, and keeps
whichever is better on validation. The run folder holds the network, its metrics and a report (report.html).

On several processes or machines: torchrun --nproc-per-node=2 -m toolchain finetune DATA --out RUN ...""",
)
@click.argument("data", required=False, shell_complete=complete_data_sets)
@options_from(
    TrainSettings,
    types={"epochs": _Epochs()},
    completions={"model": complete_models, "weights": complete_weights},
)
@click.option("--size", type=click.IntRange(32, 1024), help="Side of the network's input in pixels. Default: 224.")
@click.option(
    "--resize",
    type=click.Choice(["shortest-edge", "squash"]),
    help="How a photograph becomes square: its centre as it is, or all of it, squashed. Default: shortest-edge.",
)
@click.option(
    "--recipe",
    type=click.Path(path_type=Path),
    help="A TOML file of settings, instead of the network's own; options override it.",
)
@click.option(
    "--from",
    "from_run",
    type=click.Path(path_type=Path),
    help="Go on from the finished run in a folder, with more photographs or other classes: its network, its size, "
    "and the head's rows of classes that stay. Nothing in it is changed; both are compared at the end.",
)
@click.option("--list-models", is_flag=True, help="List the networks to choose from, with their sizes, and exit.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run. Default: runs/DATA-MODEL-N.")
@click.option(
    "--resume", "resumed", type=click.Path(path_type=Path), help="Continue the interrupted run in a folder."
)
@output_options
def command(
    data: str | None,
    out: Path | None,
    resumed: Path | None,
    from_run: Path | None,
    model: str,
    list_models: bool,
    recipe: Path | None,
    size: int | None,
    resize: Resize | None,
    console: Console,
    **options: Any,
) -> None:
    if list_models:
        _list_models(console)
        return
    words = "edgetl " + masking.command(sys.argv[1:])
    needs("torch")
    if resumed is not None:
        _check_resume_alone()
        from toolchain.runs import RUN_FILE, check_resumable

        check_resumable(resumed)
        if _is_leader():
            is_finished = (resumed / RUN_FILE).exists()
            console.say(f"{resumed} is finished already" if is_finished else f"going on with {resumed}")
        from toolchain.training.finetune import resume

        folder = resumed
        run = resume(resumed, command=words, reporter=console)
    else:
        if data is None:
            raise BadInputError("no photographs were named", "edgetl finetune DATA: a folder, pets, or drawn-pets.")
        from toolchain.backbones import preprocess_of, recipe_of, recipes

        previous = None
        if from_run is not None:
            from toolchain.training.previous import Previous

            previous = Previous.read(from_run)
            asked = (model if is_given("model") else None, options["weights"] if is_given("weights") else None)
            options = previous.settings(*asked, size, resize, options)
            model = previous.run.model.name
        if previous is None and (size is not None or resize is not None):
            usual = preprocess_of(model)
            options["preprocess"] = usual.with_size(size or usual.height, resize or usual.resize)
        tricks = {one.name for one in settings_of(TrainSettings) if one.option.section == TRICKS} - {"balance"}
        if is_given("probe_only"):
            refuse_with("--probe-only", *FINE_TUNING, *tricks, "recipe")
        elif options["probe_only"]:
            stays = f"{from_run}, a linear probe that stays one"
            refuse_with(stays, *FINE_TUNING, *tricks, "recipe", hint="Add --epochs N, and it is fine-tuned.")
        from toolchain.training.settings import settings_for

        chosen = recipes.read(recipe) if recipe else recipe_of(model)
        settings = settings_for(data, model, chosen, **options)
        _check(settings, out)
        folder = out or _free_folder(data, model)
        if _is_leader():
            console.say(f"{model} on {data}{f', from {from_run}' if from_run else ''}, into {folder}")
        from toolchain.runs import CHECKPOINT_FOLDER
        from toolchain.training.finetune import finetune

        try:
            run = finetune(settings, folder, command=words, reporter=console)
        except BaseException as error:
            if out is None:
                with suppress(OSError):  # there is something in it
                    folder.rmdir()
                    folder.parent.rmdir()
            interrupted = isinstance(error, KeyboardInterrupt) and _is_leader()
            if interrupted and (folder / CHECKPOINT_FOLDER).is_dir():
                console.say(f"continue with: edgetl finetune --resume {shlex.quote(str(folder))}")
            raise

    if _is_leader():
        console.result(run, *_summary(run, folder))


def _check(settings: TrainSettings, out: Path | None) -> None:
    """Report mistakes that can be found without torch, which takes seconds to load."""
    from toolchain.datasets.catalogue import list_data, named
    from toolchain.datasets.groups import with_groups
    from toolchain.runs import check_free, read_run
    from toolchain.runs.ready_made import weights_file

    if out is not None:
        check_free(out)
    weights_file(settings.weights, settings.model)
    for teacher in settings.teacher:
        read_run(Path(teacher))
    entry = named(settings.data)
    if entry is None or entry.make is None:
        index = list_data(settings.data)
        if settings.group_by is not None:
            with_groups(index, settings.group_by)
    if settings.outliers is not None and not Path(settings.outliers).is_dir():
        raise BadInputError(
            f"--outliers {settings.outliers} is no folder", "Name a folder of pictures of other things."
        )


def _check_resume_alone() -> None:
    """A resumed run keeps its settings; others given beside it would be silently ignored."""
    context = click.get_current_context()
    free = {"resumed", "as_json", "quiet", "debug"}
    given = [
        "DATA" if parameter.name == "data" else parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in free and is_given(parameter.name or "")
    ]
    if given:
        names = ", ".join(given)
        raise BadInputError(
            f"--resume continues a run with the settings it began with; {names} cannot be given beside it",
            "Leave them out, or start a new run.",
        )


def _free_folder(data: str, model: str) -> Path:
    """A new folder, made by this process; under `torchrun` all use the one that the leader made."""
    from toolchain.system import claims

    stem = f"{Path(data).resolve().name if Path(data).is_dir() else Path(data).name}-{model.replace(':', '-')}"
    candidates = (Path("runs") / f"{stem}-{number}" for number in count(1))
    return claims.new_folder(candidates) if _is_leader() else next(candidates)


def _is_leader() -> bool:
    """Whether this process prints results: the only one, or the first that `torchrun` started."""
    return int(os.environ.get("RANK", "0")) == 0


def _list_models(console: Console) -> None:
    from toolchain.backbones import recipes

    found = {name: recipes.load(name) for name in recipes.names()}
    table = Table(
        Column("model"),
        Column("parameters", right=True),
        Column("MACs", 1, right=True),
        Column("ONNX", right=True),
        Column("ImageNet", 2, right=True),
        Column("pets, linear probe", 1, right=True),
        Column("pets, fine-tuned", right=True),
        title="Networks to start from",
    )
    for name, recipe in found.items():
        network, measured = recipe.network, recipe.measured
        assert network is not None
        table.add(
            name,
            f"{network.parameters / 1e6:.1f} M",
            f"{network.macs / 1e6:,.0f} M",
            f"{network.size_mb:.1f} MB",
            *(
                "" if top1 is None else f"{top1:.3f}"
                for top1 in (network.imagenet_top1, measured.pets_probe_top1, measured.pets_top1)
            ),
        )
    note = (
        "With 37 classes and photographs of 224 x 224. ImageNet: top-1 as torchvision publishes it. Pets: top-1 on "
        "973 test photographs; blank: not measured."
    )
    keys = [setting.name for setting in settings_of(TrainSettings) if setting.option.recipe]
    document = {
        name: {
            "network": recipe.network,
            "finetune": {key: recipe.finetune.get(key) for key in keys},
            "measured": recipe.measured,
        }
        for name, recipe in found.items()
    }
    console.result({"models": document}, table, note)


def _summary(run: Run, folder: Path) -> tuple[RenderableType, ...]:
    from toolchain.runs import REPORT_FILE

    top5 = len(run.data.classes) > 5  # of five classes, one is always among the first five
    names = ("photographs", "top-1", "per-class top-1", *(["top-5"] if top5 else []), "ECE")
    table = Table(
        Column(""), *(Column(name, right=True) for name in names), title=f"{run.model.name} on {run.data.name}"
    )
    rows = {f"probe, {split}": metrics for split, metrics in run.probe_metrics.items()}
    if run.model.kept == "finetune":
        before = run.before_refit or run.metrics
        rows |= {f"fine-tuned, {split}": metrics for split, metrics in before.items()}
    if run.model.refit:
        rows["refit, test"] = run.metrics["test"]
    for name, metrics in rows.items():
        figures = (metrics.top1, metrics.per_class_top1, *([metrics.top5] if top5 else []), metrics.ece)
        table.add(name, str(metrics.n), *(f"{figure:.3f}" for figure in figures))
    kept = "the linear probe" if run.model.kept == "probe" else f"epoch {run.model.best_epoch} of fine-tuning"
    lines: list[RenderableType] = [
        f"Kept {kept}: top-1 {run.metrics['test'].top1:.3f} of {run.metrics['test'].n} test photographs, "
        f"in {run.timings_s['total']:.0f} s."
    ]
    if run.model.refit:
        taught = sum(run.data.counts[split] for split in run.model.taught)
        lines.append(
            f"Refit on {taught} photographs, those of val included, which judge no more: export looks at test."
        )
    crossed = run.cross_validation
    if crossed:
        low, high = crossed.top1_ci95
        lines.append(
            f"Cross-validated (linear probe, {crossed.metrics.n} photographs in {crossed.folds} folds): "
            f"top-1 {crossed.metrics.top1:.3f}, between {low:.3f} and {high:.3f} with 95 % confidence."
        )
    fit = run.temperature_fit
    if fit:
        held_out = f"{fit.val + fit.out_of_fold} held-out photographs"
        lines.append(
            f"Temperature {run.temperature:.2f}, fitted on {held_out} (95 %: {fit.low:.2f} to {fit.high:.2f})."
            if fit.low < run.temperature
            else f"Temperature {run.temperature:.2f}: {held_out} cannot justify more confidence."
        )
    if run.rejection:
        lines.append(rejection_line(run.rejection, run.metrics["test"].n))
    if run.continuation:
        lines += continuation_lines(run.continuation)
    lines.append(f"Run: {folder}. Look at {folder / REPORT_FILE}")
    return table, *lines, *_next(run.model.name, folder)


def rejection_line(rejection: Rejection, test: int) -> RenderableType:
    """How many good photographs and how many other things are rejected; yellow where it is many good ones."""
    from rich.text import Text

    cost = 1 - rejection.accepted["test"]
    line = f"Not sure of {round(cost * test)} of {test} test photographs ({cost:.0%})"
    if rejection.outliers_rejected is not None:
        line += f", and of {rejection.outliers_rejected:.0%} of {rejection.outliers} pictures of other things"
    else:
        line += "; of other things: not known (--outliers)"
    return Text(f"{line}.", style="yellow" if cost > MUCH_REJECTED else "")


def continuation_lines(both: Continuation) -> list[RenderableType]:
    """The network before and the new one on the same photographs, and which of them to use."""
    from toolchain.datasets.index import first_few
    from toolchain.system.text import fixed, harmless

    lines: list[RenderableType] = []
    if both.n:
        low, high = (fixed(100 * bound, 1, plus=True) for bound in both.gain_ci95)
        lines.append(
            f"On {both.n} test photographs that have taught neither, of {len(both.kept)} classes that both know: "
            f"before {both.old_top1:.3f}, now {both.new_top1:.3f} ({low} to {high} points with 95 % confidence): "
            f"{both.verdict}."
        )
    else:
        lines.append("No test photograph is of a class that both networks know: they cannot be compared.")
    if both.added:
        lines.append(
            f"New classes ({harmless(first_few(both.added))}): {both.added_top1:.3f} of {both.added_n} photographs."
            if both.added_n
            else f"New classes ({harmless(first_few(both.added))}): no test photographs."
        )
    use = " Go on using it." if both.verdict == "worse" else ""
    lines.append(f"{both.run} stays as it was.{use}")
    return lines


def _next(model: str, folder: Path) -> tuple[str, ...]:
    """What to type next: with --int8, for the devices on which it can pay."""
    from toolchain.backbones import recipe_of

    words = f"Next: edgetl export {shlex.quote(str(folder))} --int8"
    try:
        network = recipe_of(model).network
    except BadInputError:  # the package that brought it was removed since
        network = None
    if network is None or network.int8_targets is None:
        return (words,)
    targets = network.int8_targets
    return (
        " ".join((words, *(f"--target {device}" for device in targets))),
        f"int8 of {model} is not surely faster than float on other devices than {', '.join(targets)}.",
    )
