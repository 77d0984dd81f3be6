"""Quantisers as plug-ins: one module of another package, found by its entry point, tried by `export --int8`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.artifacts import tiny_model
from toolchain.artifact import read_artifact
from toolchain.export.exporting import export
from toolchain.export.int8 import search
from toolchain.export.int8.quantisers import QUANTISERS, Candidate, Recipe, Task, recipes
from toolchain.export.results import QuantizationSettings

SOMEBODYS = '''
"""A quantiser of somebody else's: weights of the last layer as float16 and back."""
import copy

import numpy as np
from onnx import numpy_helper

from toolchain.export.int8.quantisers import Candidate, Quantiser, Recipe


def recipes(task):
    def make():
        model = copy.deepcopy(task.model)
        for tensor in model.graph.initializer:
            if tensor.name.endswith("weight") and tensor.dims:
                values = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        return Candidate("somebody", "somebody\'s", {"images": len(task.images)}, model)

    yield Recipe("somebody\'s", make)


QUANTISER = Quantiser("somebody", recipes)
'''


@pytest.fixture
def somebody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    info = site / "somebody-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "somebody.py").write_text(SOMEBODYS, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[edgetl.quantisers]\nsomebody = somebody:QUANTISER\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "somebody", raising=False)


def test_built_in_quantisers_come_first_and_in_their_order() -> None:
    assert QUANTISERS.names()[:3] == ("edgetl", "nncf", "onnxruntime")
    labels = [recipe.label for recipe in recipes(Task(tiny_model(), np.zeros((1, 32, 32, 3), np.uint8)))]
    assert labels == [
        "edgetl",
        "edgetl, sensitive layers in float",
        "edgetl, for ONNX Runtime",
        "edgetl, for ONNX Runtime, sensitive layers in float",
        "NNCF, full bias correction",
        "NNCF, fast bias correction",
        "ONNX Runtime, min-max",
    ]


def test_a_fallback_is_tried_where_nothing_before_it_could_be_carried_out(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    *_, last = recipes(Task(tiny_model(), np.zeros((1, 32, 32, 3), np.uint8)))
    assert last.fallback

    def failing() -> Candidate:
        raise RuntimeError("no such operator")

    for first, tried in ((None, "edgetl"), (failing, "ONNX Runtime, min-max")):

        def two(task: Task, first: Callable[[], Candidate] | None = first) -> list[Recipe]:
            own, *_, last = recipes(task)
            return [replace(own, make=first or own.make), last]

        monkeypatch.setattr(search, "recipes", two)
        done = export(tmp_path / "run", int8=QuantizationSettings(max_drop_pp=100, min_speed_up=0))
        assert [attempt.label for attempt in done.attempts] == [tried]


@pytest.mark.usefixtures("somebody")
def test_somebody_elses_is_tried_and_written_into_the_card(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)

    def only_theirs(task: Task) -> list[Recipe]:
        found = recipes(task)
        assert len(found) > 3
        return [recipe for recipe in found if recipe.label == "somebody's"]

    monkeypatch.setattr(search, "recipes", only_theirs)
    done = export(folder, int8=QuantizationSettings(max_drop_pp=100, min_speed_up=0))
    assert [attempt.quantiser for attempt in done.attempts] == ["somebody"]
    artifact = read_artifact(folder / "model.int8.onnx")
    assert artifact.card.recipe is not None
    assert artifact.card.recipe.quantiser == "somebody"
    assert artifact.card.recipe.settings == {"images": artifact.card.recipe.calibration_n}
    onnx.checker.check_model(onnx.load_model_from_string(artifact.model))
