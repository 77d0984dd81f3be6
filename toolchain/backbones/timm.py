"""Convolutional image classifiers of timm, by name: `timm:NAME`, such as `timm:tf_efficientnet_lite0`.

Size, scaling, mean and deviation are those of timm's own configuration of the network (`pretrained_cfg`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache, partial
from math import floor
from typing import Any, Literal

import timm
import torch
from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn
from torch.fx import symbolic_trace
from torch.nn.utils import fuse_conv_bn_eval

from toolchain.backbones import IMAGENET, Backbone, Family, Published
from toolchain.backbones.networks import SIMPLIFIERS, simplified, sixth_and_half
from toolchain.backbones.recipes import TrainingRecipe
from toolchain.errors import BadInputError, MissingError
from toolchain.images.preprocess import Preprocess

RECIPE = TrainingRecipe(
    finetune={"epochs": 8, "learning_rate": 1e-4, "trained_blocks": 8, "ema_decay": 0.99, "min_crop_area": 0.25}
)
"""MobileNetV2's, but for the size of crops, which depends on that of the input."""

TRIED_SIZE = 96
"""Pixels on which the layers are compared with the network."""

PLAIN_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "HardSigmoid": nn.Hardsigmoid,
    "HardSwish": nn.Hardswish,
    "Swish": nn.SiLU,
}
"""Activations that timm has in classes of its own, where torch has the same."""


@cache
def find(name: str) -> Backbone:
    """The backbone of a network of timm, with its tag: `tf_efficientnet_lite0` is `tf_efficientnet_lite0.in1k`.

    Raises BadInputError where timm has no such network, or edgetl cannot take it apart.
    """
    if not timm.is_model(name.partition(".")[0]):
        near = ", ".join(timm.list_models(f"*{name.partition('.')[0]}*")[:5])
        raise BadInputError(
            f"timm {timm.__version__} has no network {name!r}",
            f"Perhaps one of: {near}." if near else "`timm.list_models()` names them all.",
        )
    try:
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            network = _create(name)
            config: dict[str, Any] = vars(network)["pretrained_cfg"]
            head = str(config["classifier"])
            _check(name, network, head)
    except BadInputError:
        raise
    except Exception as error:  # networks raise errors of all types
        raise _unfit(name, f"{type(error).__name__}: {error}") from None
    return Backbone(
        name=f"timm:{'.'.join(filter(None, (config['architecture'], config.get('tag'))))}",
        create=partial(_create, name),
        head=head,
        blocks=partial(_blocks, head=head),
        hidden=partial(_hidden, head=head),
        download=partial(_download, name) if config.get("url") or config.get("hf_hub_id") else None,
        published=partial(_published, config) if infer_imagenet_subset(config) else None,
        licence=f"{config.get('license') or 'see the model card'} (timm, {config.get('hf_hub_id') or name})",
        mean=_colours(config["mean"]),
        std=_colours(config["std"]),
        preprocess=_preprocess(config),
        recipe=RECIPE,
    )


FAMILY = Family(find)


def _create(name: str) -> nn.Module:
    network: nn.Module = timm.create_model(name, pretrained=False)
    return network


