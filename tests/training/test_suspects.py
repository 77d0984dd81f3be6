"""Wrong names are found by a network that has not seen them, and right ones left alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from toolchain.cli import run
from toolchain.errors import BadInputError
from toolchain.system.progress import Silent
from toolchain.training.suspects import disagreeing, find_suspects, look, self_confidence


def test_only_sure_disagreement_counts_and_the_least_probable_name_comes_first() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 0, 0])
    own = np.array([0.9, 0.9, 0.9, 0.8, 0.8, 0.8, 0.05, 0.45])
    rows = np.stack([own, 1 - own], axis=1).astype(np.float32)
    rows[labels == 1] = rows[labels == 1][:, ::-1]
    # Class 1 is called by 0.8 on the mean: 0.95 is sure, 0.55 is not.
    assert self_confidence(rows, labels)[1] == pytest.approx(0.8)
    assert disagreeing(rows, labels) == [6]
    rows[7] = [0.02, 0.98]
    assert disagreeing(rows, labels) == [7, 6]


def test_a_class_without_photographs_is_never_surely_the_answer() -> None:
    rows = np.array([[0.1, 0.9, 0.0], [0.9, 0.1, 0.0], [0.05, 0.0, 0.95]], np.float32)
    assert self_confidence(rows, np.array([1, 0, 0]))[2] == 1
    assert disagreeing(rows, np.array([1, 0, 0])) == []


NETWORK = ("mobilenet_v2", "ready-made")


@pytest.fixture(scope="module")
def mislabelled(tmp_path_factory: pytest.TempPathFactory, drawn_folder: Path) -> Path:
    """Drawn animals, one of them under a wrong name."""
    root = tmp_path_factory.mktemp("mislabelled") / "photos"
    shutil.copytree(drawn_folder, root)
    min((root / "cat").iterdir()).rename(root / "fish" / "a-cat.jpg")
    return root


@pytest.mark.slow
def test_the_command_lists_a_planted_wrong_name(mislabelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "suspects", str(mislabelled), "--model", NETWORK[0], "--weights", NETWORK[1]]
    assert run([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["photographs"] == 24
    assert document["top1"] > 0.5
    found = document["found"]
    assert "fish/a-cat.jpg" in [one["name"] for one in found]
    assert all(one["probability"] >= document["sure"][one["answer"]] for one in found)
    assert run(words) == 0
    said = capsys.readouterr().out
    assert "fish/a-cat.jpg" in said
    assert f"{len(found)} of 24 photographs are surely called otherwise" in said


def test_near_copies_do_not_vouch_for_each_other(tmp_path: Path, drawn_folder: Path, weights: Path) -> None:
    shutil.copytree(drawn_folder, tmp_path / "photos")
    first = min((tmp_path / "photos/cat").iterdir())
    bgr = cv2.imread(str(first))
    assert bgr is not None
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"photos/cat/again-{number}.jpg"), bgr, [cv2.IMWRITE_JPEG_QUALITY, 50 + number])
    seen = look(str(tmp_path / "photos"), "mobilenet_v3_small", str(weights), "cpu", Silent())
    alike = {photo.group for photo in seen.photos if photo.name.startswith("cat/again") or photo.path == first}
    assert len(alike) == 1
    assert alike != {""}
    assert len(seen.photos) == 27


def test_too_few_photographs_are_refused(tmp_path: Path, drawn_folder: Path, weights: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        shutil.copy(sorted((drawn_folder / label).iterdir())[0], tmp_path / label)
    with pytest.raises(BadInputError, match="too few photographs to look for wrong names"):
        find_suspects(str(tmp_path), "mobilenet_v3_small", str(weights), "cpu", Silent())
