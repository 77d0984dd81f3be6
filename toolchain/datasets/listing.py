"""What a data set's folder holds, as its publisher arranged it, before any file is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from toolchain import files
from toolchain.errors import BadInputError
from toolchain.progress import Reporter

Side = Literal["train", "val", "test"]

HASHING_THREADS = 4
"""Enough to keep two cores and a disk busy; hashlib lets other threads run."""


@dataclass(frozen=True)
class Listed:
    """One image file under its label. `name` is its path below the data set's folder, with forward slashes."""

    name: str
    path: Path
    label: int


@dataclass(frozen=True)
class Listing:
    """A data set as it was found. `given` has the publisher's own sides; everything is in `train` where there are
    none. `classes` are in the order of the labels.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    given: Mapping[Side, tuple[Listed, ...]]
    warnings: tuple[str, ...] = ()
    licences: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            found = f"only the class {self.classes[0]!r}" if self.classes else "no class"
            raise BadInputError(
                f"{self.name}: {found} under {self.root}; a classifier needs at least two",
                "Put the photographs into one folder for each class: FOLDER/cat/*.jpg, FOLDER/dog/*.jpg.",
            )

    @property
    def photographs(self) -> tuple[Listed, ...]:
        """All files, side after side."""
        return tuple(photo for photos in self.given.values() for photo in photos)


def hash_all(listing: Listing, reporter: Reporter) -> dict[Path, str]:
    """SHA-256 of each file of `listing`. Raises BadInputError for a file that cannot be read."""
    paths = [photo.path for photo in listing.photographs]
    hashes: dict[Path, str] = {}
    with (
        ThreadPoolExecutor(HASHING_THREADS) as pool,
        reporter.task(f"reading {listing.name}", len(paths)) as task,
    ):
        try:
            for path, sha256 in zip(paths, pool.map(_sha256, paths), strict=True):
                hashes[path] = sha256
                task.advance()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return hashes


def some(names: Sequence[str], limit: int = 5) -> str:
    """The first few of `names` and a count of the rest, for a message."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")


def _sha256(path: Path) -> str:
    try:
        return files.sha256_of(path)
    except OSError as error:
        raise BadInputError(
            f"{path} cannot be read: {error.strerror or error}",
            "Check its permissions, or take it out of the folder.",
        ) from None
