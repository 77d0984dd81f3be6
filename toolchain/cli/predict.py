"""`edgetl predict`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from toolchain.cli import swapped
from toolchain.cli.console import Console, output_options
from toolchain.cli.model_argument import MODEL_OR_FILE, ModelArgument, ModelName
from toolchain.cli.options import device_option, threads_option
from toolchain.cli.tables import Column, Table
from toolchain.errors import BadInputError, UnreadableImageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolchain.classifier import Prediction

WORTH_TELLING = 0.005
"""Lower probabilities would be printed as 0 %; --json has all."""


@dataclass(frozen=True)
class Skipped:
    image: str
    reason: str


@click.command(
    help=f"""Say what is in photographs.

{MODEL_OR_FILE}

Folders are searched with all below them, and patterns such as 'photos/**/*.jpg' are understood; - is a photograph
on standard input. Files that cannot be read are named and skipped."""
)
@click.argument("model", type=ModelArgument())
@click.argument("images", nargs=-1, required=True, metavar="IMAGE|FOLDER|GLOB...")
@click.option(
    "--top", type=click.IntRange(1), default=5, show_default=True, metavar="K", help="How many classes to name."
)
@device_option
@threads_option
@click.option(
    "--mirror-average",
    is_flag=True,
    help="Average the answer with that to the mirror image: often a little more accurate, in twice the time.",
)
@output_options
def command(
    model: ModelName,
    images: tuple[str, ...],
    top: int,
    device: str | None,
    threads: int | None,
    mirror_average: bool,
    console: Console,
) -> None:
    swapped.refuse_swapped("edgetl predict", model, images)
    from toolchain.classifier import load
    from toolchain.datasets.index import describe_left_out
    from toolchain.datasets.naming import photographs_named
    from toolchain.recommended import advice
    from toolchain.runtimes.machine import artifact_to_run

    advised = None if device else advice(model.path(), threads or 0)
    whole = advised.artifact if advised else artifact_to_run(model.path() or model.artifact_file(), device or "")
    named = photographs_named(images)
    skipped = [Skipped(str(word), reason) for word, reason in named.nothing.items()]
    if not named.paths:
        _raise_nothing(skipped)
    classifier = load(whole, advised.chosen.way if advised else device, threads or 0, mirror_average=mirror_average)
    console.say(whole.on(classifier.runtime.device) + (f". {advised}" if advised else ""))
    predictions: list[tuple[str, Prediction]] = []
    with console.task("naming", len(named.paths)) as task:
        for path, answer in classifier.predict_files(named.paths, top):
            task.advance()
            if isinstance(answer, UnreadableImageError):
                reason = answer.message.removeprefix(f"{path}: ")
                skipped.append(Skipped(str(path), reason))
            else:
                predictions.append((str(path), answer))
    if not predictions:
        _raise_nothing(skipped)
    for skip in skipped:
        console.warn(f"skipped: {skip.image}: {skip.reason}")
    if skipped:
        console.warn(f"{len(skipped)} skipped, {len(predictions)} named")
    for line in describe_left_out(named.left_out):
        console.warn(line)
    document = {
        "artifact": str(whole.path),
        "sha256": whole.sha256,
        "device": classifier.runtime.device,
        "provider_effective": classifier.runtime.provider_effective,
        "mirror_average": mirror_average,
        "predictions": [_entry(image, prediction) for image, prediction in predictions],
        "skipped": [*skipped, *(Skipped(one.name, one.reason) for one in named.left_out)],
    }
    console.result(document, _table(predictions))


def _entry(image: str, prediction: Prediction) -> dict[str, object]:
    return {
        "image": image,
        "label": prediction.label,
        "probability": prediction.probability,
        "rejected": prediction.rejected,
        "answer": prediction.answer,
        "top": [{"label": label, "probability": probability} for label, probability in prediction.top],
    }


def _table(predictions: Sequence[tuple[str, Prediction]]) -> Table:
    from toolchain.classifier import percent

    table = Table(
        Column("image"), Column("label"), Column("probability", right=True), Column("then", 1, folds=True)
    )
    for image, prediction in predictions:
        label = f"not sure ({prediction.label}?)" if prediction.rejected else prediction.label
        others = [f"{name} {percent(share)}" for name, share in prediction.top[1:] if share >= WORTH_TELLING]
        table.add(image, label, percent(prediction.probability), ", ".join(others))
    return table


def _raise_nothing(skipped: Sequence[Skipped]) -> None:
    first = f"{skipped[0].image}: {skipped[0].reason}"
    message = first if len(skipped) == 1 else f"none of {len(skipped)} can be read; the first, {first}"
    raise BadInputError(message, "Name photographs, folders or patterns: JPEG, PNG, WebP, AVIF, BMP, TIFF or GIF.")
