"""A published network in the place of a run: `--model NAME --weights FILE`, where its classes are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from toolchain.cli.model_argument import ModelName
from toolchain.cli.options import complete_models, complete_weights
from toolchain.errors import BadInputError

if TYPE_CHECKING:
    from toolchain.explain.torch_model import TorchModel

_Command = TypeVar("_Command", bound=Callable[..., Any])


def published_options(command: _Command) -> _Command:
    """Add `--model` and `--weights` to a command, which gets them as `published` and `weights`."""
    command = click.option(
        "--weights",
        metavar="FILE|imagenet|imagenet-v1",
        shell_complete=complete_weights,
        help="For a published network: a state dict file with its head, or the best (default) or first published "
        "weights.",
    )(command)
    return click.option(
        "--model",
        "published",
        metavar="NAME",
        shell_complete=complete_models,
        help="A published network, with ImageNet's classes; no MODEL then.",
    )(command)


def named(
    model: ModelName | None, published: str | None, weights: str | None, *rest: str
) -> tuple[ModelName | None, tuple[str, ...]]:
    """The network and the words after it. Where `--model` names the network, no word does.

    Raises BadInputError for `--weights` of anything but a published network.
    """
    if published is not None:
        rest = rest if model is None else (str(model), *rest)
        model = ModelName(published, "published")
    if weights is not None and (model is None or model.kind != "published"):
        raise BadInputError(
            "--weights are for a published network", "Name the network that they are of: --model mobilenet_v2."
        )
    return model, rest


def open_named(model: ModelName | None, weights: str | None) -> TorchModel:
    """The network with its gradients. Loads torch; a slip is told before."""
    from toolchain.runs.ready_made import weights_file

    if model is not None and model.kind == "published":
        weights_file(weights or "imagenet", model.word)
        from toolchain.explain.torch_model import published_model

        return published_model(model.word, weights or "imagenet")
    run = None if model is None else model.run_folder()
    from toolchain.explain.torch_model import open_model

    return open_model(run)
