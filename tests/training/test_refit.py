"""Refitting: val teaches too once all is chosen on it, and does not judge any more."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import QUICK, Recorder
from toolchain.artifact import read_artifact
from toolchain.export.exporting import export
from toolchain.runs import Run, read_run
from toolchain.system.progress import Silent
from toolchain.training import finetune as finetuning
from toolchain.training import loop
from toolchain.training.finetune import finetune
from toolchain.training.settings import TrainSettings
from toolchain.training.trainer import Trainer


def _settings(data: Path, weights: Path, **more: object) -> TrainSettings:
    return TrainSettings(data=str(data), weights=str(weights), **{**QUICK, "refit": True, **more})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def refit_folder(tmp_path_factory: pytest.TempPathFactory, drawn_folder: Path, weights: Path) -> Path:
    folder = tmp_path_factory.mktemp("refit") / "run"
    finetune(_settings(drawn_folder, weights, epochs=1), folder)
    return folder


def test_all_photographs_but_test_teach_and_what_val_has_chosen_stays(refit_folder: Path, run_folder: Path) -> None:
    run, plain = read_run(refit_folder), read_run(run_folder)
    assert run.model.refit
    assert run.model.taught == ("train", "calibration", "val")
    assert run.data == plain.data, "the splits are as they were"
    assert run.timings_s["refit"] > 0
    assert not plain.model.refit
    assert plain.model.taught == ("train", "calibration")


def test_the_rate_falls_again_as_in_the_epoch_that_was_chosen(
    tmp_path: Path, drawn_folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, int]] = []
    original, scores = Trainer.epoch, itertools.count()

    def epoch(self: Trainer, number: int, epochs: int, what: str = "") -> tuple[float, float]:
        seen.append((what, number, epochs))
        return original(self, number, epochs, what)

    monkeypatch.setattr(Trainer, "epoch", epoch)
    monkeypatch.setattr(loop, "score_of", lambda metrics, probe: (1.0, float(next(scores))))  # the last is the best
    monkeypatch.setattr(loop, "_planned", lambda progress, context: 2)  # so many of 4 fit into the time
    finetune(_settings(drawn_folder, weights, epochs=4), tmp_path / "run", deployable=False)
    assert seen == [("", 1, 4), ("", 2, 2), ("refit: ", 1, 2), ("refit: ", 2, 2)]


def test_a_resumed_run_refits_by_the_rate_of_the_epoch_that_was_chosen(
    tmp_path: Path, drawn_folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, int]] = []
    original, scores = Trainer.epoch, itertools.count()
    stopping = True

    def epoch(self: Trainer, number: int, epochs: int, what: str = "") -> tuple[float, float]:
        seen.append((what, number, epochs))
        if what and stopping:
            raise KeyboardInterrupt
        return original(self, number, epochs, what)

    monkeypatch.setattr(Trainer, "epoch", epoch)
    best_first = {1: 1.0}  # the probe is asked first, then epoch 1, which stays the best
    monkeypatch.setattr(loop, "score_of", lambda metrics, probe: (best_first.get(next(scores), 0.0), 0.0))
    monkeypatch.setattr(loop, "_planned", lambda progress, context: 4 if progress.epochs_done < 2 else 2)
    with pytest.raises(KeyboardInterrupt):
        finetune(_settings(drawn_folder, weights, epochs=4), tmp_path / "run", deployable=False)
    stopping = False
    finetuning.resume(tmp_path / "run", deployable=False)
    assert seen == [("", 1, 4), ("", 2, 4), ("refit: ", 1, 4), ("refit: ", 1, 4)]


def test_probe_is_fitted_again_on_more_photographs(
    tmp_path: Path, drawn_folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[int] = []
    original = finetuning.fit_head

    def seen(features: object, labels: np.ndarray, *rest: object) -> object:
        taught.append(len(labels))
        return original(features, labels, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(finetuning, "fit_head", seen)
    run = finetune(_settings(drawn_folder, weights, probe_only=True), tmp_path / "run", deployable=False)
    counts = run.data.counts
    assert taught == [counts["train"] + counts["calibration"], sum(counts.values()) - counts["test"]] == [18, 21]
    assert run.metrics["val"] == run.probe_metrics["val"]
    assert run.reject is not None


def test_export_judges_on_test_and_the_card_says_what_taught(refit_folder: Path) -> None:
    exported = export(refit_folder, target="ort:cpu", reporter=Silent())
    assert exported.split == "test"
    card = read_artifact(refit_folder / "model.onnx").card
    assert card.source.taught == ("train", "calibration", "val")
    assert {accuracy.split for accuracy in card.accuracy} == {"test"}


def test_a_refit_that_diverges_leaves_the_network_before(
    tmp_path: Path, drawn_folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer.epoch

    def diverging(self: Trainer, epoch: int, epochs: int, what: str = "") -> tuple[float, float]:
        done = original(self, epoch, epochs, what)
        if what:
            for parameter in self.average.parameters():
                parameter.data.fill_(float("nan"))
        return done

    monkeypatch.setattr(Trainer, "epoch", diverging)
    monkeypatch.setattr(finetuning, "fine_tune", _keeping_the_last_epoch(finetuning.fine_tune))
    recorder = Recorder()
    run: Run = finetune(_settings(drawn_folder, weights, epochs=1), tmp_path / "run", reporter=recorder)
    assert not run.model.refit
    assert any("refitting diverged" in line for line in recorder.warned)


def _keeping_the_last_epoch(original):  # type: ignore[no-untyped-def]
    def kept(*rest: object) -> object:
        return replace(original(*rest), epoch=1)

    return kept
