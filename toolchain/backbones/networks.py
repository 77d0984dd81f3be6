"""Networks with a new head: their parts, what enters them, and what they compute."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.ops.misc import SqueezeExcitation

from toolchain.artifact.card import Card
from toolchain.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone, find
from toolchain.errors import ArtifactError, BadInputError
from toolchain.images.preprocess import MEAN, STD
from toolchain.runs import WEIGHTS_FILE, Run, no_gradients
from toolchain.runs.ready_made import ready_made_weights
from toolchain.system import files

MAX_WEIGHTS_BYTES = 2 << 30
"""Four times the largest network that edgetl knows."""

_BACKBONE = "edgetl_backbone"


class Renormalise(nn.Module):
    """From pixels that `normalised` has made to those that a network of another mean and deviation wants.

    It stands before the first layer of such a network, so that all networks are given the same; `to_onnx` leaves it
    out and puts the network's own mean and deviation into the graph. `mean` and `std` are RGB, 0 to 1.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean: tuple[float, ...] = tuple(mean)
        self.std: tuple[float, ...] = tuple(std)
        own = torch.tensor([self.mean, self.std])
        usual = torch.tensor([IMAGENET_MEAN, IMAGENET_STD])
        # Not in the state dict, whose names are the network's.
        self.register_buffer("scale", (usual[1] / own[1])[:, None, None], persistent=False)
        self.register_buffer("shift", ((usual[0] - own[0]) / own[1])[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale + self.shift


def build(name: str, classes: int) -> nn.Module:
    """Build a network with random weights and a new head: dropout and one linear layer, all zeros.

    State dict names are those of the library that it comes from; the head stands at its place there, such as `fc`
    or `classifier`. Hidden layers between pooled features and head come with weights that hold them (`grow`).
    Raises BadInputError for an unknown name.
    """
    backbone = find(name)
    network = backbone.create()
    vars(network)[_BACKBONE] = backbone
    features = backbone.features or _width(network.get_submodule(backbone.head))
    _put_head(network, [], features, classes)
    if (backbone.mean, backbone.std) != (IMAGENET_MEAN, IMAGENET_STD):
        network.add_module("renormalise", Renormalise(backbone.mean, backbone.std))
        network.register_forward_pre_hook(_renormalise)
    return network


def _renormalise(network: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    images: Tensor = network.get_submodule("renormalise")(*inputs)
    return images


def _width(head: nn.Module) -> int:
    assert isinstance(head, nn.Linear), "a backbone must name its `features` where its head is more than linear"
    return head.in_features


def _put_head(network: nn.Module, hidden: Sequence[nn.Module], features: int, classes: int) -> None:
    backbone = backbone_of(network)
    linear = nn.Linear(features, classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    parent, _, name = backbone.head.rpartition(".")
    head = nn.Sequential(*hidden, nn.Dropout(backbone.dropout), linear).train(network.training)
    setattr(network.get_submodule(parent), name, head)


def grow(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give `network`, in place, the hidden layers before its head that its weights `state` hold, and a new head."""
    hidden = backbone_of(network).hidden_in(state)
    if hidden:
        width = next(layer.out_features for layer in reversed(hidden) if isinstance(layer, nn.Linear))
        _put_head(network, hidden, width, head_of(network).out_features)


def backbone_of(network: nn.Module) -> Backbone:
    """The backbone that `build` made the network of."""
    found: Backbone = vars(network)[_BACKBONE]
    return found


def _head(network: nn.Module) -> nn.Sequential:
    head = network.get_submodule(backbone_of(network).head)
    assert isinstance(head, nn.Sequential)
    return head


def head_of(network: nn.Module) -> nn.Linear:
    """The linear layer from features to classes."""
    head = _head(network)[-1]
    assert isinstance(head, nn.Linear)
    return head


def place_of_head(network: nn.Module) -> str:
    """The name of `head_of(network)`, which its weight and bias begin with in the state dict."""
    return f"{backbone_of(network).head}.{len(_head(network)) - 1}"


def dropout_of(network: nn.Module) -> nn.Dropout:
    """The dropout before the head: fine-tuning switches it on alone, while BatchNorm keeps its statistics."""
    dropout = _head(network)[-2]
    assert isinstance(dropout, nn.Dropout)
    return dropout


def hidden_of(network: nn.Module) -> nn.Sequential:
    """The layers from pooled features to what the head sees, float32 [batch, features]; often there are none."""
    return nn.Sequential(*backbone_of(network).hidden(network), *_head(network)[:-2])


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The blocks from input to maps, in order: the units that fine-tuning freezes or trains (`Backbone.blocks`).

    One after the other they compute what `body_of` computes, and together they hold its parameters exactly once.
    """
    first, *others = backbone_of(network).blocks(network)
    renormalise = network._modules.get("renormalise")
    return [first if renormalise is None else nn.Sequential(renormalise, first), *others]


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
    pooling = (nn.AdaptiveAvgPool2d(1), nn.Flatten(1), *backbone_of(network).hidden(network))
    tail = nn.Sequential(*blocks[first:], *pooling, _head(network))
    return prefix.requires_grad_(False), tail.requires_grad_(True)


def pooled_features(network: nn.Module, images: Tensor) -> Tensor:
    """What the head sees, float32 [batch, features], for uint8 images [batch, height, width, 3]."""
    maps: Tensor = body_of(network)(normalised(images))
    features: Tensor = hidden_of(network)(maps.mean((2, 3)))
    return features.float()


def normalised(images: Tensor) -> Tensor:
    """Turn uint8 RGB [batch, height, width, 3] into the float32 [batch, 3, height, width] that networks expect."""
    # What is made while tracing belongs to the trace.
    constants = _constants.__wrapped__ if torch.compiler.is_compiling() else _constants
    mean, std = constants(images.device)
    # Permuting NHWC gives channels_last strides, with which convolutions on a CPU are fastest.
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)


@cache
def _constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation on `device`, where they stay: to copy them there again each time would make each
    inference wait, and no CUDA graph may be captured over such a copy."""
    with torch.inference_mode(False):
        return torch.from_numpy(MEAN).to(device), torch.from_numpy(STD).to(device)


def load_network(folder: Path, run: Run) -> nn.Module:
    """The network of the finished `run` in `folder`, float32 on the CPU, in evaluation mode.

    Raises ArtifactError where its weights are damaged, or those of another network; BadInputError where it came as
    an ONNX file.
    """
    if run.model.kept == "file":
        raise no_gradients(folder)
    return _loaded(run.model.name, len(run.data.classes), folder / WEIGHTS_FILE, "Run `edgetl finetune` again.")


def load_ready_made(card: Card) -> nn.Module:
    """The network of the model that comes with edgetl, described by `card`: as `load_network`, with its errors.

    Raises MissingError where edgetl came without it.
    """
    return _loaded(card.source.model, len(card.labels), ready_made_weights(), "Install edgetl again.")


def _loaded(name: str, classes: int, path: Path, hint: str) -> nn.Module:
    def loaded() -> nn.Module:
        network = build(name, classes)
        grow(network, state)
        network.load_state_dict(state, assign=True)
        return network

    check_weights(path)
    try:
        with files.encodable(path) as named:
            state = {key: _as_float32(tensor) for key, tensor in load_file(named).items()}
        # On the meta device: drawing random weights would change the program's own sequence of random numbers.
        with torch.device("meta"):
            network = loaded()
        if any(tensor.is_meta for tensor in chain(network.parameters(), network.buffers())):
            # It has tensors that are not in its state dict.
            with torch.random.fork_rng(devices=[]):
                network = loaded()
    except BadInputError:
        raise
    except Exception as error:  # safetensors and torch have types of their own for damaged and unfitting files
        reason = str(error).strip().splitlines()[0]
        raise ArtifactError(f"{path} is damaged: {reason}", hint) from None
    bad = not_finite(network.state_dict())
    if bad:
        raise ArtifactError(f"{path} is damaged: {bad[0]} holds NaN or infinity", hint)
    return network.eval()


def check_weights(path: Path, limit: int = MAX_WEIGHTS_BYTES) -> None:
    """Raise BadInputError where a library should not be given `path` to read as weights."""
    try:
        files.check_regular(path, limit)
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror or error}") from None


def _as_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def not_finite(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors of `state` that hold NaN or infinity."""
    return [name for name, tensor in state.items() if not tensor.isfinite().all()]


def _mean_pooling(module: nn.Module) -> nn.Module | None:
    """torch.export turns AdaptiveAvgPool2d under a dynamic batch into gathers over computed shapes."""
    if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
        return _Mean()
    return None


class _Mean(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3), keepdim=True)


def _clipped_gate(module: nn.Module) -> nn.Module | None:
    """The hard sigmoid of squeeze-and-excitation, clip(x / 6 + 1/2, 0, 1), leaves only its clip; the rest goes into
    the convolution before it. OpenCV 5 takes any HardSigmoid before a product for a hard-swish, and errs.
    """
    if isinstance(module, SqueezeExcitation) and isinstance(module.scale_activation, nn.Hardsigmoid):
        sixth_and_half(module.fc2)
        module.scale_activation = nn.Hardtanh(0.0, 1.0)
    return None


def sixth_and_half(convolution: nn.Conv2d) -> None:
    """Let a convolution compute x / 6 + 1/2 of what it computes now."""
    convolution.weight.div_(6)
    assert convolution.bias is not None
    convolution.bias.div_(6).add_(0.5)


SIMPLIFIERS: list[Callable[[nn.Module], nn.Module | None]] = [_mean_pooling, _clipped_gate]
"""What `simplified` asks of each layer: its replacement, or None. The layer is a copy and may be changed."""


@torch.no_grad()
def simplified(layers: nn.Module) -> nn.Module:
    """A copy in evaluation mode that computes the same in layers of `torch.nn` that every runtime runs rightly."""
    changed = copy.deepcopy(layers).eval()
    for parent in list(changed.modules()):
        for name, child in list(parent.named_children()):
            found = (replace(child) for replace in SIMPLIFIERS)
            if (new := next((one for one in found if one is not None), None)) is not None:
                setattr(parent, name, new.eval())
    return changed
