"""`edgetl adopt`."""

from __future__ import annotations

import shlex
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import swapped
from toolchain.cli.console import Console, needs, output_options
from toolchain.cli.options import complete_models, complete_weights
from toolchain.cli.tables import Column, Table
from toolchain.errors import BadInputError
from toolchain.system import masking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from toolchain.adopt.foreign import Adopted
    from toolchain.runs import Run


@click.command(
    help="""Take a network that edgetl did not train, as it is.

NETWORK is the name of a published network, such as mobilenet_v2 or timm:tf_efficientnet_lite0, or an ONNX file
with somebody's classifier. It becomes a run with a first model.onnx: for predict, camera and bench at once, and for
export on any photographs.

A published network comes with its own classes, ImageNet's 1000 as a rule. Of a file, edgetl finds out what it
tells: layout, size, classes, normalisation, softmax. On labelled photographs it tries what is plausible."""
)
@click.argument("network", shell_complete=complete_models)
@click.option(
    "--weights",
    metavar="FILE|imagenet|imagenet-v1",
    shell_complete=complete_weights,
    help="Of a published network: a state dict file with its head, or the best (imagenet, the default) or first "
    "published weights.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Names of the classes, one on each line, where the network does not bring them.",
)
@click.option(
    "--preprocess",
    metavar="WAY|KEY=VALUE,...",
    help="Of an ONNX file: imagenet, unit (0 to 1), half (-1 to 1), raw (0 to 255) or caffe; and mean=, std=, "
    "colour=, size=, edge=, resize=, interpolation=.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Photographs such as it will see, for `export` to measure and calibrate on. Those in folders called after "
    "classes are labelled, and prove the preprocessing of a file.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="RUN", help="Default: runs/NETWORK-N.")
@output_options
def command(
    network: str,
    weights: str | None,
    labels: Path | None,
    preprocess: str | None,
    data: Path | None,
    out: Path | None,
    console: Console,
) -> None:
    file = _file(network)
    if file is None and preprocess is not None:
        raise BadInputError("--preprocess is for an ONNX file", f"It is known of {network}: leave it out.")
    if file is not None and weights is not None:
        raise BadInputError("--weights are for a published network", f"{network} has its own: leave it out.")
    needs("torch")
    from toolchain.adopt.labels import read_labels

    names = None if labels is None else read_labels(labels)
    if out is not None and out.exists() and not out.is_dir():
        raise BadInputError(f"{out} is there already", "Choose another --out.")
    folder = out or _free_folder(network if file is None else file.stem)
    words = "edgetl " + masking.command(sys.argv[1:])
    if file is None:
        from toolchain.runs.ready_made import weights_file

        weights_file(weights or "imagenet", network)
        console.say(f"adopting {network} into {folder}")
        from toolchain.adopt.published import adopt_published

        run = adopt_published(
            network, folder, weights=weights or "imagenet", labels=names, data=data, command=words, reporter=console
        )
        console.result(run, *_summary(run, folder))
        return
    from toolchain.adopt.normalisation import parse

    told = parse(preprocess)
    console.say(f"adopting {network} into {folder}")
    from toolchain.adopt.foreign import adopt_file

    adopted = adopt_file(file, folder, labels=names, told=told, data=data, command=words, reporter=console)
    tried = [{"preprocess": one.normalisation, "n": len(one.right), "top1": one.top1} for one in adopted.tried]
    document = {"run": adopted.run, "preprocess": adopted.way, "tried": tried}
    console.result(document, *_tried(adopted), *_summary(adopted.run, folder))


def _file(network: str) -> Path | None:
    """The ONNX file that `network` is; None for the name of a published one. Raises BadInputError for all else."""
    from toolchain.backbones import BACKBONES, unknown

    path = Path(network)
    if path.is_file() and path.suffix == ".onnx":
        return path
    if path.is_file() or path.is_dir():
        swapped.refuse(network, "NETWORK", "a name or an ONNX file", {"run": "It is a run already."})
        raise BadInputError(f"{network} is no ONNX file", "Export the network as ONNX: torch.onnx.export, tf2onnx.")
    if path.suffix == ".onnx":
        raise BadInputError(f"{network} does not exist", "Name an ONNX file, or a published network.")
    if network.partition(":")[0] not in BACKBONES:
        raise unknown(network)
    return None


def _free_folder(network: str) -> Path:
    stem = network.replace(":", "-").replace("/", "-")
    return next(path for number in count(1) if not (path := Path("runs") / f"{stem}-{number}").exists())


def _tried(adopted: Adopted) -> Iterator[RenderableType]:
    """What each way of preprocessing got right, and the one that was taken."""
    if adopted.tried:
        table = Table(Column("preprocessing"), Column("top-1", right=True))
        for one in adopted.tried:
            table.add(one.normalisation.name, f"{one.top1:.3f}", bold=one.normalisation == adopted.way)
        yield table
    unproven = "" if adopted.tried else " (not proven: there were no labelled photographs)"
    yield f"Preprocessing: {adopted.way.name}{unproven}"


def _summary(run: Run, folder: Path) -> tuple[str, ...]:
    spec, names, quoted = run.preprocess, run.data.classes, shlex.quote(str(folder))
    data = "" if run.data.path else " --data PHOTOS"
    return (
        f"{run.model.name}: {run.model.parameters / 1e6:.1f} M parameters, {spec.width} x {spec.height} pixels, "
        f"{len(names)} classes: {', '.join(names[:3])}, …",
        f"Weights: {run.model.weights}. Licence: {run.model.weights_licence}",
        f"Run: {folder}",
        f"Next: edgetl predict {quoted} PHOTO, or edgetl camera {quoted}, or edgetl export {quoted} --int8{data}",
    )
