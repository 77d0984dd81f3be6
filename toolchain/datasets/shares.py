"""How much goes into each split, and which: decided by a hash, bounded in small classes.

What stays together is a unit: the copies of one photograph, or all photographs of a group. A hash of its key
decides, so that a unit keeps its split when others are added. Where a class has few units, the hash ranks them, and
each split takes the first, no less than `min_count` and no more than `max_count` of the class's photographs. Groups
are not torn apart for that: the bounds are kept as well as their sizes allow, but each class has a unit in each
split that it needs.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from toolchain.datasets.index import GivenSplit

SHARES = {"test": 0.15, "val": 0.10, "calibration": 0.05}
"""Splits are decided in this order. Each share is of the photographs that earlier decisions have left in train."""


@dataclass(frozen=True)
class Unit:
    """What stays together. `key` is a group, if it `is_group`, or the SHA-256 of one photograph's content.

    `counts` says how many different photographs of each label it holds.
    """

    key: str
    counts: Mapping[int, int]
    is_group: bool = False

    @property
    def is_disputed(self) -> bool:
        """Whether this is one content under several labels: it counts for none of them."""
        return not self.is_group and len(self.counts) > 1


def hash_fraction(key: str, decision: str) -> float:
    """A number from 0 to 1, uniform over keys, that depends on nothing but the key and the decision."""
    digest = hashlib.sha256(f"edgetl {decision} {key}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_by_hash(key: str, given: Iterable[GivenSplit] = ("train",)) -> str:
    """The split of a photograph (by its SHA-256) or group in a train folder by its hash alone, where the `given`
    splits have folders.
    """
    return next((split for split in undecided_splits(given) if hash_fraction(key, split) < SHARES[split]), "train")


def min_count(split: str, photographs: int) -> int:
    """The least photographs of a class in `split`: half its share, and one in val and test."""
    return 0 if split == "calibration" else max(1, int(SHARES[split] * photographs / 2 + 0.5))


def max_count(split: str, photographs: int, left: int) -> int:
    """The most photographs of a class in `split`, where `left` are in no other split yet.

    It is twice the share, but leaves half of the class to train, and is never below `min_count`.
    """
    double = int(2 * SHARES[split] * photographs + 0.5)
    return max(min_count(split, photographs), min(double, left - (photographs + 1) // 2))


def undecided_splits(given: Iterable[GivenSplit]) -> tuple[str, ...]:
    """The splits that have no folder of their own, in the order in which they are decided."""
    decided = set(given)
    return tuple(split for split in SHARES if split not in decided)


def units_needed(given: Iterable[GivenSplit]) -> int:
    """How many units each class must have: one for each split that is not given, and one to train."""
    return 1 + sum(split != "calibration" for split in undecided_splits(given))


def split_units(units: Iterable[Unit], given: Iterable[GivenSplit] = ("train",)) -> dict[str, str]:
    """The split of each unit of the train folder by its key, where the `given` splits have folders.

    Disputed contents, and classes that have hardly any other, go by their hash alone.
    """
    given = tuple(given)
    units = list(units)
    own = Counter(label for unit in units if not unit.is_disputed for label in unit.counts)
    needed = units_needed(given)
    left = [unit for unit in units if not unit.is_disputed and all(own[label] >= needed for label in unit.counts)]
    bounded = {unit.key for unit in left}
    splits = {unit.key: split_by_hash(unit.key, given) for unit in units if unit.key not in bounded}
    total = _photographs(left)
    for split in undecided_splits(given):
        needed -= split != "calibration"
        taken = _take(split, left, total, needed)
        splits |= dict.fromkeys(taken, split)
        left = [unit for unit in left if unit.key not in taken]
    return splits | {unit.key: "train" for unit in left}


def _take(split: str, units: Sequence[Unit], total: Mapping[int, int], needed: int) -> set[str]:
    """The keys of the units that `split` takes, of which each class keeps as many as are `needed` later."""
    here = _photographs(units)
    least = {label: min_count(split, total[label]) for label in here}
    most = {label: max_count(split, total[label], here[label]) for label in here}
    units_of = Counter(label for unit in units for label in unit.counts)
    have: Counter[int] = Counter()
    taken: set[str] = set()

    def excess(unit: Unit) -> int:
        return sum(max(0, have[label] + count - most[label]) for label, count in unit.counts.items())

    def spared(unit: Unit) -> bool:
        return unit.key not in taken and all(units_of[label] > needed for label in unit.counts)

    def take(unit: Unit) -> None:
        taken.add(unit.key)
        have.update(unit.counts)
        units_of.subtract(unit.counts.keys())

    ranked = sorted(units, key=lambda unit: hash_fraction(unit.key, split))
    for unit in ranked:
        if hash_fraction(unit.key, split) < SHARES[split] and spared(unit) and not excess(unit):
            take(unit)
    for unit in ranked:
        if any(have[label] < least[label] for label in unit.counts) and spared(unit) and not excess(unit):
            take(unit)
    for label in sorted(here):
        # Every group is too large: rather too many photographs than none.
        fitting = [unit for unit in ranked if label in unit.counts and spared(unit)]
        if least[label] and not have[label] and fitting:
            take(min(fitting, key=excess))
    return taken


def _photographs(units: Iterable[Unit]) -> Counter[int]:
    """How many different photographs of each label the units hold."""
    found: Counter[int] = Counter()
    for unit in units:
        found.update(unit.counts)
    return found
