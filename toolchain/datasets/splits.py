"""Which photographs train, validate, calibrate and test: the publisher's sides first, then a hash of the content.

A photograph must never change sides when others are added: a test accuracy measured last month would otherwise
contain what is trained on today. That promise leaves no choice of rule. Let `side(x, S)` be the side of photograph
`x` in the data set `S`. If adding a photograph never changes it, then removing one never does either, so
`side(x, S) = side(x, {x})`: it is a function of `x` alone. Every scheme that evens out the shares of a class
(ranking its hashes and cutting at 85 %, filling quotas in turn) looks at the other photographs and moves those
near its cut whenever one is added. A ledger of past decisions would keep them, but then two people with the same
photographs would have different splits, and a read-only folder none.

So each decision is a hash of the content, with a salt of its own so that the decisions are independent. Each class
gets its share in expectation (stratified on average: with n photographs the test share varies by about
sqrt(0.15 * 0.85 / n)); where chance left a class without any, that is said and not silently repaired. The label is
not part of the hash: the same content under two labels is then at least on one side, and sorting a mislabelled
photograph anew does not move it across.

Whoever needs exact shares puts `train`, `val` and `test` folders above the classes; what is given is kept.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from toolchain.datasets.listing import LeftOut, Listed, Listing, Side, hash_all, some, usable
from toolchain.datasets.photographs import SPLITS, Dataset, Photograph
from toolchain.errors import BadInputError
from toolchain.progress import Reporter, Silent

SHARES = {"test": 0.15, "val": 0.10, "calibration": 0.05}
"""Decided in this order, each a share of what the decisions before have left in train."""

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
"""Empty files are unreadable, not copies of each other."""


def is_chosen(sha256: str, decision: str, share: float) -> bool:
    """Whether the photograph with this content hash falls into `share` (0 to 1) of all, for this decision."""
    digest = hashlib.sha256(f"edgetl {decision} {sha256}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def decide(sha256: str, given: Iterable[Side] = ("train",)) -> str:
    """The split of a photograph from a train folder, where the sides `given` have folders of their own."""
    decided = set(given)
    for split, share in SHARES.items():
        if split not in decided and is_chosen(sha256, split, share):
            return split
    return "train"


def divide(listing: Listing, reporter: Reporter | None = None) -> Dataset:
    """Read and hash the files of `listing` and put each into its split.

    A training photograph whose exact content is also in a given `val` or `test` is left out, with a warning, so
    that both stay honest; so is a file that cannot be read. Raises BadInputError when `listing` has problems, or a
    class has no training photograph.
    """
    reporter = reporter or Silent()
    listing, hashes = hash_all(usable(listing), reporter)
    held: dict[str, Side] = {}
    splits: dict[str, list[Photograph]] = {split: [] for split in SPLITS}
    left_out: dict[tuple[Side, Side], list[str]] = defaultdict(list)
    # What is held back is placed first, so that its copies in train can be recognised.
    for side in ("test", "val", "train"):
        for listed in listing.given.get(side, ()):
            sha256 = hashes[listed.path]
            holder = held.setdefault(sha256, side)
            if holder != side and sha256 != EMPTY_SHA256:
                left_out[side, holder].append(listed.name)
                continue
            split = decide(sha256, listing.given) if side == "train" else side
            splits[split].append(Photograph(listed.name, listed.path, listed.label, sha256))
    dataset = Dataset(
        name=listing.name,
        root=listing.root,
        classes=listing.classes,
        splits={split: tuple(photos) for split, photos in splits.items()},
        licences=listing.licences,
    )
    warnings = [
        f"{len(names)} photographs in {side} are also in {holder}; they are left out of {side}: {some(names)}"
        for (side, holder), names in left_out.items()
    ]
    warnings += _conflicts(listing, hashes) + _gaps(dataset)
    copies = [
        LeftOut(name, f"the same photograph is in {holder}")
        for (_, holder), names in left_out.items()
        for name in names
    ]
    return replace(dataset, warnings=(*listing.warnings, *warnings), left_out=(*listing.left_out, *copies))


def label_conflicts(listing: Listing, hashes: Mapping[Path, str]) -> list[tuple[Listed, ...]]:
    """Groups of files that have the same content under different labels."""
    groups: dict[str, list[Listed]] = defaultdict(list)
    for photo in listing.photographs:
        if hashes[photo.path] != EMPTY_SHA256:
            groups[hashes[photo.path]].append(photo)
    return [tuple(group) for group in groups.values() if len({photo.label for photo in group}) > 1]


def _conflicts(listing: Listing, hashes: Mapping[Path, str]) -> list[str]:
    conflicts = label_conflicts(listing, hashes)
    if not conflicts:
        return []
    pairs = some([" = ".join(photo.name for photo in group) for group in conflicts], 3)
    return [f"{len(conflicts)} photographs are there under more than one class: {pairs}"]


def _gaps(dataset: Dataset) -> list[str]:
    """Warn of classes without photographs in val or test; raise where training would have none."""
    absent = {}
    for split in SPLITS:
        have = Counter(photo.label for photo in dataset.splits[split])
        absent[split] = [name for label, name in enumerate(dataset.classes) if not have[label]]
    if absent["train"]:
        raise BadInputError(
            f"{dataset.name}: no training photograph is left for {some(absent['train'])}",
            "Add photographs of it: about one in four is kept for validation, calibration and test.",
        )
    warnings = []
    for split in ("val", "test"):
        if len(absent[split]) == len(dataset.classes):
            warnings.append(f"{split} holds no photograph at all; add photographs, or a `{split}` folder")
        elif absent[split]:
            warnings.append(f"{split} holds no photograph of {some(absent[split])}")
    if not dataset.splits["calibration"]:
        warnings.append("calibration holds no photograph; int8 needs some: add photographs")
    return warnings
