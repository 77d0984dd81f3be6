"""Networks as they were published, with the head that their weights bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from toolchain.backbones import IMAGENET, Published, find
from toolchain.backbones.networks import build, head_of
from toolchain.backbones.weights import Pretrained, load_pretrained
from toolchain.errors import BadInputError


@dataclass(frozen=True)
class PublishedNetwork:
    """A network in evaluation mode, float32, with its own head; where its weights are from, and what it answers."""

    network: nn.Module
    pretrained: Pretrained
    told: Published


def open_published(name: str, weights: str = IMAGENET, labels: Sequence[str] | None = None) -> PublishedNetwork:
    """The network `name` with `weights` (see `load_pretrained`) and the head in them.

    `labels` name the classes of the head where they are not those that its library knows. Raises as `find` and
    `load_pretrained`; BadInputError where the weights bring no head that fits, or one of another number of classes.
    """
    backbone = find(name)
    backbone = backbone.whole or backbone
    told = backbone.published(weights) if backbone.published else None
    if told is None and labels is None:
        raise BadInputError(
            f"edgetl does not know {name} with the head that it was published with",
            f"Put a new one on: edgetl finetune PHOTOS --model {name}. If its weights bring one linear layer, name "
            "their classes with --labels FILE.",
        )
    if labels is not None:
        told = Published(tuple(labels), "other", told.preprocess if told else backbone.preprocess)
    assert told is not None
    # Random weights are drawn first; a program's own sequence of random numbers does not change.
    with torch.random.fork_rng(devices=[]):
        network = build(backbone.name, len(told.labels))
    pretrained = load_pretrained(network, backbone.name, weights)
    if pretrained.head is None:
        raise BadInputError(
            f"the weights {pretrained.source} bring no head that fits {name}",
            f"Put a new one on: edgetl finetune PHOTOS --model {name}. "
            f"See its layers: edgetl explain features {name} IMAGE.",
        )
    weight, bias = pretrained.head
    if len(weight) != len(told.labels):
        hint = "Name them with --labels FILE, one on each line, in the order of the network's outputs."
        raise BadInputError(
            f"the head in {pretrained.source} has {len(weight)} classes, and there are {len(told.labels)} names",
            hint,
        )
    head = head_of(network)
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    return PublishedNetwork(network.eval().requires_grad_(False), pretrained, told)
