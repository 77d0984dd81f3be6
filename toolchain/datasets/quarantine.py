"""Files that spoil a data set, moved out of it so that they can be put back.

Only what training leaves out anyway is moved: files that cannot be decoded, and training photographs that are also
held back for validation or test. So nothing that was measured changes. What needs a person's judgement stays:
copies under two classes (one of the labels is wrong, but which?), copies within a class, and tiny pictures.
"""

from __future__ import annotations

import errno
import os
import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from toolchain.datasets.check import CheckReport
from toolchain.datasets.index import DatasetIndex, GivenSplit, ImageEntry
from toolchain.datasets.scan import ASIDE_SUFFIX
from toolchain.errors import BadInputError
from toolchain.images.preprocess import HEIC_NEEDS
from toolchain.system import files

RECORD_SCHEMA: Literal["edgetl.set-aside/1"] = "edgetl.set-aside/1"


@dataclass(frozen=True)
class Moved:
    """One file: `name` is its path below the data set's folder, and below the folder that it was moved to."""

    name: str
    reason: str


@dataclass(frozen=True)
class Record:
    """What stands in `DATA.set-aside/N.json`, beside the folder `N` that holds the files."""

    schema: Literal["edgetl.set-aside/1"]
    data: str
    moved: tuple[Moved, ...]


def movable(index: DatasetIndex, findings: CheckReport) -> tuple[Moved, ...]:
    """The files of `index` that training leaves out, with the reason.

    Raises BadInputError when a class would have nothing left on one side of the split: then the data set could not
    be listed any more, and a person has to look.
    """
    photos = {photo.name: (side, photo) for side, listed in index.given.items() for photo in listed}
    # A whole picture that only this machine cannot read is no broken one.
    chosen = {bad.name: bad.reason for bad in findings.unreadable if bad.reason != HEIC_NEEDS}
    disputed = {name for names in findings.copies_across_classes for name in names}
    for names in findings.copies_across_splits:
        if not disputed.intersection(names):
            chosen |= _leaks({name: photos[name][0] for name in names})
    _check_rest(index, photos, chosen)
    return tuple(Moved(name, reason) for name, reason in chosen.items())


def _leaks(sides: dict[str, GivenSplit]) -> dict[str, str]:
    """Of files with the same content, those that stand on a side other than the one that holds it back."""
    holder = next(side for side in ("test", "val", "train") if side in sides.values())
    held = next(name for name, side in sides.items() if side == holder)
    return {name: f"also in {holder}: {held}" for name, side in sides.items() if side != holder}


def _check_rest(
    index: DatasetIndex, photos: dict[str, tuple[GivenSplit, ImageEntry]], chosen: dict[str, str]
) -> None:
    left = Counter((side, photo.label) for name, (side, photo) in photos.items() if name not in chosen)
    for name in chosen:
        side, photo = photos[name]
        if not left[side, photo.label]:
            raise BadInputError(
                f"no photograph of {index.classes[photo.label]} would be left in {side}; nothing was moved",
                "Add readable photographs of it, or take the class out.",
            )


def move_out(index: DatasetIndex, moved: Iterable[Moved]) -> Path:
    """Move files out of the data set into a new folder beside it; return the record's path.

    The record is written first, so that a move which is interrupted can be undone too. The folder is new each time,
    so nothing is ever overwritten. Raises BadInputError when a file cannot be moved.
    """
    moved = tuple(moved)
    place = _new_folder(index.root)
    record = place.with_name(f"{place.name}.json")
    files.write_json(record, Record(RECORD_SCHEMA, index.name, moved))
    for one in moved:
        _move(index.root / one.name, place / one.name, record)
    return record


def restore(record: Path) -> tuple[str, ...]:
    """Move the files of a record back to where they were, and remove the record; return their names.

    Raises BadInputError when the record is damaged or in another place, or when there is a file where one was:
    then nothing is moved.
    """
    moved = _read(record).moved
    record = record.absolute()
    place = record.with_suffix("")
    above = record.parent
    inside = above.name == ASIDE_SUFFIX
    root = above.parent if inside else above.with_name(above.name.removesuffix(ASIDE_SUFFIX))
    if not record.parent.name.endswith(ASIDE_SUFFIX) or not root.is_dir():
        raise BadInputError(
            f"{record} does not lie beside the data it was made for",
            f"It belongs into DATA{ASIDE_SUFFIX}, next to the folder DATA.",
        )
    if moved and not any(os.path.lexists(folder / one.name) for folder in (place, root) for one in moved):
        raise BadInputError(f"none of the files that {record} names is there", f"They should lie below {place}.")
    # What an interrupted move had not come to yet is still in its place.
    waiting = [one.name for one in moved if os.path.lexists(place / one.name)]
    taken = [name for name in waiting if os.path.lexists(root / name) and not _is_copy(place / name, root / name)]
    if taken:
        raise BadInputError(f"{root / taken[0]} is there again; nothing was moved", "Take it away first.")
    for name in waiting:
        if os.path.lexists(root / name):
            (place / name).unlink()
        else:
            _move(place / name, root / name, record)
    record.unlink()
    _remove_empty(place)
    return tuple(waiting)


def _new_folder(root: Path) -> Path:
    """A new folder `ROOT.set-aside/N`, with the first N that neither a folder nor a record has; `ROOT/.set-aside/N`
    where nothing can be written beside the data, as beside a disk.
    """
    beside = root.with_name(root.name + ASIDE_SUFFIX)
    try:
        try:
            beside.mkdir(exist_ok=True)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            beside = root / ASIDE_SUFFIX
            beside.mkdir(exist_ok=True)
        number = 1
        while (beside / str(number)).exists() or (beside / f"{number}.json").exists():
            number += 1
        place = beside / str(number)
        place.mkdir()
    except OSError as error:
        raise BadInputError(
            f"{beside} cannot be made: {error.strerror or error}; nothing was moved", "Check its permissions."
        ) from None
    return place


def _is_copy(one: Path, other: Path) -> bool:
    """Whether two files are the same: a move to another file system was interrupted just before its end."""
    try:
        return files.sha256_of(one) == files.sha256_of(other)
    except OSError:
        return False


def _move(source: Path, target: Path, record: Path) -> None:
    try:
        files.move(source, target)
    except OSError as error:
        raise BadInputError(
            f"{source} cannot be moved to {target}: {error.strerror or error}",
            f"What was moved before is listed in {record}: edgetl data restore {shlex.quote(str(record))}",
        ) from None


def _read(path: Path) -> Record:
    try:
        record = files.from_json(path.read_bytes(), Record)
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror or error}") from None
    except msgspec.DecodeError as error:
        raise BadInputError(f"{path} is no record of files set aside: {error}") from None
    for one in record.moved:
        parts = PurePosixPath(one.name).parts
        if not parts or parts[0] == "/" or ".." in parts:
            raise BadInputError(f"{path}: {one.name!r} is not a path below the data", "Restore the record.")
    return record


def _remove_empty(folder: Path) -> None:
    """Remove folders in which nothing is left, and the one around them if that was the last."""
    for parent, _, names in os.walk(folder, topdown=False):
        if not names and not any(Path(parent).iterdir()):
            Path(parent).rmdir()
    if not any(folder.parent.iterdir()):
        folder.parent.rmdir()
