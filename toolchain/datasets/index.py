"""What a data set's folder holds, as its publisher arranged it, before any file is read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

from toolchain.errors import BadInputError
from toolchain.images.encoded import MAX_BYTES
from toolchain.system import files
from toolchain.system.progress import Reporter

GivenSplit = Literal["train", "val", "test"]
Result = TypeVar("Result")

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
"""Empty files are unreadable, not copies of each other."""

HASHING_THREADS = 4
"""Enough to keep two cores and a disk busy; hashlib lets other threads run."""


@dataclass(frozen=True)
class ImageEntry:
    """One image file under its label. `name` is its path below the data set's folder, with forward slashes.

    Photographs of one `group` are never on two sides of a split. Without a group, a photograph is on its own.
    """

    name: str
    path: Path
    label: int
    group: str = ""


@dataclass(frozen=True)
class LeftOut:
    """A file that is not used, by its path below the data set's folder; of a folder that cannot be read, its own
    path with a slash. `lost` tells whether a photograph may be missing because of it.
    """

    name: str
    reason: str
    lost: bool = False


@dataclass(frozen=True)
class Problem:
    """Why a folder cannot be trained on as it is, and what to do about it."""

    message: str
    hint: str


@dataclass(frozen=True)
class DatasetIndex:
    """A data set as it was found. `given` holds the publisher's splits; without any, everything is in `train`.

    `classes` are in the order of the labels. All files below `root` are either photographs or `left_out`. A data
    set with `problems` can be looked at, but not trained on (see `require_usable`).
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    given: Mapping[GivenSplit, tuple[ImageEntry, ...]]
    warnings: tuple[str, ...] = ()
    licences: dict[str, str] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    problems: tuple[Problem, ...] = ()

    def __post_init__(self) -> None:
        if len(self.classes) < 2 and not self.problems:
            problem = too_few_classes(self.name, self.root, self.classes)
            raise BadInputError(problem.message, problem.hint)

    @property
    def photographs(self) -> tuple[ImageEntry, ...]:
        """All photographs, split after split."""
        return tuple(photo for photos in self.given.values() for photo in photos)


def too_few_classes(name: str, root: Path, classes: Sequence[str]) -> Problem:
    found = f"only the class {classes[0]!r}" if classes else "no class"
    return Problem(
        f"{name}: {found} under {root}; a classifier needs at least two",
        "Put the photographs into one folder for each class: FOLDER/cat/*.jpg, FOLDER/dog/*.jpg.",
    )


def require_usable(index: DatasetIndex) -> DatasetIndex:
    """`index`, if it can be trained on. Raises BadInputError that names all its problems."""
    if index.problems:
        hints = dict.fromkeys(problem.hint for problem in index.problems)
        raise BadInputError("; ".join(problem.message for problem in index.problems), " ".join(hints))
    return index


def map_files(
    function: Callable[[ImageEntry], Result], entries: Sequence[ImageEntry], task: str, reporter: Reporter
) -> Iterator[tuple[ImageEntry, Result]]:
    """Each of `entries` with what `function` returns for it, computed in threads, as a task of the reporter."""
    with ThreadPoolExecutor(HASHING_THREADS) as pool, reporter.task(task, len(entries)) as progress:
        try:
            for entry, result in zip(entries, pool.map(function, entries), strict=True):
                yield entry, result
                progress.advance()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def hash_all(index: DatasetIndex, reporter: Reporter) -> tuple[DatasetIndex, dict[Path, str]]:
    """`index` without files that cannot be read, which become `left_out`; and the SHA-256 of each other file."""
    hashes: dict[Path, str] = {}
    reasons: dict[Path, str] = {}
    for photo, (sha256, reason) in map_files(_sha256, index.photographs, f"reading {index.name}", reporter):
        if reason:
            reasons[photo.path] = reason
        else:
            hashes[photo.path] = sha256
    readable = leave_out(index, reasons)
    lines = describe_left_out(readable.left_out[len(index.left_out) :])
    warnings = (*index.warnings, *(f"{index.root}: {line}" for line in lines))
    return replace(readable, warnings=warnings), hashes


def leave_out(index: DatasetIndex, reasons: Mapping[Path, str]) -> DatasetIndex:
    """`index` without the photographs that `reasons` names: they become `left_out`, as lost ones."""
    if not reasons:
        return index
    left_out = [
        LeftOut(photo.name, reasons[photo.path], True) for photo in index.photographs if photo.path in reasons
    ]
    return replace(
        index,
        given={
            side: tuple(photo for photo in photos if photo.path not in reasons)
            for side, photos in index.given.items()
        },
        left_out=(*index.left_out, *left_out),
    )


QUIET_REASONS = frozenset(("a file of the system", "the publisher's annotations"))
"""Reasons that warnings do not mention; `--json` has them."""
_NAMED_FIRST = ("outside the class", "in a folder beside", "camera raw", "in the library")
"""Beginnings of reasons that are mentioned first: these files are photographs."""
_MAX_REASONS = 5


def by_reason(left_out: Iterable[LeftOut]) -> dict[str, list[str]]:
    """Names by reason, the most frequent reason first."""
    names: dict[str, list[str]] = {}
    for one in left_out:
        names.setdefault(one.reason, []).append(one.name)
    return dict(sorted(names.items(), key=lambda found: -len(found[1])))


def describe_left_out(left_out: Iterable[LeftOut]) -> tuple[str, ...]:
    """A summary of files that are left out, for warnings: counts by reason, with the first few names.

    There are two lines at most. The first is about files that may be photographs.
    """
    lines = []
    loud = [one for one in left_out if one.reason not in QUIET_REASONS]
    for chosen, what in (
        ([one for one in loud if one.lost], "left out that may be photographs"),
        ([one for one in loud if not one.lost], "left out"),
    ):
        if chosen:
            kinds = sorted(by_reason(chosen).items(), key=lambda kind: not kind[0].startswith(_NAMED_FIRST))
            groups = [f"{reason}: {len(names)} ({first_few(names, 3)})" for reason, names in kinds]
            if len(groups) > _MAX_REASONS:
                groups[_MAX_REASONS:] = [f"and {len(groups) - _MAX_REASONS} other kinds"]
            lines.append(f"{len(chosen)} {what}: {'; '.join(groups)}")
    return tuple(lines)


def first_few(names: Sequence[str], limit: int = 5) -> str:
    """The first few of `names` and a count of the rest, for a message."""
    rest = len(names) - limit
    # A file name may hold a line end, or codes that clear a screen.
    shown = [re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda sign: repr(sign[0])[1:-1], name) for name in names[:limit]]
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def _sha256(photo: ImageEntry) -> tuple[str, str]:
    """The hash, or why there is none."""
    try:
        return files.sha256_of(photo.path, MAX_BYTES), ""
    except OSError as error:
        return "", f"cannot be read: {error.strerror or error}"
