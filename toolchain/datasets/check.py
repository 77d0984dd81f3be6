"""Looking for what spoils a data set: files that are no whole pictures, copies, and pictures that are too small."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from toolchain.datasets.index import HASHING_THREADS, DatasetIndex, GivenSplit, ImageEntry, LeftOut, Problem
from toolchain.datasets.splits import EMPTY_SHA256
from toolchain.errors import UnreadableImageError
from toolchain.images.preprocess import decode
from toolchain.system.progress import Reporter, Silent

TINY_PX = 64
"""A shortest edge below this has little to show a network that looks at 224 pixels."""


@dataclass(frozen=True)
class Unreadable:
    """A file that cannot be decoded whole, by the one definition that training and the camera use too."""

    name: str
    reason: str


@dataclass(frozen=True)
class Tiny:
    """A photograph whose shortest edge is below `TINY_PX`; sizes in pixels."""

    name: str
    width: int
    height: int


@dataclass(frozen=True)
class CheckReport:
    """What was found. Each group of copies holds the names of files with exactly the same content."""

    photographs: int
    unreadable: tuple[Unreadable, ...]
    copies_across_splits: tuple[tuple[str, ...], ...]
    copies_across_classes: tuple[tuple[str, ...], ...]
    copies_within: tuple[tuple[str, ...], ...]
    """Same split, same class: harmless, but they weigh double."""
    tiny: tuple[Tiny, ...]
    left_out: tuple[LeftOut, ...] = ()
    """The other files below the folder."""
    problems: tuple[Problem, ...] = ()
    """Why the folder cannot be trained on as it is."""

    @property
    def lost(self) -> tuple[LeftOut, ...]:
        """What is left out and may be a photograph."""
        return tuple(one for one in self.left_out if one.lost)

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found that makes training or its accuracy wrong."""
        spoils = (self.unreadable, self.copies_across_splits, self.copies_across_classes, self.lost, self.problems)
        return not any(spoils)


@dataclass(frozen=True)
class _Seen:
    sha256: str
    width: int = 0
    height: int = 0
    reason: str = ""


def check(index: DatasetIndex, reporter: Reporter | None = None) -> CheckReport:
    """Read and decode every photograph of `index`."""
    reporter = reporter or Silent()
    photos = [(side, photo) for side, listed in index.given.items() for photo in listed]
    seen: dict[ImageEntry, _Seen] = {}
    with (
        ThreadPoolExecutor(HASHING_THREADS) as pool,
        reporter.task(f"checking {index.name}", len(photos)) as task,
    ):
        try:
            looks = pool.map(lambda photo: _look(photo[1]), photos)
            for (_, photo), look in zip(photos, looks, strict=True):
                seen[photo] = look
                task.advance()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return replace(_findings(photos, seen), left_out=index.left_out, problems=index.problems)


def _look(photo: ImageEntry) -> _Seen:
    try:
        data = photo.path.read_bytes()
    except OSError as error:
        return _Seen("", reason=error.strerror or str(error))
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        height, width = decode(data, photo.name).shape[:2]
    except UnreadableImageError as error:
        return _Seen(sha256, reason=error.message.removeprefix(f"{photo.name}: "))
    return _Seen(sha256, width, height)


def _findings(photos: list[tuple[GivenSplit, ImageEntry]], seen: Mapping[ImageEntry, _Seen]) -> CheckReport:
    groups: dict[str, list[tuple[GivenSplit, ImageEntry]]] = defaultdict(list)
    for side, photo in photos:
        if seen[photo].sha256 not in ("", EMPTY_SHA256):
            groups[seen[photo].sha256].append((side, photo))
    across_splits, across_classes, within = [], [], []
    for group in groups.values():
        if len(group) == 1:
            continue
        names = tuple(photo.name for _, photo in group)
        several_sides = len({side for side, _ in group}) > 1
        several_labels = len({photo.label for _, photo in group}) > 1
        if several_sides:
            across_splits.append(names)
        if several_labels:
            across_classes.append(names)
        if not several_sides and not several_labels:
            within.append(names)
    return CheckReport(
        photographs=len(photos),
        unreadable=tuple(Unreadable(photo.name, look.reason) for photo, look in seen.items() if look.reason),
        copies_across_splits=tuple(across_splits),
        copies_across_classes=tuple(across_classes),
        copies_within=tuple(within),
        tiny=tuple(
            Tiny(photo.name, look.width, look.height)
            for photo, look in seen.items()
            if not look.reason and min(look.width, look.height) < TINY_PX
        ),
    )
