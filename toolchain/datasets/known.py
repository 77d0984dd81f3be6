"""Splits that were decided before: what has taught a network must not judge the one that goes on from it.

Splits follow from a hash of each photograph, but not wholly: small classes are ranked, classes are renamed or
merged, and somebody may add `test/`. So where a run goes on from another one, what that one knew stays in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from toolchain.datasets.index import LeftOut, first_few
from toolchain.datasets.splits import SPLITS, Dataset, warnings_of_draw
from toolchain.errors import BadInputError
from toolchain.images.reader import Photograph

TAUGHT = ("train", "calibration")
"""The splits that a head is fitted on."""

REASON = "has taught the network that this one goes on from"


def keep_known(dataset: Dataset, known: Mapping[str, str], *, to_train: bool = True) -> Dataset:
    """`dataset` with each photograph of its train folder in the split in which it is `known`, by SHA-256.

    New photographs of a group go where it was known: to train, if any of it has taught. Splits that have folders of
    their own are respected, but lose what is known to have taught, with a warning.
    Raises BadInputError where that leaves a class without training photographs. Unless the data set is `to_train`,
    such splits lose nothing, and a class may have none: it is for whoever measures to say what was seen.
    """
    if not known:
        return dataset
    assert dataset.hashed is not None, "a data set that make_splits made"
    given = {entry.name: split for split, entries in dataset.hashed[0].given.items() for entry in entries}
    decided = set(given.values()) - {"train"}
    everything = [photo for split in SPLITS for photo in dataset.splits[split]]
    groups: dict[str, str] = {}
    for photo in everything:
        if photo.group and (before := known.get(photo.sha256)):
            groups[photo.group] = "train" if before in TAUGHT else groups.get(photo.group, before)
    splits: dict[str, list[Photograph]] = {split: [] for split in SPLITS}
    taught: list[str] = []
    pinned: set[str] = set()
    for split in SPLITS:
        for photo in dataset.splits[split]:
            before = known.get(photo.sha256, groups.get(photo.group))
            if given[photo.name] != "train":
                if before in TAUGHT and to_train:
                    taught.append(photo.name)
                else:
                    splits[split].append(photo)
            elif before is None or before in decided:
                splits[split].append(photo)
            else:
                splits[before].append(photo)
                pinned.add(photo.name)
    left = tuple(LeftOut(name, REASON) for name in taught)
    warnings = [f"{len(taught)} photographs of val and test are left out: each {REASON}: {first_few(taught)}"]
    kept = {split: tuple(photos) for split, photos in splits.items()}
    if to_train:
        _check(dataset, kept)
    found = replace(dataset, splits=kept, left_out=(*dataset.left_out, *left))
    drawn = warnings_of_draw(dataset)
    others = (warning for warning in dataset.warnings if warning not in drawn)
    return replace(found, warnings=(*others, *warnings_of_draw(found, pinned), *warnings * bool(taught)))


def _check(dataset: Dataset, splits: Mapping[str, tuple[Photograph, ...]]) -> None:
    have = {photo.label for photo in splits["train"]}
    none = [name for label, name in enumerate(dataset.classes) if label not in have]
    if none:
        raise BadInputError(
            f"{dataset.name}: no training photograph is left for {first_few(none)}",
            "The run before held all of them back: add others.",
        )
