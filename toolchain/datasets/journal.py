"""What a review decided, photograph by photograph: recorded before it is done, and undone by `data restore`.

Each decision is written into the journal first, then its files are moved. A process that is killed between the two
has lost nothing: whoever opens the folder next finishes what the newest journal says. The journal lies beside the
folder that was reviewed, as other records do of what was moved out of it.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from toolchain.datasets.quarantine import is_inside, is_name_below, new_folder
from toolchain.datasets.scan import ASIDE_SUFFIX
from toolchain.errors import BadInputError
from toolchain.system import files

SCHEMA: Literal["edgetl.review/1"] = "edgetl.review/1"


@dataclass(frozen=True)
class Entry:
    """One photograph, `name` below the reviewed folder. `now` is where it was moved to, whole; null: it was kept.

    `label` is the class that it was moved to, null where it was set aside or kept. What was decided together has
    the same `step`.
    """

    step: int
    name: str
    sha256: str
    now: str | None
    label: str | None = None


@dataclass(frozen=True)
class Decisions:
    """The content of `FOLDER.set-aside/N.json`.

    Until it is `closed`, the files of the last `step` may not have been moved yet.
    """

    schema: Literal["edgetl.review/1"]
    folder: str
    entries: tuple[Entry, ...] = ()
    closed: bool = False


class Journal:
    """The decisions of one review of `folder`; its file is made with the first of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._place: Path | None = None
        self._decisions = Decisions(SCHEMA, folder.name)
        self._stale = False
        """Whether the file tells of a decision that was taken back."""
        self._moving = False
        """Whether a decision is written of which not all files have moved: it may be stopped there."""

    @property
    def path(self) -> Path | None:
        """The record, for `data restore`; None as long as nothing was decided."""
        return self._place.with_name(f"{self._place.name}.json") if self._place else None

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All that was decided and not undone."""
        return self._decisions.entries

    def move(self, into: Mapping[str, Path], label: str) -> tuple[Entry, ...]:
        """Move each photograph into its folder, that of class `label`; where its name is taken, it gets a number.

        Raises BadInputError, before anything is moved, where one is gone or a link.
        """
        taken: set[Path] = set()
        targets: dict[str, Path | None] = {}
        for name, folder in into.items():
            targets[name] = target = _free(folder / PurePosixPath(name).name, taken)
            taken.add(target)
        return self._decide(targets, label)

    def keep(self, names: Sequence[str]) -> tuple[Entry, ...]:
        """Record that photographs stay where they are."""
        return self._decide(dict.fromkeys(names), None)

    def set_aside(self, names: Sequence[str]) -> tuple[Entry, ...]:
        """Move photographs out of the folder, to beside the journal."""
        return self._decide({name: self._made() / name for name in names}, None)

    def _decide(self, targets: Mapping[str, Path | None], label: str | None) -> tuple[Entry, ...]:
        self._check(targets)
        step = self.entries[-1].step + 1 if self.entries else 1
        entries = tuple(
            Entry(step, name, files.sha256_of(self._folder / name), None if to is None else str(to), label)
            for name, to in targets.items()
        )
        before = self._decisions
        self._write((*self.entries, *entries))
        done: list[Entry] = []
        self._moving = True
        try:
            for one in entries:
                _carry_out(self._folder, one, "Nothing was moved.")
                done.append(one)
        except BadInputError:
            for one in reversed(done):
                _take_back(self._folder, one, self._hint())
            self._decisions = before
            self._stale, self._moving = True, False
            self._renew()
            raise
        self._moving = False
        return entries

    def undo(self) -> tuple[Entry, ...]:
        """Take the last step back; return what it was. Raises BadInputError where a file is in the way."""
        if not self.entries:
            return ()
        step = self.entries[-1].step
        last = tuple(one for one in self.entries if one.step == step)
        done: list[Entry] = []
        try:
            for one in reversed(last):
                if not _is_waiting(self._folder, one):  # else a person has put it back
                    _take_back(self._folder, one, self._hint())
                    done.append(one)
            self._write(tuple(one for one in self.entries if one.step != step))
        except (BadInputError, OSError):
            for one in reversed(done):
                _carry_out(self._folder, one, self._hint())
            raise
        return last

    def close(self) -> None:
        """Record that all was done, and leave nothing behind where nothing was decided."""
        self._renew()
        if self._place:
            if not self.entries and self.path:
                self.path.unlink(missing_ok=True)
            elif self.path and not self._moving:
                with suppress(OSError):  # then the next review asks the files themselves
                    files.write_json(self.path, replace(self._decisions, closed=True))
            _remove_if_empty(self._place)
            _remove_if_empty(self._place.parent)

    def _check(self, names: Iterable[str]) -> None:
        for name in names:
            path = self._folder / name
            if path.is_symlink() or not path.is_file() or not is_inside(self._folder, name):
                raise BadInputError(f"{path} is not there any more, or is a link", "Look again.")

    def _made(self) -> Path:
        self._place = self._place or new_folder(self._folder)
        return self._place

    def _write(self, entries: tuple[Entry, ...]) -> None:
        self._made()
        assert self.path
        decisions = replace(self._decisions, entries=entries)
        files.write_json(self.path, decisions)
        self._decisions, self._stale = decisions, False

    def _renew(self) -> None:
        """Write what holds, where the file could not be written when it changed: the disk was full."""
        if self._stale:
            with suppress(OSError):
                self._write(self.entries)

    def _hint(self) -> str:
        return f"To undo what was done: edgetl data restore {shlex.quote(str(self.path))}"


def is_journal(record: Path) -> bool:
    """Whether `record` is the journal of a review, and no other record of moved files."""
    try:
        return files.read_json(record, dict[str, object]).get("schema") == SCHEMA
    except (OSError, msgspec.DecodeError):
        return False


def finish(folder: Path, into: Path | None) -> tuple[int, list[Entry]]:
    """Carry out what the newest journal of `folder` decided last, where that was interrupted.

    Returns how many photographs were moved, and what was left: a journal may come from others, so nothing moves but
    to beside the journal, or to below `into`, where this review may move them to.
    """
    records = sorted(_journals(folder), key=lambda path: path.stat().st_mtime_ns)
    decisions = _read(records[-1]) if records else None
    if decisions is None or decisions.closed:
        return 0, []
    entries, own = decisions.entries, records[-1].with_suffix("")
    moved, left = 0, []
    for one in entries:
        if one.now is None or one.step != entries[-1].step or not _is_waiting(folder, one):
            continue
        if any(_is_below(Path(one.now), allowed) for allowed in (own, into) if allowed):
            _carry_out(folder, one, "")
            moved += 1
        else:
            left.append(one)
    return moved, left


def _is_below(path: Path, folder: Path) -> bool:
    return _resolved(path).is_relative_to(folder.resolve())


def kept(folder: Path) -> Collection[str]:
    """SHA-256 of the photographs of `folder` that a person has looked at and left where they are."""
    return {one.sha256 for record in _journals(folder) for one in _read(record).entries if one.now is None}


def restore(record: Path) -> tuple[str, ...]:
    """Move back all that a review moved, and remove its journal; return the names.

    A journal may come from others: files go back below the folder that it lies beside only, and only those with the
    content that it names. Raises BadInputError, before anything is moved, where a file has taken the place of one;
    and after the others are back where some are gone.
    """
    decisions = _read(record)
    record = record.absolute()
    folder = _folder_of(record)
    # The last goes back first: it may have taken the name that an earlier one had left.
    moved = [one for one in reversed(decisions.entries) if one.now is not None]
    back: list[Entry] = []
    gone: list[str] = []
    left: set[Path] = set()
    for one in moved:
        path, now = folder / one.name, Path(str(one.now))
        if not is_inside(folder, one.name):
            raise BadInputError(f"{record}: {one.name!r} lies behind a link; nothing was moved", "Remove the link.")
        if os.path.lexists(path) and _resolved(path) not in left:
            if not _is_it(path, one.sha256):
                raise BadInputError(f"{path} is there again; nothing was moved", "Take it away first.")
        elif _is_it(now, one.sha256):
            back.append(one)
            left.add(_resolved(now))
        else:
            gone.append(one.name)
    for one in back:
        _take_back(folder, one, "The others are as they were.")
    if gone:
        raise BadInputError(
            f"{len(gone)} of the {len(moved)} files that {record} names are gone or have changed: {gone[-1]}",
            "The others are back, and the record is kept.",
        )
    record.unlink()
    _remove_if_empty(record.with_suffix(""))
    _remove_if_empty(record.parent)
    return tuple(one.name for one in reversed(back))


def _journals(folder: Path) -> Iterator[Path]:
    for beside in (folder.with_name(folder.name + ASIDE_SUFFIX), folder / ASIDE_SUFFIX):
        if beside.is_dir() and not beside.is_symlink():
            yield from (path for path in sorted(beside.glob("*.json")) if is_journal(path))


def _folder_of(record: Path) -> Path:
    above = record.parent
    inside = above.name == ASIDE_SUFFIX
    folder = above.parent if inside else above.with_name(above.name.removesuffix(ASIDE_SUFFIX))
    if not above.name.endswith(ASIDE_SUFFIX) or not folder.is_dir():
        raise BadInputError(
            f"{record} does not lie beside the folder it was made for",
            f"Move it to FOLDER{ASIDE_SUFFIX}, next to FOLDER.",
        )
    return folder


def _read(record: Path) -> Decisions:
    try:
        decisions = files.read_json(record, Decisions)
    except OSError as error:
        raise BadInputError(f"{record} cannot be read: {error.strerror or error}") from None
    except msgspec.DecodeError as error:
        raise BadInputError(f"{record} is not a record of moved files: {error}") from None
    for one in decisions.entries:
        if not is_name_below(one.name) or "\0" in (one.now or ""):
            raise BadInputError(f"{record}: {one.name!r} is not a path below the folder", "Restore the record.")
    return decisions


def _is_waiting(folder: Path, entry: Entry) -> bool:
    if entry.now is None or os.path.lexists(entry.now):
        return False
    return is_inside(folder, entry.name) and _is_it(folder / entry.name, entry.sha256)


def _resolved(path: Path) -> Path:
    """`path` without links in the folders on the way; the file itself may be one."""
    return path.parent.resolve() / path.name


def _is_it(path: Path, sha256: str) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode) and files.sha256_of(path) == sha256
    except OSError:
        return False


def _carry_out(folder: Path, entry: Entry, hint: str) -> None:
    if entry.now is not None:
        _move(folder / entry.name, Path(entry.now), hint)


def _take_back(folder: Path, entry: Entry, hint: str) -> None:
    """Move a photograph back. A class folder that it has left empty goes: training would stumble over it."""
    if entry.now is not None:
        _move(Path(entry.now), folder / entry.name, hint)
        with suppress(OSError):  # there is something in it
            Path(entry.now).parent.rmdir()


def _move(source: Path, target: Path, hint: str) -> None:
    try:
        files.move(source, target)
    except OSError as error:
        raise BadInputError(f"{source} cannot be moved to {target}: {error.strerror or error}", hint) from None


def _free(path: Path, taken: Collection[Path]) -> Path:
    """`path`, or with the first number behind its name that no file has."""
    candidate, number = path, 1
    while candidate in taken or os.path.lexists(candidate):
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate


def _remove_if_empty(folder: Path) -> None:
    for parent, _, names in os.walk(folder, topdown=False):
        if not names and not any(Path(parent).iterdir()):
            Path(parent).rmdir()
