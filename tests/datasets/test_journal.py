"""Decisions of a review: recorded first, finished after a kill, and undone by `data restore`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from toolchain.cli import run
from toolchain.datasets import journal
from toolchain.datasets.journal import Journal
from toolchain.errors import BadInputError
from toolchain.system import files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four files of different contents."""
    root = tmp_path / "collected"
    root.mkdir()
    for number in range(4):
        (root / f"{number}.jpg").write_bytes(b"picture %d" % number)
    return root


def _tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_everything_comes_back(folder: Path, tmp_path: Path) -> None:
    before = _tree(tmp_path)
    ours, into = Journal(folder), tmp_path / "photos"
    ours.move({"0.jpg": into / "cat", "1.jpg": into / "cat"}, "cat")
    ours.keep(["2.jpg"])
    ours.set_aside(["3.jpg"])
    assert ours.path
    assert (into / "cat/0.jpg").read_bytes() == b"picture 0"
    assert sorted(path.name for path in folder.iterdir()) == ["2.jpg"]
    assert [one.label for one in ours.entries] == ["cat", "cat", None, None]
    assert run(["data", "restore", str(ours.path)]) == 0
    after = _tree(tmp_path)
    assert after == before
    assert not (tmp_path / "collected.set-aside").exists()


def test_a_name_that_is_taken_gets_a_number(folder: Path, tmp_path: Path) -> None:
    into = tmp_path / "photos/cat"
    into.mkdir(parents=True)
    (into / "0.jpg").write_bytes(b"another")
    (folder / "more").mkdir()
    (folder / "more/0.jpg").write_bytes(b"a third")
    Journal(folder).move({"0.jpg": into, "more/0.jpg": into}, "cat")
    assert _tree(into) == {"0.jpg": b"another", "0-2.jpg": b"picture 0", "0-3.jpg": b"a third"}


def test_undo_takes_back_the_last_step_alone(folder: Path, tmp_path: Path) -> None:
    ours = Journal(folder)
    ours.move({"0.jpg": tmp_path / "cat"}, "cat")
    ours.set_aside(["1.jpg", "2.jpg"])
    assert {one.name for one in ours.undo()} == {"1.jpg", "2.jpg"}
    assert sorted(path.name for path in folder.iterdir()) == ["1.jpg", "2.jpg", "3.jpg"]
    ours.undo()
    assert ours.undo() == ()
    ours.close()
    assert not (tmp_path / "collected.set-aside").exists(), "where nothing was decided, nothing is left"
    assert len(list(folder.iterdir())) == 4


