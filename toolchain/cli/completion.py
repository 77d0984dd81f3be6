"""What the shell may complete: networks, data sets, devices, weights, and the classes of the run on the line."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import click
from click.shell_completion import CompletionItem

from toolchain.cli.model_argument import READY_MADE, ModelName, published_names
from toolchain.errors import EdgetlError


def models(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _fitting(published_names(), incomplete)


def data_sets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names, and folders as the shell has them."""
    from toolchain.datasets.catalogue import DATASETS

    # In this order: for a folder or a file, bash forgets the words that came before.
    return [CompletionItem(incomplete, type="dir"), *_fitting(DATASETS.names(), incomplete)]


def weights(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    names = ("imagenet", "imagenet-v1", "ready-made", "none")
    return [CompletionItem(incomplete, type="file"), *_fitting(names, incomplete)]


def devices(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from toolchain.runtimes.devices import known_devices

    return _fitting(known_devices(), incomplete)


def classes(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Those of the network on the line, or of the ready-made one."""
    # Before a value is typed, click has not told arguments apart yet.
    words = [context.params.get("model"), *context.args]
    named = next((str(word) for word in words if word), READY_MADE)
    with suppress(EdgetlError):
        return _fitting(ModelName.of(named).labels(), incomplete)
    return []


def _fitting(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.lower().startswith(incomplete.lower())]
