"""What the shell may complete: networks, data sets, devices, weights, and the classes of the run on the line."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from toolchain.errors import EdgetlError


def models(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from toolchain.backbones import BACKBONES

    return _fitting((name if name != "timm" else "timm:" for name in BACKBONES.names()), incomplete)


def data_sets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names, and folders as the shell has them."""
    from toolchain.datasets.catalogue import DATASETS

    return [*_fitting(DATASETS.names(), incomplete), CompletionItem(incomplete, type="dir")]


def weights(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [
        *_fitting(("imagenet", "imagenet-v1", "ready-made", "none"), incomplete),
        CompletionItem(incomplete, type="file"),
    ]


def devices(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from toolchain.runtimes.devices import known_devices

    return _fitting(known_devices(), incomplete)


def classes(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Those of the run or model file on the line, or of the ready-made model."""
    # Before a value is typed, click has not told arguments apart yet.
    words = [*(context.params.get(name) for name in ("run", "model", "artifact")), *context.args]
    named = next((Path(str(word)) for word in words if word), None)
    with suppress(EdgetlError):
        return _fitting(_labels(named), incomplete)
    return []


def _labels(named: Path | None) -> tuple[str, ...]:
    from toolchain.artifact import find_artifact, read_artifact
    from toolchain.runs import RUN_FILE, read_run
    from toolchain.runs.ready_made import READY_MADE, ready_made_artifact

    if named is None or (str(named) == READY_MADE and not named.exists()):
        return read_artifact(ready_made_artifact()).card.labels
    if (named / RUN_FILE).is_file():
        return read_run(named).data.classes
    return read_artifact(find_artifact(named)).card.labels


def _fitting(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.lower().startswith(incomplete.lower())]
