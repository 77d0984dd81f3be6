"""A network is loaded by one function with one guard, whether it is a run's or the one that comes with edgetl."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from toolchain.artifact import read_artifact
from toolchain.backbones import networks
from toolchain.errors import ArtifactError
from toolchain.runs import read_run
from toolchain.runs.ready_made import ready_made_artifact, ready_made_weights


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def _nan(path: Path) -> None:
    state = load_file(path)
    state["classifier.1.bias"][0] = torch.nan
    save_file(state, path)


def _of_another(path: Path) -> None:
    save_file({"features.0.0.weight": torch.zeros(1)}, path)


DAMAGES = [(_cut, "is damaged"), (_nan, "classifier.1.bias holds NaN or infinity"), (_of_another, "is damaged")]


@pytest.mark.parametrize(("damage", "says"), DAMAGES)
def test_damaged_weights_of_a_run(
    run_folder: Path, tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    shutil.copy(run_folder / "model.safetensors", tmp_path)
    damage(tmp_path / "model.safetensors")
    with pytest.raises(ArtifactError, match=says) as caught:
        networks.load_network(tmp_path, read_run(run_folder))
    assert "edgetl finetune" in caught.value.hint


@pytest.mark.parametrize(("damage", "says"), DAMAGES)
def test_damaged_weights_of_the_ready_made_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None], says: str
) -> None:
    card = read_artifact(ready_made_artifact()).card
    path = Path(shutil.copy(ready_made_weights(), tmp_path))
    damage(path)
    monkeypatch.setattr(networks, "ready_made_weights", lambda: path)
    with pytest.raises(ArtifactError, match=says) as caught:
        networks.load_ready_made(card)
    assert "Install" in caught.value.hint


def test_what_is_loaded_is_float32_and_judges() -> None:
    network = networks.load_ready_made(read_artifact(ready_made_artifact()).card)
    assert not network.training
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"cpu"}
