"""Which photographs train, validate, calibrate and test: the publisher's splits first, then a hash of the content.

A photograph should never change its split when others are added. Otherwise a test accuracy of last month would
contain photographs that are trained on today. So the split is a function of the photograph alone: of a hash of its
content, with a salt for each decision, so that the decisions are independent.

In large classes that is all. In a class of 20 it is not enough: by chance, 4 % of such classes would have no test
photograph, and 12 % none to validate on. So the hashes are ranked within each class, and a split takes the lowest:
all below its share, but no fewer than `min_count` and no more than `max_count`. Only photographs that these bounds
have put into their split can leave it when others are added to their class; a warning names them.

Copies count once and stay together. The label is not part of the hash, and content that stands under two labels
goes by its hash alone. So a mislabelled photograph stays in its split when it is sorted anew.

Photographs that have a group (see `groups`) go where their group goes, which the group's name decides.

For exact shares, put `train`, `val` and `test` folders above the classes: given splits are kept.

Where only some of many photographs are taken, `stratified` says which: every class has its share.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from toolchain.datasets.groups import keys
from toolchain.datasets.index import (
    EMPTY_SHA256,
    DatasetIndex,
    GivenSplit,
    ImageEntry,
    LeftOut,
    first_few,
    hash_all,
    leave_out,
    require_usable,
)
from toolchain.datasets.shares import Unit, split_by_hash, split_units, units_needed
from toolchain.errors import BadInputError
from toolchain.images.reader import Photograph
from toolchain.system.progress import Reporter, Silent

SPLITS = ("train", "val", "calibration", "test")


@dataclass(frozen=True)
class Dataset:
    """Named classes and, for each split, its photographs in a fixed order.

    `warnings` are things that the user should know: photographs that are missing, duplicates across splits.
    `licences` maps what is licensed to its terms. `left_out` are the files below `root` that are in no split.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    splits: dict[str, tuple[Photograph, ...]]
    warnings: tuple[str, ...] = ()
    licences: dict[str, str] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    hashed: tuple[DatasetIndex, Mapping[Path, str]] | None = field(default=None, repr=False, compare=False)
    """All files that were read, and their SHA-256: what `resplit` starts from."""

    def split_sha256(self, split: str) -> str:
        """A hash of which photographs the split holds, under which label; independent of order and folder."""
        return sha256_of_labelled((photo.sha256, self.classes[photo.label]) for photo in self.splits[split])

    @property
    def sha256(self) -> str:
        """A hash of all splits together."""
        parts = [f"{split} {self.split_sha256(split)}" for split in SPLITS]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def sha256_of_labelled(photographs: Iterable[tuple[str, str]]) -> str:
    """A hash of photographs, given as pairs of content hash and label; independent of their order."""
    lines = sorted(f"{sha256} {label}" for sha256, label in photographs)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


FEW = 50
"""Below so many photographs, the accuracy of a class is a rough estimate."""

HELD_BACK_FIRST: tuple[GivenSplit, ...] = ("test", "val", "train")
"""The order in which given splits are read, so that copies in train are recognised."""


def make_splits(index: DatasetIndex, reporter: Reporter | None = None) -> Dataset:
    """Read and hash the files of `index`, and put each into its split.

    A training photograph whose exact content is also in a given `val` or `test` is left out, with a warning: it
    would flatter the accuracy there. So is one whose group is there. A file that cannot be read is left out too.
    Raises BadInputError when `index` has problems, or a class has too few photographs or groups.
    """
    return splits_from(*hash_all(require_usable(index), reporter or Silent()))


def resplit(dataset: Dataset, without: Mapping[Path, str]) -> Dataset:
    """The same data set without files that `without` names, with a reason for each. Its splits are decided anew, as
    if these files were not there; no file is read again. Raises BadInputError as `make_splits` does.
    """
    assert dataset.hashed is not None, "a data set that make_splits made"
    index, hashes = dataset.hashed
    return splits_from(leave_out(index, without), hashes)


