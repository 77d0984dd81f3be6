"""Runs whose weights are damaged: an error that names the file, for whoever reads them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.clips import plain
from toolchain.cli import run
from toolchain.runs.ready_made import ready_made_weights


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _with_nan(path: Path) -> None:
    state = load_file(path)
    state["features.0.0.weight"].view(-1)[0] = torch.nan
    save_file(state, path)


def _of_another_network(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


def _without_a_tensor(path: Path) -> None:
    state = load_file(path)
    del state[min(state)]
    save_file(state, path)


DAMAGES = [_cut, _with_nan, _of_another_network, _without_a_tensor]
EXPLAIN = [
    "explain ideal {run} --class {label}",
    "explain why {run} {photo}",
    "explain features {run} {photo}",
    "explain attack {run} {photo}",
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("words", [*EXPLAIN, "export {run}"])
def test_damaged_weights_are_told_by_file(
    words: str,
    damage: Callable[[Path], None],
    run_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("run.json", "splits.json", "model.safetensors"):
        shutil.copy(run_folder / name, folder)
    damage(folder / "model.safetensors")
    cv2.imwrite(str(tmp_path / "photo.png"), plain("red", 64, 64))
    line = words.format(run=folder, photo=tmp_path / "photo.png", label="cat")
    assert run([*line.split(), "--quiet"]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert f"{folder / 'model.safetensors'} is damaged" in error
    assert "edgetl finetune" in hint
    assert not (tmp_path / "explain").exists()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("words", EXPLAIN)
def test_damaged_weights_of_the_ready_made_network_are_told_by_file(
    words: str,
    damage: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = Path(shutil.copy(ready_made_weights(), tmp_path))
    damage(weights)
    monkeypatch.setattr("toolchain.backbones.networks.ready_made_weights", lambda: weights)
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.png", plain("red", 64, 64))
    assert run([*words.format(run="ready-made", photo="photo.png", label="pug").split(), "--quiet"]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert f"{weights} is damaged" in error
    assert "Install edgetl again" in hint
    assert not Path("explain").exists()
