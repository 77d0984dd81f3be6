"""Groups are on one side of a split as a whole, and each class is on all sides."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from datasets_support import Tree

from toolchain.datasets import SPLITS, Dataset
from toolchain.datasets.catalogue import open_dataset
from toolchain.datasets.folder import list_folder
from toolchain.datasets.groups import with_groups
from toolchain.datasets.shares import SHARES, Unit, split_units
from toolchain.datasets.splits import make_splits, resplit
from toolchain.errors import BadInputError


def takes(each: int, frames: int = 12, classes: tuple[str, ...] = ("cup", "pen")) -> dict[str, bytes]:
    return {
        f"{label}/{label}-{take}/{frame}.jpg": f"{label} {take} {frame}".encode()
        for label in classes
        for take in range(each)
        for frame in range(frames)
    }


def splits_of(dataset: Dataset) -> dict[str, set[str]]:
    """The splits of each group."""
    found: dict[str, set[str]] = {}
    for split in SPLITS:
        for photo in dataset.splits[split]:
            found.setdefault(photo.group, set()).add(split)
    return found


@pytest.mark.parametrize(
    ("by", "name", "group"),
    [
        ("folder", "cup/kitchen/1.jpg", "kitchen"),
        ("folder", "cup/kitchen/close/1.jpg", "kitchen"),
        ("folder", "cup/1.jpg", ""),
        ("folder", "train/cup/kitchen/1.jpg", "kitchen"),
        ("prefix", "cup/IMG_2024_17.jpg", "IMG_2024"),
        ("prefix", "cup/burst-003.jpg", "burst"),
        ("prefix", "cup/a walk 7.jpg", "a walk"),
        ("prefix", "cup/7.jpg", ""),
        ("prefix", "cup/-7.jpg", ""),
        ("prefix", "cup/burst-003b.jpg", ""),
        (r"regex:patient(\d+)", "cup/patient12-left.jpg", "12"),
        (r"regex:^[^/]+/(\w)", "cup/kitchen/1.jpg", "k"),
        (r"regex:(x)?_?\d*\.jpg", "cup/kitchen/1.jpg", ""),
    ],
)
def test_the_group_of_a_photograph(tree: Tree, by: str, name: str, group: str) -> None:
    beside = "train/pen/kitchen/patient0-x_1.jpg" if name.startswith("train/") else "pen/kitchen/patient0-x_1.jpg"
    index = with_groups(list_folder(tree({name: b"one", beside: b"another"})), by)
    assert {photo.name: photo.group for photo in index.photographs}[name] == group
    assert any("are in no group" in line for line in index.warnings) == (not group)


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("folders", "is not known"),
        ("regex", "is not known"),
        ("regex:", "is not known"),
        ("regex:(", "not a regular expression"),
        ("regex:cup", "no parenthesis"),
        ("regex:(cow)", "matches no path"),
        ("folder", "no photograph lies in a folder below"),
        ("prefix", "no name ends with"),
    ],
)
def test_a_way_that_groups_nothing_is_refused(tree: Tree, by: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        with_groups(list_folder(tree({"cup/a.jpg": b"a", "pen/b.jpg": b"b"})), by)


@pytest.mark.parametrize(("each", "frames"), [(3, 12), (4, 5), (9, 30), (60, 2)])
def test_no_group_is_on_two_sides_and_every_class_on_all(tree: Tree, each: int, frames: int) -> None:
    dataset = open_dataset(str(tree(takes(each, frames))), group_by="folder")
    assert all(len(splits) == 1 for splits in splits_of(dataset).values())
    assert sum(len(photos) for photos in dataset.splits.values()) == 2 * each * frames
    for split in ("train", "val", "test"):
        assert {photo.label for photo in dataset.splits[split]} == {0, 1}


def test_folders_that_are_groups_are_no_reason_to_ask_for_the_right_folder(tree: Tree) -> None:
    root = str(tree(takes(3)))
    asked = "is this the right folder?"
    assert any(asked in line for line in open_dataset(root).warnings)
    assert not any(asked in line for line in open_dataset(root, group_by="folder").warnings)


def test_one_by_one_the_same_photographs_would_be_on_all_sides(tree: Tree) -> None:
    dataset = open_dataset(str(tree(takes(3, 40))))
    sides: dict[str, set[str]] = {}
    for split in SPLITS:
        for photo in dataset.splits[split]:
            sides.setdefault(str(Path(photo.name).parent), set()).add(split)
    assert all({"train", "test"} <= found for found in sides.values())


def test_shares_are_kept_as_well_as_groups_allow() -> None:
    """Many groups of many sizes, some with two classes: each split is near its share of each class."""
    draw = random.Random(7)
    units = []
    for number in range(300):
        labels = draw.sample(range(3), draw.choice([1, 1, 1, 2]))
        units.append(Unit(f"group {number}", {label: draw.randint(1, 12) for label in labels}, True))
    splits = split_units(units)
    for label in range(3):
        total = sum(unit.counts.get(label, 0) for unit in units)
        for split, share in SHARES.items():
            have = sum(unit.counts.get(label, 0) for unit in units if splits[unit.key] == split)
            assert 0.4 * share * total < have <= 2 * share * total


def test_groups_keep_their_split_when_others_are_added(tree: Tree) -> None:
    before = open_dataset(str(tree(takes(60, 3))), group_by="folder")
    after = open_dataset(str(tree(takes(90, 4))), group_by="folder")
    old, new = splits_of(before), splits_of(after)
    named = " ".join(before.warnings + after.warnings)
    moved = [group for group, splits in old.items() if new[group] != splits]
    assert all(group in named for group in moved)
    assert len(moved) <= 2


def test_what_few_groups_force_is_named(tree: Tree) -> None:
    warnings = open_dataset(str(tree(takes(3))), group_by="folder").warnings
    (line,) = [line for line in warnings if line.startswith("some classes are small")]
    assert "cup-" in line
    assert ".jpg" not in line


def test_a_class_needs_a_group_for_each_side(tree: Tree) -> None:
    files = takes(4, classes=("cup", "pen")) | takes(2, frames=100, classes=("plant",))
    with pytest.raises(BadInputError, match=r"too few groups of photographs to train of plant \(2\)") as refused:
        open_dataset(str(tree(files)), group_by="folder")
    assert "one each for train, val, test" in (refused.value.hint or "")


def test_one_group_in_two_classes_is_on_one_side(tree: Tree) -> None:
    files = {
        f"{label}/patient{patient:02}-{number}.jpg": f"{label} {patient} {number}".encode()
        for label in ("ill", "well")
        for patient in range(12)
        for number in range(4)
    }
    dataset = open_dataset(str(tree(files)), group_by=r"regex:patient(\d+)")
    assert len(splits_of(dataset)) == 12
    assert all(len(splits) == 1 for splits in splits_of(dataset).values())
    for split in ("train", "val", "test"):
        assert {photo.label for photo in dataset.splits[split]} == {0, 1}


def test_groups_with_a_copy_in_common_are_one(tree: Tree) -> None:
    files = takes(8, 4)
    files |= {f"cup/cup-{take}/copy.jpg": b"in both" for take in (1, 5)} | {"cup/copy.jpg": b"in both"}
    dataset = open_dataset(str(tree(files)), group_by="folder")
    places = {split for split in SPLITS for photo in dataset.splits[split] if photo.sha256 == dataset_hash(dataset)}
    assert len(places) == 1
    assert "cup-5" not in splits_of(dataset)
    assert all(len(splits) == 1 for splits in splits_of(dataset).values())


def dataset_hash(dataset: Dataset) -> str:
    return next(photo.sha256 for split in SPLITS for photo in dataset.splits[split] if photo.name == "cup/copy.jpg")


def test_photographs_of_a_group_in_a_given_test_are_left_out_of_train(tree: Tree) -> None:
    files = {f"train/{name}": data for name, data in takes(5, 3).items()}
    files |= {f"test/{label}/{label}-2/x.jpg": f"{label} x".encode() for label in ("cup", "pen")}
    dataset = open_dataset(str(tree(files)), group_by="folder")
    assert splits_of(dataset)["cup-2"] == {"test"}
    assert sum(one.reason == "the same group is in test" for one in dataset.left_out) == 6
    assert any("6 photographs in train are of groups in test" in line for line in dataset.warnings)


def test_groups_outlive_a_second_split(tree: Tree) -> None:
    root = tree(takes(6, 5))
    index = with_groups(list_folder(root), "folder")
    dataset = resplit(make_splits(index), {root / "cup/cup-1/3.jpg": "broken"})
    assert all(len(splits) == 1 for splits in splits_of(dataset).values())
    assert sum(len(photos) for photos in dataset.splits.values()) == 59
