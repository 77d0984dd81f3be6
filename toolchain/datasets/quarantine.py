"""Moving files that spoil a data set out of it, so that they can be restored.

Only files that training leaves out anyway are moved: those that cannot be decoded, and training photographs that
are also in validation or test. So nothing that was measured changes. Files that need a person's judgement stay:
copies under two classes (one of the labels is wrong, but which?), duplicates within a class, and tiny pictures.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from toolchain.datasets.check import CheckReport
from toolchain.datasets.index import DatasetIndex, GivenSplit, ImageEntry, first_few
from toolchain.datasets.scan import ASIDE_SUFFIX
from toolchain.errors import BadInputError
from toolchain.system import claims, files

_MOVED = (stat.S_IFREG, stat.S_IFLNK)
"""What is moved back: a photograph may be a link, which is moved itself."""

RECORD_SCHEMA: Literal["edgetl.set-aside/1"] = "edgetl.set-aside/1"


@dataclass(frozen=True)
class Moved:
    """One file. `name` is its path below the data set's folder, and below the folder that it was moved to."""

    name: str
    reason: str


@dataclass(frozen=True)
class Record:
    """The content of `DATA.set-aside/N.json`, which lies beside the folder `N` with the files."""

    schema: Literal["edgetl.set-aside/1"]
    data: str
    moved: tuple[Moved, ...]


def movable(index: DatasetIndex, findings: CheckReport) -> tuple[Moved, ...]:
    """The files of `index` that training leaves out, with the reason.

    Raises BadInputError when a class would have no photograph left in a given split: the data set could not be used
    any more, so a person has to decide.
    """
    photos = {photo.name: (split, photo) for split, listed in index.given.items() for photo in listed}
    chosen = {bad.name: bad.reason for bad in findings.unreadable if bad.damaged}
    disputed = {name for names in findings.copies_across_classes for name in names}
    for names in findings.copies_across_splits:
        if not disputed.intersection(names):
            chosen |= _leaks({name: photos[name][0] for name in names})
    _check_rest(index, photos, chosen)
    return tuple(Moved(name, reason) for name, reason in chosen.items())


def _leaks(splits: dict[str, GivenSplit]) -> dict[str, str]:
    """Of files with the same content, those outside the split that holds it back: test, or else validation."""
    holder = next(split for split in ("test", "val", "train") if split in splits.values())
    held = next(name for name, split in splits.items() if split == holder)
    return {name: f"also in {holder}: {held}" for name, split in splits.items() if split != holder}


def _check_rest(
    index: DatasetIndex, photos: dict[str, tuple[GivenSplit, ImageEntry]], chosen: dict[str, str]
) -> None:
    left = Counter((split, photo.label) for name, (split, photo) in photos.items() if name not in chosen)
    for name in chosen:
        split, photo = photos[name]
        if not left[split, photo.label]:
            raise BadInputError(
                f"no photograph of {index.classes[photo.label]} would be left in {split}; nothing was moved",
                "Add readable photographs of it, or take the class out.",
            )


def is_inside(folder: Path, name: str) -> bool:
    """Whether the file `name` really lies below `folder`: no link on the way to it leads out."""
    try:
        return (folder / name).parent.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links in a circle
        return False


def move_out(index: DatasetIndex, moved: Iterable[Moved]) -> Path:
    """Move files out of the data set into a new folder beside it; return the path of the record.

    The record is written first, so that an interrupted move can be undone too. The folder is new each time, so no
    file is overwritten. Raises BadInputError when a file cannot be moved, or lies outside the data set's folder.
    """
    moved = tuple(moved)
    for one in moved:
        if not is_inside(index.root, one.name):
            raise BadInputError(f"{index.root / one.name} lies behind a link; nothing was moved")
    place = new_folder(index.root)
    record = place.with_name(f"{place.name}.json")
    files.write_json(record, Record(RECORD_SCHEMA, index.name, moved))
    for one in moved:
        _move(index.root / one.name, place / one.name, record)
    return record


