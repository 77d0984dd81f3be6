"""Registries: edgetl's own and other packages' plug-ins, by name, imported only when asked for."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from tests.artifacts import tiny_artifact
from toolchain.cli import run
from toolchain.datasets.catalogue import open_dataset
from toolchain.errors import ExitCode, MissingError
from toolchain.export.int8 import quantisers
from toolchain.export.int8.quantisers import Task
from toolchain.plugins import KINDS, Plugin, PluginWarning, Registry, instance_of, registry
from toolchain.runs import read_run
from toolchain.runtimes.devices import expand
from toolchain.runtimes.machine import versions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


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


PAGE = Path(__file__).parents[1] / "docs" / "reference" / "plugins.md"


def of_the_page(language: str) -> str:
    """What docs/reference/plugins.md shows in one language, as one file."""
    return "\n\n".join(re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package that the page describes, for this process and those that it starts; and a broken one."""
    folder = tmp_path / "site"
    folder.mkdir()
    named = tomllib.loads(of_the_page("toml"))["project"]["entry-points"]
    points = {group: "\n".join(f"{name} = {what}" for name, what in some.items()) for group, some in named.items()}
    installed(folder, points, of_the_page("python"))
    installed(folder, {"edgetl.runtimes": "gone = broken:NOTHING"}, "import nosuchlibrary\n", "broken")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    for name in ("somebody", "broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for kind in KINDS:  # each says once in a process what is wrong with a plug-in, whichever test was first
        monkeypatch.setattr(registry(kind), "_warned", set())
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


def test_a_sink_of_somebody_elses_is_given_the_answers(package: Path, tmp_path: Path) -> None:
    tiny_artifact(tmp_path / "model.onnx")
    cv2.imwrite(str(tmp_path / "red.png"), np.full((40, 40, 3), (0, 0, 200), np.uint8))
    words = ["camera", str(tmp_path / "model.onnx"), "--source", str(tmp_path / "red.png"), "--headless"]
    assert run([*words, "--frames", "1", "--sink", f"tally={tmp_path / 'tally.txt'}", "--quiet"]) == ExitCode.DONE
    assert (tmp_path / "tally.txt").read_text() == "red 1\n"


def test_a_quantiser_of_somebody_elses_makes_a_candidate(package: Path, tmp_path: Path) -> None:
    artifact = tiny_artifact(tmp_path / "model.onnx")
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    task = Task(onnx.load_model_from_string(artifact.model), images)
    (mine,) = (recipe for recipe in quantisers.recipes(task) if recipe.label == "ONNX Runtime, percentile")
    made = mine.make()
    assert made.quantiser == "percentile"
    assert [value.name for value in made.model.graph.output] == ["logits", "probabilities"]


@pytest.mark.slow
def test_a_backbone_of_somebody_elses_is_trained_exported_and_listed(
    package: Path, tmp_path: Path, drawn_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    words = ["finetune", str(drawn_folder), "--model", "somebody-tiny", "--weights", "none", "--epochs", "1"]
    assert run([*words, "--size", "64", "--out", str(folder), "--quiet"]) == ExitCode.DONE
    assert read_run(folder).model.name == "somebody-tiny"
    assert run(["export", str(folder), "--quiet"]) == ExitCode.DONE
    exporting = capsys.readouterr()
    assert run(["doctor", "--json", "--quiet"]) == ExitCode.DONE
    told = capsys.readouterr()
    assert (exporting.err + told.err).count("warning: the plug-in gone") == 1, "once in a process"
    found = json.loads(told.out)
    assert {"kind": "backbones", "name": "somebody-tiny", "package": "somebody 1.0", "problem": ""} in found[
        "plugins"
    ]
    assert any("nosuchlibrary" in plugin["problem"] for plugin in found["plugins"] if plugin["name"] == "gone")
    assert any("the plug-in gone" in gap["what"] for gap in found["missing"])


def test_a_data_set_of_somebody_elses_is_one_module(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGETL_DATA", str(tmp_path))
    with pytest.raises(MissingError, match="flowers is not on this machine"):
        open_dataset("flowers")
    for label in ("rose", "tulip"):
        (tmp_path / "flowers" / label).mkdir(parents=True)
        for number in range(20):
            (tmp_path / "flowers" / label / f"{number}.jpg").write_bytes(f"{label} {number}".encode())
    dataset = open_dataset("flowers")
    assert (dataset.name, dataset.classes, dataset.licences) == (
        "flowers",
        ("rose", "tulip"),
        {"Flowers": "CC BY 2.0"},
    )
    installed(package, {"edgetl.datasets": "lost = lost:MISSING"}, "", "lost")
    monkeypatch.syspath_prepend(str(package))
    assert run(["data", "list", "--json"]) == ExitCode.DONE
    told = capsys.readouterr()
    assert told.err.count("warning: the plug-in lost") == 1
    found = {one["name"]: one["path"] for one in json.loads(told.out)["data_sets"]}
    assert set(found) == {"pets", "cats-vs-dogs", "drawn-pets", "flowers"}
    assert found["flowers"] == str(tmp_path / "flowers")
    with pytest.raises(MissingError, match="the plug-in lost"):
        open_dataset("lost")
