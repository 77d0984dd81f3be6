"""`edgetl explain attack`."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolchain.cli import swapped
from toolchain.cli.console import Console, output_options
from toolchain.cli.explain import command_line, tell_no_page
from toolchain.cli.explain.published import named, open_named, published_options
from toolchain.cli.model_argument import (
    MODEL_WITH_GRADIENTS,
    ModelArgument,
    ModelName,
    PublishedModelArgument,
    class_index,
)
from toolchain.cli.options import complete_classes, complete_data_sets, refuse_with, refuse_without
from toolchain.cli.tables import Column, Table, strong
from toolchain.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from toolchain.explain.attack import AttackConfig
    from toolchain.explain.attack.dataset import DatasetAttack
    from toolchain.explain.attack.one import OneAttack
    from toolchain.explain.attack.victims import Victim
    from toolchain.explain.torch_model import TorchModel

DEFAULT_BUDGETS = {"linf": 4, "l2": 256}
DEFAULT_CURVES = {"linf": (0, 1, 2, 4, 8), "l2": (0, 32, 64, 128, 256)}
LIMIT = 100


def _budgets(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and word.isascii() for word in words):
        raise click.BadParameter(f"{text!r} is no list of whole numbers such as 0,1,2,4", context, parameter)
    return tuple(sorted({int(word) for word in words}))


@click.command(
    help=f"""Change a photograph a little, until a network takes it for something else.

{MODEL_WITH_GRADIENTS}

The network's gradients say which pixels to change, and the budget says how much, in steps of 1/255. The changed
photograph is saved as PNG, and every deployed file is asked what it sees in it: model.onnx and model.int8.onnx of
the run, on each runtime.

