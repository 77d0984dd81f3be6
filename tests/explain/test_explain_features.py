"""Maps of layers: which, how strong, and as pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from toolchain.backbones.networks import build
from toolchain.backbones.recipes import NAMES
from toolchain.errors import BadInputError
from toolchain.explain.features import (
    FeatureLayer,
    FeatureMap,
    LayerMaps,
    default_layers,
    features,
    layers_of,
    sheet,
    tile,
)
from toolchain.explain.torch_model import TorchModel

GREY = np.full((64, 64, 3), 118, np.uint8)


def test_maps_are_those_of_the_network_strongest_first(spot: TorchModel) -> None:
    picture = GREY.copy()
    picture[:, :16] = (255, 118, 118)
    (maps,) = features(spot.network, picture, ["features.2"], top=2)
    assert maps.layer == FeatureLayer("features.2", "ReLU", 3, 16, 16)
    strongest, second = maps.strongest
    assert strongest.channel == 0, "red changes most over the picture"
    assert strongest.values[:, :4].min() > 1
    assert strongest.values[:, 4:].max() < 0.3
    assert strongest.strength == pytest.approx(float(np.maximum(strongest.values, 0).std()), abs=1e-6)
    assert strongest.strength > second.strength


def test_maps_before_an_activation_in_place_are_as_they_were() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    (before, after) = features(network, GREY, ["0", "1"], top=4)
    values = {one.channel: one.values for one in before.strongest}
    assert min(value.min() for value in values.values()) < 0
    for one in after.strongest:
        assert np.array_equal(one.values, np.maximum(values[one.channel], 0))


def test_channels_that_see_nothing_are_counted() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.copy_(torch.tensor([-1.0, -1.0, -1.0, 1.0]))
    assert features(network, GREY, ["1"])[0].silent == 3


@pytest.mark.parametrize("name", NAMES)
def test_default_layers_go_from_large_maps_to_small_after_activations(name: str) -> None:
    network = build(name, 2).eval()
    layers = layers_of(network, GREY)
    chosen = default_layers(network, layers)
    known = {layer.name: layer for layer in layers}
    heights = [known[one].height for one in chosen]
    assert heights == sorted(set(heights), reverse=True)
    assert len(heights) >= 5
    assert all(layer.height * layer.width > 1 for layer in layers), "pooled features are no maps"


def test_vgg_shows_the_last_activation_before_each_pooling() -> None:
    network = build("vgg16", 2).eval()
    picture = np.zeros((224, 224, 3), np.uint8)
    chosen = default_layers(network, layers_of(network, picture))
    assert chosen == ["features.3", "features.8", "features.15", "features.22", "features.29"]


@pytest.mark.parametrize(
    ("name", "hint"), [("layer5", "Do you mean 'layer"), ("fc", "--list-layers"), ("avgpool", "--list-layers")]
)
def test_a_layer_without_maps_is_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(BadInputError, match=name) as caught:
        features(build("resnet18", 2).eval(), GREY, [name])
    assert hint in caught.value.hint


def test_a_sheet_shows_each_map_up_to_its_own_largest_value() -> None:
    values = np.zeros((7, 7), np.float32)
    values[0, 0], values[6, 6] = 0.001, -5
    one = tile(FeatureMap(0, 0.0, values))
    assert one.shape == (112, 112, 3)
    assert one[0, 0].sum() > 600, "the largest value is bright"
    assert one[111, 111].sum() < 20, "what is below 0 is black"
    maps = LayerMaps(FeatureLayer("x", "ReLU", 8, 7, 7), tuple(FeatureMap(n, 1.0, values) for n in range(8)), 0)
    paper = sheet(maps)
    assert paper.shape == (2 * 112 + 4, 6 * 112 + 5 * 4, 3)
    assert np.array_equal(paper[116:, 116:228], one)
    assert (paper[116:, 232:] == 255).all()


def test_modules_that_give_lists_of_maps_are_passed_over() -> None:
    class Twice(nn.Module):
        def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
            return [image, image]

    class Sum(nn.Module):
        def forward(self, images: list[torch.Tensor]) -> torch.Tensor:
            return images[0] + images[1]

    network = nn.Sequential(nn.Conv2d(3, 4, 3), Twice(), Sum())
    assert [layer.name for layer in layers_of(network, GREY)] == ["0", "2"]
