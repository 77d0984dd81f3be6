"""Networks: their bodies, heads and blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from toolchain.backbones import find
from toolchain.backbones.networks import (
    _constants,
    blocks_of,
    body_of,
    build,
    dropout_of,
    frozen_and_trained,
    head_of,
    normalised,
    pooled_features,
    simplified,
)
from toolchain.backbones.recipes import NAMES
from toolchain.backbones.weights import load_pretrained
from toolchain.errors import BadInputError

BLOCKS = {
    "mobilenet_v2": 19,
    "mobilenet_v3_small": 13,
    "mobilenet_v3_large": 17,
    "resnet18": 9,
    "resnet50": 17,
    "vgg16": 13,
    "vgg19": 16,
}


@pytest.fixture(scope="module", params=NAMES)
def network(request: pytest.FixtureRequest) -> torch.nn.Module:
    """Each network in eval mode; its answers depend on the picture. Tests may freeze its layers, nothing else."""
    torch.manual_seed(0)
    network = build(request.param, 5).train()
    torch.nn.init.normal_(head_of(network).weight)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of the one batch
    with torch.no_grad():
        network(torch.randn(8, 3, 48, 48))
    return network.eval()


@pytest.mark.parametrize("name", NAMES)
def test_the_head_is_linear_on_pooled_features_behind_dropout(name: str) -> None:
    with torch.device("meta"):
        network = build(name, 5).eval()
        assert body_of(network)(torch.zeros(2, 3, 64, 64)).shape[:2] == (2, find(name).features)
        assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 5)
    assert (head_of(network).in_features, head_of(network).out_features) == (find(name).features, 5)
    assert dropout_of(network).p == find(name).dropout


def test_the_head_on_pooled_features_gives_the_networks_answers(network: torch.nn.Module) -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), np.uint8))
    with torch.inference_mode():
        expected = network(normalised(images))
        answers = head_of(network)(pooled_features(network, images))
    assert expected.std() > 0.01
    torch.testing.assert_close(answers, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_blocks_hold_every_parameter_of_the_body_once(name: str) -> None:
    with torch.device("meta"):
        network = build(name, 5)
    blocks = blocks_of(network)
    assert len(blocks) == BLOCKS[name]
    assert all(list(block.parameters()) for block in blocks)
    held = [parameter for block in blocks for parameter in block.parameters()]
    of_head = {id(parameter) for parameter in head_of(network).parameters()}
    expected = [parameter for parameter in network.parameters() if id(parameter) not in of_head]
    assert sorted(map(id, held)) == sorted(map(id, expected))
    assert list(map(id, body_of(network).parameters())) == list(map(id, held))


def test_a_frozen_prefix_and_a_trained_tail_answer_as_the_whole(
    network: torch.nn.Module, pixels: torch.Tensor
) -> None:
    with torch.no_grad():
        expected = network(pixels)
    count = len(blocks_of(network))
    for trained in (0, 2, count, count + 1):
        prefix, tail = frozen_and_trained(network, trained)
        with torch.no_grad():
            between = prefix(pixels)
            before = between.clone()
            assert torch.equal(tail(between), expected)
        assert torch.equal(between, before), "the tail has changed what the prefix gave it"
        assert isinstance(prefix, torch.nn.Identity) == (trained >= count)
        assert not any(parameter.requires_grad for parameter in prefix.parameters())
        assert all(parameter.requires_grad for parameter in tail.parameters())
        shared = [*prefix.parameters(), *tail.parameters()]
        assert sorted(map(id, shared)) == sorted(map(id, network.parameters()))


def test_a_fully_connected_layer_on_maps_is_a_convolution() -> None:
    from toolchain.backbones.torchvision import VGG_CHANNELS, _OnMaps

    layers = torch.nn.Sequential(_OnMaps(torch.nn.Linear(VGG_CHANNELS * 9, 4)))
    maps = torch.randn(2, VGG_CHANNELS, 3, 3)
    plain = simplified(layers)
    assert isinstance(plain[0], torch.nn.Conv2d)
    with torch.inference_mode():
        torch.testing.assert_close(plain(maps), layers(maps), rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_trained_blocks_alone(network: torch.nn.Module, pixels: torch.Tensor) -> None:
    _, tail = frozen_and_trained(network, 2)
    network.zero_grad()
    network(pixels).square().sum().backward()
    reached = {id(parameter) for parameter in network.parameters() if parameter.grad is not None}
    assert reached == {id(parameter) for parameter in tail.parameters()}


def test_a_negative_number_of_trained_blocks_is_refused() -> None:
    with pytest.raises(BadInputError, match="-1"):
        frozen_and_trained(build("mobilenet_v3_small", 2), -1)


@pytest.mark.parametrize("name", ["resnet18", "vgg16"])
def test_body_and_names_are_torchvisions(name: str, tmp_path: Path, pixels: torch.Tensor) -> None:
    theirs = getattr(torchvision.models, name)(num_classes=11).eval()
    path = tmp_path / "weights.safetensors"
    hidden = ("classifier.0.", "classifier.3.")  # 480 MB, which nothing reads
    save_file({key: value for key, value in theirs.state_dict().items() if not key.startswith(hidden)}, path)
    ours = build(name, 3).eval()
    pretrained = load_pretrained(ours, name, str(path))
    with torch.inference_mode():
        maps = body_of(ours)(pixels)
        layers = list(theirs.children())
        body = layers[:1] if name == "vgg16" else layers[:-2]
        assert torch.equal(maps, torch.nn.Sequential(*body)(pixels))
    if name == "vgg16":
        assert pretrained.head is None
    else:
        assert pretrained.head is not None
        assert torch.equal(pretrained.head[0], theirs.fc.weight)
        assert torch.equal(pretrained.head[1], theirs.fc.bias)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet18"])
def test_the_head_of_an_earlier_run_is_remembered(name: str, tmp_path: Path) -> None:
    earlier = build(name, 4)
    torch.nn.init.normal_(head_of(earlier).weight)
    save_file(earlier.state_dict(), tmp_path / "model.safetensors")
    head = load_pretrained(build(name, 3), name, str(tmp_path / "model.safetensors")).head
    assert head is not None
    assert torch.equal(head[0], head_of(earlier).weight)


def test_torchvisions_own_mobilenet_v2_reads_our_state() -> None:
    ours = build("mobilenet_v2", 7)
    torchvision.models.mobilenet_v2(num_classes=7).load_state_dict(ours.state_dict())


def test_normalisation_is_torchvisions() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 11, 3), np.uint8)
    expected = torchvision.transforms.functional.normalize(
        torch.from_numpy(images).permute(0, 3, 1, 2) / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    torch.testing.assert_close(normalised(torch.from_numpy(images)), expected)


def test_normalisation_copies_its_constants_to_a_device_once() -> None:
    """A copy from the host in each inference would make it wait, and cannot be captured in a CUDA graph."""
    images = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)

    class Normalised(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return normalised(images)

    _constants.cache_clear()
    traced = torch.export.export(Normalised(), (images,)).module()(images)
    with torch.inference_mode():
        expected = normalised(images)
    assert _constants.cache_info().currsize == 1
    normalised(images)
    assert _constants.cache_info().misses == 1
    assert not any(constant.is_inference() for constant in _constants(images.device))
    torch.testing.assert_close(traced, expected)
