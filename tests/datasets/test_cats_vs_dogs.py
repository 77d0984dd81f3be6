from __future__ import annotations

from pathlib import Path

import pytest
from datasets_support import Tree

from toolchain.datasets import cats_vs_dogs
from toolchain.datasets.catalogue import open_dataset
from toolchain.errors import BadInputError


def test_the_publishers_archive(tree: Tree) -> None:
    root = tree(
        {
            f"cats-vs-dogs/PetImages/{name}/{i}.jpg": name.encode() + b"%d" % i
            for name in ("Cat", "Dog")
            for i in range(3)
        }
    )
    tree({"cats-vs-dogs/PetImages/Cat/Thumbs.db": b"x", "cats-vs-dogs/readme[1].txt": b"x"})
    found = cats_vs_dogs.find(root)
    assert found == root / "cats-vs-dogs" / "PetImages"
    listing = cats_vs_dogs.list_cats_vs_dogs(found)
    assert listing.classes == ("cat", "dog")
    assert [photo.name for photo in listing.given["train"]][:2] == ["Cat/0.jpg", "Cat/1.jpg"]


def test_sorted_into_train_and_test(tree: Tree) -> None:
    root = tree(
        {
            f"cats-vs-dogs/{side}/{name}/1.jpg": side.encode()
            for side in ("train", "test")
            for name in ("cat", "dog")
        }
    )
    found = cats_vs_dogs.find(root)
    assert found is not None
    assert set(cats_vs_dogs.list_cats_vs_dogs(found).given) == {"train", "test"}


def test_other_classes_and_nothing_at_all(tree: Tree) -> None:
    root = tree({"cats-vs-dogs/train/cat/1.jpg": b"1", "cats-vs-dogs/train/emu/1.jpg": b"2"})
    assert cats_vs_dogs.find(root / "elsewhere") is None
    found = cats_vs_dogs.find(root)
    assert found is not None
    with pytest.raises(BadInputError, match="holds cat, emu"):
        cats_vs_dogs.list_cats_vs_dogs(found)


@pytest.mark.photographs
def test_the_real_cats_and_dogs(real_data: Path) -> None:
    if cats_vs_dogs.find(real_data) is None:
        pytest.skip(f"{real_data} does not hold cats-vs-dogs")
    dataset = open_dataset("cats-vs-dogs")
    assert dataset.classes == ("cat", "dog")
    assert all(dataset.splits[split] for split in ("train", "val", "calibration", "test"))
