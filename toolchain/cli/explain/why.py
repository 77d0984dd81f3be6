"""`edgetl explain why`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from toolchain.cli import swapped
from toolchain.cli.console import Console, output_options
from toolchain.cli.explain import command_line, tell_no_page
from toolchain.cli.explain.published import named as told_apart
from toolchain.cli.explain.published import open_named, published_options
from toolchain.cli.model_argument import MODEL_OR_FILE, ModelName, PublishedModelArgument, class_index
from toolchain.cli.options import complete_classes, complete_devices
from toolchain.cli.tables import Column, Table
from toolchain.errors import BadInputError, UnreadableImageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from toolchain.explain.why import Explained, Why


MAX_IMAGES = 500
"""All are kept until the page is written: half a megabyte for each, and again that much in the page."""


@click.command(
    help=f"""Show where a network looked when it named a photograph.

{MODEL_OR_FILE} A published network, such as mobilenet_v2, may stand in its place, or be named by --model.

There are two methods: Grad-CAM uses the network's gradients, and occlusion covers parts of the picture. A model
file has no gradients; occlusion shows where it looks as it is deployed, in int8 or on OpenVINO.

IMAGE may be a folder or a pattern: 'photos/*.jpg'. At most {MAX_IMAGES} photographs are shown."""
)
@click.argument("model", type=PublishedModelArgument())
@click.argument("images", nargs=-1, metavar="IMAGE|FOLDER|GLOB...")
@published_options
@click.option(
    "--class",
    "asked",
    metavar="NAME",
    shell_complete=complete_classes,
    help="Show what speaks for this class. Default: the network's answer.",
)
@click.option(
    "--method",
    "methods",
    type=click.Choice(["grad-cam", "occlusion"]),
    multiple=True,
    help="Default: all that are possible.",
)
@click.option(
    "--device",
    metavar="DEVICE",
    shell_complete=complete_devices,
    help="Where a model file runs. Default: ort:cpu; openvino:CPU for a .xml.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Default: explain/why-1, -2, ...")
@output_options
def command(
    model: ModelName,
    images: tuple[str, ...],
    published: str | None,
    weights: str | None,
    asked: str | None,
    methods: tuple[str, ...],
    device: str | None,
    out: Path | None,
    console: Console,
) -> None:
    found, images = told_apart(model, published, weights, *images)
    assert found is not None
    model = found
    if not images:
        raise BadInputError("Missing argument 'IMAGE|FOLDER|GLOB...'", f"edgetl explain why {model} IMAGE")
    swapped.refuse_swapped("edgetl explain why", model, images)
    from toolchain.datasets.index import describe_left_out
    from toolchain.datasets.naming import photographs_named
    from toolchain.explain import gallery
    from toolchain.explain.why import why
    from toolchain.explain.why.report import endings, entry, write
    from toolchain.images.preprocess import read

    named = photographs_named(images)
    skipped = dict(named.nothing)
    if not named.paths:
        _raise_nothing(skipped)
    if len(named.paths) > MAX_IMAGES:
        raise BadInputError(
            f"{len(named.paths)} photographs are more than the {MAX_IMAGES} that one page can show", "Name fewer."
        )
    network = _open(model, weights, device, methods)
    if methods:
        network = replace(network, methods={name: network.methods[name] for name in dict.fromkeys(methods)})
    index = None if asked is None else class_index(network.labels, asked)
    answers: dict[str, Why] = {}
    paths: dict[str, str] = {}
    with gallery.new_folder(out, "why") as (folder, target):
        with console.task("looking", len(named.paths)) as task:
            names = gallery.stems([path.stem for path in named.paths], endings(network.methods))
            for path, stem in zip(named.paths, names, strict=True):
                try:
                    answers[stem] = why(network, read(path), index)
                    paths[stem] = str(path)
                except UnreadableImageError as error:
                    skipped[str(path)] = error.message.removeprefix(f"{path}: ")
                task.advance()
        if not answers:
            _raise_nothing(skipped)
        how = {"command": command_line(), "model": str(model), "methods": list(network.methods)}
        written = write(folder, str(model), answers, how)
    for image, reason in skipped.items():
        console.warn(f"skipped: {image}: {reason}")
    for line in describe_left_out(named.left_out):
        console.warn(line)
    skipped |= {one.name: one.reason for one in named.left_out}
    tell_no_page(console)
    document = {
        "model": str(model),
        "methods": list(network.methods),
        "folder": str(target),
        "files": written,
        "images": [entry(paths[stem], stem, answer) for stem, answer in answers.items()],
        "skipped": [{"image": image, "reason": reason} for image, reason in skipped.items()],
    }
    console.result(document, _table(paths, answers), f"{target}: {len(written)} files")


def _raise_nothing(skipped: Mapping[str, str]) -> NoReturn:
    word, reason = next(iter(skipped.items()))
    raise BadInputError(f"{word}: {reason}", "Name photographs: JPEG, PNG, WebP, BMP, TIFF.")


def _open(model: ModelName, weights: str | None, device: str | None, methods: Sequence[str]) -> Explained:
    from toolchain.explain.why import explained
    from toolchain.runs import ADOPTED_FILE

    path = None if model.kind == "published" else model.path()
    if path is not None and (path / ADOPTED_FILE).is_file():
        path = model.artifact_file()  # there is nothing else to ask
    if path is None or path.is_dir():
        if device is not None:
            raise BadInputError(
                "--device is for a model file; a run is asked by PyTorch",
                f"Name the file, such as {(path or Path('RUN')) / 'model.onnx'}.",
            )
        torch_model = open_named(model, weights)
        from toolchain.explain.why import grad_cam

        return grad_cam.explained(torch_model)
    from toolchain.classifier import load

    if "grad-cam" in methods:
        raise BadInputError(
            f"{model} is a deployed file, which has no gradients for grad-cam",
            "Use --method occlusion, or name the run folder that it was exported from.",
        )
    return explained(load(path, device))


def _table(paths: Mapping[str, str], answers: Mapping[str, Why]) -> Table:
    columns = ("probability", "hottest fifth covered", "only that left", "half of the heat in")
    table = Table(
        Column("photograph"), Column("named"), Column("asked about", 5), Column("method"),
        *(Column(name, rank, right=True) for rank, name in enumerate(columns, 1)),
    )  # fmt: skip
    for stem, answer in answers.items():
        for look in answer.saliency:
            table.add(
                paths[stem],
                answer.label,
                answer.asked,
                look.method,
                *(f"{value:.3f}" for value in (answer.asked_probability, look.without_hottest, look.only_hottest)),
                f"{100 * look.area_of_half:.1f} %",
            )
    return table
