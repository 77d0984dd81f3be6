"""Pretrained weights from files, wrappers and publishers, and the files that do not fit."""

from __future__ import annotations

import argparse
import os
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from tests.served import Served, whole
from toolchain.artifact import read_artifact
from toolchain.backbones import find
from toolchain.backbones import torchvision as own
from toolchain.backbones.networks import (
    body_of,
    build,
    frozen_and_trained,
    head_of,
    hidden_of,
    load_network,
)
from toolchain.backbones.recipes import NAMES
from toolchain.backbones.weights import load_pretrained
from toolchain.errors import BadInputError, MissingError
from toolchain.runs.ready_made import MODEL, ready_made_artifact, ready_made_weights
from toolchain.system import files


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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_hint_names_the_network_that_weights_are_for(name: str, prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in find(name).create().state_dict().items()}
    save_file({prefix + key: torch.zeros(shape, dtype=torch.float16) for key, shape in shapes.items()}, path)
    tried = "resnet50" if name != "resnet50" else "resnet18"
    with pytest.raises(BadInputError, match=f"does not fit {tried}: ") as caught:
        load_pretrained(build(tried, 2), tried, str(path))
    assert caught.value.hint == f"They are weights for --model {name}."


def test_a_deeper_network_is_not_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "resnet34.safetensors"
    save_file(torchvision.models.resnet34().state_dict(), path)
    with pytest.raises(BadInputError, match=r"layer1\.2\..* is not part of it") as caught:
        load_pretrained(build("resnet18", 2), "resnet18", str(path))
    assert caught.value.hint == "Are these the weights of another --model?", "edgetl has no resnet34"


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


def _packed(path: Path) -> None:
    """The parts of a checkpoint, compressed: of zeros, nothing is left."""
    whole = path.with_name("whole.pth")
    torch.save({"a": torch.zeros(3_000_000)}, whole)
    with zipfile.ZipFile(whole) as parts, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for part in parts.infolist():
            packed.writestr(part.filename, parts.read(part))


def _nested(path: Path, levels: int, times: int) -> None:
    """A dict that holds `times` times one that does so again, which is stored once each."""
    level: dict[str, object] = {"a": torch.zeros(1)}
    for _ in range(levels):
        level = {f"{time}": level for time in range(times)}
    torch.save(level, path)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (_packed, "it unpacks to 12 MB, more than it has itself"),
        (lambda path: _nested(path, 40, 2), "features.0.0.weight is missing"),
    ],
    ids=["compressed", "nested"],
)
def test_checkpoints_that_grow_are_refused(tmp_path: Path, write: Callable[[Path], None], says: str) -> None:
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(BadInputError, match=says):
        load_pretrained(build("mobilenet_v2", 2), "mobilenet_v2", str(path))


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
    run = SimpleNamespace(
        model=SimpleNamespace(name=name, kept="finetune"), data=SimpleNamespace(classes=("a", "b", "c"))
    )
    save_file(ours.state_dict(), tmp_path / "model.safetensors")
    again = load_network(tmp_path, run)  # type: ignore[arg-type]
    with torch.inference_mode():
        torch.testing.assert_close(again(pixels), ours(pixels))


def _checkpoint(kind: str, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What a trainer saves of a network; the average of the weights is twice the weights."""
    twice = {name: 2 * tensor for name, tensor in state.items()}
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    if kind == "timm":
        arguments = argparse.Namespace(model="mobilenet_v2", output=Path("runs"))
        return {"epoch": 3, "arch": "mobilenet_v2", "state_dict": state, "optimizer": optimizer, "version": 2,
                "args": arguments, "state_dict_ema": twice, "metric": 81.2}  # fmt: skip
    module = ModuleType("lightning.fabric.utilities.data")
    attributes = type("AttributeDict", (dict,), {"__module__": module.__name__})
    vars(module)["AttributeDict"] = attributes
    parts = module.__name__.split(".")
    for length in range(1, len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[:length]), ModuleType(".".join(parts[:length])))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    in_lightning = {f"model.{name}": tensor for name, tensor in state.items()}
    average = {f"ema_model.module.{name}": tensor for name, tensor in twice.items()}
    beside = {"loss.weight": torch.ones(5), "ema_model.n_averaged": torch.ones(1)}
    return {"pytorch-lightning_version": "2.5.0", "state_dict": in_lightning | average | beside,
            "hyper_parameters": attributes(lr=0.1), "callbacks": {}, "optimizer_states": [optimizer]}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "prefix"), [("timm", "state_dict_ema."), ("lightning", "state_dict.ema_model.module.")]
)
def test_checkpoints_of_trainers_with_their_records(
    kind: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {name: tensor for name, tensor in build("mobilenet_v2", 2).state_dict().items() if tensor.ndim}
    torch.save(_checkpoint(kind, state, monkeypatch), tmp_path / "last.ckpt")
    network = build("mobilenet_v2", 3)
    found = load_pretrained(network, "mobilenet_v2", str(tmp_path / "last.ckpt"))
    assert found.stripped == prefix
    first = next(iter(state))
    torch.testing.assert_close(network.state_dict()[first], 2 * state[first], rtol=0, atol=0)


class _Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo harm",)


@pytest.mark.parametrize("harm", [_Harm(), {"deep": [_Harm()]}])
def test_beside_trainers_records_nothing_else_is_read(harm: object, tmp_path: Path) -> None:
    torch.save({"args": argparse.Namespace(one=harm), "state_dict": {}}, tmp_path / "x.pth")
    with pytest.raises(BadInputError, match="loaded safely"):
        load_pretrained(build("mobilenet_v2", 2), "mobilenet_v2", str(tmp_path / "x.pth"))


def test_tensors_that_are_not_used_are_named(tmp_path: Path) -> None:
    state = build("mobilenet_v2", 2).state_dict()
    more = {f"aux.{number}.weight": torch.ones(2) for number in range(8)}
    torch.save(state | more, tmp_path / "x.pth")
    found = load_pretrained(build("mobilenet_v2", 3), "mobilenet_v2", str(tmp_path / "x.pth"))
    assert found.unused == tuple(more)
    (line,) = found.remarks()
    assert "not used: aux.0.weight, aux.1.weight" in line
    assert line.endswith("and 2 more")
