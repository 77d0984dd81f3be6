"""`edgetl explain features`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import swapped
from toolchain.cli.console import Console, output_options
from toolchain.cli.explain import command_line, tell_no_page
from toolchain.cli.model_argument import (
    MODEL_OR_PUBLISHED,
    READY_MADE,
    ModelArgument,
    ModelName,
    PublishedModelArgument,
)
from toolchain.cli.options import complete_models, complete_weights
from toolchain.cli.tables import Column, Table
from toolchain.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from toolchain.explain.features import FeatureLayer, LayerMaps
    from toolchain.images.preprocess import Preprocess

NOISE_PIXELS = 224


@click.command(
    help=f"""Show how the layers of a network respond to a picture.

{MODEL_OR_PUBLISHED} The default is ready-made.

The strongest feature maps of some layers are written as pictures, from early layers to late ones."""
)
@click.argument("words", nargs=-1, metavar="[MODEL] IMAGE", type=PublishedModelArgument())
@click.option("--run", type=ModelArgument(), metavar="MODEL", hidden=True)
@click.option("--model", metavar="NAME", hidden=True, shell_complete=complete_models)
@click.option(
    "--weights",
    metavar="FILE|imagenet|ready-made|none",
    shell_complete=complete_weights,
    help="For a published network: a state dict file, the best published weights (default), those of the "
    "ready-made network, or random ones.",
)
@click.option(
    "--layer",
    "layers",
    metavar="NAME",
    multiple=True,
    help="A layer to show; can be given again. Default: the last layer of each map size.",
)
@click.option(
    "--top",
    type=click.IntRange(1, 4096),
    default=12,
    show_default=True,
    metavar="N",
    help="Maps to show for each layer.",
)
@click.option("--list-layers", is_flag=True, help="List the layers and exit. Needs no IMAGE.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Default: explain/features-1, -2, ..."
)
@output_options
def command(
    words: tuple[ModelName, ...],
    run: ModelName | None,
    model: str | None,
    weights: str | None,
    layers: tuple[str, ...],
    top: int,
    list_layers: bool,
    out: Path | None,
    console: Console,
) -> None:
    named, image = _told_apart(words, run, model, list_layers)
    if weights is not None and named.kind != "published":
        raise BadInputError(
            "--weights are for a published network", "Name the network that they are of, such as vgg16."
        )
    import numpy as np

    from toolchain.images.preprocess import read

    folder_of_run = None if named.kind == "published" else named.run_folder()
    photograph = np.zeros((NOISE_PIXELS, NOISE_PIXELS, 3), np.uint8) if image is None else read(image)
    from toolchain.explain import gallery
    from toolchain.explain.features import entries, features, features_page, layers_of
    from toolchain.explain.torch_model import open_model

    if named.kind == "published":
        name, network, preprocess = _published(named.word, weights or "imagenet", console)
    else:
        torch_model = open_model(folder_of_run)
        name, network, preprocess = torch_model.name, torch_model.network, torch_model.preprocess
    picture = preprocess(photograph)
    if list_layers:
        found = layers_of(network, picture)
        console.result({"network": name, "layers": found}, _layer_table(found))
        return
    with gallery.new_folder(out, "features") as (folder, target):
        maps = features(network, picture, layers, top)
        how = {"command": command_line(), "image": str(image), "network": name}
        written = gallery.write(folder, features_page(name, picture, maps, how))
    tell_no_page(console)
    document = {
        "network": name,
        "image": str(image),
        "folder": str(target),
        "files": written,
        "layers": entries(maps),
    }
    console.result(document, _table(maps), f"{target}: {', '.join(written)}")


def _told_apart(
    words: tuple[ModelName, ...], run: ModelName | None, model: str | None, list_layers: bool
) -> tuple[ModelName, Path | None]:
    """The network and the picture that a command line names. `run` and `model` are older ways to name the network.

    Raises BadInputError if there are too many or too few words, or if they are in the wrong order.
    """
    older = [name for name in (run, None if model is None else ModelName(model, "published")) if name is not None]
    models, last = [*older, *words[:-1]], words[-1:]
    if list_layers and not models and swapped.kind_of(*last or ("",)) != "photograph":
        models, last = [*last], ()
    if len(models) > 1:
        raise BadInputError(
            f"{' and '.join(map(str, models))} are {len(models)} networks",
            "Name one: edgetl explain features MODEL IMAGE",
        )
    named = models[0] if models else ModelName(READY_MADE, "ready-made")
    if not last:
        if list_layers:
            return named, None
        raise BadInputError("there is no IMAGE to look at", "Name a photograph, or ask for --list-layers.")
    (image,) = last
    if models:
        swapped.refuse_swapped("edgetl explain features", named, [str(image)])
    if image.kind in {"ready-made", "published"} or swapped.kind_of(image) in swapped.MODEL:
        hint = f"edgetl explain features {shlex.quote(str(image))} IMAGE"
        raise BadInputError(f"{image} is a network, and there is no IMAGE to look at", hint)
    swapped.refuse(image, "IMAGE", "a photograph", {"video": "Name a picture of it."})
    return named, Path(image)


def _published(name: str, weights: str, console: Console) -> tuple[str, nn.Module, Preprocess]:
    """The name to show, the network in evaluation mode, and its preprocessing."""
    import torch

    from toolchain.backbones import preprocess_of
    from toolchain.backbones.networks import build
    from toolchain.backbones.weights import load_pretrained

    torch.manual_seed(0)  # of random weights
    network = build(name, 1)
    pretrained = load_pretrained(network, name, weights)
    source = pretrained.source
    for remark in pretrained.remarks():
        console.say(remark)
    if source == "none":
        console.warn("the weights are random: so are the features")
    return f"{name} ({source})", network.eval().requires_grad_(False), preprocess_of(name)


def _table(found: Sequence[LayerMaps]) -> Table:
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
