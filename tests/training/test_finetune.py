"""Runs: what is written, what is kept, what is refused, and that an interrupted run ends as an unbroken one."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import toolchain
from tests.conftest import QUICK, Recorder
from toolchain.backbones.networks import build
from toolchain.cli import run
from toolchain.errors import BadInputError, MissingError
from toolchain.export import exporting
from toolchain.runs import Run, read_run, read_splits
from toolchain.system import files
from toolchain.training import checkpoint, features, loop
from toolchain.training import finetune as finetuning
from toolchain.training.evaluator import Evaluator
from toolchain.training.finetune import finetune, resume
from toolchain.training.settings import GENTLE_RATES, TrainSettings


def _settings(data: Path, weights: Path | str = "none", **more: object) -> TrainSettings:
    return TrainSettings(data=str(data), weights=str(weights), **{**QUICK, **more})  # type: ignore[arg-type]


def test_run_folder_holds_what_the_design_says(run_folder: Path, drawn_folder: Path) -> None:
    names = {path.name for path in run_folder.iterdir()}
    assert names == {
        "run.json",
        "model.safetensors",
        "model.onnx",
        "metrics.jsonl",
        "metrics.csv",
        "predictions.csv",
        "splits.json",
        "left_out.json",
        "report.html",
        "checkpoint",
    }
    run = read_run(run_folder)
    assert run.data.classes == ("cat", "dog", "fish")
    assert run.data.counts == {"train": 15, "val": 3, "calibration": 3, "test": 3}
    assert run.settings["epochs"] == 2
    assert run.settings["learning_rate"] == GENTLE_RATES["adamw"]
    assert set(run.timings_s) == {"data", "probe", "finetune", "evaluate", "artifact", "total"}
    for metrics in run.metrics.values():
        assert 0 <= metrics.top1 <= 1
        assert sum(map(sum, metrics.confusion)) == metrics.n == 3
    lines = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    splits = read_splits(run_folder)
    hashes = [file.sha256 for files in splits.values() for file in files]
    assert len(set(hashes)) == len(hashes) == 24
    assert all((drawn_folder / file.name).is_file() for files in splits.values() for file in files)


def test_run_is_deployable_at_once(run_folder: Path, drawn_folder: Path) -> None:
    """Before any export: what `predict`, `camera` and `bench` open answers as the run did."""
    classifier = toolchain.load(run_folder)
    assert classifier.card.accuracy == (), "what nobody has measured is not claimed"
    with (run_folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        prediction = classifier.predict(drawn_folder / row["name"])
        assert prediction.label == row["answer"]
        assert prediction.probability == pytest.approx(float(row["probability"]), abs=2e-3)


def test_artifact_that_cannot_be_made_does_not_cost_the_run(
    tmp_path: Path, drawn_folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*rest: object) -> None:
        raise RuntimeError("the exporter\nhas a bad day")

    monkeypatch.setattr(exporting, "to_onnx", broken)
    recorder = Recorder()
    finetune(_settings(drawn_folder, weights, probe_only=True), tmp_path / "run", reporter=recorder)
    assert read_run(tmp_path / "run").model.kept == "probe"
    assert not (tmp_path / "run" / "model.onnx").exists()
    assert any("was not written (RuntimeError: the exporter has a bad day)" in line for line in recorder.warned)
    finetune(_settings(drawn_folder, weights, probe_only=True), tmp_path / "bare", deployable=False)
    assert not (tmp_path / "bare" / "model.onnx").exists()


def test_the_better_of_probe_and_epochs_is_kept(run_folder: Path) -> None:
    run = read_run(run_folder)
    assert run.metrics["val"].nll <= run.probe_metrics["val"].nll
    assert (run.model.kept == "probe") == (run.model.best_epoch == 0)


def test_calibration_photographs_teach_the_probe_and_validation_never_does(
    tmp_path: Path, drawn_folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[list[int]] = []
    original = finetuning.fit_head

    def seen(features: object, labels: np.ndarray, *rest: object) -> object:
        taught.append(labels.tolist())
        return original(features, labels, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(finetuning, "fit_head", seen)
    run = finetune(_settings(drawn_folder, weights, probe_only=True), tmp_path / "run")
    assert len(taught[0]) == run.data.counts["train"] + run.data.counts["calibration"] == 18


def test_probe_is_kept_when_fine_tuning_wrecks_the_network(
    tmp_path: Path, drawn_folder: Path, weights: Path
) -> None:
    recorder = Recorder()
    settings = _settings(drawn_folder, weights, learning_rate=0.9, epochs=1, ema_decay=0.0)
    run = finetune(settings, tmp_path / "run", reporter=recorder)
    assert run.model.kept == "probe"
    assert run.metrics == run.probe_metrics
    assert any("kept the linear probe" in line for line in recorder.said)


def test_same_seed_gives_the_same_bytes(
    tmp_path: Path, run_folder: Path, drawn_folder: Path, weights: Path
) -> None:
    again = finetune(_settings(drawn_folder, weights), tmp_path / "again")
    assert again.model.sha256 == read_run(run_folder).model.sha256


def test_resumed_run_equals_an_unbroken_one(
    tmp_path: Path, run_folder: Path, drawn_folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "broken"
    judged: list[str] = []
    original = Evaluator.on_validation

    def interrupted(self: object, network: torch.nn.Module, what: str, **more: object) -> object:
        judged.append(what)
        if what == "epoch 2":
            raise KeyboardInterrupt
        return original(self, network, what, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "on_validation", interrupted)
        with pytest.raises(KeyboardInterrupt):
            finetune(_settings(drawn_folder, weights), folder)
    assert not (folder / "run.json").exists()
    recorder = Recorder()
    run = resume(folder, reporter=recorder)
    assert "resumed after epoch 1 of 2" in recorder.said
    whole = load_file(run_folder / "model.safetensors")
    resumed = load_file(folder / "model.safetensors")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert run.metrics == read_run(run_folder).metrics
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_a_run_on_openvino_resumes_to_the_same_bytes(
    tmp_path: Path, drawn_folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "WORTH_COMPILING", 0)
    settings = _settings(drawn_folder, weights)
    whole = finetune(settings, tmp_path / "whole")
    original = loop.save_state

    def killed(*arguments: object) -> None:
        original(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_state", killed)
        with pytest.raises(KeyboardInterrupt):
            finetune(settings, tmp_path / "broken")
    resumed = resume(tmp_path / "broken")
    assert resumed.model.kept == whole.model.kept
    assert resumed.model.sha256 == whole.model.sha256
    assert resumed.metrics == whole.metrics


def test_resuming_a_finished_run_returns_it(run_folder: Path) -> None:
    assert resume(run_folder) == read_run(run_folder)


def test_resume_refuses_other_photographs(tmp_path: Path, drawn_folder: Path, weights: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(drawn_folder, data)
    folder = tmp_path / "run"
    finetune(_settings(data, weights, probe_only=True), folder)
    (folder / "run.json").unlink()
    next((data / "cat").iterdir()).unlink()
    with pytest.raises(BadInputError, match="not those that the run began with"):
        resume(folder)


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="nothing to resume"):
        resume(tmp_path)


def test_existing_folder_is_not_touched(tmp_path: Path, drawn_folder: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(BadInputError, match="not empty"):
        finetune(_settings(drawn_folder), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_unreadable_photographs_are_named_and_skipped(tmp_path: Path, drawn_folder: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(drawn_folder, data)
    (data / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 this is no photograph")
    recorder = Recorder()
    run = finetune(_settings(data, probe_only=True), tmp_path / "run", reporter=recorder)
    assert run.data.skipped == 1
    assert any("broken.jpg" in line for line in recorder.warned)
    assert any("1 of 25 photographs are unreadable" in line for line in recorder.warned)


def test_probes_of_random_features_say_nothing_of_the_network(tmp_path: Path, drawn_folder: Path) -> None:
    run = finetune(_settings(drawn_folder, epochs=1), tmp_path / "run", deployable=False)
    assert run.temperature_fit is not None
    assert run.temperature_fit.out_of_fold == 0
    probe = finetune(_settings(drawn_folder, probe_only=True), tmp_path / "probe", deployable=False)
    assert probe.temperature_fit is not None
    assert probe.temperature_fit.out_of_fold > 0


def test_class_with_nothing_readable_is_an_error(tmp_path: Path, drawn_folder: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(drawn_folder, data)
    for path in (data / "dog").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadInputError, match="dog"):
        finetune(_settings(data, probe_only=True), tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"model": "resnet999"}, BadInputError, "unknown model"),
        ({"weights": "absent.safetensors"}, BadInputError, "do not exist"),
        ({"device": "gpu"}, BadInputError, "unknown device"),
        ({"device": "cuda:99"}, MissingError, "CUDA"),
        ({"epochs": -1}, BadInputError, "--epochs"),
        ({"patience": -1}, BadInputError, "--patience"),
        ({"max_minutes": 0.0}, BadInputError, "--max-minutes"),
        ({"min_crop_area": 0.0}, BadInputError, "--min-crop-area"),
        ({"outliers": "absent"}, BadInputError, "0 usable pictures"),
        ({"batch_size": 0}, BadInputError, "--batch-size"),
        ({"learning_rate": 7.0}, BadInputError, "--learning-rate"),
    ],
)
def test_wrong_settings(
    tmp_path: Path, drawn_folder: Path, change: dict[str, object], error: type[Exception], says: str
) -> None:
    base = {"data": str(drawn_folder), "weights": "none"}
    with pytest.raises(error, match=says):
        finetune(TrainSettings(**{**base, **change}), tmp_path / "run")  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_training_that_diverges_ends_and_what_was_best_is_kept(
    tmp_path: Path, drawn_folder: Path, weights: Path
) -> None:
    recorder = Recorder()
    wild = {"optimizer": "sgd", "learning_rate": 0.9, "max_grad_norm": 0.0, "ema_decay": 0.0, "epochs": 3}
    run = finetune(_settings(drawn_folder, weights, **wild), tmp_path / "run", reporter=recorder)
    assert run.model.kept == "probe"
    assert any("training diverged in epoch 1" in line and "--learning-rate" in line for line in recorder.warned)
    assert not (tmp_path / "run" / "checkpoint" / "state.safetensors").exists()
    assert "NaN" not in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_weights_that_are_finite_and_compute_no_numbers_are_refused(
    tmp_path: Path, drawn_folder: Path, weights: Path
) -> None:
    state = load_file(weights)
    state["features.0.1.running_var"].fill_(-1.0)
    save_file(state, tmp_path / "negative.safetensors")
    with pytest.raises(BadInputError, match="computes NaN or infinity"):
        finetune(_settings(drawn_folder, tmp_path / "negative.safetensors"), tmp_path / "run")


def test_a_checkpoint_that_holds_nan_is_damaged(tmp_path: Path) -> None:
    tensors = {"network": {"weight": torch.ones(2)}, "average": {"weight": torch.tensor([1.0, torch.nan])}}
    progress = checkpoint.Progress(1, 0, (1.0, 0.0), 2, 1.0)
    (tmp_path / "checkpoint").mkdir()
    checkpoint.save_state(tmp_path, tensors, progress)
    with pytest.raises(BadInputError, match="average/weight holds NaN"):
        checkpoint.load_state(tmp_path)
    checkpoint.save_state(tmp_path, {"network": tensors["network"]}, progress)
    loaded = checkpoint.load_state(tmp_path)
    assert loaded is not None
    assert loaded[1] == progress


def test_random_weights_are_trained_whole(tmp_path: Path, drawn_folder: Path) -> None:
    settings = _settings(drawn_folder, epochs=1, ema_decay=0.0)
    assert settings.learning_rate == 1e-3
    finetune(settings, tmp_path / "run")
    first = load_file(tmp_path / "run" / "checkpoint" / "state.safetensors")
    torch.manual_seed(0)
    start = build("mobilenet_v3_small", 3).state_dict()
    changed = [name for name in start if not torch.equal(first[f"network/{name}"], start[name])]
    assert "features.0.0.weight" in changed
    assert "features.0.1.running_mean" in changed


def test_pretrained_blocks_and_statistics_stay(run_folder: Path, weights: Path) -> None:
    after = load_file(run_folder / "checkpoint" / "state.safetensors")
    before = load_file(weights)
    for name, tensor in before.items():
        block = int(name.split(".")[1])
        if block < 13 - 5 or "running" in name:
            assert torch.equal(after[f"network/{name}"], tensor), name
    assert not torch.equal(after["network/features.12.0.weight"], before["features.12.0.weight"])


def test_run_json_is_refused_when_damaged(tmp_path: Path, run_folder: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    document = json.loads((folder / "run.json").read_text())
    document["temperature"] = "warm"
    (folder / "run.json").write_text(json.dumps(document))
    with pytest.raises(BadInputError, match=r"temperature"):
        read_run(folder)


def test_run_json_round_trip(run_folder: Path) -> None:
    run = read_run(run_folder)
    assert msgspec.json.decode(msgspec.json.encode(run), type=Run) == run


@pytest.mark.slow
def test_a_run_goes_on_from_another_folder(
    tmp_path: Path, drawn_folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths that were typed from where the run began are kept whole."""
    begun, later = tmp_path / "begun", tmp_path / "later"
    begun.mkdir()
    later.mkdir()
    (begun / "photos").symlink_to(drawn_folder)
    shutil.copy(weights, begun / "weights.safetensors")

    def interrupted(self: object, network: torch.nn.Module, what: str, **more: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.chdir(begun)
    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "on_validation", interrupted)
        with pytest.raises(KeyboardInterrupt):
            finetune(_settings(Path("photos"), "weights.safetensors"), Path("run"))
    monkeypatch.chdir(later)
    run = resume(begun / "run")
    assert run.settings["data"] == str(begun / "photos")
    assert Path(run.data.path).is_absolute()
    shutil.rmtree(begun / "run" / "checkpoint")


def test_photographs_of_a_run_that_are_gone(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoint"
    folder.mkdir(parents=True)
    settings = {"settings": {"data": "photos"}, "data_sha256": "0" * 64}
    (folder / "settings.json").write_text(json.dumps(settings))  # as earlier versions stored them
    with pytest.raises(BadInputError, match="photos, the photographs of") as raised:
        resume(tmp_path / "run")
    assert "in which it was begun" in raised.value.hint


def test_what_was_taught_before_a_camera_is_not_resumed(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`edgetl teach` times no steps, and goes on by itself."""
    folder = tmp_path / "my things" / "run"
    shutil.copytree(run_folder, folder)
    files.write_json(folder / "run.json", replace(read_run(folder), timings_s={}))
    assert run(["finetune", "--resume", str(folder)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "was taught by `edgetl teach`: there is nothing to resume" in said
    assert f"edgetl teach --out '{folder.parent}'" in said
    assert run(["finetune", "drawn-pets", "--out", str(folder)]) == 2
    assert "--resume" not in capsys.readouterr().err
