"""`edgetl explain attack`."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolchain.cli import completion, swapped
from toolchain.cli.console import Console, output_options
from toolchain.cli.tables import Column, Table, strong
from toolchain.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolchain.explain.attack import AttackConfig
    from toolchain.explain.attack.answering import Answering
    from toolchain.explain.torch_model import TorchModel

READY_MADE = "ready-made"
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
    help="""Change a photograph a little, until a network takes it for something else.

RUN is the folder of a run, or the word ready-made: the breeds that come with edgetl. Its gradients say which pixels
to change. What is saved are PNG files, read back and asked about as the network is deployed: model.onnx and
model.int8.onnx beside the run, on each runtime. Budgets are whole steps of 1/255.

With --data in place of IMAGE, the photographs of a data set are attacked with one budget after the other: how much
accuracy is left, float and int8."""
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("image", required=False, type=click.Path(path_type=Path))
@click.option(
    "--target",
    metavar="NAME",
    shell_complete=completion.classes,
    help="The class it is to become. Default: any but the present answer.",
)
@click.option("--budget", type=int, metavar="N", help="For IMAGE. Default: 4; 256 with --norm l2.")
@click.option(
    "--norm",
    type=click.Choice(["linf", "l2"]),
    default="linf",
    show_default=True,
    help="What the budget bounds: the change of each value, or the length of the whole change.",
)
@click.option(
    "--method",
    type=click.Choice(["fgsm", "pgd"]),
    default="pgd",
    show_default=True,
    help="One step along the gradient's signs, or several.",
)
@click.option("--steps", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Of pgd.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Where pgd starts.")
@click.option(
    "--transfer",
    "others",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="RUN|ARTIFACT",
    help="Ask this network too; can be given again.",
)
@click.option(
    "--data", metavar="DATA", shell_complete=completion.data_sets, help="Attack the photographs of a data set."
)
@click.option("--split", default="test", show_default=True, help="The split of DATA.")
@click.option(
    "--limit",
    type=click.IntRange(0),
    default=LIMIT,
    show_default=True,
    help="Photographs of DATA at most, each class in turn; 0 for all.",
)
@click.option(
    "--budgets",
    callback=_budgets,
    metavar="N,...",
    help="For DATA. Default: 0,1,2,4,8; 32 times these in l2.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Default: explain/attack-1, -2, ...")
@output_options
def command(
    run: Path,
    image: Path | None,
    target: str | None,
    budget: int | None,
    norm: str,
    method: str,
    steps: int,
    seed: int,
    others: tuple[Path, ...],
    data: str | None,
    split: str,
    limit: int,
    budgets: tuple[int, ...] | None,
    out: Path | None,
    console: Console,
) -> None:
    swapped.refuse_swapped("edgetl explain attack", run, [] if image is None else [str(image)], place="RUN")
    if (image is None) == (data is None):
        message = "there is nothing to attack" if data is None else "an image and --data cannot both be attacked"
        raise BadInputError(message, "Name an image, or a data set with --data.")
    if (budget if data else budgets) is not None:
        raise BadInputError(
            "--budget is for an image, and --budgets for --data", "Name one budget, or several with --data."
        )
    from toolchain.explain.classes import check_run

    own = str(run) == READY_MADE and not run.exists()
    check_run(None if own else run)
    if image is not None:
        from toolchain.images.preprocess import read

        read(image)  # what cannot be read is told before networks are loaded
    from toolchain.explain.attack import AttackConfig
    from toolchain.explain.attack.answering import other_answers, own_answers
    from toolchain.explain.classes import class_index
    from toolchain.explain.torch_model import open_run, ready_made

    subject = ready_made() if own else open_run(run)
    aim = None if target is None else class_index(subject.labels, target)
    manner = AttackConfig(method=method, norm=norm, steps=steps, seed=seed)  # type: ignore[arg-type]
    one = (DEFAULT_BUDGETS[norm] if budget is None else budget,)
    chosen = one if image else budgets or DEFAULT_CURVES[norm]
    _check(subject, manner, chosen, least=1 if image else 0)

    def answering() -> list[Answering]:
        found = own_answers(None if own else run, subject, console)
        return found + [one for path in others for one in other_answers(path, console)]

    if image is not None:
        _one(subject, image, aim, chosen[0], manner, answering(), out, console)
    else:
        assert data is not None
        _many(subject, None if own else run, data, split, limit, aim, chosen, manner, answering, out, console)


def _check(subject: TorchModel, manner: AttackConfig, budgets: Sequence[int], least: int) -> None:
    from toolchain.explain.attack import largest_budget

    most = largest_budget(manner.norm, subject.preprocess.height, subject.preprocess.width)
    for budget in budgets:
        if not least <= budget <= most:
            raise BadInputError(
                f"{budget} is no budget: in {manner.norm} they are whole steps of 1/255 from {least} to {most}",
                "Try 4 in linf, 256 in l2.",
            )


def _one(
    subject: TorchModel,
    image: Path,
    target: int | None,
    budget: int,
    manner: AttackConfig,
    answering: Sequence[Answering],
    out: Path | None,
    console: Console,
) -> None:
    from toolchain.explain import gallery
    from toolchain.explain.attack.one import attack_photograph
    from toolchain.explain.attack.page import one_page, sentence, verdict_row
    from toolchain.explain.attack.tables import one_document

    start = time.perf_counter()
    with gallery.new_folder(out, "attack") as (folder, place):
        done = attack_photograph(subject, image, budget, folder, answering, target=target, manner=manner)
        seconds = time.perf_counter() - start
        written = gallery.write(folder, one_page(subject, done, _how(subject, manner)))
    _tell_no_page(console)
    document = {
        "subject": subject.name,
        "model": subject.model,
        "image": str(image),
        "settings": _settings(manner),
        **one_document(subject.labels, done),
        "folder": str(place),
        "files": written,
        "seconds": round(seconds, 2),
    }
    table = _table(("network", "before", "after", "turned", "at the smallest budget"), 5)
    for verdict in done.verdicts:
        table.add(*verdict_row(verdict))
    smallest = f"smallest budget: {done.least.budget}/255" if done.least else "no budget turned it"
    lines = (strong(sentence(done)), smallest, f"{place}: {', '.join(written)}")
    console.result(document, table, *lines)


def _many(
    subject: TorchModel,
    run: Path | None,
    data: str,
    split: str,
    limit: int,
    target: int | None,
    budgets: Sequence[int],
    manner: AttackConfig,
    answering: Any,
    out: Path | None,
    console: Console,
) -> None:
    from toolchain.datasets.catalogue import open_dataset
    from toolchain.datasets.index import describe_left_out
    from toolchain.explain import gallery
    from toolchain.explain.attack.many import AttackRow, Example, attack_many, points
    from toolchain.explain.attack.page import POINT_COLUMNS, many_page, point_row
    from toolchain.explain.attack.sampling import sample
    from toolchain.explain.attack.tables import as_csv, conclusion
    from toolchain.system import files

    start = time.perf_counter()
    wanted = None if target is None else subject.labels[target]
    rows: list[AttackRow] = []
    examples: list[Example] = []

    def keep(more: Sequence[AttackRow], pictures: Sequence[Example]) -> None:
        rows.extend(more)
        if len(examples) < EXAMPLES * len(budgets):
            examples.extend(one for one in pictures if one.budget)

    interrupted = False
    with gallery.new_folder(out, "attack") as (folder, place):
        dataset = open_dataset(data, reporter=console)
        for line in describe_left_out(one for one in dataset.left_out if one.lost):
            console.warn(f"{data}: {line}")
        photographs = sample(dataset, split, limit, subject, run, target, console)
        asked = answering()
        try:
            attack_many(
                subject, asked, photographs, budgets, target=target, manner=manner, keep=keep, reporter=console
            )
        except KeyboardInterrupt:
            if not rows:
                raise
            interrupted = True
        if not rows:
            raise BadInputError(f"none of {len(photographs)} photographs can be read", "Try `edgetl data check`.")
        curve = points(rows, asked, wanted)
        found = conclusion(curve, wanted, interrupted)
        how = _how(subject, manner, data=data, split=split)
        page = many_page(subject.name, asked, curve, examples, found, wanted, manner.norm, how)
        document = {
            "subject": subject.name,
            "model": subject.model,
            "data": {"name": dataset.name, "split": split, "split_sha256": dataset.split_sha256(split)},
            "settings": {**_settings(manner), "budgets": budgets, "limit": limit},
            "target": wanted,
            "complete": not interrupted,
            "photographs": len({row.photograph for row in rows}),
            "curve": curve,
            "folder": str(place),
            "seconds": round(time.perf_counter() - start, 1),
        }
        tables = {
            "curve.csv": as_csv(curve),
            "photographs.csv": as_csv(rows),
            "attack.json": files.to_json(document),
        }
        for name, content in tables.items():
            files.write_bytes(folder / name, content)
        written = [*gallery.write(folder, page), *tables]
    _tell_no_page(console)
    table = _table(POINT_COLUMNS, 1)
    for point in curve:
        table.add(*point_row(point))
    lines = (strong(found), f"{place}: {', '.join(written)}")
    if not (interrupted and console.json):  # --json prints one document; then it is that of the interruption
        console.result({**document, "files": written}, table, *lines)
    if interrupted:
        raise KeyboardInterrupt


EXAMPLES = 3
"""Chunks of which a picture is shown."""


def _settings(manner: AttackConfig) -> dict[str, Any]:
    used = {"method": manner.method, "norm": manner.norm}
    return {**used, "steps": manner.steps, "seed": manner.seed} if manner.method == "pgd" else used


def _how(subject: TorchModel, manner: AttackConfig, **more: Any) -> dict[str, Any]:
    command = shlex.join(["edgetl", *sys.argv[1:]])
    return {"command": command, "model": subject.model, **more, **_settings(manner)}


def _table(columns: Sequence[str], words: int) -> Table:
    """A table whose first `words` columns hold words; the first two always stay, the others from left to right."""
    return Table(*(Column(name, max(0, at - 1), at >= words) for at, name in enumerate(columns)))


def _tell_no_page(console: Console) -> None:
    from toolchain.explain.gallery import has_page

    if not has_page():
        console.warn("no page was written: pip install 'edgetl[report]'")
