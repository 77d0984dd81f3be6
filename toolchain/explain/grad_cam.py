"""Where a network looked, read from its gradients: Grad-CAM, by captum.

Selvaraju et al.: *Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization*, ICCV 2017.
"""

from __future__ import annotations

import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from toolchain.backbones import blocks_of, normalised
from toolchain.explain.heat import Heat, as_heat
from toolchain.explain.subject import Subject
from toolchain.preprocess import Image


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


def grad_cam(subject: Subject, picture: Image, class_index: int) -> Heat:
    """How much the last maps speak for a class, weighted by the gradient of its log-odds, enlarged to the picture.

    `picture` is uint8 RGB of the network's size.
    """
    layer = blocks_of(subject.network)[-1]
    cam = LayerGradCam(_LogOdds(subject.network, class_index), layer)
    # The weights are frozen; the graph hangs on the picture.
    images = normalised(torch.from_numpy(picture)[None]).requires_grad_()
    maps: Tensor = cam.attribute(images, target=0)
    height, width = picture.shape[:2]
    enlarged = nn.functional.interpolate(maps.detach(), (height, width), mode="bilinear", align_corners=False)
    return as_heat(enlarged[0, 0].numpy())