def _colours(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


def _preprocess(config: dict[str, Any]) -> Preprocess:
    """Height, width and share of the picture that timm evaluates the network with."""
    _, height, width = config["input_size"]
    edge = floor(max(height, width) / config["crop_pct"])
    kinds: dict[str, Literal["area", "linear", "cubic"]] = {"bicubic": "cubic", "bilinear": "linear"}
    interpolation = kinds.get(config["interpolation"], "area")
    if config.get("crop_mode") == "squash":
        return Preprocess(height, width, "squash", max(height, width), interpolation)
    return Preprocess(height, width, "shortest-edge", edge, interpolation)


def _download(name: str, weights: str) -> dict[str, Tensor]:
    if weights != IMAGENET:
        raise BadInputError(
            f"--weights {weights} is for torchvision's networks",
            f"Name weights of timm by their tag: timm:{name}.TAG.",
        )
    known = timm.get_pretrained_cfg(name)
    try:
        state: dict[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # the hub and its HTTP library have types of their own
        raise MissingError(
            f"the weights of timm:{name} could not be downloaded ({str(error).strip().partition(chr(10))[0]})",
            f"Get model.safetensors of {known.hf_hub_id if known else name} elsewhere and pass it as --weights.",
        ) from None
    return state


def _published(config: dict[str, Any], _: str) -> Published:
    data = str(infer_imagenet_subset(config))
    info = ImageNetInfo(data)
    described = [info.index_to_description(index) for index in range(config["num_classes"])]
    return Published(_short(described), data, _preprocess(config))


def _short(descriptions: Sequence[str]) -> tuple[str, ...]:
    """The first of the names that each description lists; all of them, or its number too, where others have it."""
    first = [names.partition(",")[0] for names in descriptions]
    found = [one if first.count(one) == 1 else names for one, names in zip(first, descriptions, strict=True)]
    count = Counter(found)
    return tuple(one if count[one] == 1 else f"{one} ({index})" for index, one in enumerate(found))


def _unfit(name: str, reason: str) -> BadInputError:
    return BadInputError(
        f"timm:{name} cannot be fine-tuned by edgetl: {reason.partition(chr(10))[0]}",
        "Choose a convolutional network that ends in average pooling and one linear layer.",
    )


def _check(name: str, network: nn.Module, head: str) -> None:
    """Raise BadInputError unless the layers, one after the other, compute what the network computes."""
    linear = network.get_submodule(head)
    if not isinstance(linear, nn.Linear):
        raise _unfit(name, f"it ends in {type(linear).__name__}")
    network.eval()
    images = torch.randn(2, 3, TRIED_SIZE, TRIED_SIZE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(images)
        maps = nn.Sequential(*_blocks(network, head))(images)
        found = linear(nn.Sequential(*_hidden(network, head))(maps.mean((2, 3))))
        # Export and frozen layers are compiled from this trace.
        symbolic_trace(simplified(nn.Sequential(*_blocks(network, head))))
    if not torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max())):
        raise _unfit(name, "its layers do not simply follow one another")


def _layers(network: nn.Module, head: str) -> Iterator[nn.Module]:
    """The network's layers before the head in the order in which it runs them; containers are taken apart."""
    linear = network.get_submodule(head)
    for child in network.children():
        if child is linear:
            return
        if type(child) is nn.Sequential or isinstance(getattr(child, "global_pool", None), SelectAdaptivePool2d):
            yield from _layers_in(child, linear)
        else:
            yield child


def _layers_in(container: nn.Module, linear: nn.Module) -> Iterator[nn.Module]:
    for child in container.children():
        if child is linear:
            return
        if type(child) is nn.Sequential:
            yield from _layers_in(child, linear)
        else:
            yield child


def _split(network: nn.Module, head: str) -> tuple[list[nn.Module], list[nn.Module]]:
    """The layers before the pooling and after it."""
    # `build` may have added a layer of edgetl's.
    layers = [layer for layer in _layers(network, head) if layer is not network._modules.get("renormalise")]
    place = next(index for index, layer in enumerate(layers) if isinstance(layer, SelectAdaptivePool2d))
    return layers[:place], layers[place + 1 :]


def _blocks(network: nn.Module, head: str) -> list[nn.Module]:
    """Units that begin with a layer that convolves: what only normalises or activates goes with the one before."""
    units: list[list[nn.Module]] = []
    for layer in _split(network, head)[0]:
        if any(isinstance(module, nn.Conv2d) for module in layer.modules()) or not units:
            units.append([layer])
        else:
            units[-1].append(layer)
    return [unit[0] if len(unit) == 1 else nn.Sequential(*unit) for unit in units]


def _hidden(network: nn.Module, head: str) -> list[nn.Module]:
    """The layers between pooling and head, for vectors instead of maps of one pixel."""
    layers = [layer for layer in _split(network, head)[1] if not isinstance(layer, nn.Identity | nn.Flatten)]
    layers = [layer for layer in layers if any(True for _ in layer.children()) or not isinstance(layer, nn.Dropout)]
    found: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            found.append(_OnVectors(layer, None))
        elif isinstance(layer, nn.BatchNorm2d) and found and isinstance(found[-1], _OnVectors):
            found[-1] = _OnVectors(found[-1].convolution, layer)
        else:
            found.append(layer)
    return found


class _OnVectors(nn.Module):
    """A convolution of 1 x 1, and the normalisation after it, on vectors [batch, width]."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d | None) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = norm

    def forward(self, vectors: Tensor) -> Tensor:
        maps: Tensor = self.convolution(vectors[:, :, None, None])
        maps = maps if self.norm is None else self.norm(maps)
        return maps.flatten(1)


class _SamePadding(nn.Module):
    """TensorFlow's padding: half of what is missing on either side, and the odd pixel on the right and below."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        reach = [d * (k - 1) + 1 for d, k in zip(convolution.dilation, convolution.kernel_size, strict=True)]
        self.sides = tuple(zip(reach, convolution.stride, strict=True))

    def forward(self, maps: Tensor) -> Tensor:
        pads: list[int] = []
        for (reach, stride), size in zip(reversed(self.sides), (maps.shape[-1], maps.shape[-2]), strict=True):
            missing = reach - stride + (-size) % stride
            pads += [missing // 2, missing - missing // 2]
        return nn.functional.pad(maps, pads)


def _plain(layer: nn.Module) -> nn.Module | None:
    """Layers of timm as those of `torch.nn` that compute the same, so that they are folded and exported alike."""
    if isinstance(layer, Conv2dSame):
        return nn.Sequential(_SamePadding(layer), _convolution(layer))
    if isinstance(layer, BatchNormAct2d):
        return nn.Sequential(_norm(layer), _activation(layer.act))
    if isinstance(layer, SqueezeExcite) and isinstance(_activation(layer.gate), nn.Hardsigmoid):
        assert isinstance(layer.conv_expand, nn.Conv2d)
        sixth_and_half(layer.conv_expand)
        layer.gate = nn.Hardtanh(0.0, 1.0)
        return None
    if isinstance(layer, _OnVectors):
        convolution, norm = layer.convolution, layer.norm
        if norm is not None:
            convolution = fuse_conv_bn_eval(convolution, _norm(norm).eval())
        linear = nn.Linear(convolution.in_channels, convolution.out_channels, bias=convolution.bias is not None)
        linear.load_state_dict(
            {
                name: tensor.flatten(1) if tensor.ndim > 1 else tensor
                for name, tensor in convolution.state_dict().items()
            }
        )
        return nn.Sequential(linear, _activation(norm.act)) if isinstance(norm, BatchNormAct2d) else linear
    plain = _activation(layer)
    return plain if plain is not layer else None


def _convolution(layer: nn.Conv2d) -> nn.Conv2d:
    """The same without its own padding."""
    kernel, stride, dilation = (_pair(one) for one in (layer.kernel_size, layer.stride, layer.dilation))
    has_bias = layer.bias is not None
    plain = nn.Conv2d(layer.in_channels, layer.out_channels, kernel, stride, 0, dilation, layer.groups, has_bias)
    plain.load_state_dict(layer.state_dict())
    return plain


def _norm(layer: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """The same without an activation."""
    plain = nn.BatchNorm2d(layer.num_features, layer.eps)
    plain.load_state_dict(layer.state_dict(), strict=False)
    return plain


def _pair(sizes: Sequence[int]) -> tuple[int, int]:
    height, width = sizes
    return height, width


def _activation(layer: nn.Module) -> nn.Module:
    same = PLAIN_ACTIVATIONS.get(type(layer).__name__)
    return layer if same is None else same()


SIMPLIFIERS.append(_plain)
