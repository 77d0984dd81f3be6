"""What a run knew stays in its split, wherever the hash would put it now."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from datasets_support import Tree

from toolchain.datasets.folder import list_folder
from toolchain.datasets.known import REASON, keep_known
from toolchain.datasets.splits import SPLITS, Dataset, make_splits
from toolchain.errors import BadInputError


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _files(per_class: int, start: int = 0) -> dict[str, bytes]:
    numbers = range(start, start + per_class)
    return {f"{label}/{i}.jpg": f"{label} {i}".encode() for label in ("cat", "dog") for i in numbers}


def _sides(dataset: Dataset) -> dict[str, str]:
    return {photo.sha256: split for split in SPLITS for photo in dataset.splits[split]}


def test_known_photographs_stay_and_new_ones_go_by_their_hash(tree: Tree) -> None:
    before = make_splits(list_folder(tree(_files(12))))
    # As if the run had been made with other splits: each one is elsewhere.
    known = {
        sha256: {"train": "test", "test": "train"}.get(split, split) for sha256, split in _sides(before).items()
    }
    after = make_splits(list_folder(tree(_files(40))))
    kept = keep_known(after, known)
    assert {sha256: _sides(kept)[sha256] for sha256 in known} == known
    new = _sides(after).keys() - known.keys()
    assert {sha256: _sides(kept)[sha256] for sha256 in new} == {sha256: _sides(after)[sha256] for sha256 in new}
    assert sum(map(len, kept.splits.values())) == 80


def test_nothing_known_changes_nothing(tree: Tree) -> None:
    dataset = make_splits(list_folder(tree(_files(12))))
    assert keep_known(dataset, {}) is dataset


def test_given_splits_are_respected_but_lose_what_has_taught(tree: Tree) -> None:
    files = {f"train/{name}": content for name, content in _files(12).items()}
    files |= {f"test/{name}": content for name, content in _files(3, 100).items()}
    dataset = make_splits(list_folder(tree(files)))
    known = {_sha256(b"cat 100"): "train", _sha256(b"dog 100"): "calibration", _sha256(b"cat 101"): "val"}
    known[_sha256(b"cat 1")] = "test"
    kept = keep_known(dataset, known)
    assert sorted(photo.name for photo in kept.splits["test"]) == [
        "test/cat/101.jpg", "test/cat/102.jpg", "test/dog/101.jpg", "test/dog/102.jpg",
    ]  # fmt: skip
    assert [(one.name, one.reason) for one in kept.left_out] == [
        ("test/cat/100.jpg", REASON),
        ("test/dog/100.jpg", REASON),
    ]
    assert "2 photographs of val and test are left out" in kept.warnings[-1]
    assert _sides(kept)[_sha256(b"cat 1")] == _sides(dataset)[_sha256(b"cat 1")], "test has a folder of its own"


def test_new_photographs_of_a_group_that_has_taught_train_too(tree: Tree) -> None:
    index = list_folder(tree(_files(40)))
    dataset = make_splits(index)
    [held, *_] = dataset.splits["test"]
    taught = next(photo for photo in dataset.splits["train"] if photo.label == held.label)
    grouped = {
        split: tuple(replace(one, group="scene") if one in (held, taught) else one for one in photos)
        for split, photos in dataset.splits.items()
    }
    kept = keep_known(replace(dataset, splits=grouped), {taught.sha256: "train"})
    assert _sides(kept)[held.sha256] == "train"
    kept = keep_known(replace(dataset, splits=grouped), {held.sha256: "test"})
    assert _sides(kept)[taught.sha256] == "test"


def test_a_class_of_held_back_photographs_cannot_be_taught(tree: Tree) -> None:
    files = _files(12)
    dataset = make_splits(list_folder(tree(files)))
    known = {_sha256(content): "test" for name, content in files.items() if name.startswith("cat")}
    with pytest.raises(BadInputError, match="no training photograph is left for cat"):
        keep_known(dataset, known)


def test_warnings_are_of_the_splits_as_they_are(tree: Tree) -> None:
    """Small classes are drawn by rank, and what is known is not: nothing of the draw stays true of it."""
    files = {f"{label}/{i}.jpg": f"{label} {i}".encode() for label in ("cat", "dog") for i in range(5)}
    dataset = make_splits(list_folder(tree(files)))
    assert any("may change their split" in warning for warning in dataset.warnings)
    known = _sides(dataset)
    assert not any("may change" in warning for warning in keep_known(dataset, known).warnings)
    taught = dict.fromkeys(known, "train")
    found = keep_known(dataset, taught).warnings
    assert "test holds no photograph at all; add photographs, or a `test` folder" in found
    assert "val holds no photograph at all; add photographs, or a `val` folder" in found
