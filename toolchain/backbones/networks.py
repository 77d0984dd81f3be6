"""Networks from torchvision with a new head, and their pretrained weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import VGG, ResNet

from toolchain.artifact import read_artifact
from toolchain.backbones import recipes
from toolchain.errors import ArtifactError, BadInputError, MissingError
from toolchain.images.preprocess import MEAN, STD
from toolchain.runs import WEIGHTS_FILE, Run
from toolchain.runs.ready_made import READY_MADE, ready_made_artifact, weights_file
from toolchain.system import files

TORCHVISION_LICENCE = "BSD-3-Clause (torchvision); trained on ImageNet, whose terms apply to its use"
FILE_LICENCE = f"that of the file; for torchvision's weights: {TORCHVISION_LICENCE}"


@dataclass(frozen=True)
class Backbone:
    """A network by torchvision's name; `features` is the width of its pooled features."""

    name: str
    build: Callable[..., nn.Module]
    imagenet: Any
    features: int
    dropout: float = 0.2


def _table() -> dict[str, Backbone]:
    models = torchvision.models
    backbones = (
        Backbone("mobilenet_v2", models.mobilenet_v2, models.MobileNet_V2_Weights.IMAGENET1K_V1, 1280),
        Backbone(
            "mobilenet_v3_small", models.mobilenet_v3_small, models.MobileNet_V3_Small_Weights.IMAGENET1K_V1, 576
        ),
        Backbone(
            "mobilenet_v3_large", models.mobilenet_v3_large, models.MobileNet_V3_Large_Weights.IMAGENET1K_V1, 960
        ),
        Backbone("resnet18", models.resnet18, models.ResNet18_Weights.IMAGENET1K_V1, 512),
        Backbone("resnet50", models.resnet50, models.ResNet50_Weights.IMAGENET1K_V1, 2048),
        Backbone("vgg16", models.vgg16, models.VGG16_Weights.IMAGENET1K_V1, 512),
        Backbone("vgg19", models.vgg19, models.VGG19_Weights.IMAGENET1K_V1, 512),
    )
    return {backbone.name: backbone for backbone in backbones}


BACKBONES = _table()


@dataclass(frozen=True)
class Pretrained:
    """Where weights came from. `head` is the old classifier on the pooled features, where the file had one that
    fits: weight [classes, features] and bias [classes], float32. It helps to start a new head. `stripped` is what a
    wrapper had put before the names in the file."""

    source: str
    sha256: str | None
    licence: str
    head: tuple[Tensor, Tensor] | None = None
    stripped: str = ""


