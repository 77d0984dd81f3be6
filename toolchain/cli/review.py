"""`edgetl review`."""

from __future__ import annotations

import shlex
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from toolchain.cli.console import Console, needs, output_options
from toolchain.cli.options import complete_data_sets, features_options, viewer_options
from toolchain.errors import BadInputError

if TYPE_CHECKING:
    from toolchain.review.items import Item
    from toolchain.review.server import ReviewPage
    from toolchain.review.session import Done

PORT = 8766
"""Beside that of `camera --web`, which may go on meanwhile."""


@click.command(
    help="""Sort what a camera collected, or what is suspected, on a page.

FOLDER is one that `camera --collect` fills: what the network was least sure of comes first, and goes into class
folders below --into DATA. Or it is a data set: then those photographs are shown whose name is probably wrong (as
`data suspects` lists them), to be moved into another class, or kept.

Pictures that look alike are shown as one. Each decision is recorded and done at once; `data restore` undoes all.
""",
)
@click.argument("folder", shell_complete=complete_data_sets)
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    help="The data set that collected pictures go to, a folder of class folders; it may be new.",
)
@features_options
@click.option(
    "--web",
    default=f"127.0.0.1:{PORT}",
    show_default=True,
    metavar="HOST:PORT",
    help="Where the page is served; addresses that other machines reach need a token.",
)
@viewer_options()
@output_options
def command(
    folder: str,
    into: Path | None,
    model: str,
    weights: str,
    web: str,
    web_token: str | None,
    web_hosts: tuple[str, ...],
    console: Console,
) -> None:
    from toolchain.camera.sinks.web import parse_address
    from toolchain.datasets import journal
    from toolchain.datasets.catalogue import list_data
    from toolchain.review import items as reviewed
    from toolchain.review.server import ReviewPage
    from toolchain.review.session import Review, placed
    from toolchain.system import claims

    address = parse_address(web, PORT)
    if not folder:  # a variable of the shell that is not set
        raise BadInputError("FOLDER is an empty word", "Name a folder of collected pictures, or a data set.")
    root = Path(folder).resolve()
    is_collected = reviewed.is_collected(root)
    _check(folder, into, is_collected)
    if not is_collected:
        if root.is_dir() and not any(one.is_dir() for one in root.iterdir()):
            raise BadInputError(
                f"{folder} holds no pictures that a camera has collected, and no folders of classes",
                "Name the folder of `edgetl camera --collect`, or a data set.",
            )
        needs("torch")
        root = list_data(folder).root.resolve()
    with ExitStack() as stack:
        stack.enter_context(claims.writing(root, "reviewing it", "End that review first."))
        finished, left = journal.finish(root, into if is_collected else root)
        if finished:
            several = "1 picture" if finished == 1 else f"{finished} pictures"
            console.say(f"{several} of an interrupted review moved to where they were to go")
        if left:
            first = f"{left[0].name} to {left[0].now}"
            console.warn(
                f"an interrupted review was to move {len(left)} more, {first}, where this one moves nothing to"
            )
        shown = reviewed.collected(root, console) if is_collected else _suspects(folder, model, weights, console)
        target = into if is_collected else root
        if not is_collected and not all(map(placed, shown)):
            console.say("not all photographs lie in folders called as their classes: they can be kept or set aside")
            target = None
        review = stack.enter_context(closing(Review(root, shown, target, console)))
        if review.left:
            _serve(ReviewPage(review, address, token=web_token, hosts=web_hosts, reporter=console), console)
        done = review.done()
    console.result(done, *_lines(done, folder, target))


def _check(folder: str, into: Path | None, is_collected: bool) -> None:
    given = click.get_current_context().get_parameter_source
    for name in ("model", "weights") if is_collected else ():
        if given(name) == ParameterSource.COMMANDLINE:
            raise BadInputError(
                f"--{name} is for data sets, and {folder} holds collected pictures", "Leave it out."
            )
    if into is not None and not is_collected:
        raise BadInputError(
            f"--into is for pictures that a camera collected, and {folder} holds none",
            "Leave it out: photographs of a data set move between its own classes.",
        )


def _suspects(data: str, model: str, weights: str, console: Console) -> list[Item]:
    """The photographs of a data set whose name is probably wrong."""
    from toolchain.review.items import Item
    from toolchain.runs.ready_made import weights_file
    from toolchain.training.suspects import find_suspects

    weights_file(weights, model)
    found = find_suspects(data, model, weights, "auto", console).found
    return [
        Item(
            name=one.name,
            sha256="",
            label=one.label,
            probabilities=((one.answer, one.probability), (one.label, one.label_probability)),
            note=f"{one.label_probability:.1%} sure of its name",
        )
        for one in found
    ]


def _serve(page: ReviewPage, console: Console) -> None:
    """Until the person on the page has finished, or Ctrl-C."""
    with page:
        console.say("End with Finish on the page, or Ctrl-C here.")
        try:
            while not page.finished.wait(0.5):
                pass
        except KeyboardInterrupt:
            pass


def _lines(done: Done, folder: str, into: Path | None) -> list[str]:
    moved = ", ".join(f"{label} {count}" for label, count in done.moved.items())
    total = sum(done.moved.values())
    lines = [
        f"{total} moved{f' into {into} ({moved})' if moved else ''}, {done.kept} kept, {done.set_aside} set aside, "
        f"{done.left} left in {folder}"
    ]
    if done.record:
        lines.append(f"to undo this: edgetl data restore {shlex.quote(done.record)}")
    if total and into:
        lines.append(f"Next: edgetl finetune {shlex.quote(str(into))} --from RUN")
    return lines
