from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from datasets_support import Remembering, Tree

from toolchain.datasets.folder import list_folder
from toolchain.datasets.shares import SHARES, split_by_hash
from toolchain.datasets.splits import SPLITS, Dataset, make_splits, resplit
from toolchain.errors import BadInputError


def contents(count: int, start: int = 0) -> list[bytes]:
    return [f"photograph {number}".encode() for number in range(start, start + count)]


def many(per_class: int) -> dict[str, bytes]:
    return {
        f"{label}/{i}.jpg": b"%s %d" % (label.encode(), i) for label in ("cat", "dog") for i in range(per_class)
    }


def sides(dataset: Dataset) -> dict[str, str]:
    return {photo.sha256: split for split in SPLITS for photo in dataset.splits[split]}


def picked(split: str, given: tuple[str, ...] = ("train",)) -> bytes:
    """Some content that falls into `split`."""
    for number in range(100_000):
        content = f"wanted {number}".encode()
        if split_by_hash(hashlib.sha256(content).hexdigest(), given) == split:  # type: ignore[arg-type]
            return content
    raise AssertionError(split)


def taken(split: str, count: int) -> list[bytes]:
    """Contents that fall into `split`."""
    found = (f"taken {number}".encode() for number in range(100_000))
    return [content for content in found if split_by_hash(hashlib.sha256(content).hexdigest()) == split][:count]


def beneath(tree: Tree, folder: str, files: dict[str, bytes]) -> Path:
    return tree({f"{folder}/{name}": content for name, content in files.items()}) / folder


def test_shares_are_as_documented() -> None:
    total = 20_000
    found = [split_by_hash(hashlib.sha256(content).hexdigest()) for content in contents(total)]
    left = 1.0
    for split, share in SHARES.items():
        expected = left * share
        assert abs(found.count(split) / total - expected) < 4 * (expected / total) ** 0.5
        left -= expected


def test_decisions_stay_what_they_were() -> None:
    # A change here would mix the test photographs of everyone's earlier runs into their training.
    found = "".join(split_by_hash(hashlib.sha256(content).hexdigest())[:2] for content in contents(40))
    assert found == DECIDED


DECIDED = "catrtetrtrtrtrtevatetrtrtrtrtrtrvatrvatetrtrvatrtrtrtrtrtrtrtrtrtrtrtrtrvatrtrtr"


def test_photographs_never_change_sides_when_others_are_added(tree: Tree) -> None:
    before = sides(make_splits(list_folder(tree(many(100)))))
    emus = {f"emu/{i}.jpg": b"emu %d" % i for i in range(3)}
    after = sides(make_splits(list_folder(tree(many(160) | emus | {"cat/again.jpg": b"cat 3"}))))
    assert len(before) == 200
    assert before.items() <= after.items()


def test_splits_are_disjoint_and_complete(tree: Tree) -> None:
    dataset = make_splits(list_folder(tree(many(150))))
    names = [photo.name for split in SPLITS for photo in dataset.splits[split]]
    assert len(names) == len(set(names)) == 300
    assert all(dataset.splits[split] for split in SPLITS)


def test_copies_stay_on_one_side_even_under_other_names(tree: Tree) -> None:
    files = many(30)
    files |= {
        f"dog/copy of {name.replace('/', '-')}": data for name, data in files.items() if name.startswith("cat")
    }
    dataset = make_splits(list_folder(tree(files)))
    held = [{photo.sha256 for photo in dataset.splits[split]} for split in SPLITS]
    assert sum(len(hashes) for hashes in held) == len(set.union(*held))
    assert any("30 photographs are under more than one class" in warning for warning in dataset.warnings)


def test_given_splits_are_kept_and_the_rest_is_carved_from_train(tree: Tree) -> None:
    files = {f"train/{name}": data for name, data in many(150).items()}
    files |= {
        f"test/{label}/{i}.jpg": b"test %d %s" % (i, label.encode()) for label in ("cat", "dog") for i in range(9)
    }
    dataset = make_splits(list_folder(tree(files)))
    assert all(photo.name.startswith("test/") for photo in dataset.splits["test"])
    assert len(dataset.splits["test"]) == 18
    for split in ("val", "calibration"):
        assert dataset.splits[split]
        assert all(photo.name.startswith("train/") for photo in dataset.splits[split])

    with_val = make_splits(list_folder(tree({f"val/{label}/v.jpg": label.encode() for label in ("cat", "dog")})))
    assert [photo.name for photo in with_val.splits["val"]] == ["val/cat/v.jpg", "val/dog/v.jpg"]
    assert with_val.splits["calibration"]