def test_a_decision_that_was_interrupted_is_finished(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between the record and the second move."""
    moves: list[Path] = []
    move = files.move

    def dies(source: Path, target: Path) -> None:
        if moves:
            raise KeyboardInterrupt
        moves.append(source)
        move(source, target)

    monkeypatch.setattr(files, "move", dies)
    ours = Journal(folder)
    with pytest.raises(KeyboardInterrupt):
        ours.move({"0.jpg": tmp_path / "cat", "1.jpg": tmp_path / "cat"}, "cat")
    ours.close()  # as the page that is ended meanwhile does
    monkeypatch.setattr(files, "move", move)
    assert (folder / "1.jpg").exists()
    assert journal.finish(folder, tmp_path) == (1, [])
    assert _tree(tmp_path / "cat") == {"0.jpg": b"picture 0", "1.jpg": b"picture 1"}
    assert journal.finish(folder, tmp_path) == (0, [])
    [record] = (tmp_path / "collected.set-aside").glob("*.json")
    assert set(journal.restore(record)) == {"0.jpg", "1.jpg"}


def test_only_the_last_step_is_finished(folder: Path, tmp_path: Path) -> None:
    """Who puts a picture back by hand does not find it moved again."""
    ours = Journal(folder)
    ours.move({"0.jpg": tmp_path / "cat"}, "cat")
    ours.move({"1.jpg": tmp_path / "cat"}, "cat")
    (tmp_path / "cat/0.jpg").rename(folder / "0.jpg")
    assert journal.finish(folder, tmp_path) == (0, [])


def test_a_review_that_was_ended_is_not_finished_again(folder: Path, tmp_path: Path) -> None:
    ours = Journal(folder)
    ours.move({"0.jpg": tmp_path / "cat"}, "cat")
    ours.close()
    (tmp_path / "cat/0.jpg").rename(folder / "0.jpg")
    assert journal.finish(folder, tmp_path) == (0, [])


@pytest.mark.parametrize("place", ["collected.set-aside", "collected/.set-aside"])
@pytest.mark.parametrize("into", ["sorted", None])
def test_a_journal_from_others_moves_nothing_elsewhere(
    folder: Path, tmp_path: Path, place: str, into: str | None
) -> None:
    elsewhere = tmp_path / "home" / "autostart" / "0.jpg"
    entry = {"step": 1, "name": "0.jpg", "sha256": files.sha256_of(folder / "0.jpg"), "now": str(elsewhere)}
    record = tmp_path / place / "1.json"
    record.parent.mkdir()
    for now in (
        elsewhere,
        tmp_path / "sorted" / ".." / "home" / "0.jpg",
        record.with_suffix("") / ".." / ".." / "0.jpg",
    ):
        document = {"schema": journal.SCHEMA, "folder": "collected", "entries": [entry | {"now": str(now)}]}
        record.write_text(json.dumps(document))
        moved, left = journal.finish(folder, tmp_path / into if into else None)
        assert (moved, [one.now for one in left]) == (0, [str(now)])
        assert (folder / "0.jpg").exists()
    aside = record.with_suffix("") / "0.jpg"
    record.write_text(json.dumps(document | {"entries": [entry | {"now": str(aside)}]}))
    assert journal.finish(folder, None) == (1, [])
    assert aside.read_bytes() == b"picture 0"


def test_kept_photographs_are_remembered(folder: Path) -> None:
    ours = Journal(folder)
    [kept] = ours.keep(["0.jpg"])
    ours.set_aside(["1.jpg"])
    assert set(journal.kept(folder)) == {kept.sha256}


def test_a_file_that_is_gone_or_a_link_is_refused_before_anything_moves(folder: Path, tmp_path: Path) -> None:
    ours = Journal(folder)
    (folder / "link.jpg").symlink_to(folder / "0.jpg")
    for bad in ("gone.jpg", "link.jpg"):
        with pytest.raises(BadInputError, match="not there any more, or is a link"):
            ours.move({"0.jpg": tmp_path / "cat", bad: tmp_path / "cat"}, "cat")
    assert (folder / "0.jpg").exists()
    assert ours.path is None


def _changed(record: Path, **entry: object) -> None:
    document = json.loads(record.read_text())
    document["entries"][0] |= entry
    record.write_text(json.dumps(document))


def test_a_record_from_others_moves_nothing_but_what_it_names(folder: Path, tmp_path: Path) -> None:
    ours = Journal(folder)
    ours.move({"0.jpg": tmp_path / "cat"}, "cat")
    assert ours.path
    secret = tmp_path / "secret"
    secret.write_bytes(b"a key")
    _changed(ours.path, now=str(secret))
    with pytest.raises(BadInputError, match="gone or have changed"):
        journal.restore(ours.path)
    assert secret.exists(), "its content is not the one that was moved"
    _changed(ours.path, name="../elsewhere.jpg", now=str(tmp_path / "cat/0.jpg"))
    with pytest.raises(BadInputError, match="not a path below the folder"):
        journal.restore(ours.path)
    (tmp_path / "outside").mkdir()
    (folder / "way").symlink_to(tmp_path / "outside")
    _changed(ours.path, name="way/0.jpg")
    with pytest.raises(BadInputError, match="lies behind a link"):
        journal.restore(ours.path)
    assert (tmp_path / "cat/0.jpg").exists()


def test_what_stands_in_the_way_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    ours = Journal(folder)
    ours.move({"0.jpg": tmp_path / "cat", "1.jpg": tmp_path / "cat"}, "cat")
    (folder / "0.jpg").write_bytes(b"a new picture")
    assert ours.path
    with pytest.raises(BadInputError, match="is there again; nothing was moved"):
        journal.restore(ours.path)
    assert (tmp_path / "cat/1.jpg").exists()
    (folder / "0.jpg").unlink()
    (tmp_path / "cat/1.jpg").unlink()
    with pytest.raises(BadInputError, match="1 of the 2 files"):
        journal.restore(ours.path)
    assert (folder / "0.jpg").read_bytes() == b"picture 0"
    assert ours.path.exists()


def test_names_that_changed_hands_come_back(tmp_path: Path) -> None:
    """A photograph takes the name that another one has left: each goes back to its own place."""
    data = tmp_path / "data"
    for label in ("cat", "dog"):
        (data / label).mkdir(parents=True)
        (data / label / "1.jpg").write_bytes(label.encode())
    before = _tree(data)
    ours = Journal(data)
    ours.move({"cat/1.jpg": data / "dog"}, "dog")
    ours.move({"dog/1.jpg": data / "cat"}, "cat")
    assert _tree(data) == {"dog/1-2.jpg": b"cat", "cat/1.jpg": b"dog"}
    assert ours.path
    assert journal.restore(ours.path) == ("cat/1.jpg", "dog/1.jpg")
    assert _tree(data) == before


@pytest.mark.parametrize("fails", ["carry out", "write"])
def test_what_cannot_be_done_was_not_decided(
    fails: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that gets full, in the journal or after one picture of two: nothing has moved, and undo goes on."""
    ours, before = Journal(folder), {**_tree(folder)}
    ours.keep(["3.jpg"])
    with monkeypatch.context() as patched:
        real = files.move if fails == "carry out" else files.write_json

        def fail(source: Path, target: object) -> None:
            if fails == "write" or source.name == "1.jpg":
                raise OSError(28, "No space left on device", str(source))
            real(source, target)  # type: ignore[arg-type]

        patched.setattr(files, "move" if fails == "carry out" else "write_json", fail)
        with pytest.raises((BadInputError, OSError)):
            ours.move({"0.jpg": tmp_path / "cat", "1.jpg": tmp_path / "cat"}, "cat")
    assert _tree(folder) == before
    assert [one.name for one in ours.entries] == ["3.jpg"]
    ours.move({"0.jpg": tmp_path / "dog"}, "dog")
    assert [one.name for one in ours.undo()] == ["0.jpg"]
    assert [one.name for one in ours.undo()] == ["3.jpg"]
    assert _tree(folder) == before


@pytest.mark.parametrize("fails", ["in the way", "write"])
def test_an_undo_that_fails_changes_nothing_and_can_be_tried_again(
    fails: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, before = Journal(folder), _tree(folder)
    ours.move({"0.jpg": tmp_path / "cat", "1.jpg": tmp_path / "cat"}, "cat")
    moved = _tree(tmp_path / "cat")
    with monkeypatch.context() as patched:
        if fails == "write":

            def full(path: Path, value: object) -> None:
                raise OSError(28, "No space left on device", str(path))

            patched.setattr(files, "write_json", full)
        else:
            (folder / "0.jpg").write_bytes(b"another")  # the second to go back
        with pytest.raises((BadInputError, OSError)):
            ours.undo()
    assert _tree(tmp_path / "cat") == moved
    assert len(ours.entries) == 2
    if fails == "in the way":
        (folder / "0.jpg").unlink()
    assert len(ours.undo()) == 2
    assert _tree(folder) == before


def test_a_decision_that_was_taken_back_is_not_finished_by_the_next_review(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full while a picture is moved and the journal put right; in the end there is room."""
    ours, before = Journal(folder), _tree(folder)
    ours.keep(["3.jpg"])
    write = files.write_json
    written: list[Path] = []

    def once(path: Path, value: object) -> None:
        written.append(path)
        if len(written) > 1:
            raise OSError(28, "No space left on device", str(path))
        write(path, value)

    def fail(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(source))

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_json", once)
        patched.setattr(files, "move", fail)
        with pytest.raises(BadInputError):
            ours.move({"0.jpg": tmp_path / "cat"}, "cat")
    ours.close()
    assert journal.finish(folder, tmp_path) == (0, [])
    assert _tree(folder) == before
