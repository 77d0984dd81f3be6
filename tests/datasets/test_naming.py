"""Which photographs a person means."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from toolchain.datasets.index import LeftOut
from toolchain.datasets.naming import photographs_named
from toolchain.errors import BadInputError


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (
        "b.jpg",
        "a.PNG",
        "notes.txt",
        "sub/c.jpg",
        "sub/deep/d.webp",
        "sub/.hidden.jpg",
        ".git/e.jpg",
        "x[1].jpg",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["b.jpg"], ["b.jpg"]),
        (["notes.txt"], ["notes.txt"]),
        (["sub"], ["sub/c.jpg", "sub/deep/d.webp"]),
        (["."], ["a.PNG", "b.jpg", "x[1].jpg", "sub/c.jpg", "sub/deep/d.webp"]),
        (["*.jpg"], ["b.jpg", "x[1].jpg"]),
        (["**/*.jpg"], ["b.jpg", "sub/c.jpg", "x[1].jpg"]),
        (["*"], ["a.PNG", "b.jpg", "x[1].jpg", "sub/c.jpg", "sub/deep/d.webp"]),
        (["x[1].jpg"], ["x[1].jpg"]),
        (["[ab].*"], ["a.PNG", "b.jpg"]),
        (["sub/**"], ["sub/c.jpg", "sub/deep/d.webp"]),
        (["sub/c.jpg", "sub", "b.jpg", "b.jpg"], ["sub/c.jpg", "sub/deep/d.webp", "b.jpg"]),
    ],
)
def test_files_folders_and_patterns(words: list[str], expected: list[str]) -> None:
    named = photographs_named(words)
    assert [path.as_posix() for path in named.paths] == expected
    assert not named.nothing
    assert not any("link" in one.reason for one in named.left_out)


def test_absolute_patterns(place: Path) -> None:
    assert photographs_named([str(place / "sub" / "*.jpg")]).paths == (place / "sub" / "c.jpg",)


@pytest.mark.parametrize("folder", ["old [2019]", "[ab]", "what? *", "Noël ! x"])
def test_patterns_below_a_folder_whose_name_looks_like_one(place: Path, folder: str) -> None:
    (place / folder / "sub").mkdir(parents=True)
    (place / folder / "one.jpg").touch()
    (place / folder / "sub" / "two.jpg").touch()
    for start in (Path(), place):
        there = start / folder
        assert photographs_named([str(there / "*.jpg")]).paths == (there / "one.jpg",)
        assert photographs_named([str(there / "**" / "*.jpg")]).paths == (
            there / "one.jpg",
            there / "sub" / "two.jpg",
        )


def test_words_that_stand_for_nothing_are_told_with_the_reason() -> None:
    named = photographs_named(["nope.jpg", "*.bmp", "empty", "*.txt", ""])
    assert named.paths == ()
    assert named.nothing == {
        "nope.jpg": "does not exist",
        "*.bmp": "nothing matches",
        "''": "an empty word names no file",
        "empty": "the folder holds no photographs",
        "*.txt": "no photographs; 1 left out: an empty file: 1 (notes.txt)",
    }
    assert [(one.name, one.reason) for one in named.left_out] == [("notes.txt", "an empty file")]


def test_what_a_pattern_matches_is_taken_or_named(place: Path) -> None:
    for name in ("c.JPE", "d.jfif", "e.jpg.1", "f"):
        (place / name).write_bytes(b"\xff\xd8\xff\xe0")
    (place / "clip.mp4").write_bytes(b"\0\0\0\x14ftypmp42")
    named = photographs_named(["[cdef]*", "*.txt"])
    assert [path.name for path in named.paths] == ["c.JPE", "d.jfif", "e.jpg.1", "f"]
    assert {one.name: one.reason for one in named.left_out} == {"clip.mp4": "video", "notes.txt": "an empty file"}
    # What is named itself is tried, whatever it is.
    assert LeftOut("clip.mp4", "video") not in photographs_named(["clip.mp4", "*"]).left_out


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_a_dash_is_standard_input_unless_a_file_is_called_so(place: Path) -> None:
    assert photographs_named(["-"]).paths == (Path("/dev/stdin"),)
    (place / "-").touch()
    assert photographs_named(["-"]).paths == (Path("-"),)


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_a_pipe_that_a_pattern_matches_is_not_opened(place: Path) -> None:
    os.mkfifo("sub/wait")
    found = photographs_named(["sub/*"])
    assert [one.reason for one in found.left_out if one.name == "sub/wait"] == ["neither a file nor a folder"]


def test_a_pattern_does_not_multiply(place: Path) -> None:
    (place / "sub" / "@eaDir" / "c.jpg").mkdir(parents=True)
    (place / "sub" / "@eaDir" / "c.jpg" / "THUMB.jpg").touch()
    (place / "sub" / "round").symlink_to(place / "sub")
    (place / "sub" / "deep" / "again").symlink_to(place / "sub" / "deep")
    named = photographs_named(["**/*.jpg", "**/*.webp"])
    assert sorted(path.as_posix() for path in photographs_named(["*"]).paths) == [
        "a.PNG",
        "b.jpg",
        "sub/c.jpg",
        "sub/deep/d.webp",
        "x[1].jpg",
    ]
    assert sorted(path.name for path in named.paths) == ["b.jpg", "c.jpg", "d.webp", "x[1].jpg"]
    assert {one.reason for one in named.left_out} == {
        "in a helper folder of the system",
        "a link to a folder that is searched already",
    }
    assert photographs_named(["sub/@eaDir/c.jpg/*.jpg"]).paths == (Path("sub/@eaDir/c.jpg/THUMB.jpg"),)


@pytest.fixture
def nested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with 1,100 folders inside one another, and another 1,100 that are hidden."""
    top = tmp_path / "top"
    for place in (top / "seen", top / ".hidden"):
        place.mkdir(parents=True)
        monkeypatch.chdir(place)
        for _ in range(1100):
            os.mkdir("a")  # noqa: PTH102 - whole paths would soon be too long
            os.chdir("a")
        Path("1.jpg").write_bytes(b"\xff\xd8\xff")
    monkeypatch.chdir(tmp_path)
    yield top
    subprocess.run(["rm", "-rf", str(top)], check=True)  # pytest would remove it by functions within functions


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="paths are at most 260 characters long")
def test_folders_that_are_nested_deeply_are_no_defect(nested: Path) -> None:
    found = photographs_named([nested.name])
    assert [path.name for path in found.paths] == ["1.jpg"]
    assert [one.reason for one in found.left_out] == ["hidden"]
    with suppress(BadInputError):  # where Python's own glob gives up
        assert photographs_named([f"{nested.name}/**/*.jpg"]).paths == found.paths