def test_train_copies_of_test_photographs_are_left_out_and_told(tree: Tree) -> None:
    files = {f"train/{name}": data for name, data in many(40).items()}
    files |= {"test/cat/t.jpg": b"cat 7", "test/dog/t.jpg": b"only in test"}
    dataset = make_splits(list_folder(tree(files)))
    leaked = hashlib.sha256(b"cat 7").hexdigest()
    assert sides(dataset)[leaked] == "test"
    assert sum(len(photos) for photos in dataset.splits.values()) == 81
    assert any("1 photographs in train are also in test" in w and "train/cat/7.jpg" in w for w in dataset.warnings)


def test_empty_files_are_not_copies_of_each_other(tree: Tree) -> None:
    files = {f"train/{name}": data for name, data in many(20).items()}
    files |= {"train/cat/e.jpg": b"", "test/dog/e.jpg": b"", "test/cat/t.jpg": b"t"}
    dataset = make_splits(list_folder(tree(files)))
    assert not any("also in" in warning or "more than one class" in warning for warning in dataset.warnings)
    assert sum(len(photos) for photos in dataset.splits.values()) == 43


@pytest.mark.parametrize(("classes", "each"), [(2, 3), (2, 4), (2, 6), (2, 8), (5, 20), (37, 3)])
def test_small_classes_have_photographs_in_train_val_and_test(tree: Tree, classes: int, each: int) -> None:
    for draw in range(5):
        files = {
            f"{label}/{i}.jpg": f"{draw} {label} {i}".encode() for label in range(classes) for i in range(each)
        }
        dataset = make_splits(list_folder(beneath(tree, f"{draw}", files)))
        assert sum(len(photos) for photos in dataset.splits.values()) == classes * each
        for label in range(classes):
            have = {split: sum(photo.label == label for photo in dataset.splits[split]) for split in SPLITS}
            assert have["val"] >= 1
            assert have["test"] >= (2 if each == 20 else 1)
            assert have["train"] >= each / 3


def test_what_small_classes_force_is_named_and_nothing_else_moves(tree: Tree) -> None:
    moved = 0
    for draw in range(20):
        some = {f"{label}/{i}.jpg": f"{draw} {label} {i}".encode() for label in ("cat", "dog") for i in range(12)}
        more = some | {f"cat/more{i}.jpg": f"{draw} more {i}".encode() for i in range(40)}
        before = make_splits(list_folder(beneath(tree, f"{draw}", some)))
        after = make_splits(list_folder(beneath(tree, f"{draw} more", more)))
        names = {photo.sha256: photo.name for split in SPLITS for photo in before.splits[split]}
        changed = {names[sha256] for sha256, side in sides(before).items() if sides(after)[sha256] != side}
        assert all(name.startswith("cat/") for name in changed)
        forced = {names[sha256] for sha256, side in sides(before).items() if split_by_hash(sha256) != side} | {
            names[sha256]
            for sha256, side in sides(after).items()
            if sha256 in names and split_by_hash(sha256) != side
        }
        assert changed <= forced
        warned = any(line.startswith("some classes are small") for line in before.warnings + after.warnings)
        assert warned == bool(forced)
        moved += len(changed)
    assert moved