def restore(record: Path) -> tuple[str, ...]:
    """Move the files of a record back to where they were, and remove the record; return their names.

    Links are not followed, since record and folders may come from others. Raises BadInputError, before anything is
    moved, when the record is damaged or lies elsewhere, when a link would lead out of the folders, or when another
    file has taken the place of one.
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
            f"Move it to DATA{ASIDE_SUFFIX}, next to the folder DATA.",
        )
    if not moved:
        raise BadInputError(f"{record} names no files, so there is nothing to move back", "Remove it by hand.")
    _refuse_links(record, place, root, moved)
    if not any(os.path.lexists(folder / one.name) for folder in (place, root) for one in moved):
        raise BadInputError(f"none of the files that {record} names is there", f"They should lie below {place}.")
    # An interrupted move has left some files in their place.
    waiting = [one.name for one in moved if os.path.lexists(place / one.name)]
    taken = [name for name in waiting if os.path.lexists(root / name) and not _is_copy(place / name, root / name)]
    if taken:
        raise BadInputError(f"{root / taken[0]} is there again; nothing was moved", "Take it away first.")
    for name in waiting:
        if os.path.lexists(root / name):
            (place / name).unlink()
        else:
            _move(place / name, root / name, record)
    gone = [one.name for one in moved if not os.path.lexists(root / one.name)]
    if gone:
        raise BadInputError(
            f"{len(gone)} of the {len(moved)} files that {record} names are gone: {first_few(gone)}",
            "The others are back, and the record is kept.",
        )
    record.unlink()
    _remove_empty(place)
    return tuple(waiting)


def new_folder(root: Path) -> Path:
    """A new folder `ROOT.set-aside/N`, with the first N that is free.

    It is `ROOT/.set-aside/N` where the folder above the data cannot be written to, as above a disk.
    """
    beside = root.with_name(root.name + ASIDE_SUFFIX)
    try:
        if beside.is_symlink():
            raise BadInputError(
                f"{beside} is a link; nothing was moved", "Put a folder in its place, or remove it."
            )
        try:
            beside.mkdir(exist_ok=True)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            beside = root / ASIDE_SUFFIX
            if beside.is_symlink():
                raise
            beside.mkdir(exist_ok=True)
        return claims.new_folder(beside / str(n) for n in count(1) if not (beside / f"{n}.json").exists())
    except OSError as error:
        raise BadInputError(
            f"{beside} cannot be made: {error.strerror or error}; nothing was moved", "Check its permissions."
        ) from None


def _refuse_links(record: Path, place: Path, root: Path, moved: Sequence[Moved]) -> None:
    """Raise BadInputError where a link stands on the way to a file of `moved`, or where one is no file at all."""
    if place.is_symlink():
        raise BadInputError(f"{place} is a link; nothing was moved", "Put the folder itself beside the record.")
    for one in moved:
        for folder in (place, root):
            if not is_inside(folder, one.name):
                raise BadInputError(
                    f"{record}: {one.name!r} lies behind a link in {folder}; nothing was moved", "Remove the link."
                )
        waiting = place / one.name
        if os.path.lexists(waiting) and stat.S_IFMT(waiting.lstat().st_mode) not in _MOVED:
            raise BadInputError(f"{waiting} is no file; nothing was moved", "Take it away first.")


def _is_copy(one: Path, other: Path) -> bool:
    """Whether two files have the same content: a move to another disk was interrupted just before its end."""
    try:
        if not all(stat.S_ISREG(path.lstat().st_mode) for path in (one, other)):
            return False
        return one.stat().st_size == other.stat().st_size and files.sha256_of(one) == files.sha256_of(other)
    except OSError:
        return False


def _move(source: Path, target: Path, record: Path) -> None:
    try:
        files.move(source, target)
    except OSError as error:
        raise BadInputError(
            f"{source} cannot be moved to {target}: {error.strerror or error}",
            f"{record} lists what was moved before. To undo it: edgetl data restore {shlex.quote(str(record))}",
        ) from None


def _read(path: Path) -> Record:
    try:
        record = files.read_json(path, Record)
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror or error}") from None
    except msgspec.DecodeError as error:
        raise BadInputError(f"{path} is not a record of moved files: {error}") from None
    for one in record.moved:
        if not is_name_below(one.name):
            raise BadInputError(f"{path}: {one.name!r} is not a path below the data", "Restore the record.")
    return record


def is_name_below(name: str) -> bool:
    """Whether a record may name a file so: by a path that stays below the folder."""
    parts = PurePosixPath(name).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts and "\0" not in name


def _remove_empty(folder: Path) -> None:
    """Remove folders in which nothing is left, and the one around them if that was the last."""
    for parent, _, names in os.walk(folder, topdown=False):
        if not names and not any(Path(parent).iterdir()):
            Path(parent).rmdir()
    if not any(folder.parent.iterdir()):
        folder.parent.rmdir()
