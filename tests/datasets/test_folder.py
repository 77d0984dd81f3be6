from __future__ import annotations

from pathlib import Path

import pytest
from datasets_support import Tree

from toolchain.datasets.folder import list_folder
from toolchain.errors import BadInputError


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
    assert "1 photographs lie outside" in text


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


def test_a_broken_link_is_listed_and_not_passed_over(tree: Tree) -> None:
    root = tree({"cat/a.jpg": b"a", "dog/b.jpg": b"b"})
    (root / "dog" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    assert "dog/gone.jpg" in names(root)
