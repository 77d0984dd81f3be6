"""`edgetl explain why`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from toolchain.cli import completion, swapped
from toolchain.cli.console import Console, output_options
from toolchain.cli.tables import Column, Table
from toolchain.errors import BadInputError, UnreadableImageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from toolchain.explain.why import Explained, Why

READY_MADE = "ready-made"


@click.command(
    help="""Show where a network looked when it named a photograph.

MODEL is the folder of a run, a model file that `edgetl export` wrote, or the word ready-made: the breeds that come
with edgetl. A run is asked by its gradients (Grad-CAM) and by covering parts of the picture (occlusion); a model
file by covering alone, as it is deployed: int8, OpenVINO. IMAGE may be a folder or a pattern: 'photos/*.jpg'."""
)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, metavar="IMAGE|FOLDER|GLOB...")
@click.option(
    "--class",
    "asked",
    metavar="NAME",
    shell_complete=completion.classes,
    help="What speaks for this class? Default: the one it is named.",
)
@click.option(
    "--method",
    "methods",
    type=click.Choice(["grad-cam", "occlusion"]),
    multiple=True,
    help="Default: all there are.",
)
@click.option(
    "--device",
    metavar="DEVICE",
    shell_complete=completion.devices,
    help="For a model file: ort:cpu, or openvino:CPU for a .xml.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Default: explain/why-1, -2, ...")
@output_options
def command(
    model: Path,
    images: tuple[str, ...],
    asked: str | None,
    methods: tuple[str, ...],
    device: str | None,
    out: Path | None,
    console: Console,
) -> None:
    swapped.refuse_swapped("edgetl explain why", model, images, place="MODEL")
    from toolchain.datasets.index import describe_left_out
    from toolchain.datasets.naming import photographs_named
    from toolchain.explain import gallery
    from toolchain.explain.classes import class_index
    from toolchain.explain.heat import as_sixteen_bits
    from toolchain.explain.pages import why_page
    from toolchain.explain.why import why
    from toolchain.images.preprocess import read
    from toolchain.system import files

    named = photographs_named(images)
    skipped = dict(named.nothing)
    if not named.paths:
        _raise_nothing(skipped)
    network = _only(_open(model, device, methods), methods)
    index = None if asked is None else class_index(network.labels, asked)
    answers: dict[str, Why] = {}
    paths: dict[str, str] = {}
    with gallery.new_folder(out, "why") as (folder, target):
        with console.task("looking", len(named.paths)) as task:
            for path, stem in zip(named.paths, gallery.stems([path.stem for path in named.paths]), strict=True):
                try:
                    answers[stem] = why(network, read(path), index)
                    paths[stem] = str(path)
                except UnreadableImageError as error:
                    skipped[str(path)] = error.message.removeprefix(f"{path}: ")
                task.advance()
        if not answers:
            _raise_nothing(skipped)
        how = {
            "command": shlex.join(["edgetl", *sys.argv[1:]]),
            "model": str(model),
            "methods": list(network.methods),
        }
        written = gallery.write(folder, why_page(str(model), answers, how))
        for stem, answer in answers.items():
            for look in answer.looks:
                name = f"{stem}-{look.method}-heat.png"
                files.write_bytes(folder / name, as_sixteen_bits(look.heat))
                written.append(name)
    for image, reason in skipped.items():
        console.warn(f"skipped: {image}: {reason}")
    for line in describe_left_out(named.left_out):
        console.warn(line)
    skipped |= {one.name: one.reason for one in named.left_out}
    if not gallery.has_page():
        console.warn("no page was written: pip install 'edgetl[report]'")
    document = {
        "model": str(model),
        "methods": list(network.methods),
        "folder": str(target),
        "files": written,
        "images": [_entry(paths[stem], stem, answer) for stem, answer in answers.items()],
        "skipped": [{"image": image, "reason": reason} for image, reason in skipped.items()],
    }
    console.result(document, _table(paths, answers), f"{target}: {len(written)} files")


def _raise_nothing(skipped: Mapping[str, str]) -> NoReturn:
    word, reason = next(iter(skipped.items()))
    raise BadInputError(f"{word}: {reason}", "Name photographs: JPEG, PNG, WebP, BMP, TIFF.")


def _open(model: Path, device: str | None, methods: Sequence[str]) -> Explained:
    from toolchain.explain.why import explained
    from toolchain.runs import RUN_FILE

    is_folder = model.is_dir() or (str(model) == READY_MADE and not model.exists())
    if is_folder and device is None:
        from toolchain.explain.classes import check_run

        check_run(model if model.is_dir() else None)
        from toolchain.explain import grad_cam
        from toolchain.explain.torch_model import open_run, ready_made

        return grad_cam.explained(open_run(model) if model.is_dir() else ready_made())
    if is_folder:
        raise BadInputError(
            "--device is for a model file; a run is asked by PyTorch",
            f"Name the file, such as {model / 'model.onnx'}, not the folder with its {RUN_FILE}.",
        )
    from toolchain.classifier import load

    if "grad-cam" in methods:
        raise BadInputError(
            f"{model} is a deployed file, which has no gradients for grad-cam",
            "Use --method occlusion, or name the run folder that it was exported from.",
        )
    return explained(load(str(model), device))


def _only(network: Explained, methods: Sequence[str]) -> Explained:
    from dataclasses import replace

    if not methods:
        return network
    return replace(network, methods={name: network.methods[name] for name in dict.fromkeys(methods)})


def _entry(path: str, stem: str, answer: Why) -> dict[str, object]:
    return {
        "image": path,
        "file": f"{stem}.png",
        "label": answer.label,
        "probability": answer.probability,
        "class": answer.asked,
        "class_probability": answer.asked_probability,
        "looks": [
            {
                "method": look.method,
                "file": f"{stem}-{look.method}.png",
                "heat": f"{stem}-{look.method}-heat.png",
                "peak": look.peak,
                "area_of_half": look.area_of_half,
                "without_hottest": look.without_hottest,
                "only_hottest": look.only_hottest,
            }
            for look in answer.looks
        ],
    }


def _table(paths: Mapping[str, str], answers: Mapping[str, Why]) -> Table:
    columns = ("probability", "hottest fifth covered", "only that left", "half of the heat in")
    table = Table(
        Column("photograph"), Column("named"), Column("asked about", 5), Column("method"),
        *(Column(name, rank, right=True) for rank, name in enumerate(columns, 1)),
    )  # fmt: skip
    for stem, answer in answers.items():
        for look in answer.looks:
            table.add(
                paths[stem],
                answer.label,
                answer.asked,
                look.method,
                *(f"{value:.3f}" for value in (answer.asked_probability, look.without_hottest, look.only_hottest)),
                f"{100 * look.area_of_half:.1f} %",
            )
    return table