def build(name: str, classes: int) -> nn.Module:
    """Build a network with random weights and a new head, dropout and one linear layer on the pooled features.

    State dict names are torchvision's; the head stands at torchvision's place, `fc` or `classifier`, as `.1`.
    MobileNetV3 loses torchvision's hidden layer between features and classes: on a few thousand photographs it
    buys nothing, and it is a fifth to a third of the parameters. VGG loses both hidden layers of 4096, and its
    pooling to 7 x 7 becomes a global one: they are 119.5 of the 138 million parameters of vgg16, too many to teach
    with a few thousand photographs and 478 MB to carry to a device.
    Raises BadInputError for an unknown name.
    """
    if name not in BACKBONES:
        raise recipes.unknown(name)
    backbone = BACKBONES[name]
    network = backbone.build(weights=None)
    head = nn.Linear(backbone.features, classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    setattr(network, _place_of_head(network), nn.Sequential(nn.Dropout(backbone.dropout), head))
    if isinstance(network, VGG):
        network.avgpool = nn.AdaptiveAvgPool2d(1)
    return network


def _place_of_head(network: nn.Module) -> str:
    return "fc" if isinstance(network, ResNet) else "classifier"


def head_of(network: nn.Module) -> nn.Linear:
    """The linear layer from pooled features to classes."""
    head = network.get_submodule(f"{_place_of_head(network)}.1")
    assert isinstance(head, nn.Linear)
    return head


def dropout_of(network: nn.Module) -> nn.Dropout:
    """The dropout before the head: fine-tuning switches it on alone, while BatchNorm keeps its statistics."""
    dropout = network.get_submodule(f"{_place_of_head(network)}.0")
    assert isinstance(dropout, nn.Dropout)
    return dropout


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The blocks from input to maps, in order: the units that fine-tuning freezes or trains.

    One after the other they compute what `body_of` computes, and together they hold its parameters exactly once:
    the children of a MobileNet's `features`; a ResNet's stem, then each of its residual blocks; each convolution
    of a VGG with the activation and the pooling that follow it. They are the network's own layers, not copies.
    """
    if isinstance(network, ResNet):
        stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
        stages = (network.layer1, network.layer2, network.layer3, network.layer4)
        return [stem, *(block for stage in stages for block in stage)]
    layers = list(network.get_submodule("features").children())
    if isinstance(network, VGG):
        # An activation works in place: apart from its convolution, it would overwrite what enters the block.
        starts = [index for index, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
        ends = [*starts[1:], len(layers)]
        return [nn.Sequential(*layers[start:end]) for start, end in zip(starts, ends, strict=True)]
    return layers


def body_of(network: nn.Module) -> nn.Sequential:
    """All layers before the pooling: float32 [batch, 3, height, width] to maps [batch, features, ...].

    Its children are `blocks_of(network)`.
    """
    return nn.Sequential(*blocks_of(network))


def frozen_and_trained(network: nn.Module, trained_blocks: int) -> tuple[nn.Module, nn.Module]:
    """Freeze all but the last `trained_blocks` blocks and the head, in place; return (prefix, tail).

    `prefix` takes float32 [batch, 3, height, width] to the maps that enter the first trained block; it is an
    identity where all blocks are trained. `tail` takes those to logits [batch, classes]. In eval mode
    `tail(prefix(x))` equals `network(x)` bit for bit. Both share the layers of `network`, their train or eval mode
    included. Raises BadInputError for a negative number.
    """
    if trained_blocks < 0:
        raise BadInputError(f"the number of trained blocks must be at least 0, not {trained_blocks}")
    blocks = blocks_of(network)
    first = max(len(blocks) - trained_blocks, 0)
    prefix = nn.Sequential(*blocks[:first]) if first else nn.Identity()
    head = network.get_submodule(_place_of_head(network))
    tail = nn.Sequential(*blocks[first:], nn.AdaptiveAvgPool2d(1), nn.Flatten(1), head)
    return prefix.requires_grad_(False), tail.requires_grad_(True)


def pooled_features(network: nn.Module, images: Tensor) -> Tensor:
    """What the head sees, float32 [batch, features], for uint8 images [batch, height, width, 3]."""
    maps: Tensor = body_of(network)(normalised(images))
    return maps.mean((2, 3)).float()


def normalised(images: Tensor) -> Tensor:
    """Turn uint8 RGB [batch, height, width, 3] into the float32 [batch, 3, height, width] that networks expect."""
    # What is made while tracing belongs to the trace.
    constants = _constants.__wrapped__ if torch.compiler.is_compiling() else _constants
    mean, std = constants(images.device)
    # Permuting NHWC gives channels_last strides, which is what convolutions on a CPU like.
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)


@cache
def _constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation on `device`, where they stay: to copy them there again each time would make each
    inference wait, and no CUDA graph may be captured over such a copy."""
    with torch.inference_mode(False):
        return torch.from_numpy(MEAN).to(device), torch.from_numpy(STD).to(device)


def trained_network(folder: Path, run: Run) -> nn.Module:
    """The network of the finished `run` in `folder`, float32 on the CPU, in evaluation mode.

    Raises ArtifactError where its weights are damaged, or those of another network.
    """
    # On no device at first: random weights would only move the program's own random numbers on.
    with torch.device("meta"):
        network = build(run.model.name, len(run.data.classes))
    path = folder / WEIGHTS_FILE
    try:
        with files.encodable(path) as named:
            network.load_state_dict(load_file(named), assign=True)
    except Exception as error:  # safetensors and torch have types of their own for damaged and unfitting files
        reason = str(error).strip().splitlines()[0]
        raise ArtifactError(f"{path} is damaged: {reason}", "Run `edgetl finetune` again.") from None
    bad = next((name for name, tensor in network.state_dict().items() if not tensor.isfinite().all()), None)
    if bad is not None:
        raise ArtifactError(f"{path} is damaged: {bad} holds NaN or infinity", "Run `edgetl finetune` again.")
    return network.eval()


def load_pretrained(network: nn.Module, name: str, weights: str) -> Pretrained:
    """Load weights into everything but the head of `network`, in place.

    `weights` is the path of a safetensors or .pth state dict in torchvision's names, `imagenet` (torchvision's own
    download), `ready-made` (those of the pets model that comes with edgetl, a mobilenet_v2) or `none`.
    Raises BadInputError naming the tensors that are missing, have other shapes or hold NaN, MissingError when the
    download fails.
    """
    if weights == "none":
        return Pretrained("none", None, "")
    if weights == "imagenet":
        return _fit(network, _download(name), "imagenet", None)
    path = weights_file(weights, name)
    assert path is not None
    found = _fit(network, _read_state(path), weights, files.sha256_of(path))
    if weights == READY_MADE and not Path(READY_MADE).is_file():
        licences = read_artifact(ready_made_artifact()).card.source.licences
        return replace(found, licence="; ".join(f"{what}: {terms}" for what, terms in licences.items()))
    return found


def _download(name: str) -> dict[str, Tensor]:
    chosen = BACKBONES[name].imagenet
    try:
        state: dict[str, Tensor] = chosen.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError) as error:
        raise MissingError(
            f"the ImageNet weights of {name} could not be downloaded ({error})",
            f"Get {chosen.url} elsewhere and pass its path as --weights, or use --weights "
            f"{'ready-made, which is here' if name == 'mobilenet_v2' else 'none'}.",
        ) from None
    return state


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            with files.encodable(path) as named:
                return load_file(named)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError):
        raise BadInputError(f"{path} is not a whole safetensors file", "Copy it again.") from None
    except Exception as error:  # torch.load raises pickle, zip and runtime errors of many types
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInputError(
            f"{path} is not a state dict that can be loaded safely: {reason}", "Save it as safetensors."
        ) from None
    tensors = _unwrapped(state)
    if not tensors:
        raise BadInputError(f"{path} holds no state dict", "Save `network.state_dict()`.")
    return tensors


