"""Networks, their weights, and the files that do not fit."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from tests.served import Served, whole
from toolchain.artifact import read_artifact
from toolchain.backbones import find
from toolchain.backbones import torchvision as own
from toolchain.backbones.networks import (
    blocks_of,
    body_of,
    build,
    dropout_of,
    frozen_and_trained,
    head_of,
    hidden_of,
    load_network,
    normalised,
    pooled_features,
)
from toolchain.backbones.recipes import NAMES
from toolchain.backbones.weights import load_pretrained
from toolchain.errors import BadInputError, MissingError
from toolchain.runs.ready_made import MODEL, ready_made_artifact, ready_made_weights
from toolchain.system import files

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


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))


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


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_state_dicts_are_loaded_and_an_old_head_is_remembered(tmp_path: Path, suffix: str) -> None:
    source = torchvision.models.mobilenet_v2(num_classes=11)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": source.state_dict()}, path)
    else:
        save_file(source.state_dict(), path)
    network = build("mobilenet_v2", 3)
    pretrained = load_pretrained(network, "mobilenet_v2", str(path))
    assert torch.equal(network.features[0][0].weight, source.features[0][0].weight)
    assert pretrained.sha256 is not None
    assert pretrained.head is not None
    assert torch.equal(pretrained.head[0], source.classifier[1].weight)
    assert not head_of(network).weight.any()


WRAPPED = {
    "module.": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},  # DataParallel
    "_orig_mod.": lambda state: {f"_orig_mod.{name}": tensor for name, tensor in state.items()},  # torch.compile
    "_orig_mod.module.": lambda state: {f"_orig_mod.module.{name}": tensor for name, tensor in state.items()},
    "state_dict.model.": lambda state: {  # Lightning
        "epoch": 3,
        "state_dict": {f"model.{name}": tensor for name, tensor in state.items()},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
    },
    "model.": lambda state: {"model": state, "args": "cpu"},  # torchvision's references
    "model_ema.module.": lambda state: {
        "model": {name: tensor * 0 for name, tensor in state.items()},
        "model_ema": {
            "n_averaged": torch.tensor(7),
            **{f"module.{name}": tensor for name, tensor in state.items()},
        },
    },
    "state_dict_ema.": lambda state: {  # timm
        "state_dict": {name: tensor * 0 for name, tensor in state.items()},
        "state_dict_ema": state,
    },
    "": lambda state: state,
}


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet18"])
@pytest.mark.parametrize("prefix", WRAPPED)
def test_what_wrappers_put_before_the_names_is_taken_off_and_said(tmp_path: Path, prefix: str, name: str) -> None:
    state = build(name, 4).state_dict()
    wrapped = WRAPPED[prefix](state)
    path = tmp_path / "weights.pth"
    torch.save(wrapped, path)
    network = build(name, 2)
    found = load_pretrained(network, name, str(path))
    assert found.stripped == prefix
    assert found.head is not None
    own = network.state_dict()
    assert all(torch.equal(own[key], state[key]) for key in own if not key.startswith(("fc", "classifier")))
    if all(isinstance(value, torch.Tensor) for value in wrapped.values()):
        save_file(wrapped, tmp_path / "weights.safetensors")
        assert load_pretrained(network, name, str(tmp_path / "weights.safetensors")).stripped == prefix


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("tensor", ["features.0.0.weight", "features.0.1.running_var", "classifier.1.bias"])
def test_weights_that_are_no_numbers_are_refused_by_tensor_name(tmp_path: Path, tensor: str, value: float) -> None:
    state = build("mobilenet_v3_small", 4).state_dict()
    state[tensor].view(-1)[0] = value
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(BadInputError, match=f"{tensor} holds NaN or infinity"):
        load_pretrained(build("mobilenet_v3_small", 4), "mobilenet_v3_small", str(tmp_path / "nan.safetensors"))


def test_ready_made_weights_are_those_of_the_pets_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = read_artifact(ready_made_artifact()).card
    assert card.source.model == MODEL
    network = build(MODEL, 3)
    found = load_pretrained(network, MODEL, "ready-made")
    stored = load_file(ready_made_weights())
    assert torch.equal(network.features[0][0].weight, stored["features.0.0.weight"].float())
    assert found.source == "ready-made"
    assert found.sha256 == files.sha256_of(ready_made_weights())
    assert found.head is not None
    assert found.head[0].shape == (len(card.labels), 1280)
    assert all(terms in found.licence for terms in card.source.licences.values())
    with pytest.raises(BadInputError, match="those of a mobilenet_v2, not of a resnet18"):
        load_pretrained(build("resnet18", 3), "resnet18", "ready-made")
    monkeypatch.chdir(tmp_path)
    save_file(build(MODEL, 2).state_dict(), "ready-made")  # a file of that name is a file
    with pytest.raises(BadInputError):
        load_pretrained(network, MODEL, "ready-made")


def test_classifier_and_counters_may_be_missing(tmp_path: Path) -> None:
    state = build("mobilenet_v3_small", 2).state_dict()
    path = tmp_path / "features.safetensors"
    save_file({k: v for k, v in state.items() if k.startswith("features.") and "num_batches" not in k}, path)
    assert load_pretrained(build("mobilenet_v3_small", 4), "mobilenet_v3_small", str(path)).head is None


def test_half_precision_is_widened(tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in build("mobilenet_v3_small", 2).state_dict().items()}
    save_file(state, tmp_path / "half.safetensors")
    network = build("mobilenet_v3_small", 2)
    load_pretrained(network, "mobilenet_v3_small", str(tmp_path / "half.safetensors"))
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_weights_of_another_network_are_refused_by_tensor_name(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file(build("mobilenet_v3_small", 2).state_dict(), path)
    with pytest.raises(BadInputError, match=r"features\.0\.0\.weight \[16, 3, 3, 3\], not \[32, 3, 3, 3\]"):
        load_pretrained(build("mobilenet_v2", 2), "mobilenet_v2", str(path))


def test_a_deeper_network_is_not_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "resnet34.safetensors"
    save_file(torchvision.models.resnet34().state_dict(), path)
    with pytest.raises(BadInputError, match=r"layer1\.2\..* is not part of it"):
        load_pretrained(build("resnet18", 2), "resnet18", str(path))


class _Malice:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("this must never run",))


@pytest.mark.parametrize("kind", ["text", "truncated", "pickle", "list", "folder"])
def test_files_that_are_no_state_dict(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / ("weights.pth" if kind in {"pickle", "list"} else "weights.safetensors")
    if kind == "text":
        path.write_text("hello")
    elif kind == "truncated":
        save_file({"a": torch.zeros(1000)}, path)
        path.write_bytes(path.read_bytes()[:500])
    elif kind == "pickle":
        torch.save({"a": _Malice()}, path)
    elif kind == "list":
        torch.save([torch.zeros(1)], path)
    else:
        path.mkdir()
    with pytest.raises(BadInputError):
        load_pretrained(build("mobilenet_v2", 2), "mobilenet_v2", str(path))
    assert "never run" not in capsys.readouterr().out


def test_imagenet_is_the_best_published_and_imagenet_v1_the_first() -> None:
    models = torchvision.models
    for name in NAMES:
        published = {weights.name: weights for weights in models.get_model_weights(name)}
        best = "IMAGENET1K_V2" if name in {"mobilenet_v2", "mobilenet_v3_large", "resnet50"} else "IMAGENET1K_V1"
        download = find(name).download
        assert isinstance(download, partial)
        assert download.args == (published[best], published["IMAGENET1K_V1"])


def test_published_weights_come_by_url_and_their_hash_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a server on this machine; the start of the SHA-256 stands in the file's name, as torchvision has it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    source = torchvision.models.mobilenet_v3_small(num_classes=4)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    data = (tmp_path / "weights.pth").read_bytes()
    digest = files.sha256_of(tmp_path / "weights.pth")[:8]
    with Served(whole(data, "application/octet-stream")) as served:
        good, other = f"{served.url}/small-{digest}.pth", f"{served.url}/small-00000000.pth"
        backbone = replace(
            own.MOBILENET_V3_SMALL,
            download=partial(own.download, SimpleNamespace(url=good), SimpleNamespace(url=other)),
        )
        monkeypatch.setattr(own, "MOBILENET_V3_SMALL", backbone)
        network = build("mobilenet_v3_small", 2)
        found = load_pretrained(network, "mobilenet_v3_small", "imagenet")
        assert torch.equal(network.features[0][0].weight, source.features[0][0].weight)
        assert (found.source, found.licence) == ("imagenet", own.LICENCE)
        with pytest.raises(MissingError, match="invalid hash value"):
            load_pretrained(network, "mobilenet_v3_small", "imagenet-v1")
    absent = SimpleNamespace(url=f"{served.url}/gone-00000000.pth")
    with pytest.raises(MissingError, match="could not be downloaded") as caught:
        own.download(absent, absent, "imagenet")
    assert absent.url in caught.value.hint


@pytest.mark.parametrize(
    ("name", "pooled", "width"), [("mobilenet_v3_small", 576, 1024), ("mobilenet_v3_large", 960, 1280)]
)
def test_the_hidden_layer_of_mobilenet_v3_is_kept_where_the_weights_bring_it(
    name: str, pooled: int, width: int, tmp_path: Path, pixels: torch.Tensor
) -> None:
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)(num_classes=11).train()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of the one batch
    with torch.no_grad():
        theirs(torch.randn(8, 3, 48, 48))
    theirs.eval()
    save_file(theirs.state_dict(), tmp_path / "whole.safetensors")
    ours = build(name, 3).eval()
    assert head_of(ours).in_features == pooled
    pretrained = load_pretrained(ours, name, str(tmp_path / "whole.safetensors"))
    assert head_of(ours).in_features == width
    assert pretrained.head is not None
    assert torch.equal(pretrained.head[0], theirs.classifier[3].weight)
    with torch.inference_mode():
        features = hidden_of(ours)(body_of(ours)(pixels).mean((2, 3)))
        answers = features @ pretrained.head[0].T + pretrained.head[1]
        expected = theirs(pixels)
        assert expected.std() > 0.01
        torch.testing.assert_close(answers, expected, rtol=1e-4, atol=1e-4)
        torch.nn.init.normal_(head_of(ours).weight)
        prefix, tail = frozen_and_trained(ours, 2)
        torch.testing.assert_close(tail(prefix(pixels)), ours(pixels))
    run = SimpleNamespace(model=SimpleNamespace(name=name), data=SimpleNamespace(classes=("a", "b", "c")))
    save_file(ours.state_dict(), tmp_path / "model.safetensors")
    again = load_network(tmp_path, run)  # type: ignore[arg-type]
    with torch.inference_mode():
        torch.testing.assert_close(again(pixels), ours(pixels))
