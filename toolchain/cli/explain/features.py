"""`edgetl explain features`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import completion, swapped
from toolchain.cli.console import Console, output_options
from toolchain.cli.tables import Column, Table
from toolchain.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from toolchain.explain.features import FeatureLayer, Maps
    from toolchain.images.preprocess import Preprocess

NOISE_PIXELS = 224


@click.command(
    help="""Show what the layers of a network make of a picture.

The strongest maps of some layers, from early to late, as pictures. The network is the one that comes with edgetl,
that of a run (--run), or one of torchvision's as it was published (--model)."""
)
@click.argument("image", required=False, type=click.Path(path_type=Path))
@click.option("--run", type=click.Path(path_type=Path), metavar="RUN", help="The network of a run.")
@click.option(
    "--model",
    metavar="NAME",
    shell_complete=completion.models,
    help="One of torchvision's: see `edgetl finetune --list-models`.",
)
@click.option(
    "--weights",
    metavar="FILE|imagenet|ready-made|none",
    shell_complete=completion.weights,
    help="For --model: a state dict in torchvision's names, torchvision's download (default), the pets model's, or "
    "random.",
)
@click.option("--layer", "layers", metavar="NAME", multiple=True, help="Default: the last of each size of map.")
@click.option(
    "--top", type=click.IntRange(1, 4096), default=12, show_default=True, metavar="N", help="Maps a layer."
)
@click.option("--list-layers", is_flag=True, help="Show the layers to choose from, and end. Needs no IMAGE.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Default: explain/features-1, -2, ..."
)
@output_options
def command(
    image: Path | None,
    run: Path | None,
    model: str | None,
    weights: str | None,
    layers: tuple[str, ...],
    top: int,
    list_layers: bool,
    out: Path | None,
    console: Console,
) -> None:
    if run is not None and model is not None:
        raise BadInputError("--run and --model are two networks", "Name one of them.")
    if weights is not None and model is None:
        raise BadInputError(
            "--weights are for --model", "Name the network that they are of, such as --model vgg16."
        )
    if image is None and not list_layers:
        raise BadInputError("there is no IMAGE to look at", "Name a photograph, or ask for --list-layers.")
    if image is not None:
        hint = f"edgetl explain features IMAGE --run {shlex.quote(str(image))}"
        hints = {"run": hint, "model": "Name a photograph, and the folder of the run with --run."}
        swapped.refuse(image, "IMAGE", "a photograph", {**hints, "video": "Name a picture of it."})
    import numpy as np

    from toolchain.explain.classes import check_run
    from toolchain.images.preprocess import read

    check_run(run)
    photograph = np.zeros((NOISE_PIXELS, NOISE_PIXELS, 3), np.uint8) if image is None else read(image)
    from toolchain.explain import gallery
    from toolchain.explain.features import features, layers_of, sheet
    from toolchain.explain.pages import features_page

    name, network, preprocess = _open(run, model, weights, console)
    picture = preprocess(photograph)
    if list_layers:
        found = layers_of(network, picture)
        console.result({"network": name, "layers": found}, _layer_table(found))
        return
    with gallery.new_folder(out, "features") as (folder, target):
        maps = features(network, picture, layers, top)
        sheets = [sheet(one) for one in maps]
        how = {"command": shlex.join(["edgetl", *sys.argv[1:]]), "image": str(image), "network": name}
        written = gallery.write(folder, features_page(name, picture, maps, sheets, how))
    if not gallery.has_page():
        console.warn("no page was written: pip install 'edgetl[report]'")
    document = {
        "network": name,
        "image": str(image),
        "folder": str(target),
        "files": written,
        "layers": [
            _entry(one, stem) for one, stem in zip(maps, gallery.stems([m.layer.name for m in maps]), strict=True)
        ],
    }
    console.result(document, _table(maps), f"{target}: {', '.join(written)}")


def _open(
    run: Path | None, model: str | None, weights: str | None, console: Console
) -> tuple[str, nn.Module, Preprocess]:
    """What to call the network, the network in evaluation mode, and its preprocessing."""
    from toolchain.explain.torch_model import open_run, ready_made

    if model is None:
        subject = ready_made() if run is None else open_run(run)
        return subject.name, subject.network, subject.preprocess
    import torch

    from toolchain.backbones import preprocess_of
    from toolchain.backbones.networks import build
    from toolchain.backbones.weights import load_pretrained

    torch.manual_seed(0)  # of random weights
    network = build(model, 1)
    pretrained = load_pretrained(network, model, weights or "imagenet")
    source = pretrained.source
    if pretrained.stripped:
        console.say(f"{source}: names were taken without {pretrained.stripped!r} before them")
    if source == "none":
        console.warn("the weights are random: so are the features")
    return f"{model} ({source})", network.eval().requires_grad_(False), preprocess_of(model)


def _entry(maps: Maps, stem: str) -> dict[str, object]:
    return {
        "layer": maps.layer,
        "file": f"{stem}.png",
        "silent": maps.silent,
        "strongest": [
            {"channel": one.channel, "strength": one.strength, "largest": float(one.values.max())}
            for one in maps.strongest
        ],
    }


def _table(found: Sequence[Maps]) -> Table:
    table = Table(
        Column("layer"), Column("kind", 2), Column("maps", 1), Column("silent", 2, right=True),
        Column("strongest maps", folds=True),
    )  # fmt: skip
    for maps in found:
        layer = maps.layer
        size = f"{layer.channels} of {layer.height} x {layer.width}"
        strongest = ", ".join(str(one.channel) for one in maps.strongest)
        table.add(layer.name, layer.kind, size, str(maps.silent), strongest)
    return table


def _layer_table(found: Sequence[FeatureLayer]) -> Table:
    table = Table(Column("layer"), Column("kind", 1), Column("maps", right=True), Column("size"))
    for layer in found:
        table.add(layer.name, layer.kind, str(layer.channels), f"{layer.height} x {layer.width}")
    return table
