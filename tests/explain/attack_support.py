"""A small network to attack, and pictures."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from toolchain.backbones.networks import normalised
from toolchain.drawn.pets import CLASSES, draw
from toolchain.explain.torch_model import TorchModel
from toolchain.images.preprocess import Preprocess

LABELS = ("cat", "dog", "fish", "horse")
SIZE = 64


def small_subject(seed: int = 5) -> TorchModel:
    """A small convolutional network of random weights on 64 pixels, temperature 1.5."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 12, 5, stride=2),
        nn.BatchNorm2d(12, momentum=None),
        nn.ReLU(),
        nn.Conv2d(12, 16, 3, stride=2),
        nn.BatchNorm2d(16, momentum=None),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(256, len(LABELS)),
    )
    nn.init.normal_(network[-1].weight, std=0.3)
    with torch.no_grad():
        network(normalised(torch.tensor(drawn(16))))
    return TorchModel(
        "small", "small", network.eval().requires_grad_(False), LABELS, Preprocess().with_size(SIZE), 1.5
    )


@cache
def drawn(count: int, size: int = SIZE) -> NDArray[np.uint8]:
    """Drawn animals, uint8 [count, size, size, 3]."""
    pictures = np.stack([draw(CLASSES[index % len(CLASSES)], index, size=size) for index in range(count)])
    pictures.flags.writeable = False
    return pictures
