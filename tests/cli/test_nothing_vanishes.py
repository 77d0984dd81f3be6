"""The four commands that read a folder of photographs tell of each file in it, as they are typed."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from tests.artifacts import tiny_artifact
from tests.datasets.odd_folders import ODD, on_disk, passed_over, picture, put
from toolchain.cli import run
from toolchain.images.preprocess import can_decode
from toolchain.system.installation import install

TOGETHER = (
    "names of phones and browsers",
    "iPhone",
    "a camera's card",
    "file managers",
    "hidden",
    "Synology",
    "runs below the data",
    "files beside the classes",
    "links in circles",
    "no pictures under the names of pictures",
)


@pytest.fixture
def photos(tmp_path: Path, drawn_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The drawn cats, dogs and fish, and what people have beside such photographs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    can_decode.cache_clear()
    root = tmp_path / "photos"
    shutil.copytree(drawn_folder, root)
    (tmp_path / "elsewhere").mkdir()
    for name in TOGETHER:
        ODD[name].build(root, tmp_path / "elsewhere")
    yield root
    can_decode.cache_clear()


def _document(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> dict[str, Any]:
    found = run([*map(str, words), "--json", "--quiet"])
    told = capsys.readouterr()
    assert found == code, told.err
    document: dict[str, Any] = json.loads(told.out)
    return document


def test_all_four_commands_account_for_all_files(
    photos: Path, tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = on_disk(photos)

    found = _document(capsys, "data", "check", photos, code=1)
    left = {one["name"]: one["reason"] for one in found["left_out"]}
    assert found["photographs"] == 24 + sum(ODD[name].more for name in TOGETHER)
    assert not passed_over(photos, disk - {name.rstrip("/") for name in left}, left)
    assert found["photographs"] + len(left) == len(disk)
    assert {bad["name"] for bad in found["unreadable"]} == {"cat/a.jpg", "cat/b.png", "dog/c.jpg"}

    found = _document(capsys, "data", "info", photos)
    used = sum(split["photographs"] for split in found["splits"].values())
    assert {one["name"]: one["reason"] for one in found["left_out"]} == left
    assert used + len(left) == len(disk)

    arguments = (
        "--model",
        "mobilenet_v3_small",
        "--weights",
        weights,
        "--size",
        64,
        "--probe-only",
        "--device",
        "cpu",
    )
    found = _document(capsys, "finetune", photos, *arguments, "--out", tmp_path / "run")
    trained = json.loads((tmp_path / "run" / "splits.json").read_text())
    names = [photo["name"] for split in trained.values() for photo in split]
    told = {one["name"] for one in json.loads((tmp_path / "run" / "left_out.json").read_text())}
    assert told == set(left) | {"cat/a.jpg", "cat/b.png", "dog/c.jpg"}
    assert not passed_over(photos, names, told)
    assert sum(found["data"]["counts"].values()) == len(names)
    assert sum(found["data"]["left_out"].values()) == len(told)

    tiny_artifact(tmp_path / "tiny.onnx")
    found = _document(capsys, "predict", "tiny.onnx", "photos")
    names = [one["image"].removeprefix("photos/") for one in found["predictions"]]
    told = {one["image"].removeprefix("photos/") for one in found["skipped"]}
    assert not passed_over(photos, names, told)


def test_people_are_told_in_two_lines(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_artifact(tmp_path / "tiny.onnx")
    for words in (["data", "info", "photos"], ["data", "check", "photos"], ["predict", "tiny.onnx", "photos"]):
        run([*words, "--quiet"])
        told = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
        assert len(told) == 2, words
        assert f"HEIC, which needs {install('heic')}: 1 (" in told[0]
        assert "camera raw: 2 (" in told[1]
        assert not any("DS_Store" in line or "Thumbs" in line for line in told)


def test_check_tells_all_findings_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "photos"
    leak = picture(1)
    put(root, {"train/cat/a.jpg": leak, "train/cat/cut.jpg": picture(2, "cut"), "test/cat/a.jpg": leak})
    put(root, {"train/dog/a.jpg": picture(3), "train/dog/b.jpg": picture(4, "cut"), "test/emu/a.jpg": picture(5)})
    put(root, {"train/fish/notes.txt": b"none yet", "val/dog/.DS_Store": b"", "train/bird/.DS_Store": b""})
    found = _document(capsys, "data", "check", root, code=1)
    assert not found["sound"]
    assert found["problems"] == [
        f"{root}: 3 class folders hold no photographs: train/bird, train/fish (text: 1), val/dog",
        f"{root}: test holds the class emu, which train does not",
    ]
    assert {bad["name"] for bad in found["unreadable"]} == {"train/cat/cut.jpg", "train/dog/b.jpg"}
    assert found["copies_across_splits"] == [["train/cat/a.jpg", "test/cat/a.jpg"]]
    assert run(["data", "check", str(root)]) == 1
    text = capsys.readouterr().out
    assert "problems that prevent training: 2" in text
    assert "unreadable files: 2" in text
    assert run(["data", "info", str(root)]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert "train/bird, train/fish (text: 1), val/dog; " in error
    assert "holds the class emu" in error
    assert hint.startswith("hint: ")


def test_photographs_of_iphones_are_used_where_the_extra_is(
    tmp_path: Path, drawn_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    root = tmp_path / "photos"
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        for number, path in enumerate(sorted((drawn_folder / label).iterdir())):
            with PIL.Image.open(path) as image:
                target = root / label / f"IMG_{number}{('.HEIC', '.heif', '')[number % 3]}"
                pillow_heif.from_pillow(image).save(target, format="HEIF")
    found = _document(capsys, "data", "check", root)
    assert (found["photographs"], found["left_out"], found["unreadable"]) == (16, [], [])
    tiny_artifact(tmp_path / "tiny.onnx")
    assert len(_document(capsys, "predict", tmp_path / "tiny.onnx", root)["predictions"]) == 16


def test_a_name_that_is_no_text_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if sys.platform in ("win32", "darwin"):
        pytest.skip("names are text here")
    tiny_artifact(tmp_path / "tiny.onnx")
    path = f"{tmp_path}/caf\udce9.jpg"
    Path(path).write_bytes(picture(1))
    found = _document(capsys, "predict", tmp_path / "tiny.onnx", path)
    assert [one["image"] for one in found["predictions"]] == [f"{tmp_path}/caf\\udce9.jpg"]
    assert run(["predict", str(tmp_path / "tiny.onnx"), path]) == 0
