"""The folder of a lesson: photographs in class folders, named by their takes, and the run that they taught.

    OUT/teach.json                           the things, in the order in which they were named
    OUT/photographs/cup/take003-0007.jpg     the seventh picture of take 3; numbers of takes are never used twice
    OUT/run/                                 what was taught last; OUT/run-before/ the one before

A photograph that is there is whole, whenever the process is killed. Photographs of other names may lie there, too:
each is a take of its own.
"""

from __future__ import annotations

import re
import shutil
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import msgspec
import numpy as np

from toolchain.camera.frames import BgrImage
from toolchain.datasets.folder import SPLIT_FOLDERS
from toolchain.datasets.scan import find_photographs
from toolchain.errors import BadInputError
from toolchain.system import files
from toolchain.system.text import folded, is_encodable, is_printable

NOTHING = "nothing_of_these"
"""The class of what is before the camera when no thing is: table, wall, hands, other things."""

LESSON_FILE = "teach.json"
PHOTOGRAPHS, RUN, RUN_BEFORE, RUN_NEW = "photographs", "run", "run-before", ".new"

MAX_THINGS = 50
"""Beside `NOTHING`, which is no thing."""
LEAST_PICTURES = 5
"""Of each thing that is to be taught."""
MAX_PICTURES = 500
"""Of one thing."""
MAX_SIDE = 640
"""The longest side of a photograph in pixels: networks look at 224, and a take should not fill a memory card."""
QUALITY = 95

_TAKE = re.compile(r"take(\d{3,9})-\d{4,9}")


@dataclass(frozen=True)
class _Record:
    """`teach.json`."""

    schema: Literal["edgetl.teach/1"]
    things: tuple[str, ...]


@dataclass(frozen=True)
class Counted:
    """How many pictures of a thing there are, and in how many takes."""

    pictures: int
    takes: int


