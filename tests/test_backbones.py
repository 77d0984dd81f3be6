"""Networks, their weights, and the files that do not fit."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from toolchain import backbones
from toolchain.backbones import BACKBONES, build, head_of, load_pretrained, normalised
from toolchain.cli.finetune import MODELS
from toolchain.errors import BadInputError, MissingError


def test_command_line_offers_every_backbone() -> None:
    assert tuple(BACKBONES) == MODELS


@pytest.mark.parametrize("name", BACKBONES)
def test_features_have_the_width_of_the_table(name: str) -> None:
    network = build(name, 5).eval()
    logits = network(torch.zeros(2, 3, 64, 64))
    assert logits.shape == (2, 5)


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


def test_no_network_for_imagenet_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    class Offline:
        url = "https://example.org/mobilenet_v2.pth"

        @staticmethod
        def get_state_dict(**_: object) -> object:
            raise URLError("no route to host")

    table = {**BACKBONES, "mobilenet_v2": backbones.Backbone("mobilenet_v2", build, Offline, 1280)}
    monkeypatch.setattr(backbones, "BACKBONES", table)
    network = torchvision.models.mobilenet_v2()
    with pytest.raises(MissingError, match="could not be downloaded") as caught:
        load_pretrained(network, "mobilenet_v2", "imagenet")
    assert "mobilenet_v2.pth" in caught.value.hint