def splits_from(index: DatasetIndex, hashes: Mapping[Path, str]) -> Dataset:
    """As `make_splits`, by the SHA-256 of each file's content, which is known already."""
    key_of = keys(index, hashes)
    kept, copies = _without_copies(index, hashes, key_of)
    of_train = _split_train(index, kept["train"], hashes, key_of)
    splits: dict[str, list[Photograph]] = {split: [] for split in SPLITS}
    for given, entries in kept.items():
        for entry in entries:
            sha256, key = hashes[entry.path], key_of[entry.path]
            split = of_train[key] if given == "train" else given
            group = "" if key == sha256 else key
            splits[split].append(Photograph(entry.name, entry.path, entry.label, sha256, group))
    dataset = Dataset(
        name=index.name,
        root=index.root,
        classes=index.classes,
        splits={split: tuple(photos) for split, photos in splits.items()},
        licences=index.licences,
        hashed=(index, hashes),
        left_out=(
            *index.left_out,
            *(
                LeftOut(name, f"the same {what} is in {other}")
                for (_, other, what), names in copies.items()
                for name in names
            ),
        ),
    )
    _check_train(dataset)
    warnings = (*_copied(copies), *_conflicts(index, hashes), *_few(index), *warnings_of_draw(dataset))
    return replace(dataset, warnings=(*index.warnings, *warnings))


def warnings_of_draw(dataset: Dataset, pinned: Collection[str] = ()) -> tuple[str, ...]:
    """Warnings of what stands in which split. The photographs called `pinned` were put there by something else."""
    return (*_gaps(dataset), *_forced(dataset, pinned))


_Copies = Mapping[tuple[GivenSplit, GivenSplit, str], list[str]]
"""Names of files in the first split of which the second has the same `photograph`, or others of the `group`."""


def _without_copies(
    index: DatasetIndex, hashes: Mapping[Path, str], key_of: Mapping[Path, str]
) -> tuple[dict[GivenSplit, list[ImageEntry]], _Copies]:
    """The files of each given split without those that are also in `test`, or else in `val`; and these copies."""
    split_of: dict[str, GivenSplit] = {}
    contents: dict[GivenSplit, set[str]] = {given: set() for given in index.given}
    kept: dict[GivenSplit, list[ImageEntry]] = {given: [] for given in index.given}
    copies: dict[tuple[GivenSplit, GivenSplit, str], list[str]] = defaultdict(list)
    for given in HELD_BACK_FIRST:
        for entry in index.given.get(given, ()):
            sha256 = hashes[entry.path]
            holder = split_of.setdefault(key_of[entry.path], given)
            if holder != given and key_of[entry.path] != EMPTY_SHA256:
                what = "photograph" if sha256 in contents[holder] else "group"
                copies[given, holder, what].append(entry.name)
            else:
                contents[given].add(sha256)
                kept[given].append(entry)
    return kept, copies


def _split_train(
    index: DatasetIndex, train: list[ImageEntry], hashes: Mapping[Path, str], key_of: Mapping[Path, str]
) -> dict[str, str]:
    """The split of each key in train. Raises BadInputError when a class has too few."""
    contents: dict[str, set[tuple[int, str]]] = defaultdict(set)
    for entry in train:
        contents[key_of[entry.path]].add((entry.label, hashes[entry.path]))
    groups = {key_of[entry.path] for entry in train if key_of[entry.path] != hashes[entry.path]}
    units = [Unit(key, Counter(label for label, _ in held), key in groups) for key, held in contents.items()]
    needed = units_needed(index.given)
    have = Counter(label for unit in units for label in unit.counts)
    few = [label for label in range(len(index.classes)) if have[label] < needed]
    if few:
        counts = [f"{index.classes[label]} ({have[label]})" for label in few]
        roles = ["train", *(split for split in ("val", "test") if split not in index.given)]
        each = f"Each class needs at least {needed}, one each for {', '.join(roles)}; "
        if any(photo.group for photo in index.photographs):
            raise BadInputError(
                f"{index.name}: too few groups of photographs to train of {first_few(counts)}",
                f"{each if needed > 1 else ''}take more, or group them in another way. Groups that are in a given "
                "val or test do not count.",
            )
        raise BadInputError(
            f"{index.name}: too few different photographs to train of {first_few(counts)}",
            f"{each}ten give a first impression, {FEW} or more work well."
            if needed > 1
            else "Add photographs to train on, other than those of val and test.",
        )
    return split_units(units, index.given)


