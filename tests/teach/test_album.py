"""The folder of a lesson: what is in it stays, whatever ends the process."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import pytest
from teach_support import picture

from tests.full_disk import files_of_at_most
from toolchain.datasets.folder import list_folder
from toolchain.errors import BadInputError
from toolchain.system import files
from toolchain.system.progress import Silent
from toolchain.teach import album as albums
from toolchain.teach.album import MAX_SIDE, MAX_THINGS, NOTHING, Album, take_number, take_of
from toolchain.teach.session import Classroom, TeachSettings


def filled(root: Path, **things: int) -> Album:
    """An album with a take of five pictures, as often as said, of each thing."""
    album = Album(root)
    for thing, takes in things.items():
        album.add(thing)
        for _ in range(takes):
            take = album.new_take()
            for number in range(1, 6):
                album.write(thing, take, number, picture("cat", number))
    return album


def test_photographs_are_an_ordinary_folder_of_class_folders(tmp_path: Path) -> None:
    album = filled(tmp_path / "a", cup=2, pen=1)
    index = list_folder(album.photographs)
    assert index.classes == ("cup", "pen")
    assert [photo.name for photo in index.photographs[:6]] == [
        *(f"cup/take001-000{number}.jpg" for number in range(1, 6)),
        "cup/take002-0001.jpg",
    ]
    assert (album.count("cup").pictures, album.count("cup").takes) == (10, 2)


def test_it_goes_on_where_it_was_and_no_number_comes_twice(tmp_path: Path) -> None:
    filled(tmp_path / "a", cup=2, pen=1).forget_take("cup")
    album = Album(tmp_path / "a")
    assert album.things == ["cup", "pen"]
    assert album.count("cup").takes == 1
    assert album.new_take() == 4
    (album.photographs / "plant").mkdir()
    cv2.imwrite(str(album.photographs / "plant" / "mine.jpg"), picture("dog"))
    again = Album(tmp_path / "a")
    assert again.things == ["cup", "pen", "plant"]
    assert again.count("plant").takes == 1
    assert again.forget_take("plant") == 0, "what teach has not written stays"


def test_the_take_of_a_photograph_is_in_its_name() -> None:
    assert take_of(Path("cup/take012-0003.jpg")) == "take012"
    assert take_number(Path("cup/take012-0003.jpg")) == 12
    for name in ("IMG_1.jpg", "take-1.jpg", "take012.jpg"):
        assert (take_of(Path(name)), take_number(Path(name))) == (name, 0)


@pytest.mark.parametrize(
    "name", ["", " ", "a/b", "a\\b", ".hidden", "-o", "train", "Val", "x" * 81, "a\nb", "a\udce9"], ids=repr
)
def test_names_that_no_class_folder_can_have(tmp_path: Path, name: str) -> None:
    album = Album(tmp_path / "a")
    with pytest.raises(BadInputError):
        album.add(name)
    assert album.things == []


def test_a_name_in_other_letters_is_the_same_thing(tmp_path: Path) -> None:
    album = Album(tmp_path / "a")
    assert album.add("Cup") == "Cup"
    assert album.add(" cup ") == "Cup"
    assert album.add("grüner Tee") == "grüner Tee"
    assert album.things == ["Cup", "grüner Tee"]


def test_large_frames_are_scaled_down(tmp_path: Path) -> None:
    album = Album(tmp_path / "a")
    album.add("cup")
    path = album.write("cup", 1, 1, cv2.resize(picture("cat"), (1920, 1080)))
    assert cv2.imread(str(path)).shape == (360, MAX_SIDE, 3)


@pytest.mark.skipif(os.name != "posix", reason="no limits of this kind on this system")
def test_a_thing_that_cannot_be_saved_is_none(tmp_path: Path) -> None:
    album = filled(tmp_path / "a", cup=1, pen=0)
    with files_of_at_most(10), pytest.raises(OSError, match="too large"):
        album.add("lamp")
    assert album.things == ["cup", "pen"]
    assert album.add("lamp") == "lamp"
    assert Album(tmp_path / "a").things == ["cup", "pen", "lamp"]


def test_a_picture_that_cannot_be_removed_stays_in_the_album(tmp_path: Path) -> None:
    album = filled(tmp_path / "a", cup=1)
    assert album.count("cup").pictures == 5
    stuck = album.paths()[3]
    stuck.unlink()
    stuck.mkdir()
    with pytest.raises(OSError, match="0004"):
        album.forget_take("cup")
    assert album.count("cup").pictures == 2
    stuck.rmdir()
    assert album.forget_take("cup") == 2


def test_a_picture_that_is_written_while_they_are_counted_is_counted_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    album = filled(tmp_path / "a", cup=1)

    def meanwhile(path: Path) -> str:
        monkeypatch.undo()
        album.write("cup", 2, 1, picture("dog"))
        return take_of(path)

    monkeypatch.setattr(albums, "take_of", meanwhile)
    assert album.count("cup").pictures == 5
    assert (album.count("cup").pictures, album.count("cup").takes) == (6, 2)


def test_what_a_killed_process_leaves_is_put_away(tmp_path: Path) -> None:
    album = filled(tmp_path / "a", cup=1)
    half = album.photographs / "cup" / ".take001-0006.jpg.0123456789ab.jpg"
    half.write_bytes(b"half a pic")
    Album(tmp_path / "a")
    assert not half.exists()
    assert len(list((album.photographs / "cup").iterdir())) == 5


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        ({"run"}, "run"),
        ({"run", "new"}, "run"),  # killed while it was made
        ({"before", "new whole"}, "new whole"),  # killed between two renames
        ({"before"}, "before"),
        ({"before", "new"}, "before"),
        (set(), None),
    ],
)
def test_a_run_is_there_whenever_the_process_was_killed(tmp_path: Path, found: set[str], kept: str | None) -> None:
    album = filled(tmp_path / "a", cup=1)
    places = {"run": album.run, "before": album.root / "run-before", "new": album.root / ".new" / "run"}
    for name in found:
        folder = places[name.partition(" ")[0]]
        folder.mkdir(parents=True)
        (folder / "what").write_text(name)
        if name == "new whole":
            (folder / "run.json").touch()
    again = Album(tmp_path / "a")
    assert ((again.run / "what").read_text() if again.run.exists() else None) == kept
    assert not (again.root / ".new").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(BadInputError, match="no folder of"):
        Album(tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.txt"]


@pytest.mark.parametrize("content", ["", "{}", '{"schema": "edgetl.teach/2", "things": []}'])
def test_a_damaged_list_is_named(tmp_path: Path, content: str) -> None:
    album = filled(tmp_path / "a", cup=1)
    (album.root / "teach.json").write_text(content)
    with pytest.raises(BadInputError, match=r"teach\.json is damaged"):
        Album(tmp_path / "a")


def test_listed_things_that_no_folder_can_be_named_after_are_left_out(tmp_path: Path) -> None:
    album = filled(tmp_path / "a", cup=1)
    files.write_json(
        album.root / "teach.json", {"schema": "edgetl.teach/1", "things": ["x" * 300, "cup", "../pen"]}
    )
    assert Album(tmp_path / "a").things == ["cup"]


@pytest.mark.parametrize(
    ("things", "wrong"),
    [
        ({}, "one thing alone"),
        ({"cup": 1}, "one thing alone"),
        ({"cup": 1, "pen": 0}, "too few pictures of pen"),
        ({"cup": 1, NOTHING: 0}, "one thing alone"),
        ({"cup": 1, NOTHING: 1}, ""),
        ({"cup": 1, "pen": 1, NOTHING: 0}, ""),
    ],
)
def test_what_must_be_shown_before_it_can_learn(tmp_path: Path, things: dict[str, int], wrong: str) -> None:
    album = filled(tmp_path / "a", **things)
    if wrong:
        with pytest.raises(BadInputError, match=wrong):
            album.check()
    else:
        album.check()


def test_fifty_things_and_nothing_of_these(tmp_path: Path) -> None:
    album = Album(tmp_path / "things")
    for number in range(MAX_THINGS):
        album.add(f"thing {number}")
    assert album.add(NOTHING) == NOTHING
    assert album.add("thing 7") == "thing 7"
    with pytest.raises(BadInputError, match="there are 50 things already"):
        album.add("one more")
    assert len(Album(tmp_path / "things").things) == MAX_THINGS + 1


def test_nothing_of_these_in_any_spelling_is_no_thing(tmp_path: Path) -> None:
    album = Album(tmp_path / "things")
    assert [album.add(word) for word in ("nothing of these", "Nothing-of-these", NOTHING)] == [NOTHING] * 3
    album.add("cup")
    assert album.things == ["cup", NOTHING]


def test_a_thing_that_was_never_shown_is_forgotten_by_the_next_lesson(tmp_path: Path) -> None:
    """Such as a mistyped word: nothing could be taught until it is shown."""
    album = filled(tmp_path / "things", cup=1, pen=1)
    album.add("cpu")
    with pytest.raises(BadInputError, match="too few pictures of cpu") as raised:
        album.check()
    assert raised.value.hint == "Show cpu, or start again without it."
    room = Classroom(TeachSettings(tmp_path / "things", ("lamp",)), Silent())
    assert room.album.things == ["cup", "pen", "lamp", NOTHING]
    assert Album(tmp_path / "things").things == ["cup", "pen", "lamp", NOTHING]


def test_a_thing_whose_pictures_were_all_undone_leaves_no_empty_class(tmp_path: Path) -> None:
    """A data set with an empty class folder cannot be taught."""
    album = filled(tmp_path / "things", cup=1, pen=1, lamp=1)
    assert album.forget_take("lamp") == 5
    assert list_folder(album.photographs, strict=True).classes == ("cup", "pen")
    (album.photographs / "mug").mkdir()  # as a first picture that could not be written leaves it
    album = Album(tmp_path / "things")
    album.forget_unseen()
    assert album.things == ["cup", "pen"]
    assert list_folder(album.photographs, strict=True).classes == ("cup", "pen")
