"""`edgetl card`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from toolchain.cli import COMMANDS, swapped
from toolchain.cli.console import Console, output_options
from toolchain.cli.model_argument import MODEL_OR_FILE, ModelArgument, ModelName
from toolchain.cli.tables import Column, Table, facts

if TYPE_CHECKING:
    from rich.console import RenderableType

    from toolchain.artifact import Artifact
    from toolchain.artifact.card import Card, QuantizationRecipe


@click.command(
    help=f"""{COMMANDS["card"]}

{MODEL_OR_FILE}

The card holds the class names, what is done
to a photograph, how the network was quantised, what was measured, and where network and data come from."""
)
@click.argument("model", type=ModelArgument())
@output_options
def command(model: ModelName, console: Console) -> None:
    seen = f"edgetl predict MODEL {shlex.quote(str(model))}"
    watched = f"edgetl camera MODEL --source {shlex.quote(str(model))}"
    swapped.refuse_as_model(model, {"photograph": seen, "photographs": seen, "video": watched})
    from toolchain.artifact import read_artifact

    found = read_artifact(model.artifact_file())
    document = {
        "artifact": str(found.path),
        "sha256": found.sha256,
        "format": found.format,
        "size_mb": round(found.size_mb, 3),
        "card": found.card,
    }
    console.result(document, *_tables(found))


def _tables(artifact: Artifact) -> list[RenderableType]:
    card = artifact.card
    return [
        facts(_facts(artifact)),
        "",
        _accuracy(card) if card.accuracy else "accuracy: not measured yet; `edgetl export RUN` measures it",
        "",
        f"{len(card.labels)} labels: {', '.join(card.labels)}",
    ]


def _facts(artifact: Artifact) -> list[tuple[str, str]]:
    card = artifact.card
    source = card.source
    beside = f" and {artifact.path.with_suffix('.bin').name}" if artifact.format == "openvino" else ""
    rows = [
        ("file", f"{artifact.path}{beside}, {artifact.size_mb:.2f} MB"),
        ("sha256", artifact.sha256),
        ("network", f"{source.model}, {card.precision}"),
        ("photograph", _preprocess(card)),
        ("temperature", f"{card.temperature:g}"),
        ("rejects", _reject(card)),
    ]
    if card.recipe:
        settings = ", ".join(f"{name} {_setting(value)}" for name, value in card.recipe.settings.items())
        n = card.recipe.calibration_n
        calibrated = f"calibrated on {n} photographs" if n else ""
        rows.append(
            (card.precision, "; ".join(part for part in (card.recipe.quantiser, settings, calibrated) if part))
        )
        rows += _proven(card.recipe)
    rows.append(("runs on", _runtimes(artifact)))
    rows += [("weights", source.weights), ("data", source.data), ("run", source.run)]
    rows += [("licence" if not index else "", f"{what}: {terms}")
              for index, (what, terms) in enumerate(source.licences.items())]  # fmt: skip
    rows.append(("made by", f"edgetl {card.edgetl_version}"))
    return rows


def _proven(recipe: QuantizationRecipe) -> list[tuple[str, str]]:
    """Where int8 was found faster than float, a row for each machine."""
    machines = {one.name: f"{one.cpu} ({one.name})" for one in recipe.proven} or {"local": recipe.cpu}
    rows: list[tuple[str, str]] = []
    for name, cpu in machines.items():
        speeds = [speed for speed in recipe.speeds if speed.on == name]
        ratios = ", ".join(f"{speed.ratio:.2f}x on {speed.device} ({speed.threads}t)" for speed in speeds)
        if cpu and ratios:
            rows.append(("proven on" if not rows else "", f"{cpu}: {ratios}"))
    return rows


def _setting(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"({', '.join(map(str, value)) or 'none'})" if isinstance(value, list | tuple) else str(value)


def _runtimes(artifact: Artifact) -> str:
    if artifact.card.precision != "float32":
        return ", ".join(artifact.card.runtimes)
    return {"openvino": "OpenVINO", "tflite": "LiteRT"}.get(artifact.format, "every runtime")


def _preprocess(card: Card) -> str:
    spec = card.preprocess
    if card.input == "frame":
        return f"any size, RGB; the graph scales and cuts to {spec.width} x {spec.height}"
    if spec.resize == "squash":
        return f"scaled to {spec.width} x {spec.height} ({spec.interpolation}), RGB"
    scaled = f"shortest edge scaled to {spec.shortest_edge} ({spec.interpolation})"
    return f"{scaled}, centre {spec.width} x {spec.height}, RGB"


def _reject(card: Card) -> str:
    return f"{card.reject.score} below {card.reject.threshold:g}" if card.reject else "nothing"


def _accuracy(card: Card) -> Table:
    table = Table(
        Column("device"), Column("precision"), Column("split"), Column("photographs", 1, right=True),
        Column("top-1", right=True), Column("per-class top-1", 2, right=True), Column("agreement", 1, right=True),
    )  # fmt: skip
    for entry in card.accuracy:
        agreement = "" if entry.agreement is None else f"{entry.agreement:.3f}"
        figures = (str(entry.n), f"{entry.top1:.3f}", f"{entry.per_class_top1:.3f}", agreement)
        table.add(entry.device, entry.precision, entry.split, *figures)
    return table
