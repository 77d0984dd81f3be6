from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from datasets_support import Tree

from toolchain.datasets import pets
from toolchain.datasets.catalogue import open_dataset
from toolchain.errors import BadInputError, MissingError

TRAINVAL = """# Image CLASS-ID SPECIES BREED ID
Siamese_1 33 1 11
Siamese_2 33 1 11
american_bulldog_100 2 2 1
american_bulldog_101 2 2 1
"""
TEST = "Siamese_3 33 1 11\namerican_bulldog_102 2 2 1\n"
IMAGES = ("Siamese_1", "Siamese_2", "Siamese_3", "american_bulldog_100", "american_bulldog_102", "Unlisted_1")


@pytest.fixture
def copy(tree: Tree) -> Path:
    return tree(
        {f"images/{name}.jpg": name.encode() for name in IMAGES}
        | {"annotations/trainval.txt": TRAINVAL.encode(), "annotations/test.txt": TEST.encode()}
    )


def test_official_lists_and_class_order(copy: Path) -> None:
    listing = pets.list_pets(copy)
    assert listing.classes == ("american_bulldog", "Siamese")
    assert [(photo.name, photo.label) for photo in listing.given["test"]] == [
        ("images/Siamese_3.jpg", 1),
        ("images/american_bulldog_102.jpg", 0),
    ]
    assert len(listing.given["train"]) == 3


def test_missing_photographs_are_counted_against_the_whole_data_set(copy: Path) -> None:
    (warning,) = pets.list_pets(copy).warnings
    assert warning == f"pets: 3677 of 3680 trainval and 3667 of 3669 test photographs are missing under {copy}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Siamese_9 33 1", "line 6: 'Siamese_9 33 1' is not"),
        ("Siamese 33 1 11", "line 6"),
        ("../../etc/passwd_1 33 1 11", "line 6"),
        ("Siamese_9 0 1 11", "line 6"),
        ("Siamese_9 33 3 11", "line 6"),
        ("Siamese_1 33 1 11", "Siamese_1 is listed twice"),
        ("Bombay_9 33 1 11", "Bombay_9 has class 33, which is Siamese"),
        ("Siamese_9 34 1 11", "give one breed two class numbers"),
    ],
)
def test_malformed_lines_are_named(copy: Path, line: str, said: str) -> None:
    with (copy / "annotations" / "trainval.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(BadInputError) as caught:
        pets.list_pets(copy)
    assert said in caught.value.message
    assert "annotations" in caught.value.message


def test_a_list_that_is_not_text_or_not_there(copy: Path) -> None:
    (copy / "annotations" / "test.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInputError, match=r"test\.txt cannot be read"):
        pets.list_pets(copy)
    (copy / "annotations" / "test.txt").unlink()
    with pytest.raises(MissingError, match=r"test\.txt is missing"):
        pets.list_pets(copy)


def test_without_any_photograph(copy: Path) -> None:
    for path in (copy / "images").iterdir():
        path.unlink()
    with pytest.raises(MissingError, match="none of the listed photographs"):
        pets.list_pets(copy)


@pytest.mark.photographs
def test_the_real_pets(real_data: Path) -> None:
    dataset = open_dataset("pets")
    counts = {split: len(photos) for split, photos in dataset.splits.items()}
    assert len(dataset.classes) == 37
    assert dataset.classes[:3] == ("Abyssinian", "american_bulldog", "american_pit_bull_terrier")
    trainval = counts["train"] + counts["val"] + counts["calibration"]
    lists = {name: (dataset.root / "annotations" / f"{name}.txt").read_text() for name in ("trainval", "test")}
    listed = {name: sum(not line.startswith("#") for line in text.splitlines()) for name, text in lists.items()}
    present = Counter(
        name
        for name, text in lists.items()
        for line in text.splitlines()
        if (dataset.root / "images" / f"{line.split()[0]}.jpg").is_file()
    )
    assert (trainval, counts["test"]) == (present["trainval"], present["test"])
    assert any("missing" in warning for warning in dataset.warnings) == (listed != {"trainval": 3680, "test": 3669})
    assert "CC BY-SA 4.0" in dataset.licences["Oxford-IIIT Pet"]
