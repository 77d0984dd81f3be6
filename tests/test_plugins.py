"""Registries: edgetl's own and other packages' plug-ins, by name, imported only when asked for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.artifacts import tiny_artifact
from toolchain.cli import run
from toolchain.errors import ExitCode, MissingError
from toolchain.plugins import Plugin, PluginWarning, Registry, instance_of
from toolchain.runs import read_run
from toolchain.runtimes.devices import expand
from toolchain.runtimes.machine import versions


def installed(folder: Path, entries: dict[str, str], source: str, name: str = "somebody") -> None:
    """What pip leaves in `folder`: one module, and the metadata that names its entry points."""
    (folder / f"{name}.py").write_text(source, encoding="utf-8")
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    lines = [line for group, points in entries.items() for line in (f"[{group}]", points)]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[str]:
    points = "good = somebody:GOOD\nbroken = somebody:MISSING\nwrong = somebody:NUMBER\nown = somebody:GOOD"
    installed(tmp_path, {"edgetl.words": points}, "GOOD = 'good'\nNUMBER = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "somebody", raising=False)
    return Registry("words", {"own": "toolchain.plugins:OWN"}, instance_of(str))


def test_names_import_nothing(words: Registry[str]) -> None:
    assert words.names() == ("own", "broken", "good", "wrong")
    assert "good" in words
    assert "nosuch" not in words
    assert "somebody" not in sys.modules


def test_what_works_is_loaded_and_the_rest_is_a_warning(words: Registry[str]) -> None:
    with pytest.warns(PluginWarning) as warned:
        assert words.all() == {"own": "edgetl", "good": "good"}
    assert [str(one.message) for one in warned] == [
        "the plug-in broken (edgetl.words, from somebody 1.0) is left out: "
        "AttributeError: module 'somebody' has no attribute 'MISSING'",
        "the plug-in wrong (edgetl.words, from somebody 1.0) is left out: "
        "TypeError: int found, where builtins.str is expected",
    ]
    assert words.all() == {"own": "edgetl", "good": "good"}  # told once


def test_a_broken_one_that_is_asked_for_is_an_error_with_what_to_do(words: Registry[str]) -> None:
    with pytest.raises(MissingError) as raised:
        words.get("broken")
    assert raised.value.hint == "Update it, or remove it: pip uninstall somebody"
    with pytest.raises(KeyError):
        words.get("nosuch")


def test_all_are_listed_with_their_package_and_what_is_wrong(words: Registry[str]) -> None:
    own, broken, good, wrong, second = words.plugins()
    assert own == Plugin("words", "own", "edgetl")
    assert good == Plugin("words", "good", "somebody 1.0")
    assert "no attribute" in broken.problem
    assert "builtins.str" in wrong.problem
    assert second == Plugin("words", "own", "somebody 1.0", "edgetl has one of that name")


PACKAGE = '''
from functools import partial

import numpy as np

from toolchain.backbones import Backbone
from toolchain.runtimes import Answer, Execution
from toolchain.runtimes.devices import Device, RuntimeFamily


def create():
    from torch import nn

    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()]
    network = nn.Module()
    network.stages = nn.ModuleList([nn.Sequential(*layers[:2]), nn.Sequential(*layers[2:])])
    network.fc = nn.Linear(16, 10)
    network.forward = partial(forward, network)
    return network


def forward(network, images):
    for stage in network.stages:
        images = stage(images)
    return network.fc(images.mean((2, 3)))


TINY = Backbone("somebody-tiny", create, head="fc", blocks=lambda network: list(network.stages), licence="MIT")


class Reference:
    """ONNX's own reference implementation."""

    def __init__(self, artifact, threads):
        from onnx.reference import ReferenceEvaluator

        self.evaluator = ReferenceEvaluator(artifact.model)
        self.device, self.provider_effective = "reference:cpu", "onnx.reference"
        self.threads, self.execution = threads or 1, Execution()

    def infer(self, images):
        return Answer(*self.evaluator.run(["logits", "probabilities"], {"image": images}))

    def streams(self, count, batch):
        return []


def load(artifact, target, threads, batch, *, exclusive=False):
    return Reference(artifact, threads)


REFERENCE = RuntimeFamily(
    name="reference",
    title="ONNX's reference",
    targets=("cpu",),
    parse=lambda text: text if text == "cpu" else None,
    probe=lambda target: Device(f"reference:{target}", True),
    load=load,
    packages={"onnx": ("onnx",)},
)
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody else's package beside edgetl, for this process and those that it starts; and a broken one."""
    folder = tmp_path / "site"
    folder.mkdir()
    points = {
        "edgetl.backbones": "somebody-tiny = somebody:TINY",
        "edgetl.runtimes": "reference = somebody:REFERENCE",
    }
    installed(folder, points, PACKAGE)
    installed(folder, {"edgetl.runtimes": "gone = broken:NOTHING"}, "import nosuchlibrary\n", "broken")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    for name in ("somebody", "broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder


def test_a_runtime_of_somebody_elses_answers(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_artifact(tmp_path / "model.onnx")
    cv2.imwrite(str(tmp_path / "red.png"), np.full((40, 40, 3), (0, 0, 200), np.uint8))
    words = [
        "predict",
        str(tmp_path / "model.onnx"),
        str(tmp_path / "red.png"),
        "--device",
        "Reference:CPU",
        "--json",
    ]
    assert run(words) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert found["device"] == "reference:cpu"
    with pytest.warns(PluginWarning, match="the plug-in gone .edgetl.runtimes, from broken 1.0. is left out"):
        assert "reference:cpu" in expand(["all"])
    assert versions()["onnx"]


@pytest.mark.slow
def test_a_backbone_of_somebody_elses_is_trained_exported_and_listed(
    package: Path, tmp_path: Path, drawn_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    words = ["finetune", str(drawn_folder), "--model", "somebody-tiny", "--weights", "none", "--epochs", "1"]
    assert run([*words, "--size", "64", "--out", str(folder), "--quiet"]) == ExitCode.DONE
    assert read_run(folder).model.name == "somebody-tiny"
    assert run(["export", str(folder), "--quiet"]) == ExitCode.DONE
    assert run(["bench", str(folder), "--device", "reference:cpu", "--rounds", "1", "--json", "--quiet"]) == 0
    capsys.readouterr()
    assert run(["doctor", "--json", "--quiet"]) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert {"kind": "backbones", "name": "somebody-tiny", "package": "somebody 1.0", "problem": ""} in found[
        "plugins"
    ]
    assert any("nosuchlibrary" in plugin["problem"] for plugin in found["plugins"] if plugin["name"] == "gone")
    assert any("the plug-in gone" in gap["what"] for gap in found["missing"])
    assert run(["doctor", "--quiet"]) == ExitCode.DONE
    assert "reference (somebody 1.0)" in capsys.readouterr().out
