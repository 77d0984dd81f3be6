"""`edgetl explain ideal`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolchain.cli import swapped
from toolchain.cli.console import Console, output_options
from toolchain.cli.explain import command_line, tell_no_page
from toolchain.cli.explain.published import named, open_named, published_options
from toolchain.cli.model_argument import (
    MODEL_WITH_GRADIENTS,
    ModelName,
    PublishedModelArgument,
    class_index,
)
from toolchain.cli.options import Finite, complete_classes, refuse_without
from toolchain.cli.tables import Column, Table
from toolchain.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolchain.explain.ideal import Ideal

SURE = 0.99
HOLDS = 0.5


def _octaves(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        octaves = tuple(float(word) for word in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 0.5,1") from None
    if not all(0.1 <= octave <= 2 for octave in octaves):
        raise click.BadParameter("octaves are shares of the network's input, from 0.1 to 2")
    return octaves


@click.command(
    help=f"""Draw the picture that a network finds most typical of a class.

{MODEL_WITH_GRADIENTS} The default is ready-made.

Noise is changed step by step until the network is sure that it shows the class. This makes visible what the network
recognises the class by."""
)
@click.argument("model", required=False, type=PublishedModelArgument())
@published_options
@click.option(
    "--class",
    "names",
    metavar="NAME",
    multiple=True,
    required=True,
    shell_complete=complete_classes,
    help="The class to draw; can be given again.",
)
@click.option("--steps", type=click.IntRange(1, 100_000), help="Steps of the optimiser. Default: 240.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Another seed gives another picture."
)
@click.option(
    "--parametrisation",
    type=click.Choice(["fourier", "pixels"]),
    help="What the optimiser changes: waves, broad shapes first, or single pixels. Default: fourier.",
)
@click.option(
    "--octaves",
    metavar="SHARE,...",
    callback=_octaves,
    help="Sizes at which the network looks at the picture, as fractions of its input. Default: 0.5,0.72,1.",
)
@click.option(
    "--variation", type=Finite(0), help="Weight of the total variation; more makes a smoother picture. Default: 40."
)
@click.option(
    "--natural",
    type=Finite(0),
    help="Weight of the distance to photographs in BatchNorm's statistics. Default: 15.",
)
@click.option(
    "--window",
    type=Finite(0, 4),
    help="Where the picture fades to grey, in halves of its side; 0, the default: nowhere.",
)
@click.option(
    "--jitter",
    type=Finite(0, 0.5),
    help="How far the picture moves between steps, as a fraction of its side. Default: 0.1.",
)
@click.option("--blur", type=Finite(0, 20), help="Blur, in pixels, for --parametrisation pixels. Default: 0.5.")
@click.option("--gif", is_flag=True, help="Also write how the picture grew out of noise, as an animated GIF.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Default: explain/ideal-1, -2, ...")
@output_options
def command(
    model: ModelName | None,
    published: str | None,
    weights: str | None,
    names: tuple[str, ...],
    gif: bool,
    out: Path | None,
    console: Console,
    **options: Any,
) -> None:
    model, extra = named(model, published, weights)
    if extra:
        raise BadInputError(f"{extra[0]} and --model {model} are two networks", "Name one of them.")
    if model is not None:
        hint = "The picture is drawn. What it sees in one: edgetl explain why MODEL IMAGE"
        swapped.refuse_as_model(model, dict.fromkeys((*swapped.PICTURES, "video"), hint))
    if options["parametrisation"] != "pixels":
        refuse_without("--parametrisation pixels", "blur")
    torch_model = open_named(model, weights)
    from toolchain.explain import gallery
    from toolchain.explain.ideal import IdealSettings, ideals
    from toolchain.explain.ideal.report import entries, ideal_page

    settings = IdealSettings(**{name: value for name, value in options.items() if value is not None})
    indices = [class_index(torch_model.labels, name) for name in names]
    with gallery.new_folder(out, "ideal") as (folder, target):
        found = ideals(torch_model, indices, settings, console)
        how = {"command": command_line(), "model": torch_model.backbone, **asdict(settings)}
        written = gallery.write(folder, ideal_page(torch_model.name, found, how, gif=gif))
    for one in found:
        if one.robustness.probability < SURE or one.robustness.shifted_jpeg90 < HOLDS:
            console.warn(f"{one.label}: the network is not sure of its own picture; more --steps may help")
    tell_no_page(console)
    document = {
        "subject": torch_model.name,
        "model": torch_model.backbone,
        "settings": settings,
        "folder": str(target),
        "files": written,
        "classes": entries(found),
    }
    console.result(document, _table(found), f"{target}: {', '.join(written)}")


def _table(ideals: Sequence[Ideal]) -> Table:
    columns = ("probability", "JPEG 90", "JPEG 75", "moved", "moved, JPEG 90", "moved, JPEG 75")
    table = Table(Column("class"), *(Column(name, rank, right=True) for rank, name in enumerate(columns)))
    for one in ideals:
        table.add(one.label, *(f"{value:.3f}" for value in asdict(one.robustness).values()))
    return table
