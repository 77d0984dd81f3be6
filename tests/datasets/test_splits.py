from __future__ import annotations

import hashlib

import pytest
from datasets_support import Remembering, Tree

from toolchain.datasets.folder import list_folder
from toolchain.datasets.photographs import SPLITS, Dataset
from toolchain.datasets.splits import SHARES, decide, divide
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
        if decide(hashlib.sha256(content).hexdigest(), given) == split:  # type: ignore[arg-type]
            return content
    raise AssertionError(split)


def test_shares_are_as_documented() -> None:
    total = 20_000
    found = [decide(hashlib.sha256(content).hexdigest()) for content in contents(total)]
    left = 1.0
    for split, share in SHARES.items():
        expected = left * share
        assert abs(found.count(split) / total - expected) < 4 * (expected / total) ** 0.5
        left -= expected


def test_decisions_stay_what_they_were() -> None:
    # A change here would mix the test photographs of everyone's earlier runs into their training.
    found = "".join(decide(hashlib.sha256(content).hexdigest())[:2] for content in contents(40))
    assert found == DECIDED


DECIDED = "catrtetrtrtrtrtevatetrtrtrtrtrtrvatrvatetrtrvatrtrtrtrtrtrtrtrtrtrtrtrtrvatrtrtr"


def test_photographs_never_change_sides_when_others_are_added(tree: Tree) -> None:
    before = sides(divide(list_folder(tree(many(100)))))
    after = sides(divide(list_folder(tree(many(160) | {"emu/0.jpg": picked("train"), "cat/again.jpg": b"cat 3"}))))
    assert len(before) == 200
    assert before.items() <= after.items()


def test_splits_are_disjoint_and_complete(tree: Tree) -> None:
    dataset = divide(list_folder(tree(many(150))))
    names = [photo.name for split in SPLITS for photo in dataset.splits[split]]
    assert len(names) == len(set(names)) == 300
    assert all(dataset.splits[split] for split in SPLITS)


def test_copies_stay_on_one_side_even_under_other_names(tree: Tree) -> None:
    files = many(30)
    files |= {
        f"dog/copy of {name.replace('/', '-')}": data for name, data in files.items() if name.startswith("cat")
    }
    dataset = divide(list_folder(tree(files)))
    held = [{photo.sha256 for photo in dataset.splits[split]} for split in SPLITS]
    assert sum(len(hashes) for hashes in held) == len(set.union(*held))
    assert any("30 photographs are there under more than one class" in warning for warning in dataset.warnings)


def test_given_splits_are_kept_and_the_rest_is_carved_from_train(tree: Tree) -> None:
    files = {f"train/{name}": data for name, data in many(150).items()}
    files |= {
        f"test/{label}/{i}.jpg": b"test %d %s" % (i, label.encode()) for label in ("cat", "dog") for i in range(9)
    }
    dataset = divide(list_folder(tree(files)))
    assert all(photo.name.startswith("test/") for photo in dataset.splits["test"])
    assert len(dataset.splits["test"]) == 18
    for split in ("val", "calibration"):
        assert dataset.splits[split]
        assert all(photo.name.startswith("train/") for photo in dataset.splits[split])

    with_val = divide(list_folder(tree({f"val/{label}/v.jpg": label.encode() for label in ("cat", "dog")})))
    assert [photo.name for photo in with_val.splits["val"]] == ["val/cat/v.jpg", "val/dog/v.jpg"]
    assert with_val.splits["calibration"]


def test_train_copies_of_test_photographs_are_left_out_and_told(tree: Tree) -> None:
    files = {f"train/{name}": data for name, data in many(40).items()}
    files |= {"test/cat/t.jpg": b"cat 7", "test/dog/t.jpg": b"only in test"}
    dataset = divide(list_folder(tree(files)))
    leaked = hashlib.sha256(b"cat 7").hexdigest()
    assert sides(dataset)[leaked] == "test"
    assert sum(len(photos) for photos in dataset.splits.values()) == 81
    assert any("1 photographs in train are also in test" in w and "train/cat/7.jpg" in w for w in dataset.warnings)


def test_empty_files_are_not_copies_of_each_other(tree: Tree) -> None:
    files = {f"train/{name}": data for name, data in many(20).items()}
    files |= {"train/cat/e.jpg": b"", "test/dog/e.jpg": b"", "test/cat/t.jpg": b"t"}
    dataset = divide(list_folder(tree(files)))
    assert not any("also in" in warning or "more than one class" in warning for warning in dataset.warnings)
    assert sum(len(photos) for photos in dataset.splits.values()) == 43


def test_a_class_that_chance_leaves_untrained_is_an_error(tree: Tree) -> None:
    with pytest.raises(BadInputError, match="no training photograph is left for dog"):
        divide(list_folder(tree({"cat/a.jpg": picked("train"), "dog/b.jpg": picked("test")})))


def test_gaps_in_val_and_test_are_warnings_that_name_few_classes(tree: Tree) -> None:
    files = {f"class{i}/{i}.jpg": picked("train") + b"" for i in range(1)}
    found = 0
    for number in range(100_000):
        content = f"gap {number}".encode()
        if decide(hashlib.sha256(content).hexdigest()) == "train":
            files[f"class{found + 1}/x.jpg"] = content
            found += 1
        if found == 8:
            break
    files["class0/v.jpg"], files["class0/t.jpg"] = picked("val"), picked("test")
    warnings = divide(list_folder(tree(files))).warnings
    assert "val holds no photograph of class1, class2, class3, class4, class5 and 3 more" in warnings
    assert "test holds no photograph of class1, class2, class3, class4, class5 and 3 more" in warnings
    assert any(warning.startswith("calibration holds no photograph") for warning in warnings)


def test_hashes_are_those_of_the_files_and_progress_is_told(tree: Tree, reporter: Remembering) -> None:
    root = tree(many(20))
    dataset = divide(list_folder(root), reporter)
    for photos in dataset.splits.values():
        for photo in photos:
            assert photo.sha256 == hashlib.sha256(photo.path.read_bytes()).hexdigest()
            assert photo.path == root / photo.name
    assert reporter.steps == 40


def test_a_file_that_cannot_be_read_is_named(tree: Tree) -> None:
    root = tree(many(20))
    listing = list_folder(root)
    (root / "dog" / "3.jpg").unlink()
    dataset = divide(listing)
    assert [(one.name, one.reason) for one in dataset.left_out] == [
        ("dog/3.jpg", "cannot be read: No such file or directory")
    ]
    assert sum(len(photos) for photos in dataset.splits.values()) == 39
    assert any("dog/3.jpg" in warning for warning in dataset.warnings)
