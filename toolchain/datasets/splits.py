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

For exact shares, put `train`, `val` and `test` folders above the classes: given splits are kept.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from toolchain.datasets.index import (
    DatasetIndex,
    GivenSplit,
    ImageEntry,
    LeftOut,
    first_few,
    hash_all,
    leave_out,
    require_usable,
)
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


SHARES = {"test": 0.15, "val": 0.10, "calibration": 0.05}
"""Decided in this order, each a share of what the decisions before have left in train."""

FEW = 50
"""Photographs of a class below which its figures are rough."""

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
"""Empty files are unreadable, not copies of each other."""


def hash_fraction(sha256: str, decision: str) -> float:
    """What the photograph with this content hash draws for a decision: uniform from 0 to 1, always the same."""
    digest = hashlib.sha256(f"edgetl {decision} {sha256}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_by_hash(sha256: str, given: Iterable[GivenSplit] = ("train",)) -> str:
    """The split that the hash alone gives a photograph of a train folder, where `given` sides have folders."""
    return next(
        (split for split in _undecided_splits(given) if hash_fraction(sha256, split) < SHARES[split]), "train"
    )


def min_count(split: str, photographs: int) -> int:
    """How many of a class's photographs `split` holds at least: half its share, and one for val and test."""
    return 0 if split == "calibration" else max(1, int(SHARES[split] * photographs / 2 + 0.5))


def max_count(split: str, photographs: int, left: int) -> int:
    """How many of a class's photographs `split` holds at most, where `left` are not in another split yet.

    That is twice its share, and no more than leave half of the class to train; but what it holds at least.
    """
    double = int(2 * SHARES[split] * photographs + 0.5)
    return max(min_count(split, photographs), min(double, left - (photographs + 1) // 2))


def split_class(contents: Iterable[str], given: Iterable[GivenSplit] = ("train",)) -> dict[str, str]:
    """The split of each content hash of one class's train folder, where `given` sides have folders of their own.

    There must be a photograph for each side that is not given, and one to train.
    """
    left = set(contents)
    total = len(left)
    sides: dict[str, str] = {}
    for split in _undecided_splits(given):
        ranked = sorted(left, key=lambda sha256: hash_fraction(sha256, split))
        below = sum(hash_fraction(sha256, split) < SHARES[split] for sha256 in ranked)
        taken = ranked[: min(max(below, min_count(split, total)), max_count(split, total, len(ranked)))]
        sides |= dict.fromkeys(taken, split)
        left.difference_update(taken)
    return sides | dict.fromkeys(left, "train")


def _undecided_splits(given: Iterable[GivenSplit]) -> tuple[str, ...]:
    decided = set(given)
    return tuple(split for split in SHARES if split not in decided)


def make_splits(
    listing: DatasetIndex, reporter: Reporter | None = None, without: Mapping[Path, str] | None = None
) -> Dataset:
    """Read and hash the files of `listing` and put each into its split; leave out those of `without`, with reasons.

    A training photograph whose exact content is also in a given `val` or `test` is left out, with a warning, so
    that both stay honest; so is a file that cannot be read. Raises BadInputError when `listing` has problems, or a
    class has too few photographs.
    """
    reporter = reporter or Silent()
    listing, hashes = hash_all(leave_out(require_usable(listing), without or {}), reporter)
    held: dict[str, GivenSplit] = {}
    kept: dict[GivenSplit, list[ImageEntry]] = {side: [] for side in listing.given}
    left_out: dict[tuple[GivenSplit, GivenSplit], list[str]] = defaultdict(list)
    # What is held back is placed first, so that its copies in train can be recognised.
    for side in (side for side in ("test", "val", "train") if side in listing.given):
        for listed in listing.given[side]:
            sha256 = hashes[listed.path]
            holder = held.setdefault(sha256, side)
            if holder != side and sha256 != EMPTY_SHA256:
                left_out[side, holder].append(listed.name)
            else:
                kept[side].append(listed)
    sides = _sides(listing, kept["train"], hashes)
    splits: dict[str, list[Photograph]] = {split: [] for split in SPLITS}
    moved: dict[str, list[str]] = defaultdict(list)
    for side in kept:
        for listed in kept[side]:
            sha256 = hashes[listed.path]
            split = sides[listed.label, sha256] if side == "train" else side
            splits[split].append(Photograph(listed.name, listed.path, listed.label, sha256))
            if side == "train" and split != split_by_hash(sha256, listing.given):
                moved[split].append(listed.name)
    dataset = Dataset(
        name=listing.name,
        root=listing.root,
        classes=listing.classes,
        splits={split: tuple(photos) for split, photos in splits.items()},
        licences=listing.licences,
    )
    warnings = [
        f"{len(names)} photographs in {side} are also in {holder}; they are left out of {side}: {first_few(names)}"
        for (side, holder), names in left_out.items()
    ]
    warnings += _conflicts(listing, hashes) + _gaps(dataset) + _few(listing) + _moved(moved)
    copies = [
        LeftOut(name, f"the same photograph is in {holder}")
        for (_, holder), names in left_out.items()
        for name in names
    ]
    return replace(dataset, warnings=(*listing.warnings, *warnings), left_out=(*listing.left_out, *copies))


def _sides(
    listing: DatasetIndex, train: list[ImageEntry], hashes: Mapping[Path, str]
) -> dict[tuple[int, str], str]:
    """The split of each content of the train side, by label. Raises BadInputError when a class has too few."""
    contents: dict[int, set[str]] = {label: set() for label in range(len(listing.classes))}
    labels: dict[str, set[int]] = defaultdict(set)
    for listed in train:
        contents[listed.label].add(hashes[listed.path])
        labels[hashes[listed.path]].add(listed.label)
    disputed = {sha256 for sha256, under in labels.items() if len(under) > 1}
    wanted = 1 + sum(split != "calibration" for split in _undecided_splits(listing.given))
    few = [label for label, held in contents.items() if len(held) < wanted]
    if few:
        counts = [f"{listing.classes[label]} ({len(contents[label])})" for label in few]
        roles = ["train", *(split for split in ("val", "test") if split not in listing.given)]
        raise BadInputError(
            f"{listing.name}: too few different photographs to train of {first_few(counts)}",
            f"Each class needs {wanted} at least, one each for {', '.join(roles)}; "
            f"ten show what can be had, and {FEW} or more do well."
            if wanted > 1
            else "Add photographs to train on, other than those of val and test.",
        )
    sides: dict[tuple[int, str], str] = {}
    for label, held in contents.items():
        own = held - disputed
        if len(own) >= wanted:
            sides |= {(label, sha256): split for sha256, split in split_class(own, listing.given).items()}
        else:
            disputed |= own
        sides |= {(label, sha256): split_by_hash(sha256, listing.given) for sha256 in held & disputed}
    return sides


def label_conflicts(listing: DatasetIndex, hashes: Mapping[Path, str]) -> list[tuple[ImageEntry, ...]]:
    """Groups of files that have the same content under different labels."""
    groups: dict[str, list[ImageEntry]] = defaultdict(list)
    for photo in listing.photographs:
        if hashes[photo.path] != EMPTY_SHA256:
            groups[hashes[photo.path]].append(photo)
    return [tuple(group) for group in groups.values() if len({photo.label for photo in group}) > 1]


def _conflicts(listing: DatasetIndex, hashes: Mapping[Path, str]) -> list[str]:
    conflicts = label_conflicts(listing, hashes)
    if not conflicts:
        return []
    pairs = first_few([" = ".join(photo.name for photo in group) for group in conflicts], 3)
    return [f"{len(conflicts)} photographs are there under more than one class: {pairs}"]


def _gaps(dataset: Dataset) -> list[str]:
    """Warn of classes without photographs in val or test; raise where training would have none."""
    absent = {}
    for split in SPLITS:
        have = Counter(photo.label for photo in dataset.splits[split])
        absent[split] = [name for label, name in enumerate(dataset.classes) if not have[label]]
    if absent["train"]:
        raise BadInputError(
            f"{dataset.name}: no training photograph is left for {first_few(absent['train'])}",
            "Its photographs stand under other classes too, or in val and test: add others.",
        )
    warnings = []
    for split in ("val", "test"):
        if len(absent[split]) == len(dataset.classes):
            warnings.append(f"{split} holds no photograph at all; add photographs, or a `{split}` folder")
        elif absent[split]:
            warnings.append(f"{split} holds no photograph of {first_few(absent[split])}")
    return warnings


def _few(listing: DatasetIndex) -> list[str]:
    counts = Counter(photo.label for photo in listing.photographs)
    few = [f"{name} ({counts[label]})" for label, name in enumerate(listing.classes) if counts[label] < FEW]
    if not few:
        return []
    return [f"fewer than {FEW} photographs of {first_few(few)}: accuracy will be known roughly; add photographs"]


def _moved(moved: Mapping[str, list[str]]) -> list[str]:
    """What small classes cost: photographs that are on a side for want of others, and may leave it."""
    if not moved:
        return []
    names = "; ".join(f"{split}: {first_few(moved[split], 3)}" for split in SPLITS if moved.get(split))
    return [f"some classes are small, so these photographs may change their split when others are added: {names}"]


decide, draw = split_by_hash, hash_fraction
"""Their former names."""
