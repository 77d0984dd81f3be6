"""Networks that tests of explanations ask."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from toolchain.explain.torch_model import TorchModel
from toolchain.images.preprocess import Preprocess

SIDE = 64


class Spot(nn.Module):
    """A network whose classes are known: `left` answers to red in the left half of the picture, `right` to red in
    the right half, `blue` to blue anywhere. BatchNorm expects pictures of mean 0 and variance 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 4, stride=4, bias=False), nn.ReLU())
        weight = torch.zeros(3, 3, 4, 4)
        for channel in range(3):
            weight[channel, channel] = 1 / 16
        self.features[1].weight.data = weight

    def forward(self, images: Tensor) -> Tensor:
        maps = self.features(images)
        half = maps.shape[3] // 2
        red, blue = maps[:, 0] - maps[:, 1], maps[:, 2] - maps[:, 1]
        answers = (red[:, :, :half].mean((1, 2)), red[:, :, half:].mean((1, 2)), blue.mean((1, 2)))
        return 20 * torch.stack(answers, 1)


@pytest.fixture
def spot() -> TorchModel:
    """`Spot` as a subject, pictures of 64 pixels."""
    network = Spot().eval().requires_grad_(False)
    preprocess = Preprocess(height=SIDE, width=SIDE, shortest_edge=SIDE)
    return TorchModel("spot", "spot", network, ("left", "right", "blue"), preprocess, temperature=1.0)
