"""When training stops, and what it is balanced by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.conftest import QUICK
from toolchain.backbones import recipes
from toolchain.datasets import Dataset, Photograph
from toolchain.errors import BadInputError
from toolchain.images.reader import Reader
from toolchain.runs import Metrics, read_run
from toolchain.system.progress import Silent
from toolchain.training import loop
from toolchain.training.checkpoint import Progress
from toolchain.training.context import AUTO_PATIENCE, TrainContext
from toolchain.training.finetune import finetune
from toolchain.training.loop import score_of
from toolchain.training.records import read_lines
from toolchain.training.settings import TrainSettings, settings_for
from toolchain.training.team import Team


def _context(photos: int = 100, **settings: object) -> TrainContext:
    listed = tuple(Photograph(str(i), Path(str(i)), i % 2, f"{i:064}") for i in range(photos))
    others = {"calibration": listed[: photos // 20], "val": listed[: photos // 5]}
    chosen = TrainSettings("unused", **settings)  # type: ignore[arg-type]
    dataset = Dataset("photos", Path(), ("cat", "dog"), {"train": listed, **others})
    reader = Reader(chosen.preprocess, None, Silent())
    return TrainContext(chosen, dataset, (), reader, torch.device("cpu"), Team(), Path(), Silent())


def _metrics(top1: float, nll: float) -> Metrics:
    return Metrics(100, top1, 1.0, top1, nll, 0.0, 0.0, [])


@pytest.mark.parametrize(
    ("settings", "done", "best", "seconds", "expected"),
    [
        ({"epochs": 10}, 5, 1, 50, 10),
        ({"epochs": 10, "patience": 3}, 5, 3, 50, 10),
        ({"epochs": 10, "patience": 3}, 5, 2, 50, 5),
        ({"epochs": 10, "max_minutes": 1.0}, 1, 1, 10, 6),
        ({"epochs": 10, "max_minutes": 1.0}, 1, 1, 5, 10),
        ({"epochs": 10, "max_minutes": 1.0}, 1, 1, 100, 1),
        ({"epochs": 10, "max_minutes": 1.0}, 3, 3, 59, 3),
        # Refitting on 125 photographs takes 1.25 times as long as the epochs on 100.
        ({"epochs": 10, "max_minutes": 1.0, "refit": True}, 1, 1, 10, 2),
        ({"epochs": 10, "max_minutes": 1.0, "refit": True}, 2, 1, 20, 2),
        ({"epochs": 10, "max_minutes": 1.0, "refit": True}, 3, 3, 30, 3),
        ({"epochs": 10, "max_minutes": 1.0, "refit": True}, 1, 1, 2, 10),
    ],
)
def test_how_many_epochs_there_will_be(
    settings: dict[str, object], done: int, best: int, seconds: float, expected: int
) -> None:
    assert loop._planned(Progress(done, best, (1, 0), 10, seconds), _context(**settings)) == expected


@pytest.mark.parametrize(("photos", "expected"), [(50, 30), (2000, 10), (100_000, 4)])
def test_auto_epochs_follow_the_number_of_photographs(photos: int, expected: int) -> None:
    context = _context(photos, epochs=0)
    assert context.epochs == expected
    assert context.patience == AUTO_PATIENCE
    assert _context(photos, epochs=0, patience=0).patience == 0, "0 never stops early"


def test_an_epoch_far_below_the_probe_is_never_better() -> None:
    probe = _metrics(0.8, 0.5)  # of 100 photographs: a standard error of 0.04
    assert score_of(_metrics(0.75, 0.1), probe) < score_of(probe, probe)
    assert score_of(_metrics(0.77, 0.4), probe) > score_of(probe, probe)
    assert score_of(_metrics(0.81, 0.6), probe) < score_of(probe, probe)
    sure = replace(_metrics(1.0, 0.5), n=12)
    assert score_of(replace(_metrics(11 / 12, 0.1), n=12), sure) > score_of(sure, sure)
    assert score_of(replace(_metrics(10 / 12, 0.1), n=12), sure) < score_of(sure, sure)


def test_a_time_budget_ends_a_run(tmp_path: Path, drawn_folder: Path) -> None:
    settings = TrainSettings(str(drawn_folder), weights="none", max_minutes=1e-6, **{**QUICK, "epochs": 5})  # type: ignore[arg-type]
    finetune(settings, tmp_path / "run")
    assert [line["epoch"] for line in read_lines(tmp_path / "run")] == [1]
    assert read_run(tmp_path / "run").settings["epochs"] == 5


def test_options_go_before_the_recipe() -> None:
    recipe = recipes.load("mobilenet_v2")
    settings = settings_for("photos", "mobilenet_v2", recipe, epochs=3, batch_size=None)
    assert settings.epochs == 3
    assert settings.batch_size == 32
    assert settings.learning_rate == recipe.finetune["learning_rate"]
    scratch = settings_for("photos", "mobilenet_v2", recipe, weights="none")
    assert scratch.learning_rate == 1e-3


def test_settings_of_an_unknown_version_cannot_be_resumed(tmp_path: Path, drawn_folder: Path) -> None:
    from toolchain.system import files
    from toolchain.training.finetune import resume

    document = {"settings": {"data": str(drawn_folder), "epochs": "many"}, "data_sha256": "0" * 64}
    files.write_json(tmp_path / "checkpoint" / "settings.json", document)
    with pytest.raises(BadInputError, match="another version"):
        resume(tmp_path)
