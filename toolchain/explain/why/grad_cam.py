"""Where a network looked, by its gradients: Grad-CAM, computed by captum.

Selvaraju et al.: *Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization*, ICCV 2017.
"""

from __future__ import annotations

import numpy as np
import torch
from captum.attr import LayerGradCam
from numpy.typing import NDArray
from torch import Tensor, nn

from toolchain.backbones.networks import backbone_of, blocks_of, normalised
from toolchain.explain.torch_model import TorchModel
from toolchain.explain.why import Explained, Heat, Method, as_heat, occlusion
from toolchain.images.preprocess import Image

ENLARGED = 2
"""The picture is enlarged so many times, which gives maps of 14 x 14 instead of 7 x 7 (`benchmarks/explain/why.py`
measures what that brings)."""


class _LogOdds(nn.Module):
    """The log-odds of one class, in place of its logit: what all classes have in common does not count."""

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
    model: TorchModel, picture: Image, class_index: int, *, block: int | None = None, enlarged: int = ENLARGED
) -> Heat:
    """The maps after a block, weighted by the gradient of the log-odds of a class.

    `picture` is uint8 RGB in the size of the network's input; `block` is an index into
    `toolchain.backbones.networks.blocks_of`, by default of the last one that gives maps of more than one pixel.
    """
    block = backbone_of(model.network).last_maps if block is None else block
    layer = _in_network(blocks_of(model.network)[block], model.network)
    cam = LayerGradCam(_LogOdds(model.network, class_index), layer)
    # The weights are frozen, so the picture must require a gradient.
    images = nn.functional.interpolate(
        normalised(torch.from_numpy(picture)[None]), scale_factor=enlarged, mode="bilinear", align_corners=False
    ).requires_grad_()
    maps: Tensor = cam.attribute(images, target=0)
    sized = nn.functional.interpolate(maps.detach(), picture.shape[:2], mode="bilinear", align_corners=False)
    return as_heat(sized[0, 0].numpy())


def _in_network(block: nn.Module, network: nn.Module) -> nn.Module:
    """The layer of the network whose output is that of `block`, which may be a new Sequential of several layers."""
    if any(block is module for module in network.modules()):
        return block
    assert isinstance(block, nn.Sequential)
    return block[-1]


def explained(model: TorchModel) -> Explained:
    """A trained network that can be asked why, by Grad-CAM and by occlusion."""

    def answer(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = model.logits(torch.from_numpy(pictures)).numpy()
        return logits

    methods: dict[str, Method] = {
        "grad-cam": lambda picture, index: grad_cam(model, picture, index),
        "occlusion": lambda picture, index: occlusion(answer, picture, index),
    }
    return Explained(model.labels, model.preprocess, model.temperature, answer, methods)
