"""Networks from torchvision with a new head, and their pretrained weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from toolchain import files
from toolchain.errors import BadInputError, MissingError
from toolchain.preprocess import MEAN, STD

TORCHVISION_LICENCE = "BSD-3-Clause (torchvision); trained on ImageNet, whose terms apply to its use"


@dataclass(frozen=True)
class Backbone:
    """A network by torchvision's name; `features` is the width of its pooled features."""

    name: str
    build: Callable[..., nn.Module]
    imagenet: Any
    features: int
    dropout: float = 0.2


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone(
            "mobilenet_v2",
            torchvision.models.mobilenet_v2,
            torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1,
            1280,
        ),
        Backbone(
            "mobilenet_v3_small",
            torchvision.models.mobilenet_v3_small,
            torchvision.models.MobileNet_V3_Small_Weights.IMAGENET1K_V1,
            576,
        ),
        Backbone(
            "mobilenet_v3_large",
            torchvision.models.mobilenet_v3_large,
            torchvision.models.MobileNet_V3_Large_Weights.IMAGENET1K_V1,
            960,
        ),
    )
}


@dataclass(frozen=True)
class Pretrained:
    """Where weights came from. `head` is the old classifier on the pooled features, where the file had one that
    fits: weight [classes, features] and bias [classes], float32. It helps to start a new head."""

    source: str
    sha256: str | None
    licence: str
    head: tuple[Tensor, Tensor] | None = None


def build(name: str, classes: int) -> nn.Module:
    """Build a network with random weights and a new head of one linear layer on the pooled features.

    MobileNetV3 loses torchvision's hidden layer between features and classes: on a few thousand photographs it
    buys nothing, and it is a fifth to a third of the parameters.
    Raises BadInputError for an unknown name.
    """
    if name not in BACKBONES:
        raise BadInputError(f"unknown model {name!r}", f"Choose one of: {', '.join(BACKBONES)}.")
    backbone = BACKBONES[name]
    network = backbone.build(weights=None)
    head = nn.Linear(backbone.features, classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    network.classifier = nn.Sequential(nn.Dropout(backbone.dropout), head)
    return network


def head_of(network: nn.Module) -> nn.Linear:
    """The linear layer from pooled features to classes."""
    head = network.get_submodule("classifier.1")
    assert isinstance(head, nn.Linear)
    return head


def body_of(network: nn.Module) -> nn.Module:
    """All layers before the pooling: float32 [batch, 3, height, width] to maps [batch, features, ...]."""
    return network.get_submodule("features")


def pooled_features(network: nn.Module, images: Tensor) -> Tensor:
    """What the head sees, float32 [batch, features], for uint8 images [batch, height, width, 3]."""
    maps: Tensor = body_of(network)(normalised(images))
    return maps.mean((2, 3)).float()


def normalised(images: Tensor) -> Tensor:
    """Turn uint8 RGB [batch, height, width, 3] into the float32 [batch, 3, height, width] that networks expect."""
    mean = torch.from_numpy(MEAN).to(images.device)
    std = torch.from_numpy(STD).to(images.device)
    # Permuting NHWC gives channels_last strides, which is what convolutions on a CPU like.
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)


def load_pretrained(network: nn.Module, name: str, weights: str) -> Pretrained:
    """Load weights into everything but the head of `network`, in place.

    `weights` is the path of a safetensors or .pth state dict in torchvision's names, `imagenet` (torchvision's own
    download) or `none`. Raises BadInputError naming the tensors that are missing or have other shapes,
    MissingError when the download fails.
    """
    if weights == "none":
        return Pretrained("none", None, "")
    if weights == "imagenet":
        return _fit(network, _download(name), "imagenet", None)
    path = Path(weights)
    if not path.is_file():
        hint = "Pass a .safetensors or .pth file, `imagenet` or `none`."
        raise BadInputError(f"weights {weights} do not exist", hint)
    return _fit(network, _read_state(path), str(path), files.sha256_of(path))


def _download(name: str) -> dict[str, Tensor]:
    chosen = BACKBONES[name].imagenet
    try:
        state: dict[str, Tensor] = chosen.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError) as error:
        raise MissingError(
            f"the ImageNet weights of {name} could not be downloaded ({error})",
            f"Get {chosen.url} elsewhere and pass its path as --weights, or use --weights none.",
        ) from None
    return state


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError):
        raise BadInputError(f"{path} is not a whole safetensors file", "Copy it again.") from None
    except Exception as error:  # torch.load raises pickle, zip and runtime errors of many types
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInputError(
            f"{path} is not a state dict that can be loaded safely: {reason}", "Save it as safetensors."
        ) from None
    for key in ("state_dict", "model"):  # how training scripts commonly wrap it
        if isinstance(state, dict) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BadInputError(f"{path} holds no state dict", "Save `network.state_dict()`.")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _fit(network: nn.Module, state: dict[str, Tensor], source: str, sha256: str | None) -> Pretrained:
    own = network.state_dict()
    body = {key: value for key, value in own.items() if not key.startswith("classifier.")}
    # A counter that only training reads; files made from other formats lack it.
    missing = [key for key in body if key not in state and not key.endswith("num_batches_tracked")]
    wrong = [key for key in body if key in state and state[key].shape != body[key].shape]
    if missing or wrong:
        problems = [f"{key} {list(state[key].shape)}, not {list(body[key].shape)}" for key in wrong]
        problems += [f"{key} is missing" for key in missing]
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise BadInputError(
            f"{source} does not fit the network: {shown}", "Are these the weights of another --model?"
        )
    network.load_state_dict({**own, **{key: state[key].to(body[key].dtype) for key in body if key in state}})
    weight, bias = state.get("classifier.1.weight"), state.get("classifier.1.bias")
    fits = weight is not None and bias is not None and weight.shape[1:] == head_of(network).weight.shape[1:]
    head = (weight.float(), bias.float()) if fits and weight is not None and bias is not None else None
    return Pretrained(source, sha256, TORCHVISION_LICENCE, head)
