"""The networks of torchvision that edgetl comes with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision import models

from toolchain.backbones import IMAGENET, Backbone, Published
from toolchain.errors import MissingError
from toolchain.images.preprocess import Preprocess

LICENCE = "BSD-3-Clause (torchvision); trained on ImageNet, whose terms apply to its use"


def download(best: Any, first: Any, weights: str) -> dict[str, Tensor]:
    """The state dict of one of torchvision's enums of weights, by its URL; the start of its SHA-256 is checked."""
    chosen = best if weights == IMAGENET else first
    try:
        state: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
            chosen.url, map_location="cpu", progress=True, check_hash=True, weights_only=True
        )
    except (URLError, OSError, RuntimeError) as error:  # RuntimeError: the hash is wrong
        raise MissingError(
            f"the ImageNet weights {chosen.url.rpartition('/')[2]} could not be downloaded ({error})",
            f"Get {chosen.url} elsewhere and pass its path as --weights, or use --weights "
            "ready-made, which is here (a mobilenet_v2), or none.",
        ) from None
    return state


def published(best: Any, first: Any, weights: str) -> Published:
    """What one of torchvision's enums of weights says. A file is taken for the first ones."""
    chosen = best if weights == IMAGENET else first
    (side,), (edge,) = chosen.transforms().crop_size, chosen.transforms().resize_size
    # torchvision makes pictures smaller by averaging areas, under the name of its bilinear filter.
    return Published(tuple(chosen.meta["categories"]), "imagenet-1k", Preprocess(side, side, shortest_edge=edge))


def _layers(network: nn.Module) -> list[nn.Module]:
    """The children of a MobileNet's `features`."""
    return list(network.get_submodule("features").children())


def _residual_blocks(network: nn.Module) -> list[nn.Module]:
    """A ResNet's stem, then each of its residual blocks."""
    stem = nn.Sequential(*(network.get_submodule(name) for name in ("conv1", "bn1", "relu", "maxpool")))
    stages = [network.get_submodule(f"layer{number}") for number in range(1, 5)]
    return [stem, *(block for stage in stages for block in stage.children())]


def _convolutions(network: nn.Module) -> list[nn.Module]:
    """Each convolution of a VGG with the activation and the pooling that follow it.

    An activation works in place: apart from its convolution, it would overwrite what enters the block.
    """
    layers = _layers(network)
    starts = [index for index, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
    ends = [*starts[1:], len(layers)]
    return [nn.Sequential(*layers[start:end]) for start, end in zip(starts, ends, strict=True)]


def _no_hidden(state: Mapping[str, Tensor]) -> list[nn.Module]:
    return []


def _hidden_in(state: Mapping[str, Tensor]) -> list[nn.Module]:
    """MobileNetV3's hidden layer between pooled features and classes, where a file holds it."""
    weight = state.get("classifier.0.weight")
    if weight is None or weight.ndim != 2:
        return []
    return [nn.Linear(weight.shape[1], weight.shape[0]), nn.Hardswish()]


def _vgg(create: Callable[..., nn.Module]) -> nn.Module:
    """VGG with a global pooling instead of 7 x 7, and without both hidden layers of 4096: they are 119.5 of the 138
    million parameters of vgg16, too many to teach with a few thousand photographs, and 478 MB to carry."""
    network = create(weights=None)
    network.avgpool = nn.AdaptiveAvgPool2d(1)
    return network


def _backbone(
    name: str,
    head: str,
    blocks: Callable[[nn.Module], list[nn.Module]],
    features: int,
    first: Any,
    best: Any = None,
) -> Backbone:
    create = getattr(models, name)
    return Backbone(
        name=name,
        create=partial(_vgg, create) if name.startswith("vgg") else partial(create, weights=None),
        head=head,
        blocks=blocks,
        hidden_in=_hidden_in if name.startswith("mobilenet_v3") else _no_hidden,
        features=features,
        download=partial(download, best or first, first),
        published=None if name.startswith("vgg") else partial(published, best or first, first),
        licence=LICENCE,
    )


MOBILENET_V2 = _backbone(
    "mobilenet_v2",
    "classifier",
    _layers,
    1280,
    models.MobileNet_V2_Weights.IMAGENET1K_V1,
    models.MobileNet_V2_Weights.IMAGENET1K_V2,
)
MOBILENET_V3_SMALL = _backbone(
    "mobilenet_v3_small", "classifier", _layers, 576, models.MobileNet_V3_Small_Weights.IMAGENET1K_V1
)
MOBILENET_V3_LARGE = _backbone(
    "mobilenet_v3_large",
    "classifier",
    _layers,
    960,
    models.MobileNet_V3_Large_Weights.IMAGENET1K_V1,
    models.MobileNet_V3_Large_Weights.IMAGENET1K_V2,
)
RESNET18 = _backbone("resnet18", "fc", _residual_blocks, 512, models.ResNet18_Weights.IMAGENET1K_V1)
RESNET50 = _backbone(
    "resnet50",
    "fc",
    _residual_blocks,
    2048,
    models.ResNet50_Weights.IMAGENET1K_V1,
    models.ResNet50_Weights.IMAGENET1K_V2,
)
VGG16 = _backbone("vgg16", "classifier", _convolutions, 512, models.VGG16_Weights.IMAGENET1K_V1)
VGG19 = _backbone("vgg19", "classifier", _convolutions, 512, models.VGG19_Weights.IMAGENET1K_V1)