class Album:
    """The things and photographs in the folder `root`, which is made if it does not exist.

    Used by one process at a time (see `toolchain.system.claims`). Raises BadInputError where it holds something
    else.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.photographs: Path = root / PHOTOGRAPHS
        self.run: Path = root / RUN
        path = root / LESSON_FILE
        strangers = [one for one in root.iterdir() if not one.name.startswith(".")] if root.is_dir() else []
        if strangers and not path.exists():
            raise BadInputError(
                f"{root} is there already, and no folder of `edgetl teach`", "Choose another --out."
            )
        try:
            known = files.read_json(path, _Record).things if path.exists() else ()
        except (OSError, msgspec.DecodeError) as error:
            raise BadInputError(f"{path} is damaged: {error}", "Remove it: photographs stay.") from None
        self.photographs.mkdir(parents=True, exist_ok=True)
        found = sorted(one.name for one in self.photographs.iterdir() if one.is_dir() and one.name[0] != ".")
        # A folder may have any name, and may be gone since.
        known = tuple(thing for thing in known if thing in found or _can_be_named(thing))
        self.things: list[str] = list(dict.fromkeys((*known, *found)))
        self._tidy()
        self._pictures = {thing: self._listed(thing) for thing in self.things}
        self._counted: dict[str, Counted] = {}
        self._next = 1 + max((take_number(path) for path in self.paths()), default=0)
        self._save(self.things)

    def add(self, thing: str) -> str:
        """Add a thing, and return its name. Raises BadInputError for a name that no folder and class can have, and
        OSError, as where the disk is full; then there is no such thing."""
        thing = unicodedata.normalize("NFC", thing.strip())
        if folded(thing) == folded(NOTHING):  # as help and page call it
            thing = NOTHING
        known = {folded(one): one for one in self.things}
        if folded(thing) in known:
            return known[folded(thing)]
        _check_name(thing)
        if thing != NOTHING and len(set(self.things) - {NOTHING}) >= MAX_THINGS:
            raise BadInputError(f"there are {MAX_THINGS} things already", "That is as many as can be taught.")
        # "Nothing of these" is no thing, and stands below them.
        place = len(self.things) - (self.things[-1:] == [NOTHING])
        self._save([*self.things[:place], thing, *self.things[place:]])
        self._pictures[thing] = []
        self.things.insert(place, thing)
        return thing

    def forget_unseen(self) -> None:
        """Take away the things without pictures, such as mistyped words: nothing could be taught before they are
        shown."""
        for thing in [thing for thing, listed in self._pictures.items() if not listed]:
            self._remove_if_empty(thing)
            del self._pictures[thing]
        self.things = list(self._pictures)
        self._save(self.things)

    def paths(self) -> list[Path]:
        """All photographs."""
        # Another thread may add a thing or a picture meanwhile.
        return [path for listed in tuple(self._pictures.values()) for path in tuple(listed)]

    def count(self, thing: str) -> Counted:
        """How much of a thing there is."""
        counted = self._counted.get(thing)  # which is asked many times a second
        # Another thread may have written a picture while this one counted.
        if counted is None or counted.pictures != len(self._pictures[thing]):
            listed = tuple(self._pictures[thing])
            counted = Counted(len(listed), len({take_of(path) for path in listed}))
            self._counted[thing] = counted
        return counted

    def check(self) -> None:
        """Raise BadInputError, saying what to show, where it cannot be taught from yet."""
        counts = {thing: self.count(thing).pictures for thing in self.things}
        few = [thing for thing, count in counts.items() if count < LEAST_PICTURES and (count or thing != NOTHING)]
        enough = sum(count >= LEAST_PICTURES for count in counts.values())
        if few:
            raise BadInputError(
                f"too few pictures of {', '.join(few)}: each thing needs {LEAST_PICTURES}",
                f"Show {few[0]}, or start again without it."
                if enough > 1 and not counts[few[0]]
                else f"Show {few[0]}.",
            )
        if sum(count > 0 for count in counts.values()) < 2:
            raise BadInputError("one thing alone cannot be told from anything", "Show a second one.")

    def new_take(self) -> int:
        """The number of a take that begins."""
        number, self._next = self._next, self._next + 1
        return number

    def write(self, thing: str, take: int, number: int, bgr: BgrImage) -> Path:
        """Write picture `number` of a take, whole or not at all. Raises OSError, as where the disk is full."""
        scale = MAX_SIDE / max(bgr.shape[:2])
        if scale < 1:
            bgr = np.asarray(cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not done:
            raise ValueError("OpenCV wrote no JPEG")
        path = self.photographs / thing / f"take{take:03}-{number:04}.jpg"
        files.write_bytes(path, data.tobytes())
        self._pictures[thing].append(path)
        self._counted.pop(thing, None)
        return path

    def of_take(self, thing: str, take: int) -> list[Path]:
        """The pictures of a take."""
        return [path for path in self._pictures[thing] if take_number(path) == take]

    def forget_take(self, thing: str) -> int:
        """Remove the pictures of the newest take of a thing, and return how many there were. Raises OSError; what
        could not be removed stays in the album."""
        listed = self._pictures[thing]
        newest = max((take_number(path) for path in listed), default=0)
        gone = [path for path in listed if newest and take_number(path) == newest]
        try:
            for path in gone:
                path.unlink(missing_ok=True)
                listed.remove(path)
        finally:
            self._counted.pop(thing, None)
        self._remove_if_empty(thing)
        return len(gone)

    def _remove_if_empty(self, thing: str) -> None:
        """A class folder without photographs cannot be taught."""
        with suppress(OSError):  # there is something in it, or it never was
            (self.photographs / thing).rmdir()

    def new_run(self) -> Path:
        """An empty folder for a run that is being made; its name is that of the finished one."""
        shutil.rmtree(self.root / RUN_NEW, ignore_errors=True)
        return self.root / RUN_NEW / RUN

    def put_run(self, made: Path) -> None:
        """Put a finished run into its place; the one before stays beside it."""
        before = self.root / RUN_BEFORE
        if self.run.exists():
            shutil.rmtree(before, ignore_errors=True)
            self.run.rename(before)
        made.rename(self.run)
        made.parent.rmdir()

    def _tidy(self) -> None:
        """Put away what a process that was killed has left."""
        for folder in (self.root, *(self.photographs / thing for thing in self.things)):
            for path in folder.glob(".*") if folder.is_dir() else ():
                if re.fullmatch(r"\.(take\d+-\d+\.jpg|teach\.json)\.[0-9a-f]{12}\.(jpg|json)", path.name):
                    path.unlink(missing_ok=True)
        before = self.root / RUN_BEFORE
        if before.exists() and not self.run.exists():  # killed between two renames
            made = self.root / RUN_NEW / RUN
            (made if (made / "run.json").exists() else before).rename(self.run)
        shutil.rmtree(self.root / RUN_NEW, ignore_errors=True)

    def _listed(self, thing: str) -> list[Path]:
        folder = self.photographs / thing
        return sorted(find_photographs(folder).photographs) if folder.is_dir() else []

    def _save(self, things: list[str]) -> None:
        files.write_json(self.root / LESSON_FILE, _Record("edgetl.teach/1", tuple(things)))


def _can_be_named(thing: str) -> bool:
    try:
        _check_name(thing)
    except BadInputError:
        return False
    return True


def _check_name(thing: str) -> None:
    """Raise BadInputError for a name that no thing and class folder can have."""
    is_text = is_printable(thing) and is_encodable(thing)
    if not thing or not is_text or len(thing.encode()) > 80:
        raise BadInputError(f"{thing!r} is no name for a thing", "Take a word of up to 80 letters.")
    if thing[0] in ".-" or "/" in thing or "\\" in thing or thing.lower() in SPLIT_FOLDERS:
        raise BadInputError(f"{thing!r} cannot be the name of a class folder", "Take another word.")


def take_of(path: Path) -> str:
    """The take that a photograph belongs to; the name of the file, if `teach` has not written it."""
    return path.stem.partition("-")[0] if _TAKE.fullmatch(path.stem) else path.name


def take_number(path: Path) -> int:
    """The number of its take; 0 if `teach` has not written it."""
    found = _TAKE.fullmatch(path.stem)
    return int(found[1]) if found else 0
