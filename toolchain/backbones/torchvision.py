"""The networks of torchvision that edgetl comes with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision import models

from toolchain.backbones import IMAGENET, PUBLISHED, Backbone, Published
from toolchain.backbones.networks import SIMPLIFIERS
from toolchain.errors import MissingError
from toolchain.images.preprocess import Preprocess
from toolchain.system import files

VGG_CHANNELS = 512
"""Of a VGG's last maps."""

LICENCE = "BSD-3-Clause (torchvision); trained on ImageNet, whose terms apply to its use"


def download(best: Any, first: Any, weights: str) -> dict[str, Tensor]:
    """The state dict of one of torchvision's enums of weights, by its URL; the start of its SHA-256 is checked."""
    chosen = best if weights == IMAGENET else first
    try:
        # It says on stdout, which belongs to the command's result, what it downloads.
        with redirect_stdout(sys.stderr):
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
    """What one of torchvision's enums of weights says. A file is known by its SHA-256, and is else taken for the
    first ones."""
    chosen = best if weights == IMAGENET or _is_file_of(best, weights) else first
    (side,), (edge,) = chosen.transforms().crop_size, chosen.transforms().resize_size
    # torchvision makes pictures smaller by averaging areas, under the name of its bilinear filter.
    return Published(tuple(chosen.meta["categories"]), "imagenet-1k", Preprocess(side, side, shortest_edge=edge))


def _is_file_of(one: Any, weights: str) -> bool:
    """Whether a file is what an enum's URL gives: its name ends in the first digits of its SHA-256."""
    digits = one.url.rpartition("-")[2].partition(".")[0]
    return Path(weights).is_file() and files.sha256_of(Path(weights)).startswith(digits)


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


class _OnMaps(nn.Module):
    """A linear layer that is given maps, [batch, channels, height, width], and gives maps of one pixel."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, maps: Tensor) -> Tensor:
        vectors: Tensor = self.linear(maps.flatten(1))
        return vectors[:, :, None, None]


def _covering(layer: nn.Module) -> nn.Module | None:
    """The convolution of one step that `_OnMaps` is: the graph needs no shapes then, and int8 knows it."""
    if not isinstance(layer, _OnMaps):
        return None
    linear = layer.linear
    side = round((linear.in_features / VGG_CHANNELS) ** 0.5)
    convolution = nn.Conv2d(VGG_CHANNELS, linear.out_features, side)
    convolution.weight.copy_(linear.weight.view_as(convolution.weight))
    convolution.bias = linear.bias
    return convolution


SIMPLIFIERS.append(_covering)


def _vgg_and_hidden(network: nn.Module) -> list[nn.Module]:
    """A VGG's convolutions, then the first of its published hidden layers, which is given maps of 7 x 7."""
    linear, activation, dropout = list(network.get_submodule("classifier").children())[:3]
    assert isinstance(linear, nn.Linear)
    return [
        *_convolutions(network),
        nn.Sequential(network.get_submodule("avgpool"), _OnMaps(linear), activation, dropout),
    ]


def _second_hidden(network: nn.Module) -> list[nn.Module]:
    return list(network.get_submodule("classifier").children())[3:6]


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
        published=partial(published, best or first, first),
        licence=LICENCE,
    )


def _vgg16_or_19(name: str, first: Any) -> Backbone:
    """VGG as edgetl fine-tunes it, and `whole` as it was published, with both hidden layers."""
    small = _backbone(name, "classifier", _convolutions, 512, first)
    whole = replace(
        small,
        name=name + PUBLISHED,
        create=partial(getattr(models, name), weights=None),
        head="classifier.6",
        blocks=_vgg_and_hidden,
        hidden=_second_hidden,
        features=0,
        last_maps=-2,
    )
    return replace(small, whole=whole)


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
VGG16 = _vgg16_or_19("vgg16", models.VGG16_Weights.IMAGENET1K_V1)
VGG19 = _vgg16_or_19("vgg19", models.VGG19_Weights.IMAGENET1K_V1)
