"""A teacher: its answers to the same crops are learnt, in the student's order of classes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import toolchain
from tests.conftest import QUICK, Recorder
from toolchain.backbones.networks import load_network, normalised
from toolchain.datasets.catalogue import open_dataset
from toolchain.errors import BadInputError
from toolchain.images.reader import Reader
from toolchain.runs import RUN_FILE, read_run
from toolchain.system import files
from toolchain.system.progress import Silent
from toolchain.training import interface
from toolchain.training.context import TrainContext
from toolchain.training.finetune import finetune
from toolchain.training.settings import TrainSettings
from toolchain.training.teacher import TEMPERATURE, Teacher, check_teacher, distillation_loss
from toolchain.training.team import Team


@pytest.fixture
def context(tmp_path: Path, drawn_folder: Path) -> TrainContext:
    settings = TrainSettings(data=str(drawn_folder), weights="none", precision="float32", **QUICK)  # type: ignore[arg-type]
    reader = Reader(settings.preprocess, None, Silent())
    dataset = open_dataset(str(drawn_folder), reporter=Silent())
    return TrainContext(settings, dataset, (), reader, torch.device("cpu"), Team(), tmp_path, Silent())


def _with_classes(context: TrainContext, classes: tuple[str, ...]) -> TrainContext:
    return replace(context, dataset=replace(context.dataset, classes=classes))


def test_it_answers_as_its_network_does_in_the_students_order(run_folder: Path, context: TrainContext) -> None:
    images = torch.randint(0, 256, (6, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        logits = load_network(run_folder, read_run(run_folder))(normalised(images))
    expected = torch.softmax(logits / read_run(run_folder).temperature / TEMPERATURE, 1).numpy()
    answered = Teacher([run_folder], context).probabilities(images).numpy()
    np.testing.assert_allclose(answered, expected, atol=1e-4)
    turned = _with_classes(context, ("fish", "cat", "dog"))
    np.testing.assert_allclose(
        Teacher([run_folder, run_folder], turned).probabilities(images), answered[:, [2, 0, 1]], atol=1e-6
    )


def test_a_teacher_that_does_not_know_a_class_is_refused(run_folder: Path, context: TrainContext) -> None:
    with pytest.raises(BadInputError, match="does not know ferret, newt"):
        Teacher([run_folder], _with_classes(context, ("cat", "ferret", "newt")))


def test_a_teacher_that_came_as_an_onnx_file_is_refused_at_once(
    tmp_path: Path, run_folder: Path, context: TrainContext
) -> None:
    shutil.copytree(run_folder, tmp_path / "adopted")
    (tmp_path / "adopted" / "adopted.onnx").touch()
    run = read_run(run_folder)
    files.write_json(tmp_path / "adopted" / RUN_FILE, replace(run, model=replace(run.model, kept="file")))
    with pytest.raises(BadInputError, match="ONNX file, which cannot teach"):
        check_teacher(tmp_path / "adopted", context.dataset, Silent())


def test_a_teacher_that_does_not_know_a_class_costs_no_training(
    tmp_path: Path, run_folder: Path, drawn_folder: Path, weights: Path
) -> None:
    """It is refused before any photograph is decoded."""
    data = tmp_path / "photographs"
    shutil.copytree(drawn_folder, data)
    (data / "fish").rename(data / "newt")
    settings = TrainSettings(data=str(data), weights=str(weights), teacher=(str(run_folder),), **QUICK)  # type: ignore[arg-type]
    recorder = Recorder()
    with pytest.raises(BadInputError, match="does not know newt"):
        finetune(settings, tmp_path / "run", reporter=recorder)
    assert not (tmp_path / "run").exists()
    assert recorder.said == []


def test_the_loss_is_least_where_the_student_answers_as_its_teacher() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.0, 3.0]])
    taught = torch.softmax(logits / TEMPERATURE, 1)
    least = distillation_loss(logits, taught)
    assert least.shape == (2,)
    for other in (logits + torch.tensor([0.3, 0.0, 0.0]), logits * 1.2, torch.zeros_like(logits)):
        assert (distillation_loss(other, taught) > least).all()
    student = torch.zeros(2, 3, requires_grad=True)
    distillation_loss(student, taught).sum().backward()
    # The gradient of cross-entropy, times the temperature: as large as that of a loss on labels.
    np.testing.assert_allclose(student.grad, (1 / 3 - taught) * TEMPERATURE, atol=1e-6)


@pytest.mark.slow
def test_a_student_comes_nearer_to_its_teacher(
    tmp_path: Path, drawn_folder: Path, weights: Path, run_folder: Path
) -> None:
    """The run says who taught it, and goes on being taught when it is resumed."""
    settings = TrainSettings(
        data=str(drawn_folder), weights=str(weights), teacher=(str(run_folder),), **{**QUICK, "seed": 1}
    )  # type: ignore[arg-type]
    run = finetune(settings, tmp_path / "taught")
    teacher = read_run(run_folder)
    assert list(run.settings["teacher"]) == [str(run_folder.absolute())]
    if run.model.best_epoch:
        assert [one.sha256 for one in run.model.teachers] == [teacher.model.sha256]
    plain = finetune(replace(settings, teacher=()), tmp_path / "plain")
    losses = [
        json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[0])["loss"]
        for name in ("taught", "plain")
    ]
    assert losses[0] != losses[1]
    assert plain.model.teachers == ()


def test_a_teacher_that_has_seen_the_examination_is_reported(
    tmp_path: Path, run_folder: Path, context: TrainContext
) -> None:
    recorder = Recorder()
    check_teacher(run_folder, context.dataset, recorder)
    assert recorder.warned == []
    other = tmp_path / "other"
    other.mkdir()
    for name in (RUN_FILE, "model.safetensors"):
        shutil.copy(run_folder / name, other)
    splits = json.loads((run_folder / "splits.json").read_text())
    splits["train"] += splits["test"][:2]
    (other / "splits.json").write_text(json.dumps(splits))
    check_teacher(other, context.dataset, recorder)
    [line] = recorder.warned
    assert line.startswith("2 of 3 test photographs have taught the teacher")


def test_a_refitted_teacher_has_seen_validation(tmp_path: Path, run_folder: Path, context: TrainContext) -> None:
    run = json.loads((run_folder / RUN_FILE).read_text())
    run["model"]["refit"] = True
    for name in ("splits.json", "model.safetensors"):
        shutil.copy(run_folder / name, tmp_path)
    (tmp_path / RUN_FILE).write_text(json.dumps(run))
    recorder = Recorder()
    check_teacher(tmp_path, context.dataset, recorder)
    [line] = recorder.warned
    assert line.startswith("3 of 3 val photographs have taught the teacher")


@pytest.mark.parametrize("given", [str, Path, lambda folder: [folder], lambda folder: (str(folder),)])
def test_programs_name_one_teacher_or_several(
    given: Callable[[Path], object], run_folder: Path, drawn_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interface.training, "finetune", lambda settings, *rest, **more: settings)
    found: Any = toolchain.finetune(drawn_folder, "unused", teacher=given(run_folder))
    assert found.teacher == (str(run_folder),)
