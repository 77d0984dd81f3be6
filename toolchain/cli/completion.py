"""What the shell completes: networks, data sets, devices, weights, and the classes of the network on the line."""

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
    """Names of data sets, and folders."""
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
    """The classes of the network on the line, or of the ready-made one."""
    # As long as the value is missing, click has not yet assigned the arguments.
    words = [context.params.get("model"), *context.args]
    named = next((str(word) for word in words if word), READY_MADE)
    with suppress(EdgetlError):
        return _fitting(ModelName.of(named).labels(), incomplete)
    return []


def _fitting(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.lower().startswith(incomplete.lower())]