def _conflicts(index: DatasetIndex, hashes: Mapping[Path, str]) -> list[str]:
    """A warning of files that have the same content under different labels."""
    groups: dict[str, list[ImageEntry]] = defaultdict(list)
    for photo in index.photographs:
        if hashes[photo.path] != EMPTY_SHA256:
            groups[hashes[photo.path]].append(photo)
    conflicts = [group for group in groups.values() if len({photo.label for photo in group}) > 1]
    if not conflicts:
        return []
    pairs = first_few([" = ".join(photo.name for photo in group) for group in conflicts], 3)
    return [f"{len(conflicts)} photographs are under more than one class: {pairs}"]


def _absent(dataset: Dataset, split: str) -> list[str]:
    have = {photo.label for photo in dataset.splits[split]}
    return [name for label, name in enumerate(dataset.classes) if label not in have]


def _check_train(dataset: Dataset) -> None:
    if absent := _absent(dataset, "train"):
        raise BadInputError(
            f"{dataset.name}: no training photograph is left for {first_few(absent)}",
            "Its photographs stand under other classes too, or in val and test: add others.",
        )


def _gaps(dataset: Dataset) -> list[str]:
    """Warnings of classes without photographs in val or test."""
    warnings = []
    for split in ("val", "test"):
        absent = _absent(dataset, split)
        if len(absent) == len(dataset.classes):
            warnings.append(f"{split} holds no photograph at all; add photographs, or a `{split}` folder")
        elif absent:
            warnings.append(f"{split} holds no photograph of {first_few(absent)}")
    return warnings


def _few(index: DatasetIndex) -> list[str]:
    counts = Counter(photo.label for photo in index.photographs)
    few = [f"{name} ({counts[label]})" for label, name in enumerate(index.classes) if counts[label] < FEW]
    if not few:
        return []
    return [
        f"fewer than {FEW} photographs of {first_few(few)}: accuracy can only be estimated roughly; add photographs"
    ]


def _forced(dataset: Dataset, pinned: Collection[str]) -> list[str]:
    """A warning of photographs and groups that are in their split only because their class has few."""
    assert dataset.hashed is not None
    index = dataset.hashed[0]
    drawn = {entry.name for entry in index.given.get("train", ())}.difference(pinned)
    forced = {
        split: dict.fromkeys(
            photo.group or photo.name
            for photo in photos
            if photo.name in drawn and split != split_by_hash(photo.group or photo.sha256, index.given)
        )
        for split, photos in dataset.splits.items()
    }
    names = "; ".join(f"{split}: {first_few(list(forced[split]), 3)}" for split in SPLITS if forced[split])
    if not names:
        return []
    return [f"some classes are small, so these photographs may change their split when others are added: {names}"]


def _copied(copies: _Copies) -> list[str]:
    return [
        f"{len(names)} photographs in {given} are also in {other}; they are left out of {given}: {first_few(names)}"
        if what == "photograph"
        else f"{len(names)} photographs in {given} are of groups in {other}; they are left out of {given}: "
        f"{first_few(names)}"
        for (given, other, what), names in copies.items()
    ]


def stratified(labels: Sequence[Any], keys: Sequence[Any] | None = None) -> list[int]:
    """The order in which to take photographs with these `labels`: any number of the first is a fair sample.

    Classes take turns. Within a class, photographs come in the order of `keys`, such as their SHA-256, or in a
    random order that is the same each time. Neither is the order of the files: neighbours in a folder are often
    pictures of the same animal, or in the same light.
    """
    if keys is None:
        keys = np.random.default_rng(0).permutation(len(labels)).tolist()
    order = np.array(sorted(range(len(labels)), key=keys.__getitem__), np.int64)
    places = {label: number for number, label in enumerate(sorted(set(labels)))}
    classes = np.array([places[label] for label in labels], np.int64)[order]
    by_class = np.argsort(classes, kind="stable")
    counts = np.bincount(classes, minlength=len(places))
    turns = np.empty(len(order), np.int64)
    turns[by_class] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    found: list[int] = order[np.lexsort((classes, turns))].tolist()
    return found
