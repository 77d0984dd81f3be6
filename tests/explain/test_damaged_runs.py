"""Runs whose weights are damaged: an error that names the file, for whoever reads them."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.clips import plain
from toolchain.cli import run


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _with_nan(path: Path) -> None:
    state = load_file(path)
    state["features.0.0.weight"].view(-1)[0] = torch.nan
    save_file(state, path)


def _of_another_network(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


@pytest.mark.parametrize("damage", [_cut, _with_nan, _of_another_network])
@pytest.mark.parametrize(
    "words",
    [
        "explain ideal {run} --class cat",
        "explain why {run} {photo}",
        "explain features {photo} --run {run}",
        "explain attack {run} {photo}",
        "export {run}",
    ],
)
def test_damaged_weights_are_told_by_file(
    words: str, damage: object, run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("run.json", "splits.json", "model.safetensors"):
        shutil.copy(run_folder / name, folder)
    damage(folder / "model.safetensors")  # type: ignore[operator]
    cv2.imwrite(str(tmp_path / "photo.png"), plain("red", 64, 64))
    assert run([*words.format(run=folder, photo=tmp_path / "photo.png").split(), "--quiet"]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert f"{folder / 'model.safetensors'} is damaged" in error
    assert "edgetl finetune" in hint
    assert not (tmp_path / "explain").exists()
