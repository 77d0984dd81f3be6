from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import pytest

from toolchain.cli import COMMANDS, run
from toolchain.cli.data import command
from toolchain.drawn.pets import draw
from toolchain.errors import ExitCode


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGETL_DATA", str(tmp_path))
    return tmp_path


def document(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    """Run with --json; stdout must be exactly one JSON document."""
    run(["data", *words, "--json"])
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_help_is_the_text_of_the_command_list() -> None:
    assert command.get_short_help_str(limit=100) == COMMANDS["data"]


def test_list(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    assert run(["data", "list"]) == ExitCode.DONE
    text = capsys.readouterr().out
    assert "not here: edgetl data fetch pets" in text
    assert "CC BY-SA 4.0" in text
    (root / "oxford-iiit-pet" / "images").mkdir(parents=True)
    (root / "oxford-iiit-pet" / "annotations").mkdir()
    listed = document(capsys, "list")
    assert listed["data_root"] == str(root)
    paths = {entry["name"]: entry["path"] for entry in listed["data_sets"]}  # type: ignore[attr-defined]
    assert paths == {"pets": str(root / "oxford-iiit-pet"), "cats-vs-dogs": None, "drawn-pets": None}


def test_info(capsys: pytest.CaptureFixture[str], drawn_folder: Path) -> None:
    assert run(["data", "info", str(drawn_folder)]) == ExitCode.DONE
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["class", "train", "val", "calibration", "test"] in rows
    assert ["fish", "5", "1", "1", "1"] in rows
    assert ["3", "classes", "15", "3", "3", "3"] in rows
    found = document(capsys, "info", str(drawn_folder))
    assert found["classes"] == ["cat", "dog", "fish"]
    splits = found["splits"]
    assert splits["val"]["per_class"] == {"cat": 1, "dog": 1, "fish": 1}  # type: ignore[index]
    assert len(splits["test"]["sha256"]) == 64  # type: ignore[index]


def test_names_that_look_like_markup_are_shown_as_they_are(
    capsys: pytest.CaptureFixture[str], drawn_folder: Path, tmp_path: Path
) -> None:
    for source, name in (("cat", "[bold]"), ("dog", "[/red]")):
        target = tmp_path / "odd" / name.replace("/", "∕")
        shutil.copytree(drawn_folder / source, target)
    assert run(["data", "info", str(tmp_path / "odd")]) == ExitCode.DONE
    assert "[bold]" in capsys.readouterr().out


def test_check_exits_with_0_or_1(capsys: pytest.CaptureFixture[str], drawn_folder: Path, tmp_path: Path) -> None:
    assert run(["data", "check", str(drawn_folder)]) == ExitCode.DONE
    assert capsys.readouterr().out.rstrip().endswith("is sound")
    broken = tmp_path / "broken"
    shutil.copytree(drawn_folder, broken)
    photo = next((broken / "dog").iterdir())
    photo.write_bytes(photo.read_bytes()[:-500])
    assert run(["data", "check", str(broken)]) == ExitCode.PROMISE_BROKEN
    text = capsys.readouterr().out
    assert f"dog/{photo.name}: the picture is truncated" in text
    found = document(capsys, "check", str(broken))
    assert found["sound"] is False
    truncated = {"name": f"dog/{photo.name}", "reason": "the picture is truncated", "damaged": True}
    assert found["unreadable"] == [truncated]


def test_fix_moves_files_aside_and_checks_again(
    capsys: pytest.CaptureFixture[str], drawn_folder: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(drawn_folder, broken)
    photo = next((broken / "dog").iterdir())
    photo.write_bytes(photo.read_bytes()[:-500])
    assert run(["data", "check", str(broken), "--fix"]) == ExitCode.DONE
    text = capsys.readouterr().out
    record = tmp_path / "broken.set-aside" / "1.json"
    assert f"dog/{photo.name}: the picture is truncated" in text
    assert f"edgetl data restore {record}" in text
    assert text.rstrip().endswith("is sound")
    assert not photo.exists()
    assert document(capsys, "check", str(broken), "--fix")["moved"] == []
    assert document(capsys, "restore", str(record)) == {"restored": [f"dog/{photo.name}"]}
    assert photo.exists()
    # What only a person can judge is still said by the exit code.
    shutil.copy(next((broken / "cat").iterdir()), broken / "dog" / "a cat.jpg")
    assert run(["data", "check", str(broken), "--fix", "--json"]) == ExitCode.PROMISE_BROKEN
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found["moved"]] == [f"dog/{photo.name}"]
    assert len(found["copies_across_classes"]) == 1


def test_fix_knows_the_named_data_sets(capsys: pytest.CaptureFixture[str], drawn_folder: Path, root: Path) -> None:
    images, annotations = root / "oxford-iiit-pet" / "images", root / "oxford-iiit-pet" / "annotations"
    images.mkdir(parents=True)
    annotations.mkdir()
    lines = []
    for breed, number, source in (("Siamese", 1, "cat"), ("pug", 2, "dog")):
        for index, path in enumerate(sorted((drawn_folder / source).iterdir())):
            shutil.copy(path, images / f"{breed}_{index}.jpg")
            lines.append(f"{breed}_{index} {number} {number} 1")
    (annotations / "trainval.txt").write_text("\n".join(lines))
    (annotations / "test.txt").write_text("")
    (images / "pug_0.jpg").write_bytes(b"")
    assert run(["data", "check", "pets", "--fix", "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["moved"] == [
        {"name": "images/pug_0.jpg", "reason": "the file is empty"}
    ]
    assert (root / "oxford-iiit-pet.set-aside" / "1" / "images" / "pug_0.jpg").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["info", "petz"], ExitCode.BAD_INPUT, "Did you mean pets?"),
        (["info", "pets"], ExitCode.MISSING, "edgetl data fetch pets"),
        (["info", "./nowhere"], ExitCode.BAD_INPUT, "does not exist"),
        (["check", "cats-vs-dogs"], ExitCode.MISSING, "not on this machine"),
        (["fetch", "flowers"], ExitCode.BAD_INPUT, "Choose one of: pets, cats-vs-dogs"),
        (["info"], ExitCode.BAD_INPUT, "Missing argument 'DATA'"),
        (["restore", "absent.json"], ExitCode.BAD_INPUT, "absent.json cannot be read"),
        (["inspect", "pets"], ExitCode.BAD_INPUT, "No such command 'inspect'"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], words: list[str], code: ExitCode, said: str) -> None:
    assert run(["data", *words]) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_cache_is_shown_and_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from toolchain.images.cache import FILE

    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path))
    monkeypatch.setenv("EDGETL_CACHE_MB", "500")
    assert run(["data", "cache"]) == 0
    assert "0 photographs, 0 MB of at most 500 MB" in capsys.readouterr().out
    (tmp_path / FILE).write_bytes(bytes(3_000_000))  # damaged: it can be emptied all the same
    (tmp_path / "other.txt").touch()
    assert run(["data", "cache", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {
        "cache": {"path": str(tmp_path / FILE), "photographs": 0, "size_mb": 3.0, "limit_mb": 500.0},
        "cleared": False,
    }
    assert run(["data", "cache", "--clear"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]


def test_what_looks_alike_on_two_sides_is_told_and_grouping_keeps_it_together(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for label in ("cat", "dog"):
        for take in range(6):
            folder = tmp_path / "data" / label / f"{label} take {take}"
            folder.mkdir(parents=True)
            bgr = draw(label, take, size=96)[..., ::-1]
            for frame in range(3):
                cv2.imwrite(str(folder / f"{frame}.png"), bgr - bgr // 20 * frame)
    data = str(tmp_path / "data")
    found = document(capsys, "check", data)
    groups: list[list[dict[str, str]]] = found["near_across_splits"]  # type: ignore[assignment]
    assert groups
    assert all(len({one["split"] for one in group}) > 1 for group in groups)
    held_back = [one for group in groups for one in group if one["split"] in ("val", "test")]
    assert found["near_held_back"] == len(held_back) > 0
    assert found["sound"], "they can be trained on"
    assert run(["data", "check", data]) == ExitCode.DONE
    text = capsys.readouterr().out
    assert f"groups that look alike across splits, with {len(held_back)} photographs" in text
    assert "--group-by" in text
    assert document(capsys, "check", data, "--group-by", "folder")["near_across_splits"] == []
    assert run(["data", "check", data, "--group-by", "folder"]) == ExitCode.DONE
    assert "look alike" not in capsys.readouterr().out


def test_info_shows_the_split_of_groups(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        for number in range(30):
            path = tmp_path / "data" / label / f"burst {number // 6}-{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{label} {number}".encode())
    splits = document(capsys, "info", str(tmp_path / "data"), "--group-by", "prefix")["splits"]
    assert {name: found["photographs"] for name, found in splits.items()} == {  # type: ignore[attr-defined]
        "train": 36, "val": 12, "calibration": 0, "test": 12
    }  # fmt: skip