def test_copies_within_a_small_class_stay_on_one_side(tree: Tree) -> None:
    files = {f"{label}/{i}.jpg": b"%s %d" % (label.encode(), i // 2) for label in ("cat", "dog") for i in range(12)}
    dataset = make_splits(list_folder(tree(files)))
    held = [{photo.sha256 for photo in dataset.splits[split]} for split in SPLITS]
    assert sum(len(hashes) for hashes in held) == len(set.union(*held)) == 12


def test_one_photograph_for_each_given_side_is_enough(tree: Tree) -> None:
    counts = {"train": 2, "val": 1, "test": 1}
    files = {
        f"{side}/{label}/{i}.jpg": f"{side} {label} {i}".encode()
        for side, count in counts.items()
        for label in ("cat", "dog")
        for i in range(count)
    }
    dataset = make_splits(list_folder(tree(files)))
    assert {split: len(photos) for split, photos in dataset.splits.items()} == {
        "train": 4,
        "val": 2,
        "calibration": 0,
        "test": 2,
    }


@pytest.mark.parametrize(
    ("files", "message", "hint"),
    [
        (
            {"cat": 2, "dog": 2},
            r"too few different photographs to train of cat \(2\), dog \(2\)",
            "needs at least 3",
        ),
        ({"train/cat": 1, "train/dog": 2, "test/cat": 1, "test/dog": 1}, r"cat \(1\)", "needs at least 2"),
        ({"cat": 20, "dog": 0}, r"dog \(1\)", "one each for train, val, test"),
    ],
)
def test_classes_that_are_too_small_are_refused_with_what_is_wanted(
    tree: Tree, files: dict[str, int], message: str, hint: str
) -> None:
    content = {
        f"{folder}/{i}.jpg": f"{folder} {i}".encode() for folder, count in files.items() for i in range(count)
    }
    content |= {
        f"{folder}/copy{i}.jpg": b"copies" for folder, count in files.items() for i in range(3 * (not count))
    }
    with pytest.raises(BadInputError, match=message) as refused:
        make_splits(list_folder(tree(content)))
    assert hint in (refused.value.hint or "")


def test_a_class_whose_photographs_are_all_held_back_is_an_error(tree: Tree) -> None:
    held = {f"dog/{i}.jpg": content for i, content in enumerate(taken("test", 3))}
    cats = {f"cat/{i}.jpg": b"cat %d" % i for i in range(20)} | {f"cat/{name[4:]}": held[name] for name in held}
    with pytest.raises(BadInputError, match="no training photograph is left for dog"):
        make_splits(list_folder(tree(cats | held)))


def test_few_photographs_are_a_warning(tree: Tree) -> None:
    warnings = make_splits(
        list_folder(tree(many(49) | {f"dog/more{i}.jpg": b"%d" % i for i in range(10)}))
    ).warnings
    assert [w for w in warnings if "fewer than" in w] == [
        "fewer than 50 photographs of cat (49): accuracy can only be estimated roughly; add photographs"
    ]


def test_hashes_are_those_of_the_files_and_progress_is_told(tree: Tree, reporter: Remembering) -> None:
    root = tree(many(20))
    dataset = make_splits(list_folder(root), reporter)
    for photos in dataset.splits.values():
        for photo in photos:
            assert photo.sha256 == hashlib.sha256(photo.path.read_bytes()).hexdigest()
            assert photo.path == root / photo.name
    assert reporter.steps == 40


def test_a_file_that_cannot_be_read_is_named(tree: Tree) -> None:
    root = tree(many(20))
    listing = list_folder(root)
    (root / "dog" / "3.jpg").unlink()
    dataset = make_splits(listing)
    assert [(one.name, one.reason) for one in dataset.left_out] == [
        ("dog/3.jpg", "cannot be read: No such file or directory")
    ]
    assert sum(len(photos) for photos in dataset.splits.values()) == 39
    assert any("dog/3.jpg" in warning for warning in dataset.warnings)


def test_splits_without_some_files_are_those_of_a_folder_without_them(tree: Tree) -> None:
    files = many(30) | {"test/cat/1.jpg": b"cat 1", "test/dog/x.jpg": b"x"}
    root = tree({name if name.startswith("test/") else f"train/{name}": data for name, data in files.items()})
    dataset = make_splits(list_folder(root))
    gone = [root / "train/cat/3.jpg", root / "test/cat/1.jpg"]
    found = resplit(dataset, dict.fromkeys(gone, "broken"))
    for path in gone:
        path.unlink()
    (root / "test/cat/y.jpg").write_bytes(b"y")  # or else test would hold no cat
    expected = make_splits(list_folder(root))
    assert {photo.name for photo in expected.splits["test"]} - {"test/cat/y.jpg"} == {"test/dog/x.jpg"}
    for split in ("train", "val", "calibration"):
        assert found.splits[split] == expected.splits[split]
    assert {(one.name, one.reason) for one in found.left_out} == {
        ("train/cat/3.jpg", "broken"), ("test/cat/1.jpg", "broken")
    }  # fmt: skip
