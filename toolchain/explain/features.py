"""The feature maps that the layers of a network make of a picture, the strongest first."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AvgPoolNd, _MaxPoolNd

from toolchain.backbones.networks import normalised
from toolchain.errors import BadInputError
from toolchain.explain import gallery
from toolchain.explain.pictures import contact_sheet
from toolchain.images.preprocess import Image

TOP = 12
TILE = 112
"""Maps are shown in this size, in pixels."""
GAP = 4

BEFORE_ACTIVATION: tuple[type[nn.Module], ...] = (nn.Conv2d, nn.Linear, _BatchNorm)
NO_MAPS_OF_THEIR_OWN: tuple[type[nn.Module], ...] = (
    _AdaptiveAvgPoolNd,
    _AvgPoolNd,
    _MaxPoolNd,
    nn.Dropout,
    nn.Identity,
)


@dataclass(frozen=True)
class FeatureLayer:
    """A layer whose output is feature maps, by its name in the network; `kind` is its class."""

    name: str
    kind: str
    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class FeatureMap:
    """One channel of a layer. `values` is float32 [height, width].

    `strength` is the standard deviation of its positive part over the picture: a map that is equally bright
    everywhere shows nothing.
    """

    channel: int
    strength: float
    values: NDArray[np.float32]


@dataclass(frozen=True)
class LayerMaps:
    """The strongest maps of a layer, strongest first; `silent` channels are 0 or less everywhere."""

    layer: FeatureLayer
    strongest: tuple[FeatureMap, ...]
    silent: int


def layers_of(network: nn.Module, picture: Image) -> list[FeatureLayer]:
    """The layers whose output is maps of more than one pixel, in the order in which they are computed."""
    found: dict[str, FeatureLayer] = {}

    def see(name: str, module: nn.Module, output: Tensor) -> None:
        channels, height, width = output.shape[1:]
        found.pop(name, None)  # one that is used several times has the place and the shape of the last
        found[name] = FeatureLayer(name, type(module).__name__, channels, height, width)

    _run(network, picture, dict(network.named_modules()), see)
    return list(found.values())


def default_layers(network: nn.Module, layers: Sequence[FeatureLayer]) -> list[str]:
    """One layer for each size of map, from early to late: the last one before the maps become smaller.

    Layers whose output goes into an activation are left out: its negative part goes no further.
    """
    modules = dict(network.named_modules())
    last: dict[tuple[int, int], str] = {}
    for layer in layers:
        if layer.name == "features" or isinstance(modules[layer.name], BEFORE_ACTIVATION + NO_MAPS_OF_THEIR_OWN):
            continue
        last[layer.height, layer.width] = layer.name
    return [last[size] for size in sorted(last, reverse=True)]


def features(
    network: nn.Module,
    picture: Image,
    names: Sequence[str] = (),
    top: int = TOP,
) -> list[LayerMaps]:
    """The `top` strongest maps of the layers called `names`, or of `default_layers`.

    `picture` is uint8 RGB in the size of the network's input. Raises BadInputError, with the nearest name, for a
    layer that does not exist or has no maps.
    """
    layers = {layer.name: layer for layer in layers_of(network, picture)}
    chosen = [_known(name, layers) for name in names] or default_layers(network, list(layers.values()))
    modules = dict(network.named_modules())
    outputs: dict[str, NDArray[np.float32]] = {}

    def keep(name: str, module: nn.Module, output: Tensor) -> None:
        # An activation that works in place would overwrite the output.
        outputs[name] = output[0].float().clone().numpy()

    _run(network, picture, {name: modules[name] for name in chosen}, keep)
    return [_strongest(layers[name], outputs[name], top) for name in chosen]


def sheet(maps: LayerMaps) -> Image:
    """The maps as one picture, uint8 RGB. Black is 0 or less; the brightest is the largest value of each map."""
    return contact_sheet([tile(one) for one in maps.strongest], GAP)


def tile(one: FeatureMap) -> Image:
    """One map as a picture of `TILE` x `TILE` pixels, uint8 RGB."""
    positive = np.maximum(one.values, 0)
    levels = np.rint(255 * positive / max(float(positive.max()), 1e-12)).astype(np.uint8)
    shrinks = min(levels.shape) > TILE
    sized = cv2.resize(levels, (TILE, TILE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
    return cv2.cvtColor(cv2.applyColorMap(sized, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def entries(found: Sequence[LayerMaps]) -> list[dict[str, object]]:
    """What `--json` prints for each layer."""
    return [
        {
            "layer": maps.layer,
            "file": f"{stem}.png",
            "silent": maps.silent,
            "strongest": [
                {"channel": one.channel, "strength": one.strength, "largest": float(one.values.max())}
                for one in maps.strongest
            ],
        }
        for maps, stem in zip(found, gallery.stems([maps.layer.name for maps in found]), strict=True)
    ]


def features_page(
    name: str, picture: Image, found: Sequence[LayerMaps], settings: Mapping[str, Any]
) -> gallery.Page:
    """The page of what the layers of the network called `name` make of `picture`."""
    sections = [gallery.Section("What the network sees", pictures=[gallery.Picture("input", picture)])]
    for maps in found:
        layer = maps.layer
        channels = ", ".join(str(one.channel) for one in maps.strongest)
        text = (
            f"{layer.kind}, {layer.channels} maps of {layer.height} x {layer.width}, of which {maps.silent} see "
            f"nothing here. The strongest are shown: {channels}."
        )
        sections.append(gallery.Section(layer.name, text, [gallery.Picture(layer.name, sheet(maps))]))
    return gallery.Page(
        f"What {name} sees in a picture",
        [
            "Early layers answer to edges and colours, exactly where these are. Late layers answer to parts of "
            "things, and only roughly where they are.",
            "In each map, black is 0 or less, and the brightest colour is the largest value of that map.",
        ],
        sections,
        settings,
    )


def _strongest(layer: FeatureLayer, values: NDArray[np.float32], top: int) -> LayerMaps:
    positive = np.maximum(values, 0)
    strengths = positive.std((1, 2), dtype=np.float64)
    order = np.argsort(-strengths, kind="stable")[:top]
    strongest = tuple(FeatureMap(int(channel), float(strengths[channel]), values[channel]) for channel in order)
    return LayerMaps(layer, strongest, int((positive.max((1, 2)) == 0).sum()))


def _known(name: str, layers: dict[str, FeatureLayer]) -> str:
    if name in layers:
        return name
    near = difflib.get_close_matches(name, layers, n=1, cutoff=0.4)
    hint = f"Do you mean {near[0]!r}? See --list-layers." if near else "See --list-layers."
    raise BadInputError(f"there is no layer {name!r} that has maps", hint)


def _run(
    network: nn.Module,
    picture: Image,
    modules: dict[str, nn.Module],
    see: Callable[[str, nn.Module, Tensor], None],
) -> None:
    """Show `picture` to the network, and call `see` with the outputs of `modules` that are maps."""

    def hook_for(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, _inputs: object, output: object) -> None:
            # Blocks of some networks give a list of tensors.
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
                see(name, module, output)

        return hook

    with ExitStack() as hooks, torch.inference_mode():
        for name, module in modules.items():
            if name:
                hooks.callback(module.register_forward_hook(hook_for(name)).remove)
        network(normalised(torch.from_numpy(picture)[None]))
