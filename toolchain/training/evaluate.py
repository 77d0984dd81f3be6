"""What a network answers on a split, through the same preprocessing as on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from toolchain.backbones import normalised
from toolchain.datasets import Photograph
from toolchain.preprocess import Preprocess
from toolchain.progress import Reporter
from toolchain.training.batches import batches

BATCH = 32


def labels_of(photos: Sequence[Photograph]) -> NDArray[np.int64]:
    """Class indices of `photos`, int64 [n]."""
    return np.array([photo.label for photo in photos], np.int64)


@torch.inference_mode()
def apply_to(
    photos: Sequence[Photograph],
    function: Callable[[Tensor], Tensor],
    spec: Preprocess,
    device: torch.device,
    reporter: Reporter,
    description: str,
) -> NDArray[np.float32]:
    """Stack `function` of uint8 images [batch, height, width, 3] over `photos`, in their order."""
    results = []
    with reporter.task(description, len(photos)) as task:
        for images, _ in batches(photos, BATCH, lambda image, index: spec(image)):
            results.append(function(images.to(device)).float().cpu().numpy())
            task.advance(len(images))
    return np.concatenate(results)


def logits_of(
    network: nn.Module,
    photos: Sequence[Photograph],
    spec: Preprocess,
    device: torch.device,
    reporter: Reporter,
    description: str,
) -> NDArray[np.float32]:
    """Logits of `network` in float32, [photographs, classes]. Leaves the network in evaluation mode."""
    network.eval()
    return apply_to(photos, lambda images: network(normalised(images)), spec, device, reporter, description)
