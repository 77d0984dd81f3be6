"""One review: what is left to look at, and what a person decides. Every decision is in the journal at once."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from toolchain.datasets import journal
from toolchain.datasets.folder import SPLIT_FOLDERS
from toolchain.datasets.journal import Entry, Journal
from toolchain.errors import BadInputError
from toolchain.review.items import Item, classes_of, folded
from toolchain.system.progress import Reporter
from toolchain.system.text import is_printable

MAX_NAME_BYTES = 100
"""Of a class: file systems take 255."""


@dataclass(frozen=True)
class Done:
    """What a review has come to. `edgetl data restore` undoes it by `record`, null where nothing was decided."""

    moved: dict[str, int]
    """Pictures by the class that they were moved to."""
    kept: int
    set_aside: int
    left: int
    record: str | None


class Review:
    """The pictures of `folder` in `items`, which a person sorts into class folders below `into`.

    Without `into`, pictures can be kept and set aside only. Where `into` is `folder` itself, photographs are moved
    from one class to another, and stay in their split. Photographs that a person has kept before are not shown.
    Usable from several threads.
    """

    def __init__(self, folder: Path, items: Sequence[Item], into: Path | None, reporter: Reporter) -> None:
        self.folder = folder.resolve()
        self.into: Path | None = into.resolve() if into else None
        known = journal.kept(self.folder)
        seen = enumerate(folded(self.folder, items, reporter))
        self.items: dict[int, Item] = {number: item for number, item in seen if item.sha256 not in known}
        self.classes: list[str] = classes_of(items, _class_folders(self.into) if self.into else None)
        self._places: dict[str, int] = {item.name: number for number, item in self.items.items()}
        self._waiting: dict[int, Item] = dict(self.items)
        self._journal = Journal(self.folder)
        self._lock = threading.Lock()

    @property
    def left(self) -> tuple[int, ...]:
        """The numbers of the pictures that nothing was decided of, most useful first."""
        return tuple(self._waiting)

    def path(self, number: int) -> Path:
        """Where picture `number` is now. Raises BadInputError for an unknown one."""
        item = self._item(number)
        moved = {one.name: one.now for one in self._journal.entries}
        return Path(moved.get(item.name) or self.folder / item.name)

    def move(self, numbers: Sequence[int], label: str) -> None:
        """Put pictures into the folder of the class `label`, which is made if need be.

        Raises BadInputError where there is no such place, or a picture is gone; then none is moved.
        """
        if self.into is None:
            raise BadInputError("there is no folder to move pictures into", "Name one with --into DATA.")
        label = check_class(label)
        with self._lock:
            self._decided(self._journal.move(self._places_for(numbers, label), label))
            if label not in self.classes:
                self.classes = sorted([*self.classes, label])

    def keep(self, numbers: Sequence[int]) -> None:
        """Leave pictures where they are; they are not shown again."""
        with self._lock:
            self._decided(self._journal.keep([self._left(number).name for number in numbers]))

    def set_aside(self, numbers: Sequence[int]) -> None:
        """Take pictures out of the folder, to beside it."""
        with self._lock:
            self._decided(self._journal.set_aside([self._left(number).name for number in numbers]))

    def undo(self) -> tuple[int, ...]:
        """Take back what was decided last; return the numbers of these pictures."""
        with self._lock:
            numbers = sorted(self._places[one.name] for one in self._journal.undo())
            self._waiting = {n: self.items[n] for n in self.items if n in self._waiting or n in numbers}
            return tuple(numbers)

    def done(self) -> Done:
        """What was decided so far."""
        entries = self._journal.entries
        moved: dict[str, int] = {}
        for one in entries:
            if one.label is not None:
                moved[one.label] = moved.get(one.label, 0) + 1
        return Done(
            moved=dict(sorted(moved.items())),
            kept=sum(one.now is None for one in entries),
            set_aside=sum(one.now is not None and one.label is None for one in entries),
            left=len(self._waiting),
            record=str(self._journal.path) if entries else None,
        )

    def state(self) -> dict[str, Any]:
        """What the page shows."""
        done = self.done()
        return {
            "folder": self.folder.name,
            "into": self.into.name if self.into else None,
            "classes": self.classes,
            "items": [self._shown(number) for number in self.left],
            "done": done,
        }

    def close(self) -> None:
        self._journal.close()

    def _shown(self, number: int) -> dict[str, Any]:
        item = self.items[number]
        return {
            "number": number,
            "name": item.name,
            "label": item.label,
            "answers": item.probabilities,
            "note": item.note,
            "fold": item.fold,
        }

    def _item(self, number: int) -> Item:
        if number not in self.items:
            raise BadInputError(f"there is no picture {number}", "Load the page again.")
        return self.items[number]

    def _left(self, number: int) -> Item:
        if number not in self._waiting:
            raise BadInputError(f"picture {number} was decided already", "Load the page again.")
        return self._waiting[number]

    def _places_for(self, numbers: Sequence[int], label: str) -> dict[str, Path]:
        """The folder that each picture goes to, by its name."""
        assert self.into
        found = {}
        for number in numbers:
            item = self._left(number)
            base, inside = _class_folders(self.into), PurePosixPath()
            if item.label is not None and (place := placed(item)):
                # A photograph of the data set itself stays in its split, and in the folder of its group.
                base, inside = self.into / place[0], place[1]
            found[item.name] = _class_folder(base, label) / inside
        return found

    def _decided(self, entries: Sequence[Entry]) -> None:
        for one in entries:
            self._waiting.pop(self._places[one.name], None)


def placed(item: Item) -> tuple[PurePosixPath, PurePosixPath] | None:
    """Of a photograph called CLASS/... or SPLIT/CLASS/...: its split's folder, and its folder within that of its
    class; None where it does not lie in a folder called as its class."""
    parts = PurePosixPath(item.name).parts[:-1]
    for above, part in enumerate(parts[:2]):
        is_class = unicodedata.normalize("NFC", part) == item.label
        if is_class and (not above or parts[0].lower() in SPLIT_FOLDERS):
            return PurePosixPath(*parts[:above]), PurePosixPath(*parts[above + 1 :])
    return None


def _class_folder(base: Path, label: str) -> Path:
    """The folder of a class: the one that is there, which may spell its letters in another form of Unicode."""
    for folder in base.iterdir() if base.is_dir() else ():
        if folder.is_dir() and unicodedata.normalize("NFC", folder.name) == label:
            return folder
    return base / label


def check_class(name: str) -> str:
    """`name` as that of a class folder. Raises BadInputError for what cannot be one."""
    name = unicodedata.normalize("NFC", name.strip())
    bad = (
        not name
        or name.startswith(".")
        or not is_printable(name)
        or any(sign in name for sign in '/\\:*?"<>|')
        or len(name.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES
        or name.lower() in SPLIT_FOLDERS
    )
    if bad:
        raise BadInputError(f"{name[:MAX_NAME_BYTES]!r} cannot be the name of a class", "Use letters and spaces.")
    return name


def _class_folders(into: Path) -> Path:
    """The folder that class folders lie in: `into`, or its folder for training."""
    if into.is_dir():
        for name in ("train", "training"):
            for folder in into.iterdir():
                if folder.name.lower() == name and any(one.is_dir() for one in folder.iterdir() if folder.is_dir()):
                    return folder
    return into
