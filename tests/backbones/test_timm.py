"""Networks of timm: taken apart into blocks, exported, and given timm's own weights and preprocessing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

timm = pytest.importorskip("timm")

from toolchain.backbones import BACKBONES, find, preprocess_of, recipe_of  # noqa: E402
from toolchain.backbones.networks import (  # noqa: E402
    blocks_of,
    body_of,
    build,
    frozen_and_trained,
    head_of,
    hidden_of,
    load_network,
    normalised,
    simplified,
)
from toolchain.backbones.weights import load_pretrained  # noqa: E402
from toolchain.cli import run as edgetl  # noqa: E402
from toolchain.errors import BadInputError, ExitCode, MissingError  # noqa: E402
from toolchain.export.int8.torch_graph import Graph  # noqa: E402
from toolchain.export.onnx_writer import to_onnx  # noqa: E402
from toolchain.images.preprocess import Preprocess  # noqa: E402
from toolchain.runs import read_run  # noqa: E402

LITE = "tf_efficientnet_lite0"
SMALL = Preprocess(64, 64, "shortest-edge", 73, "cubic")
NETWORKS = {
    LITE: (18, 1280),  # TensorFlow's padding, another mean and deviation
    "mobilenetv4_conv_small_050": (18, 1280),  # a hidden layer with BatchNorm after the pooling
    "mobilenetv3_small_050": (13, 1024),  # a hidden layer; squeeze and excitation with hard gates
    "regnety_002": (5, 368),  # the head lies in a module of its own; gates are sigmoids
    "repvgg_a0": (22, 1280),  # several convolutions read the picture
}
"""Blocks, and width of the features."""


def lively(name: str, classes: int) -> torch.nn.Module:
    """Random weights with fitting statistics: the answers depend on the picture."""
    torch.manual_seed(0)
    network = build(f"timm:{name}", classes).train()
    torch.nn.init.normal_(head_of(network).weight)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(torch.randn(8, 3, 64, 64))
    return network.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_taken_apart_and_exported(name: str) -> None:
    network = lively(name, 5)
    blocks, features = NETWORKS[name]
    assert (len(blocks_of(network)), head_of(network).in_features) == (blocks, features)
    held = [id(parameter) for layers in (body_of(network), hidden_of(network)) for parameter in layers.parameters()]
    of_head = {id(parameter) for parameter in head_of(network).parameters()}
    assert sorted(held) == sorted(id(one) for one in network.parameters() if id(one) not in of_head)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    with torch.inference_mode():
        pixels = normalised(torch.from_numpy(images))
        expected = network(pixels).numpy()
        prefix, tail = frozen_and_trained(network, 3)
        assert np.array_equal(tail(prefix(pixels)).numpy(), expected)
        np.testing.assert_allclose(
            simplified(body_of(network))(pixels), body_of(network)(pixels), rtol=1e-3, atol=1e-4
        )
    model = to_onnx(network, SMALL, 1.0)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answers = session.run(["logits"], {"image": images})[0]
    np.testing.assert_allclose(answers, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert not {"Pad", "Reshape"} & {node.op_type for node in model.graph.node}


def test_the_pixels_are_those_that_timm_trained_on() -> None:
    network, theirs = build(f"timm:{LITE}", 3).eval(), timm.create_model(LITE, num_classes=3).eval()
    theirs.load_state_dict(
        {name.replace("classifier.1.", "classifier."): tensor for name, tensor in network.state_dict().items()}
    )
    torch.nn.init.normal_(head_of(network).weight, generator=torch.Generator().manual_seed(0))
    theirs.classifier.weight = head_of(network).weight
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    config = timm.data.resolve_data_config(theirs.pretrained_cfg)
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
    with torch.inference_mode():
        expected = theirs((images.permute(0, 3, 1, 2) / 255 - mean) / std)
        torch.testing.assert_close(network(normalised(images)), expected, rtol=1e-4, atol=1e-5)
    assert config["mean"] != timm.data.IMAGENET_DEFAULT_MEAN


def test_a_run_of_it_is_opened_bit_for_bit(tmp_path: Path) -> None:
    """By the name with its tag, as run.json has it; also where that name was not asked for before."""
    network = lively(LITE, 3)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    BACKBONES.get("timm").find.cache_clear()  # type: ignore[union-attr]
    model, data = SimpleNamespace(name=f"timm:{LITE}.in1k", kept="probe"), SimpleNamespace(classes=("a", "b", "c"))
    run = SimpleNamespace(model=model, data=data)
    state = torch.get_rng_state()
    again = load_network(tmp_path, run)  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), state)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(again(pixels), network(pixels))


def test_configuration_and_recipe_are_the_networks_own() -> None:
    assert preprocess_of(f"timm:{LITE}") == Preprocess(224, 224, "shortest-edge", 256, "cubic")
    assert find(f"timm:{LITE}").name == f"timm:{LITE}.in1k"
    assert find(f"timm:{LITE}").mean == (0.5, 0.5, 0.5)
    assert dict(recipe_of(f"timm:{LITE}").finetune.items())["epochs"] == 8


def test_weights_in_timms_names_are_loaded_with_their_head(tmp_path: Path) -> None:
    theirs = timm.create_model(LITE, num_classes=7)
    save_file(theirs.state_dict(), tmp_path / "lite.safetensors")
    network = build(f"timm:{LITE}", 3)
    found = load_pretrained(network, f"timm:{LITE}", str(tmp_path / "lite.safetensors"))
    assert torch.equal(network.get_submodule("conv_stem").weight, theirs.conv_stem.weight)
    assert found.head is not None
    assert torch.equal(found.head[0], theirs.classifier.weight)
    assert "apache-2.0 (timm, timm/tf_efficientnet_lite0.in1k)" in found.licence


def test_published_weights_come_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has been downloaded before is used without a network; without both, it is said what to fetch."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    network = build(f"timm:{LITE}", 3)
    with pytest.raises(MissingError, match=f"weights of timm:{LITE} could not be downloaded") as caught:
        load_pretrained(network, f"timm:{LITE}", "imagenet")
    assert "timm/tf_efficientnet_lite0.in1k" in caught.value.hint
    with pytest.raises(BadInputError, match="imagenet-v1 is for torchvision's networks"):
        load_pretrained(network, f"timm:{LITE}", "imagenet-v1")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nosuch_net", "has no network 'nosuch_net'"),
        ("vit_tiny_patch16_224", "cannot be fine-tuned by edgetl"),
        ("", "unknown model 'timm:'"),
    ],
)
def test_networks_that_cannot_be_used(name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgetl(["finetune", "drawn-pets", "--model", f"timm:{name}", "--weights", "none"]) == ExitCode.BAD_INPUT
    assert said in capsys.readouterr().err


def test_quantised_graphs_compute_the_padding_of_tensorflow() -> None:
    network = lively(LITE, 3)
    model = to_onnx(network, SMALL, 1.0)
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(Graph(model).run(images), network(normalised(images)), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_network_of_timm_is_fine_tuned_and_exported(
    drawn_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One with a hidden layer and BatchNorm between pooling and head, which fine-tuning changes too."""
    name = "timm:mobilenetv4_conv_small_050"
    start = build(name, 3)
    save_file(start.state_dict(), tmp_path / "start.safetensors")
    words = ["finetune", str(drawn_folder), "--model", name, "--weights", str(tmp_path / "start.safetensors")]
    words += ["--epochs", "1", "--size", "64", "--trained-blocks", "2", "--out", str(tmp_path / "run"), "--quiet"]
    assert edgetl(words) == ExitCode.DONE
    assert edgetl(["export", str(tmp_path / "run"), "--quiet"]) == ExitCode.DONE  # with parity on both runtimes
    run = read_run(tmp_path / "run")
    assert run.model.name == f"{name}.e3000_r224_in1k"
    trained = load_network(tmp_path / "run", run)
    if run.model.kept == "finetune":
        assert not torch.equal(trained.get_submodule("conv_head").weight, start.get_submodule("conv_head").weight)
    assert torch.equal(trained.get_submodule("conv_stem").weight, start.get_submodule("conv_stem").weight)