def _unwrapped(state: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint under their names; those of dicts in it have the dict's name before their own."""
    found: dict[str, Tensor] = {}
    for key, value in state.items() if isinstance(state, Mapping) else ():
        if isinstance(value, Tensor):
            found[str(key)] = value
        elif isinstance(value, Mapping):
            found |= {f"{key}.{name}": tensor for name, tensor in _unwrapped(value).items()}
    return found


def _own_names(state: dict[str, Tensor], body: Iterable[str]) -> tuple[dict[str, Tensor], str]:
    """The tensors of the network in a checkpoint under the names of its `body`, and what stood before them.

    Wrappers put names before a network's own: DataParallel `module.`, torch.compile `_orig_mod.`, Lightning the
    attribute, scripts that save a dict its key. Where an average of the weights is there too, it is the one to use.
    """
    plain = {key.replace("_orig_mod.", ""): value for key, value in state.items()}
    compiled = "_orig_mod." if any("_orig_mod." in key for key in state) else ""
    first = next(iter(body))
    parts = {name.partition(".")[0] for name in body}  # a deeper layer may end as the first one does
    prefixes = [key.removesuffix(first) for key in plain if key == first or key.endswith(f".{first}")]
    prefixes = [prefix for prefix in prefixes if prefix.partition(".")[0] not in parts]
    if not prefixes:
        return plain, ""
    prefix = min(prefixes, key=lambda one: ("ema" not in one.replace("_", ".").split("."), len(one), one))
    return {
        key.removeprefix(prefix): value for key, value in plain.items() if key.startswith(prefix)
    }, compiled + prefix


def _fit(network: nn.Module, state: dict[str, Tensor], source: str, sha256: str | None) -> Pretrained:
    own = network.state_dict()
    place = _place_of_head(network)
    body = {key: value for key, value in own.items() if not key.startswith(f"{place}.")}
    state, stripped = _own_names(state, body)
    # A counter that only training reads; files made from other formats lack it.
    missing = [key for key in body if key not in state and not key.endswith("num_batches_tracked")]
    wrong = [key for key in body if key in state and state[key].shape != body[key].shape]
    # A resnet34 holds all that a resnet18 needs, and more: it would be cut short in silence.
    parts = {key.partition(".")[0] for key in body}
    unknown = [key for key in state if key not in body and key.partition(".")[0] in parts]
    if missing or wrong or unknown:
        problems = [f"{key} {list(state[key].shape)}, not {list(body[key].shape)}" for key in wrong]
        problems += [f"{key} is missing" for key in missing]
        problems += [f"{key} is not part of it" for key in unknown]
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise BadInputError(
            f"{source} does not fit the network: {shown}", "Are these the weights of another --model?"
        )
    used = {key: value for key, value in state.items() if key in body or key.startswith(f"{place}.")}
    bad = [key for key, value in used.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise BadInputError(
            f"{source}: {bad[0]}{more} holds NaN or infinity",
            "The training that wrote it has diverged; take an earlier one.",
        )
    network.load_state_dict({**own, **{key: state[key].to(body[key].dtype) for key in body if key in state}})
    licence = FILE_LICENCE if sha256 else TORCHVISION_LICENCE
    old = _old_head(state, place, head_of(network).in_features)
    return Pretrained(source, sha256, licence, old, stripped)


def _old_head(state: dict[str, Tensor], place: str, features: int) -> tuple[Tensor, Tensor] | None:
    """A linear layer on `features` at `place`, named as edgetl and MobileNetV2 do or as ResNet does."""
    for name in (f"{place}.1", place):
        weight, bias = state.get(f"{name}.weight"), state.get(f"{name}.bias")
        if weight is None or bias is None or weight.ndim != 2 or weight.shape[1] != features:
            continue
        if bias.shape == weight.shape[:1]:
            return weight.float(), bias.float()
    return None
