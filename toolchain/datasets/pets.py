"""The Oxford-IIIT Pet data set in its publisher's layout, with its official trainval and test lists.

Parkhi, Vedaldi, Zisserman, Jawahar: Cats and Dogs, CVPR 2012. A line of a list reads `Abyssinian_100 1 1 1`: image,
class from 1 to 37, species, number of the breed within the species.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from toolchain.datasets.index import DatasetIndex, GivenSplit, ImageEntry, LeftOut, first_few
from toolchain.datasets.named import Download, NamedDataset
from toolchain.datasets.scan import all_files
from toolchain.errors import BadInputError, MissingError
from toolchain.system import files

FOLDER = "oxford-iiit-pet"
LISTS: dict[GivenSplit, str] = {"train": "trainval", "test": "test"}
PUBLISHED = {"trainval": 3680, "test": 3669}
"""Photographs in the publisher's lists."""
MAX_LIST_BYTES = 1 << 20

_LINE = re.compile(r"(?P<image>(?P<breed>[A-Za-z_]+)_\d+) (?P<id>[1-9]\d?) [12] [1-9]\d?")


@dataclass(frozen=True)
class _Line:
    image: str
    breed: str
    class_id: int


def find(data_root: Path) -> Path | None:
    """The data set's folder below `data_root`, or None when it is not there."""
    root = data_root / FOLDER
    return root if (root / "annotations").is_dir() and (root / "images").is_dir() else None


def list_pets(root: Path) -> DatasetIndex:
    """List the photographs of the official lists that are under `root`; classes are the breeds in class-id order.

    Raises MissingError when a list or all photographs are missing, BadInputError naming file and line when a list
    is malformed.
    """
    try:
        present = {entry.name for entry in os.scandir(root / "images")}
    except OSError as error:
        raise MissingError(f"pets: {root / 'images'}: {error.strerror}") from None
    lines = {split: _read_list(root / "annotations" / f"{name}.txt") for split, name in LISTS.items()}
    breeds = _breeds(root, lines)
    here = {split: [line for line in lines[split] if f"{line.image}.jpg" in present] for split in LISTS}
    if not any(here.values()):
        raise MissingError(
            f"pets: none of the listed photographs is under {root / 'images'}",
            "Take the folder away, and get the whole data set: edgetl data fetch pets",
        )
    ids = sorted({line.class_id for line in here["train"]})
    untrained = sorted({line.class_id for line in here["test"]} - set(ids))
    if untrained:
        names = first_few([breeds[class_id] for class_id in untrained])
        raise BadInputError(f"pets: test holds {names}, of which no training photograph is under {root}")
    labels = {class_id: label for label, class_id in enumerate(ids)}
    given = {
        split: tuple(
            ImageEntry(f"images/{line.image}.jpg", root / "images" / f"{line.image}.jpg", labels[line.class_id])
            for line in here[split]
        )
        for split in LISTS
    }
    return DatasetIndex(
        "pets",
        root,
        tuple(breeds[class_id] for class_id in ids),
        given,
        _missing(root, lines, here),
        left_out=_left_out(root, {photo.name for photos in given.values() for photo in photos}),
    )


def _left_out(root: Path, used: set[str]) -> tuple[LeftOut, ...]:
    """The other files: a few pictures that are in neither list, and annotations for other programs."""
    return tuple(
        LeftOut(name, "the publisher's annotations" if name.startswith("annotations/") else "in neither list")
        for name in all_files(root)
        if name not in used
    )


def _read_list(path: Path) -> list[_Line]:
    try:
        text = files.read_regular(path, MAX_LIST_BYTES).decode()
    except FileNotFoundError:
        raise MissingError(f"pets: {path} is missing", "Get the whole data set: edgetl data fetch pets") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"pets: {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    lines = []
    seen: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if not match:
            raise BadInputError(
                f"{path}, line {number}: {line[:60]!r} is not `IMAGE CLASS-ID SPECIES BREED-ID`",
                "Download the publisher's annotations again.",
            )
        if match["image"] in seen:
            raise BadInputError(f"{path}, line {number}: {match['image']} is listed twice")
        seen.add(match["image"])
        lines.append(_Line(match["image"], match["breed"], int(match["id"])))
    return lines


def _breeds(root: Path, lines: dict[GivenSplit, list[_Line]]) -> dict[int, str]:
    """Class id to breed. Raises BadInputError when the lists disagree about it."""
    breeds: dict[int, str] = {}
    for split, name in LISTS.items():
        for line in lines[split]:
            breed = breeds.setdefault(line.class_id, line.breed)
            if breed != line.breed:
                path = root / "annotations" / f"{name}.txt"
                raise BadInputError(
                    f"{path}: {line.image} has class {line.class_id}, which is {breed}",
                    "Download the publisher's annotations again.",
                )
    if len(set(breeds.values())) < len(breeds):
        raise BadInputError(f"pets: the lists under {root / 'annotations'} give one breed two class numbers")
    return breeds


def _missing(
    root: Path, lines: dict[GivenSplit, list[_Line]], here: dict[GivenSplit, list[_Line]]
) -> tuple[str, ...]:
    """A warning of missing photographs, by the publisher's counts: a partial copy may have shorter lists too."""
    parts = []
    for split, name in LISTS.items():
        published = max(PUBLISHED[name], len(lines[split]))
        missing = published - len(here[split])
        if missing:
            parts.append(f"{missing} of {published} {name}")
    return (f"pets: {' and '.join(parts)} photographs are missing under {root}",) if parts else ()


PETS = NamedDataset(
    name="pets",
    description="Oxford-IIIT Pet: 37 breeds of cats and dogs, official trainval and test lists",
    classes=37,
    photographs=7349,
    licences={"Oxford-IIIT Pet": "CC BY-SA 4.0; the photographs belong to their owners"},
    folder=FOLDER,
    find=find,
    index=list_pets,
    homepage="https://www.robots.ox.ac.uk/~vgg/data/pets/",
    downloads=(
        Download(
            "https://thor.robots.ox.ac.uk/pets/images.tar.gz", 791_918_971, "md5:5c4f3ee8e5d25df40f4fd59a7f44e54c"
        ),
        Download(
            "https://thor.robots.ox.ac.uk/pets/annotations.tar.gz",
            19_173_078,
            "md5:95a8c909bbe2e81eed6a22bccdf3f68f",
        ),
    ),
)
