"""`edgetl teach`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from toolchain.cli.camera_values import read_address
from toolchain.cli.console import Console, needs, output_options
from toolchain.cli.options import complete_models, complete_weights, viewer_options
from toolchain.cli.tables import Column, Table
from toolchain.errors import BadInputError, ExitCode

if TYPE_CHECKING:
    from rich.console import RenderableType

    from toolchain.camera.loop import Control
    from toolchain.teach.lesson import State
    from toolchain.teach.script import Watched
    from toolchain.teach.session import Classroom, Surface


@click.command(
    help="""Teach it your own things, before a camera.

Name the things: edgetl teach cup pen plant. Hold each before the camera and record a take of it, and another one
elsewhere, in other light. Show also what is there when none of them is: "nothing of these". Then train: after some
seconds the camera says what it sees. Go on with more takes or another thing at any time.

Photographs, sorted into class folders, and the run are in the folder --out. The same command with that folder goes
on where it was.

In the window, keys 1 to 9 choose a thing, space starts and stops a take, Enter names one more thing, t trains, u
undoes the last take, q or Escape ends."""
)
@click.argument("things", nargs=-1)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("my-things"),
    show_default=True,
    help="Folder of the photographs and the run; one of an earlier lesson goes on.",
)
@click.option(
    "--source",
    default="0",
    show_default=True,
    envvar="EDGETL_SOURCE",
    callback=read_address,
    metavar="0|FILE|URL|FOLDER",
    help="As of `edgetl camera`. Also in the variable EDGETL_SOURCE.",
)
@click.option(
    "--web",
    is_flag=False,
    flag_value="",
    metavar="[HOST:PORT]",
    help="Teach on a page instead of in a window, also from a phone. Default: 127.0.0.1:8765; other addresses need "
    "a token. THINGS go before this option.",
)
@viewer_options()
@click.option(
    "--script",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Do without window and camera what FILE says, in lines: take THING SOURCE, train, watch SOURCE.",
)
@click.option(
    "--model",
    default="mobilenet_v2",
    show_default=True,
    metavar="NAME",
    shell_complete=complete_models,
    help="The network, as of `edgetl finetune`.",
)
@click.option(
    "--weights",
    default="ready-made",
    show_default=True,
    metavar="FILE|imagenet|ready-made",
    shell_complete=complete_weights,
    help="What it knows before: ready-made (of cats and dogs) comes with edgetl; imagenet knows more of other "
    "things.",
)
@output_options
def command(
    things: tuple[str, ...],
    out: Path,
    source: str,
    web: str | None,
    web_token: str | None,
    web_hosts: tuple[str, ...],
    script: Path | None,
    model: str,
    weights: str,
    console: Console,
) -> int:
    needs("torch")
    given = click.get_current_context().get_parameter_source("web_token")
    if web is None and (web_hosts or given == ParameterSource.COMMANDLINE):
        raise BadInputError("--web-token and --web-host are for --web", "Add --web HOST:PORT.")
    if script is not None and web is not None:
        raise BadInputError("--script needs no page", "Leave out --web.")
    from toolchain.backbones import recipe_of
    from toolchain.runs.ready_made import weights_file

    recipe_of(model)
    weights_file(weights, model)
    if weights == "none":
        raise BadInputError("random weights know nothing, and cannot be taught by takes", "Leave --weights out.")
    from toolchain.camera.loop import Control, ended_by_signals
    from toolchain.teach.session import TeachSettings, teach

    settings = TeachSettings(out, things, source, model, weights)
    if script is not None:
        from toolchain.teach.script import read_script, run_script

        done = run_script(settings, read_script(script), console)
        _conclude(console, out, done.state, done.watched)
        return ExitCode.DONE

    def surface(room: Classroom, control: Control) -> Surface:
        if web is None:
            from toolchain.teach.window import TeachWindow

            return TeachWindow(room.lesson, control, console)
        from toolchain.camera.sinks.web import parse_address
        from toolchain.teach.page import TeachPage

        return TeachPage(parse_address(web), room.lesson, token=web_token, hosts=web_hosts, reporter=console)

    control = Control()
    with ended_by_signals(control):
        state = teach(settings, surface, control, console)
    _conclude(console, out, state, ())
    return ExitCode.INTERRUPTED if control.ending == "interrupted" else ExitCode.DONE


def _conclude(console: Console, out: Path, state: State, watched: tuple[Watched, ...]) -> None:
    from toolchain.classifier import percent
    from toolchain.teach.lesson import judged

    table = Table(
        Column("thing"),
        Column("pictures", right=True),
        Column("takes", right=True),
        Column("right", right=True),
        Column("to do", folds=True),
        title=str(out),
    )
    for thing in state.things:
        right = "" if thing.right is None else percent(thing.right)
        table.add(thing.name, str(thing.pictures), str(thing.takes), right, thing.wish)
    lines: list[RenderableType] = []
    for seen in watched:
        said = ", ".join(f"{name or 'not sure'} {count}" for name, count in sorted(seen.answers.items()))
        lines.append(f"{seen.source}: {seen.frames} frames: {said}")
    run = shlex.quote(str(out / "run"))
    if state.learnt:
        lines.append(judged(state.learnt))
        if state.learnt.test is not None:
            lines.append(f"On a take of each thing that never teaches: {percent(state.learnt.test)} right.")
        lines.append(f"Next: edgetl camera {run}")
    document = {"out": str(out), "state": state, "watched": watched}
    console.result(document, table, *lines)
