"""Checking a data set: files that are not whole pictures, copies, near-copies, and tiny pictures."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from toolchain.datasets.index import (
    EMPTY_SHA256,
    DatasetIndex,
    GivenSplit,
    ImageEntry,
    LeftOut,
    Problem,
    leave_out,
    map_files,
    require_usable,
)
from toolchain.datasets.splits import splits_from
from toolchain.errors import BadInputError, UnreadableImageError
from toolchain.images.encoded import HEAD_BYTES, held, kind_of, read_bytes
from toolchain.images.perceptual_hash import near_groups, perceptual_hash
from toolchain.images.preprocess import can_decode, decoded
from toolchain.system.progress import Reporter, Silent

HELD_BACK = ("val", "test")
"""The splits that train nothing: the others, calibration among them, teach the linear probe."""

TINY_PX = 64
"""A shortest edge below this shows too little to a network whose input has 224 pixels."""


@dataclass(frozen=True)
class Unreadable:
    """A file that training and the camera could not decode either.

    It is not `damaged` where it could not be read, as on a network drive that stalls, or where only this machine
    lacks what decodes it.
    """

    name: str
    reason: str
    damaged: bool = True


@dataclass(frozen=True)
class Tiny:
    """A photograph whose shortest edge is below `TINY_PX`; sizes in pixels."""

    name: str
    width: int
    height: int


@dataclass(frozen=True)
class Placed:
    """A photograph, and the split that training puts it into."""

    name: str
    split: str


@dataclass(frozen=True)
class CheckReport:
    """The findings. Each group of copies holds the names of files with exactly the same content."""

    photographs: int
    unreadable: tuple[Unreadable, ...]
    copies_across_splits: tuple[tuple[str, ...], ...]
    copies_across_classes: tuple[tuple[str, ...], ...]
    copies_within: tuple[tuple[str, ...], ...]
    """In the same split and class: harmless, but they count twice."""
    tiny: tuple[Tiny, ...]
    left_out: tuple[LeftOut, ...] = ()
    """The other files below the folder."""
    problems: tuple[Problem, ...] = ()
    """Why the folder cannot be trained on as it is."""
    near_across_splits: tuple[tuple[Placed, ...], ...] = ()
    """Groups of photographs that look alike, such as a burst, of which some are held back and some are not."""

    @property
    def near_held_back(self) -> int:
        """How many photographs of val and test look like one of another split."""
        return sum(one.split in HELD_BACK for group in self.near_across_splits for one in group)

    @property
    def lost(self) -> tuple[LeftOut, ...]:
        """Files that are left out and may be photographs."""
        return tuple(one for one in self.left_out if one.lost)

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found that spoils training or its accuracy."""
        spoils = (self.unreadable, self.copies_across_splits, self.copies_across_classes, self.lost, self.problems)
        return not any(spoils)


@dataclass(frozen=True)
class _Seen:
    sha256: str
    width: int = 0
    height: int = 0
    reason: str = ""
    perceptual: int = 0
    damaged: bool = False


def check(index: DatasetIndex, reporter: Reporter | None = None) -> CheckReport:
    """Read and decode every photograph of `index`, and look for near-duplicates across the splits it would have."""
    photos = [(split, photo) for split, given in index.given.items() for photo in given]
    entries = [photo for _, photo in photos]
    seen = dict(map_files(_look, entries, f"checking {index.name}", reporter or Silent()))
    findings = replace(_findings(photos, seen), left_out=index.left_out, problems=index.problems)
    return replace(findings, near_across_splits=_near_across_splits(index, seen))


def _near_across_splits(index: DatasetIndex, seen: Mapping[ImageEntry, _Seen]) -> tuple[tuple[Placed, ...], ...]:
    """Groups of near-duplicates on two sides; none where the data set cannot be split."""
    unreadable = {photo.path: look.reason for photo, look in seen.items() if look.reason}
    hashes = {photo.path: look.sha256 for photo, look in seen.items()}
    try:
        splits = splits_from(leave_out(require_usable(index), unreadable), hashes).splits
    except BadInputError:
        return ()
    placed = [(photo, split) for split, photos in splits.items() for photo in photos]
    perceptual = {photo.path: look.perceptual for photo, look in seen.items()}
    found = []
    for group in near_groups(np.array([perceptual[photo.path] for photo, _ in placed], np.uint64)):
        members = [placed[place] for place in group]
        if len({split if split in HELD_BACK else "train" for _, split in members}) > 1:
            found.append(tuple(Placed(photo.name, split) for photo, split in members))
    return tuple(found)


def _look(photo: ImageEntry) -> _Seen:
    with held(photo.path):
        try:
            data = read_bytes(photo.path)
        except UnreadableImageError as error:
            return _Seen("", reason=error.message.removeprefix(f"{photo.path}: "))
        sha256 = hashlib.sha256(data).hexdigest()
        try:
            with decoded(data, photo.name) as image:
                height, width = image.shape[:2]
                perceptual = perceptual_hash(image)
        except UnreadableImageError as error:
            kind = kind_of(data[:HEAD_BYTES])
            damaged = can_decode(kind) or not kind.is_picture
            return _Seen(sha256, reason=error.message.removeprefix(f"{photo.name}: "), damaged=damaged)
        return _Seen(sha256, width, height, perceptual=perceptual)


def _findings(photos: list[tuple[GivenSplit, ImageEntry]], seen: Mapping[ImageEntry, _Seen]) -> CheckReport:
    groups: dict[str, list[tuple[GivenSplit, ImageEntry]]] = defaultdict(list)
    for split, photo in photos:
        if seen[photo].sha256 not in ("", EMPTY_SHA256):
            groups[seen[photo].sha256].append((split, photo))
    across_splits, across_classes, within = [], [], []
    for group in groups.values():
        if len(group) == 1:
            continue
        names = tuple(photo.name for _, photo in group)
        several_splits = len({split for split, _ in group}) > 1
        several_labels = len({photo.label for _, photo in group}) > 1
        if several_splits:
            across_splits.append(names)
        if several_labels:
            across_classes.append(names)
        if not several_splits and not several_labels:
            within.append(names)
    return CheckReport(
        photographs=len(photos),
        unreadable=tuple(
            Unreadable(photo.name, look.reason, look.damaged) for photo, look in seen.items() if look.reason
        ),
        copies_across_splits=tuple(across_splits),
        copies_across_classes=tuple(across_classes),
        copies_within=tuple(within),
        tiny=tuple(
            Tiny(photo.name, look.width, look.height)
            for photo, look in seen.items()
            if not look.reason and min(look.width, look.height) < TINY_PX
        ),
    )
