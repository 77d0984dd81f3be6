from __future__ import annotations

import sys
import time
from pathlib import Path

import cv2
import pytest
from datasets_support import Tree

from toolchain.datasets.check import check
from toolchain.datasets.folder import list_folder
from toolchain.datasets.index import LeftOut
from toolchain.datasets.scan import HELPER, skip_reason
from toolchain.drawn.pets import draw
from toolchain.errors import BadInputError

RUN = b'{"schema": "edgetl.run/1"}'


def jpeg(label: str, index: int) -> bytes:
    return cv2.imencode(".jpg", cv2.cvtColor(draw(label, index, size=96), cv2.COLOR_RGB2BGR))[1].tobytes()


def names(root: Path, side: str = "train") -> list[str]:
    return [photo.name for photo in list_folder(root).given[side]]  # type: ignore[index]


def test_class_folders_are_classes_in_sorted_order(tree: Tree) -> None:
    listing = list_folder(tree({"dog/b.jpg": b"b", "cat/a.jpg": b"a", "Zebra/c.jpg": b"c"}))
    assert listing.classes == ("Zebra", "cat", "dog")
    assert [(photo.name, photo.label) for photo in listing.given["train"]] == [
        ("Zebra/c.jpg", 0),
        ("cat/a.jpg", 1),
        ("dog/b.jpg", 2),
    ]


def test_the_folder_above_the_right_one_is_suspected(tree: Tree) -> None:
    root = tree({"pets/cat/a.jpg": b"a", "pets/dog/b.jpg": b"b", "others/c.jpg": b"c"})
    assert any("the photographs of pets lie in folders below" in warning for warning in list_folder(root).warnings)
    assert list_folder(tree({"pets/cat.jpg": b"d"})).warnings == ()


def test_only_visible_images_count(tree: Tree) -> None:
    root = tree(
        {f"cat/{name}": b"x" for name in (".hidden.jpg", "notes.txt", "Thumbs.db", "A.JPEG", "b.TiF", "c.gif")}
    )
    tree({"dog/deep/er/d.webp": b"x", "dog/.git/e.png": b"x", ".cache/f/g.jpg": b"x", "__MACOSX/h/i.jpg": b"x"})
    assert names(root) == ["cat/A.JPEG", "cat/b.TiF", "cat/c.gif", "dog/deep/er/d.webp"]


def test_names_with_spaces_and_other_alphabets(tree: Tree) -> None:
    listing = list_folder(
        tree({"кошка/мой кот.jpg": b"x", "British Shorthair/a b.jpg": b"x", "گربه‌ها/1.png": b"x"})
    )
    assert listing.classes == ("British Shorthair", "кошка", "گربه‌ها")


def test_one_letter_in_two_encodings_is_one_class(tree: Tree) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    listing = list_folder(
        tree({f"train/{composed}/a.jpg": b"a", f"test/{decomposed}/b.jpg": b"b", "train/x/c.jpg": b"c"})
    )
    assert listing.classes == (composed, "x")
    assert len(listing.given["test"]) == 1


@pytest.mark.parametrize("alias", ["val", "valid", "validation", "Valid"])
def test_given_splits_and_their_aliases(tree: Tree, alias: str) -> None:
    files = {f"{side}/{label}/{side}.jpg": b"x" for side in ("train", alias, "test") for label in ("cat", "dog")}
    listing = list_folder(tree(files))
    assert {side: len(photos) for side, photos in listing.given.items()} == {"train": 2, "val": 2, "test": 2}


def test_a_class_may_be_called_train(tree: Tree) -> None:
    assert list_folder(tree({"train/a.jpg": b"a", "bus/b.jpg": b"b"})).classes == ("bus", "train")


def test_what_is_ignored_is_said(tree: Tree) -> None:
    root = tree({"train/cat/a.jpg": b"a", "train/dog/b.jpg": b"b", "models/c.onnx": b"c", "loose.jpg": b"d"})
    text = " ".join(list_folder(root).warnings)
    assert "models" in text
    assert "outside the class folders: 1 (loose.jpg)" in text


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no class under"),
        ({"cat/a.jpg": b"a"}, "only the class 'cat'"),
        ({"a.jpg": b"a", "b.jpg": b"b"}, "2 photographs but no class folders"),
        ({"cat/a.jpg": b"a", "dog/readme.txt": b"b"}, "dog holds no photographs"),
        ({"train/cat/a.jpg": b"a", "train/dog/a.jpg": b"b", "test/emu/c.jpg": b"c"}, "test holds the class emu"),
        ({"test/cat/a.jpg": b"a", "test/dog/a.jpg": b"b"}, "no train folder"),
        ({"train/a/x.jpg": b"a", "val/a/x.jpg": b"b", "valid/a/x.jpg": b"c"}, "both val and valid"),
    ],
)
def test_unusable_folders_are_named(tree: Tree, files: dict[str, bytes], said: str) -> None:
    with pytest.raises(BadInputError) as caught:
        list_folder(tree(files))
    assert said in caught.value.message
    assert caught.value.hint


def test_a_path_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="does not exist"):
        list_folder(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadInputError, match="is a file"):
        list_folder(tmp_path / "file")