With --data in place of IMAGE, the photographs of a data set are attacked with several budgets. That shows how much
accuracy is left, in float and in int8."""
)
@click.argument("model", required=False, type=PublishedModelArgument())
@click.argument("image", required=False, type=click.Path(path_type=Path))
@published_options
@click.option(
    "--target",
    metavar="NAME",
    shell_complete=complete_classes,
    help="The class that the network should see. Default: any but its present answer.",
)
@click.option(
    "--budget",
    type=int,
    metavar="N",
    help="For IMAGE: how large the change may be. Default: 4; 256 with --norm l2.",
)
@click.option(
    "--norm",
    type=click.Choice(["linf", "l2"]),
    default="linf",
    show_default=True,
    help="What the budget limits: the change of each value, or the length of the whole change.",
)
@click.option(
    "--method",
    type=click.Choice(["fgsm", "pgd"]),
    default="pgd",
    show_default=True,
    help="One step along the signs of the gradient (fgsm), or several (pgd).",
)
@click.option("--steps", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Steps of pgd.")
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="For the random start of pgd."
)
@click.option(
    "--transfer",
    "others",
    type=ModelArgument(),
    multiple=True,
    metavar="MODEL",
    help="Also ask this network, which may be a model file; can be given again.",
)
@click.option(
    "--data", metavar="DATA", shell_complete=complete_data_sets, help="Attack the photographs of a data set."
)
@click.option("--split", default="test", show_default=True, help="The split of DATA to attack.")
@click.option(
    "--limit",
    type=click.IntRange(0),
    default=LIMIT,
    show_default=True,
    help="Attack at most so many photographs, classes in turn; 0: all.",
)
@click.option(
    "--budgets",
    callback=_budgets,
    metavar="N,...",
    help="For DATA: the budgets to try. Default: 0,1,2,4,8; 32 times these with --norm l2.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Default: explain/attack-1, -2, ...")
@output_options
def command(
    model: ModelName | None,
    image: Path | None,
    published: str | None,
    weights: str | None,
    target: str | None,
    budget: int | None,
    norm: str,
    method: str,
    steps: int,
    seed: int,
    others: tuple[ModelName, ...],
    data: str | None,
    split: str,
    limit: int,
    budgets: tuple[int, ...] | None,
    out: Path | None,
    console: Console,
) -> None:
    words = [] if image is None else [str(image)]
    model, rest = named(model, published, weights, *words)
    if model is None:
        raise BadInputError("Missing argument 'MODEL'", "edgetl explain attack MODEL IMAGE")
    if len(rest) > 1:
        raise BadInputError(f"{rest[0]} and --model {model} are two networks", "Name one of them.")
    image = Path(rest[0]) if rest else None
    swapped.refuse_swapped("edgetl explain attack", model, rest)
    if (image is None) == (data is None):
        message = "there is nothing to attack" if data is None else "an image and --data cannot both be attacked"
        raise BadInputError(message, "Name an image, or a data set with --data.")
    if (budget if data else budgets) is not None:
        raise BadInputError(
            "--budget is for an image, and --budgets for --data", "Name one budget, or several with --data."
        )
    if image is not None:
        refuse_without("--data", "split", "limit")
    if method == "fgsm":
        refuse_with("--method fgsm", "steps", "seed", hint="It takes one step, without a random start.")
    run = None if model.kind == "published" else model.run_folder()
    transferred = [one.path() or one.artifact_file() for one in others]
    picture = None
    if image is not None:
        from toolchain.images.preprocess import read

        picture = read(image)  # a file that cannot be read is reported before networks are loaded
    from toolchain.explain.attack import AttackConfig
    from toolchain.explain.attack.dataset import attack_dataset
    from toolchain.explain.attack.one import attack_photograph
    from toolchain.explain.attack.victims import other_victims, own_victims

    torch_model = open_named(model, weights)
    aim = None if target is None else class_index(torch_model.labels, target)
    config = AttackConfig(method=method, norm=norm, steps=steps, seed=seed)  # type: ignore[arg-type]
    one = (DEFAULT_BUDGETS[norm] if budget is None else budget,)
    chosen = one if image else budgets or DEFAULT_CURVES[norm]
    _check(torch_model, config, chosen, least=1 if image else 0)

    def victims() -> list[Victim]:
        found = own_victims(run, torch_model, console, alone=model.kind == "published")
        return found + [one for path in transferred for one in other_victims(path, console)]

    how: dict[str, Any] = {"target": aim, "config": config}
    if image is not None and picture is not None:
        photograph = partial(attack_photograph, torch_model, image, picture, chosen[0], victims=victims(), **how)
        _one(torch_model, photograph, out, console)
    else:
        assert data is not None
        how |= {"run": run, "split": split, "limit": limit, "reporter": console}
        _many(torch_model, partial(attack_dataset, torch_model, data, chosen, victims, **how), data, out, console)


def _check(torch_model: TorchModel, config: AttackConfig, budgets: Sequence[int], least: int) -> None:
    from toolchain.explain.attack import largest_budget

    most = largest_budget(config.norm, torch_model.preprocess.height, torch_model.preprocess.width)
    for budget in budgets:
        if not least <= budget <= most:
            raise BadInputError(
                f"{budget} is no budget: in {config.norm} they are whole steps of 1/255 from {least} to {most}",
                "Try 4 in linf, 256 in l2.",
            )


def _one(torch_model: TorchModel, attack: Callable[..., OneAttack], out: Path | None, console: Console) -> None:
    from toolchain.explain import gallery
    from toolchain.explain.attack.report import one_document, one_page, sentence, verdict_rows

    start = time.perf_counter()
    with gallery.new_folder(out, "attack") as (folder, place):
        done = attack(folder=folder)
        seconds = time.perf_counter() - start
        written = gallery.write(folder, one_page(torch_model, done, {"command": command_line()}))
    tell_no_page(console)
    document = {
        **one_document(torch_model, done),
        "folder": str(place),
        "files": written,
        "seconds": round(seconds, 2),
    }
    table = _table(("network", "before", "after", "turned", "at the smallest budget"), 5)
    for row in verdict_rows(done.verdicts):
        table.add(*row)
    smallest = f"smallest budget: {done.least.budget}/255" if done.least else "no budget turned it"
    lines = (strong(sentence(done)), smallest, f"{place}: {', '.join(written)}")
    console.result(document, table, *lines)


def _many(
    torch_model: TorchModel, attack: Callable[[], DatasetAttack], data: str, out: Path | None, console: Console
) -> None:
    from toolchain.explain import gallery
    from toolchain.explain.attack.report import (
        POINT_COLUMNS,
        conclusion,
        dataset_document,
        point_rows,
        write_dataset,
    )

    start = time.perf_counter()
    with gallery.new_folder(out, "attack") as (folder, place):
        done = attack()
        document = {
            **dataset_document(torch_model, done),
            "folder": str(place),
            "seconds": round(time.perf_counter() - start, 1),
        }
        how = {"command": command_line(), "data": data}
        written = write_dataset(folder, torch_model, done, document, how)
    tell_no_page(console)
    table = _table(POINT_COLUMNS, 1)
    for row in point_rows(done):
        table.add(*row)
    lines = (strong(conclusion(done)), f"{place}: {', '.join(written)}")
    if done.complete or not console.json:  # --json prints one document; of an interruption, that is the error
        console.result({**document, "files": written}, table, *lines)
    if not done.complete:
        raise KeyboardInterrupt


def _table(columns: Sequence[str], words: int) -> Table:
    """A table whose first `words` columns hold words; the first two always stay, the others from left to right."""
    return Table(*(Column(name, max(0, at - 1), at >= words) for at, name in enumerate(columns)))
