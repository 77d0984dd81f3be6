"""Pooled features of photographs: what the head sees, and all that evaluating a network costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from toolchain.backbones.networks import head_of
from toolchain.datasets import Photograph
from toolchain.images.reader import Reader
from toolchain.system.progress import Reporter
from toolchain.training.batches import batches
from toolchain.training.frozen import BATCH, Extractor, Floats


def labels_of(photos: Sequence[Photograph]) -> NDArray[np.int64]:
    """Class indices of `photos`, int64 [n]."""
    return np.array([photo.label for photo in photos], np.int64)


def features_of(
    photos: Sequence[Photograph], extract: Extractor, decoded: Reader, reporter: Reporter, description: str
) -> Floats:
    """Features of `photos`, in their order: float32 [photographs, width]."""

    def inputs() -> Iterator[NDArray[np.uint8]]:
        groups = [range(start, min(start + BATCH, len(photos))) for start in range(0, len(photos), BATCH)]
        for images in batches(groups, lambda index: decoded.input(photos[index])):
            yield images.numpy()
            task.advance(len(images))

    with reporter.task(description, len(photos)) as task:
        return extract(inputs())


def logits_of(network: nn.Module, features: Floats) -> Floats:
    """What the head makes of pooled features [n, width]: float32 [n, classes]."""
    head = head_of(network)
    weight, bias = head.weight.detach().cpu().numpy(), head.bias.detach().cpu().numpy()
    return np.asarray(features @ weight.T + bias, np.float32)