def test_a_broken_link_is_left_out_by_name_and_spoils_the_folder(tree: Tree) -> None:
    root = tree({"cat/a.jpg": jpeg("cat", 0), "dog/b.jpg": jpeg("dog", 0)})
    assert check(list_folder(root)).is_sound
    (root / "dog" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    listing = list_folder(root)
    assert listing.left_out == (LeftOut("dog/gone.jpg", "a link that leads nowhere", lost=True),)
    assert listing.warnings == (
        f"{root}: 1 left out that may be photographs: a link that leads nowhere: 1 (dog/gone.jpg)",
    )
    assert not check(listing).is_sound


def test_what_is_left_out_is_told_in_two_lines(tree: Tree) -> None:
    root = tree({f"cat/{number}.txt": b"text" for number in range(500)})
    tree({f"cat/{name}": b"" for name in (".DS_Store", "Thumbs.db", "a.jpg")})
    tree({"dog/a.jpg": b"", "dog/.hidden": b"", "dog/b.pdf": b"%PDF-", "dog/c.zip": b"PK\3\4", "dog/d": b"\0"})
    tree({"dog/e.mp3": b"ID3", "dog/f.mp4": b"\x1aE\xdf\xa3", "dog/g.jxl": b"\xff\x0a", "dog/h.jxl": b"\xff\x0a"})
    told = list_folder(root).warnings
    assert told == (
        f"{root}: 2 left out that may be photographs: JPEG XL, which this OpenCV does not read: 2 "
        "(dog/g.jxl, dog/h.jxl)",
        f"{root}: 506 left out: text: 500 (cat/0.txt, cat/1.txt, cat/10.txt and 497 more); "
        "hidden: 1 (dog/.hidden); PDF: 1 (dog/b.pdf); archive: 1 (dog/c.zip); no picture: 1 (dog/d); "
        "and 2 other kinds",
    )


def test_all_empty_class_folders_are_named_at_once_and_runs_are_not_among_them(tree: Tree) -> None:
    root = tree({"cat/a.jpg": b"a", "dog/notes.txt": b"b", "emu/x.pdf": b"%PDF-", "runs/a/run.json": RUN})
    tree({"train/run.json": RUN})
    with pytest.raises(BadInputError) as caught:
        list_folder(root)
    assert caught.value.message == (f"{root}: 2 class folders hold no photographs: dog (text: 1), emu (PDF: 1)")
    assert "runs" not in caught.value.hint
    assert list_folder(root, strict=False).classes == ("cat", "dog", "emu")


def test_a_stray_photograph_does_not_make_a_class_of_a_side(tree: Tree) -> None:
    root = tree({f"{side}/{label}/{side}.jpg": b"x" for side in ("train", "test") for label in ("cat", "dog")})
    tree({"train/stray.jpg": b"x", "test/stray.jpg": b"y"})
    listing = list_folder(root)
    assert listing.classes == ("cat", "dog")
    assert {one.name for one in listing.left_out} == {"train/stray.jpg", "test/stray.jpg"}


def test_class_names_that_no_model_file_could_hold_are_refused(tree: Tree) -> None:
    if sys.platform in ("win32", "darwin"):
        pytest.skip("names are text here")
    root = tree({"cat/a.jpg": b"a", "dog/b.jpg": b"b", "bird\udce9/c.jpg": b"c", "emu\n/d.jpg": b"d"})
    with pytest.raises(BadInputError) as caught:
        list_folder(root)
    assert caught.value.message == (
        f"{root}: the folder name 'bird\udce9' is not valid text; "
        f"{root}: the folder name 'emu\\n' is not valid text"
    )


def test_names_cannot_write_on_the_screen(tree: Tree) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows knows no such names")
    root = tree({"cat/a.jpg": b"a", "dog/b.jpg": b"b", "dog/\x1b[2J\n.txt": b"words"})
    assert list_folder(root).warnings == (f"{root}: 1 left out: text: 1 (dog/\\x1b[2J\\n.txt)",)


def test_all_that_is_wrong_with_a_layout_is_said(tree: Tree) -> None:
    root = tree({f"{side}/{label}/a.jpg": b"x" for side in ("val", "valid", "test") for label in ("cat", "dog")})
    listing = list_folder(root, strict=False)
    assert [problem.message.removeprefix(f"{root} ") for problem in listing.problems] == [
        "holds both val and valid, which mean the same split",
        "holds val and test but no train folder",
    ]
    assert len(listing.photographs) == 6


def test_the_photographs_of_both_spellings_are_of_one_class(tree: Tree) -> None:
    if sys.platform == "darwin":
        pytest.skip("its file system knows one spelling")
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    listing = list_folder(tree({f"{composed}/1.jpg": b"a", f"{decomposed}/1.jpg": b"b", "x/c.jpg": b"c"}))
    assert listing.classes == (composed, "x")
    assert [(photo.name, photo.label) for photo in listing.photographs] == [
        (f"{decomposed}/1.jpg", 0),
        (f"{composed}/1.jpg", 0),
        ("x/c.jpg", 1),
    ]


def test_thousands_of_files_are_listed_at_once(tree: Tree) -> None:
    """Seven thousand take 0.1 s on one core; the bound is for machines that are busy."""
    files = {f"{label}/{number}{suffix}" for label in "ab" for number in range(350) for suffix in ("", ".jpg")}
    root = tree(dict.fromkeys(files, b"\xff\xd8\xff"))
    started = time.process_time()
    assert len(list_folder(root).photographs) == 1400
    assert time.process_time() - started < 0.5


def test_waste_that_is_recycled_is_a_class_and_an_old_bin_of_windows_is_none(tmp_path: Path) -> None:
    for name in ("recycled", "Recycler"):
        (tmp_path / name).mkdir()
        assert skip_reason(tmp_path / name) == ""
    (tmp_path / "recycled" / "INFO2").touch()
    (tmp_path / "Recycler" / "S-1-5-21-1").mkdir()
    assert skip_reason(tmp_path / "recycled") == skip_reason(tmp_path / "Recycler") == HELPER
