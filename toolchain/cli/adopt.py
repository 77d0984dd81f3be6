"""`edgetl adopt`."""

from __future__ import annotations

import shlex
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli.console import Console, needs, output_options
from toolchain.cli.options import complete_models, complete_weights
from toolchain.errors import BadInputError
from toolchain.system import masking

if TYPE_CHECKING:
    from toolchain.runs import Run


@click.command(
    help="""Take a network that edgetl did not train, as it is.

NETWORK is the name of a published network, such as mobilenet_v2 or timm:tf_efficientnet_lite0. It becomes a run
with the classes that it was published with, ImageNet's 1000 as a rule, and a first model.onnx: for predict, camera,
explain and bench at once, and for export on any photographs."""
)
@click.argument("network", shell_complete=complete_models)
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    metavar="FILE|imagenet|imagenet-v1",
    shell_complete=complete_weights,
    help="A state dict file with its head, or the best or first published weights.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Names of the classes, one on each line, where they are not those that it was published with.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Any photographs such as it will see, for `export` to measure and calibrate on. Those in folders called "
    "after classes are labelled.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="RUN", help="Default: runs/NETWORK-N.")
@output_options
def command(
    network: str, weights: str, labels: Path | None, data: Path | None, out: Path | None, console: Console
) -> None:
    _check_name(network)
    needs("torch")
    from toolchain.adopt.labels import read_labels
    from toolchain.runs.ready_made import weights_file

    weights_file(weights, network)
    names = None if labels is None else read_labels(labels)
    if out is not None and out.exists() and not out.is_dir():
        raise BadInputError(f"{out} is there already", "Choose another --out.")
    folder = out or _free_folder(network)
    console.say(f"adopting {network} into {folder}")
    from toolchain.adopt.published import adopt_published

    words = "edgetl " + masking.command(sys.argv[1:])
    run = adopt_published(
        network, folder, weights=weights, labels=names, data=data, command=words, reporter=console
    )
    console.result(run, *_summary(run, folder))


def _check_name(network: str) -> None:
    """Raise BadInputError unless `network` is the name of one."""
    from toolchain.backbones import BACKBONES, unknown

    if network.partition(":")[0] not in BACKBONES:
        raise unknown(network)


def _free_folder(network: str) -> Path:
    stem = network.replace(":", "-").replace("/", "-")
    return next(path for number in count(1) if not (path := Path("runs") / f"{stem}-{number}").exists())


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
