"""Takes: photographs of one are on one side, in training and in everything that comes after it."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from tests.conftest import QUICK, Recorder
from toolchain.artifact import read_artifact
from toolchain.bench import inputs
from toolchain.cli import run as typed
from toolchain.drawn.pets import draw
from toolchain.errors import ExitCode
from toolchain.runs import RUN_FILE, read_run, read_splits
from toolchain.training.finetune import finetune, resume
from toolchain.training.settings import TrainSettings

TAKES, FRAMES = 4, 3


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of four takes; each frame of a take is the one before, a little darker."""
    root = tmp_path_factory.mktemp("taken")
    for label in ("cat", "dog"):
        for take in range(TAKES):
            folder = root / label / f"take {take}"
            folder.mkdir(parents=True)
            bgr = cv2.cvtColor(draw(label, take, size=96), cv2.COLOR_RGB2BGR)
            for frame in range(FRAMES):
                cv2.imwrite(str(folder / f"{frame}.png"), bgr - bgr // 20 * frame)
    return root


@pytest.fixture(scope="module")
def grouped(taken: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("grouped") / "run"
    finetune(_settings(taken), out)
    return out


def _settings(data: Path) -> TrainSettings:
    return TrainSettings(str(data), weights="none", probe_only=True, group_by="folder", **QUICK)  # type: ignore[arg-type]


def _takes(run: Path) -> dict[str, set[str]]:
    return {split: {Path(file.name).parent.name for file in files} for split, files in read_splits(run).items()}


def test_a_run_keeps_takes_together(grouped: Path) -> None:
    takes = _takes(grouped)
    assert sum(map(len, takes.values())) == len(set.union(*takes.values())) == TAKES
    run = read_run(grouped)
    assert run.settings["group_by"] == "folder"
    assert run.cross_validation is not None
    assert run.cross_validation.folds == TAKES


def test_going_on_with_a_run_splits_as_it_did(grouped: Path) -> None:
    before = (grouped / RUN_FILE).read_bytes()
    (grouped / RUN_FILE).unlink()
    resumed = resume(grouped, deployable=False)
    (grouped / RUN_FILE).write_bytes(before)
    assert resumed.data.split_sha256 == read_run(grouped).data.split_sha256


@pytest.mark.parametrize("named", [True, False])
def test_bench_tests_on_the_takes_that_the_run_held_back(grouped: Path, taken: Path, named: bool) -> None:
    artifact = read_artifact(grouped / "model.onnx")
    listener = Recorder()
    chosen = inputs.choose([artifact], str(taken) if named else None, "test", 0, listener)
    assert chosen is not None
    assert chosen.split_sha256 == read_run(grouped).data.split_sha256["test"]
    assert inputs.compare_split(chosen, artifact) == ""


def test_other_data_without_such_groups_is_measured_as_always(
    grouped: Path, drawn_folder: Path, tmp_path: Path
) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other" / label).symlink_to(drawn_folder / label)
    chosen = inputs.choose([read_artifact(grouped / "model.onnx")], str(tmp_path / "other"), "test", 0, Recorder())
    assert chosen is not None
    assert len(chosen.photographs) == 2


@pytest.mark.parametrize(
    ("by", "message"), [("prefix", "finds no group"), ("takes", "is not known"), ("regex:(", "regular expression")]
)
def test_a_grouping_that_cannot_be_is_refused_at_once(
    taken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], by: str, message: str
) -> None:
    words = ["finetune", str(taken), "--group-by", by, "--weights", "none", "--out", str(tmp_path / "run")]
    assert typed(words) == ExitCode.BAD_INPUT
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
