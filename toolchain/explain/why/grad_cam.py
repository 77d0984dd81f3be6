"""Where a network looked, read from its gradients: Grad-CAM, by captum.

Selvaraju et al.: *Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization*, ICCV 2017.
"""

from __future__ import annotations

import numpy as np
import torch
from captum.attr import LayerGradCam
from numpy.typing import NDArray
from torch import Tensor, nn

from toolchain.backbones.networks import blocks_of, normalised
from toolchain.explain.torch_model import TorchModel
from toolchain.explain.why import Explained, Method
from toolchain.explain.why.heat import Heat, as_heat
from toolchain.explain.why.occlusion import occlusion
from toolchain.images.preprocess import Image

ENLARGED = 2
"""The network looks at the picture so many times enlarged, for maps of 14 x 14 instead of 7 x 7 (as measured by
`benchmarks/explain/why.py`)."""


class _LogOdds(nn.Module):
    """Logits to how much each is above all others together, so that what classes have in common does not count."""

    def __init__(self, network: nn.Module, class_index: int) -> None:
        super().__init__()
        self.network = network
        self.class_index = class_index

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        chosen = logits[:, self.class_index]
        others = torch.cat([logits[:, : self.class_index], logits[:, self.class_index + 1 :]], 1)
        return (chosen - others.logsumexp(1))[:, None]


def grad_cam(
    subject: TorchModel, picture: Image, class_index: int, *, block: int = -1, enlarged: int = ENLARGED
) -> Heat:
    """How much the maps after a block speak for a class, weighted by the gradient of its log-odds.

    `picture` is uint8 RGB of the network's size; `block` counts as `toolchain.backbones.networks.blocks_of` does.
    """
    layer = _in_network(blocks_of(subject.network)[block], subject.network)
    cam = LayerGradCam(_LogOdds(subject.network, class_index), layer)
    # The weights are frozen; the graph hangs on the picture.
    images = nn.functional.interpolate(
        normalised(torch.from_numpy(picture)[None]), scale_factor=enlarged, mode="bilinear", align_corners=False
    ).requires_grad_()
    maps: Tensor = cam.attribute(images, target=0)
    sized = nn.functional.interpolate(maps.detach(), picture.shape[:2], mode="bilinear", align_corners=False)
    return as_heat(sized[0, 0].numpy())


def _in_network(block: nn.Module, network: nn.Module) -> nn.Module:
    """The layer of the network whose output is that of `block`: some blocks are made up of layers, beside it."""
    if any(block is module for module in network.modules()):
        return block
    assert isinstance(block, nn.Sequential)
    return block[-1]


def explained(subject: TorchModel) -> Explained:
    """A trained network, to ask why: by its gradients, and by covering parts of the picture."""

    def answer(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = subject.logits(torch.from_numpy(pictures)).numpy()
        return logits

    methods: dict[str, Method] = {
        "grad-cam": lambda picture, index: grad_cam(subject, picture, index),
        "occlusion": lambda picture, index: occlusion(answer, picture, index),
    }
    return Explained(subject.labels, subject.preprocess, subject.temperature, answer, methods)
