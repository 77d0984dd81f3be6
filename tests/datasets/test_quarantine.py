"""Moving out what spoils a data set: what is moved, what stays, and that it can be put back."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
import torch
from datasets_support import Tree

from toolchain.cli import run
from toolchain.datasets import quarantine as aside
from toolchain.datasets.catalogue import open_dataset
from toolchain.datasets.check import check
from toolchain.datasets.folder import list_folder
from toolchain.datasets.quarantine import Moved, movable, move_out, restore
from toolchain.drawn.pets import draw
from toolchain.errors import BadInputError
from toolchain.images.reader import Reader
from toolchain.system import files
from toolchain.system.progress import Silent
from toolchain.training.photographs import readable
from toolchain.training.settings import TrainSettings
from toolchain.training.team import joined


def jpeg(label: str, index: int) -> bytes:
    return cv2.imencode(".jpg", cv2.cvtColor(draw(label, index, size=96), cv2.COLOR_RGB2BGR))[1].tobytes()


@pytest.fixture
def spoiled(tree: Tree) -> Path:
    """Two classes, each with a good photograph on both sides, and everything that can be wrong with the others."""
    leak, disputed = jpeg("cat", 1), jpeg("cat", 2)
    return tree(
        {
            "train/cat/good.jpg": jpeg("cat", 0),
            "train/cat/twice.jpg": jpeg("cat", 0),
            "train/cat/leak.jpg": leak,
            "train/cat/cut.jpg": jpeg("cat", 3)[:-600],
            "train/cat/disputed.jpg": disputed,
            "train/dog/disputed.jpg": disputed,
            "train/dog/good.jpg": jpeg("dog", 0),
            "train/dog/empty.jpg": b"",
            "test/cat/held.jpg": leak,
            "test/dog/good.jpg": jpeg("dog", 1),
        }
    )


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_what_training_leaves_out_is_moved_and_nothing_else(spoiled: Path) -> None:
    before = _files(spoiled)
    listing = list_folder(spoiled)
    moved = movable(listing, check(listing))
    assert {one.name: one.reason for one in moved} == {
        "train/cat/cut.jpg": "the picture is truncated",
        "train/dog/empty.jpg": "the file is empty",
        "train/cat/leak.jpg": "also in test: test/cat/held.jpg",
    }
    record = move_out(listing, moved)
    assert record == spoiled.with_name("photos.set-aside") / "1.json"
    assert json.loads(record.read_text())["moved"][0] == {"name": moved[0].name, "reason": moved[0].reason}
    aside_now = _files(record.with_suffix(""))
    assert aside_now == {one.name: before[one.name] for one in moved}
    assert {**_files(spoiled), **aside_now} == before
    findings = check(list_folder(spoiled))
    assert findings.unreadable == findings.copies_across_splits == ()
    # Which of the two labels is wrong, no program can know.
    assert findings.copies_across_classes == (("train/cat/disputed.jpg", "train/dog/disputed.jpg"),)
    assert findings.copies_within == (("train/cat/good.jpg", "train/cat/twice.jpg"),)


def test_a_fixed_data_set_holds_what_training_used_before(spoiled: Path) -> None:
    settings = TrainSettings(str(spoiled))

    def used() -> dict[str, set[str]]:
        decoded = Reader(settings.preprocess, None, Silent())
        with joined(torch.device("cpu")) as alone:
            dataset, _ = readable(open_dataset(str(spoiled)), settings, decoded, alone, Silent())
        return {side: {photo.name for photo in photos} for side, photos in dataset.splits.items()}

    before = used()
    listing = list_folder(spoiled)
    move_out(listing, movable(listing, check(listing)))
    assert used() == before


def test_all_can_be_put_back(spoiled: Path) -> None:
    before = _files(spoiled)
    listing = list_folder(spoiled)
    record = move_out(listing, movable(listing, check(listing)))
    assert set(restore(record)) == {"train/cat/cut.jpg", "train/dog/empty.jpg", "train/cat/leak.jpg"}
    assert _files(spoiled) == before
    assert not record.parent.exists()


def test_a_record_stays_until_every_file_is_back(spoiled: Path) -> None:
    before = _files(spoiled)
    listing = list_folder(spoiled)
    record = move_out(listing, movable(listing, check(listing)))
    cut = record.with_suffix("") / "train/cat/cut.jpg"
    elsewhere = cut.rename(spoiled.parent / "cut.jpg")
    with pytest.raises(BadInputError, match=r"1 of the \d files that .* names are gone: train/cat/cut\.jpg"):
        restore(record)
    assert record.exists()
    assert set(before) - set(_files(spoiled)) == {"train/cat/cut.jpg"}
    cut.parent.mkdir(parents=True, exist_ok=True)
    elsewhere.rename(cut)
    assert restore(record) == ("train/cat/cut.jpg",)
    assert _files(spoiled) == before
    assert not record.exists()


def test_each_fix_has_a_folder_of_its_own(spoiled: Path) -> None:
    listing = list_folder(spoiled)
    first = move_out(listing, [Moved("train/cat/cut.jpg", "cut")])
    (spoiled / "train/cat/cut.jpg").write_bytes(b"another")
    second = move_out(listing, [Moved("train/cat/cut.jpg", "cut again")])
    assert (first.name, second.name) == ("1.json", "2.json")
    assert (second.with_suffix("") / "train/cat/cut.jpg").read_bytes() == b"another"
    assert len((first.with_suffix("") / "train/cat/cut.jpg").read_bytes()) > 7
    restore(first)
    with pytest.raises(BadInputError, match="is there again; nothing was moved"):
        restore(second)
    assert (second.with_suffix("") / "train/cat/cut.jpg").read_bytes() == b"another"


def test_what_only_this_machine_cannot_read_stays(spoiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As phones send it, under the name of a JPEG."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (spoiled / "train/cat/IMG_1.jpg").write_bytes(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(300))
    findings = check(list_folder(spoiled))
    assert "train/cat/IMG_1.jpg" in {bad.name for bad in findings.unreadable}
    assert "train/cat/IMG_1.jpg" not in {one.name for one in movable(list_folder(spoiled), findings)}


def test_what_could_not_be_read_for_a_moment_stays(spoiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network drive that stalls."""

    def stalled(path: Path, limit: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    listing = list_folder(spoiled)
    before = {one.name for one in movable(listing, check(listing))}
    monkeypatch.setattr(files, "read_regular", stalled)
    findings = check(listing)
    assert len(findings.unreadable) == findings.photographs > len(before)
    assert movable(listing, findings) == ()


def test_what_this_opencv_does_not_read_stays(spoiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = spoiled / "train/cat/saved.jpg"
    path.write_bytes(b"RIFF\x24\x00\x00\x00WEBPVP8 " + bytes(24))
    listing = list_folder(spoiled)
    assert "train/cat/saved.jpg" in {one.name for one in movable(listing, check(listing))}, "damaged"
    monkeypatch.setattr("toolchain.datasets.check.can_decode", lambda kind: False)
    assert "train/cat/saved.jpg" not in {one.name for one in movable(listing, check(listing))}


def test_an_interrupted_move_can_be_undone(spoiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _files(spoiled)
    original = aside._move
    calls: list[Path] = []

    def failing(source: Path, target: Path, record: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise KeyboardInterrupt
        original(source, target, record)

    listing = list_folder(spoiled)
    with monkeypatch.context() as patch:
        patch.setattr(aside, "_move", failing)
        with pytest.raises(KeyboardInterrupt):
            move_out(listing, movable(listing, check(listing)))
    assert len(restore(spoiled.with_name("photos.set-aside") / "1.json")) == 1
    assert _files(spoiled) == before


def test_a_class_is_never_emptied(tree: Tree) -> None:
    root = tree({"cat/a.jpg": jpeg("cat", 0), "dog/a.jpg": b"", "dog/b.jpg": b"no picture"})
    listing = list_folder(root)
    with pytest.raises(BadInputError, match="no photograph of dog would be left"):
        movable(listing, check(listing))
    assert not root.with_name("photos.set-aside").exists()


def test_what_was_set_aside_is_no_class_of_a_folder_around_it(tree: Tree) -> None:
    root = tree({"cat/a.jpg": jpeg("cat", 0), "dog/a.jpg": jpeg("dog", 0), "dog/b.jpg": b""})
    inner = list_folder(root)
    outer = {"cat": root / "cat", "dog": root / "dog"}
    for name in outer:
        (root / f"{name}.set-aside" / "1").mkdir(parents=True)
        (root / name / "kitten.set-aside").mkdir()
        for folder in (root / f"{name}.set-aside" / "1", root / name / "kitten.set-aside"):
            (folder / "x.jpg").write_bytes(b"")
    outside = list_folder(root)
    assert (outside.classes, outside.given) == (inner.classes, inner.given)
    assert {one.reason for one in outside.left_out} == {"written by edgetl"}


def test_what_lies_behind_a_link_that_leads_out_of_the_data_stays(
    spoiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = spoiled.with_name("elsewhere")
    shutil.move(spoiled / "train" / "cat", elsewhere)
    (spoiled / "train" / "cat").symlink_to(elsewhere)
    before = _files(elsewhere)
    assert run(["data", "check", str(spoiled), "--fix"]) == 1
    told = capsys.readouterr()
    assert "not moved, since a link leads out of the data to them: 2 files (train/cat/" in told.err
    assert "1 file moved to" in told.out
    assert _files(elsewhere) == before
    listing = list_folder(spoiled)
    with pytest.raises(BadInputError, match="behind a link; nothing was moved"):
        move_out(listing, movable(listing, check(listing)))


def test_a_link_within_the_data_is_no_way_out_of_it(spoiled: Path) -> None:
    shutil.move(spoiled / "train" / "cat", spoiled / ".cats")
    (spoiled / "train" / "cat").symlink_to("../.cats")
    before = _files(spoiled)
    listing = list_folder(spoiled)
    record = move_out(listing, movable(listing, check(listing)))
    assert len(_files(record.with_suffix(""))) == 3
    restore(record)
    assert _files(spoiled) == before


Trap = Callable[[Path, Path], object]
"""Lays it into the folder of what was set aside, which holds x, and into the data."""


def _in_another_folder(name: str) -> Trap:
    def lay(place: Path, root: Path) -> None:
        folder = {"place": place, "root": root}[name]
        (folder / "link").symlink_to(root.parent / "private")
        other = root if folder == place else place
        (other / "link").mkdir()
        (place / "link" / "x").write_text("x")

    return lay


def _instead_of_place(place: Path, root: Path) -> None:
    shutil.rmtree(place)
    place.symlink_to(root.parent / "private")
    (place / "link").mkdir()
    (place / "link" / "x").write_text("x")


def _pipe(place: Path, root: Path) -> None:
    for folder in (place, root):
        (folder / "link").mkdir()
        os.mkfifo(folder / "link" / "x")


def _whole_folder(place: Path, root: Path) -> None:
    (place / "link" / "x").mkdir(parents=True)


TRAPS: dict[str, tuple[Trap, str]] = {
    "files are moved in from elsewhere": (_in_another_folder("place"), "behind a link"),
    "files are written elsewhere": (_in_another_folder("root"), "behind a link"),
    "what was set aside is a link": (_instead_of_place, "is a link; nothing was moved"),
    "a pipe that would be read": (_pipe, "is no file; nothing was moved"),
    "a folder": (_whole_folder, "is no file; nothing was moved"),
}


@pytest.mark.skipif(os.name != "posix", reason="links and pipes")
@pytest.mark.parametrize("name", TRAPS)
def test_a_record_of_others_moves_nothing_from_or_to_elsewhere(name: str, tmp_path: Path) -> None:
    lay, says = TRAPS[name]
    root, place, private = (tmp_path / part for part in ("photos", "photos.set-aside/1", "private"))
    for folder in (root, place, private):
        folder.mkdir(parents=True)
    (private / "key").write_text("secret")
    lay(place, root)
    record = place.with_suffix(".json")
    record.write_text(
        json.dumps({"schema": "edgetl.set-aside/1", "data": "x", "moved": [{"name": "link/x", "reason": ""}]})
    )
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInputError, match=says):
        restore(record)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_record_without_files_stays(tmp_path: Path) -> None:
    (tmp_path / "photos.set-aside" / "1").mkdir(parents=True)
    (tmp_path / "photos").mkdir()
    record = tmp_path / "photos.set-aside" / "1.json"
    record.write_text(json.dumps({"schema": "edgetl.set-aside/1", "data": "x", "moved": []}))
    with pytest.raises(BadInputError, match="names no files"):
        restore(record)
    assert record.exists()


def test_nothing_is_set_aside_behind_a_link(spoiled: Path) -> None:
    (spoiled.parent / "private").mkdir()
    spoiled.with_name("photos.set-aside").symlink_to("private")
    before = _files(spoiled)
    listing = list_folder(spoiled)
    with pytest.raises(BadInputError, match="is a link; nothing was moved"):
        move_out(listing, movable(listing, check(listing)))
    assert _files(spoiled) == before
    assert not list((spoiled.parent / "private").iterdir())


def test_a_move_that_was_interrupted_before_its_end_is_undone(spoiled: Path) -> None:
    """On another file system a file is in both places for a moment."""
    listing = list_folder(spoiled)
    before = _files(spoiled)
    record = move_out(listing, movable(listing, check(listing)))
    place = record.with_suffix("")
    shutil.copy(place / "train/cat/cut.jpg", spoiled / "train/cat/cut.jpg")
    restore(record)
    assert _files(spoiled) == before
    assert not place.parent.exists()


def test_beside_a_disk_where_nothing_can_be_written_the_data_holds_it_itself(spoiled: Path) -> None:
    if os.name != "posix":
        pytest.skip("permissions of POSIX")
    before = _files(spoiled)
    with tempfile.TemporaryDirectory() as mounts:
        Path(mounts).chmod(0o755)
        root = Path(mounts, "card")
        shutil.copytree(spoiled, root)
        others = os.geteuid() == 0
        for path in (root, *root.rglob("*")):
            path.chmod(0o777)
        try:
            os.seteuid(65534) if others else Path(mounts).chmod(0o555)
            listing = list_folder(root)
            record = move_out(listing, movable(listing, check(listing)))
            assert record == root / ".set-aside" / "1.json"
            assert check(list_folder(root)).unreadable == ()
            restore(record)
        finally:
            os.seteuid(0) if others else Path(mounts).chmod(0o755)
        assert _files(root) == before


@pytest.mark.parametrize(
    ("schema", "moved", "says"),
    [
        ("edgetl.set-aside/2", [], "not a record"),
        ("edgetl.set-aside/1", [{"reason": "no name"}], "not a record"),
        ("edgetl.set-aside/1", [{"name": "../../x", "reason": ""}], "not a path"),
        ("edgetl.set-aside/1", [{"name": "/etc/x", "reason": ""}], "not a path"),
        ("edgetl.set-aside/1", [], "does not lie beside the data"),
    ],
)
def test_a_record_that_cannot_be_followed(
    tmp_path: Path, schema: str, moved: list[dict[str, str]], says: str
) -> None:
    record = tmp_path / "elsewhere" / "1.json"
    record.parent.mkdir()
    record.write_text(json.dumps({"schema": schema, "data": "x", "moved": moved}))
    with pytest.raises(BadInputError, match=says):
        restore(record)
    assert record.exists()


def test_a_folder_that_may_not_be_written_to(spoiled: Path) -> None:
    spoiled.with_name("photos.set-aside").write_text("a file is in the way")
    listing = list_folder(spoiled)
    with pytest.raises(BadInputError, match="cannot be made"):
        move_out(listing, movable(listing, check(listing)))
