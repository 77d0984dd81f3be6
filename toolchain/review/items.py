"""What there is to look at: pictures that a camera collected, or photographs whose name is suspected.

Most useful first. Of pictures that look alike only the most useful is shown, with the others behind it.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from toolchain.camera.sinks.collect import LINES
from toolchain.errors import BadInputError, UnreadableImageError
from toolchain.images.perceptual_hash import NEAR, perceptual_hash
from toolchain.images.preprocess import Preprocess
from toolchain.images.reader import Photograph, Reader
from toolchain.system import files
from toolchain.system.processor import cores
from toolchain.system.progress import Reporter

MAX_LINES_BYTES = 256 << 20
MAX_FOLD = 10_000
"""Pictures that are decided together; of more that look alike the next is shown."""


@dataclass(frozen=True)
class Item:
    """A picture `name` below the reviewed folder.

    `label` is the class in whose folder it lies, if any; `probabilities` are those of the first few answers, the
    first of which is what one key confirms. `note` says why it is shown. Items of one `fold` look alike.
    """

    name: str
    sha256: str
    label: str | None
    probabilities: tuple[tuple[str, float], ...]
    note: str
    fold: int = 0

    @property
    def margin(self) -> float:
        """By how much the first answer is ahead of the second: the less, the more a person can teach."""
        shares = [share for _, share in self.probabilities[:2]]
        return shares[0] - (shares[1] if len(shares) > 1 else 0.0) if shares else 0.0


@dataclass(frozen=True)
class _Line:
    """One line of `collected.jsonl`; what else is in it does not matter here."""

    file: str
    time: str
    label: str | None
    probabilities: tuple[tuple[str, float], ...]
    rejected: bool
    why: str


def is_collected(folder: Path) -> bool:
    """Whether a camera has collected pictures in `folder`."""
    return (folder / LINES).is_file()


def collected(folder: Path, reporter: Reporter) -> list[Item]:
    """The pictures in a folder that `camera --collect` fills, those with the least margin first.

    Lines whose picture is not there any more are passed over, damaged ones with a warning. Raises BadInputError
    where the lines cannot be read.
    """
    path = folder / LINES
    try:
        lines = files.read_regular(path, MAX_LINES_BYTES).splitlines()
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror or error}") from None
    found: dict[str, _Line] = {}
    damaged = 0
    for line in lines:
        try:
            one = files.from_json(line, _Line)
        except msgspec.DecodeError:
            damaged += 1
            continue
        if "/" in one.file or "\\" in one.file or one.file.startswith("."):
            damaged += 1
        elif _is_there(folder / one.file):
            found[one.file] = one
    if damaged:
        reporter.warn(f"{path}: {damaged} lines are damaged, and passed over")
    items = [
        Item(one.file, "", None, one.probabilities, f"{one.why}, {one.time[:16].replace('T', ' ')}")
        for one in found.values()
    ]
    return sorted(items, key=lambda item: (item.margin, item.name))


def _is_there(path: Path) -> bool:
    """Whether `path` is a file and no link; False for names that no file can have."""
    try:
        return path.is_file() and not path.is_symlink()
    except OSError:
        return False


def folded(folder: Path, items: Sequence[Item], reporter: Reporter) -> list[Item]:
    """`items` that can be decoded, with their content's hash, each with the fold of the first that it looks like.

    Items of different labels are never folded. The order stays.
    """
    reader = Reader(Preprocess(), None, reporter)

    def look(item: Item) -> tuple[str, int] | str:
        try:
            sha256 = files.sha256_of(folder / item.name)
            picture = reader.thumbnail(Photograph(item.name, folder / item.name, -1, sha256))
        except UnreadableImageError as error:
            return error.message
        except OSError as error:
            return f"{item.name}: {error.strerror or error}"
        return sha256, perceptual_hash(picture)

    kept: list[Item] = []
    leaders: dict[str | None, _Leaders] = {}
    with ThreadPoolExecutor(cores()) as pool, reporter.task("looking at pictures", len(items)) as task:
        for item, seen in zip(items, pool.map(look, items), strict=True):
            task.advance()
            if isinstance(seen, str):
                reporter.warn(f"left out: {seen}")
                continue
            sha256, own = seen
            fold = leaders.setdefault(item.label, _Leaders()).fold_of(own, len(kept))
            kept.append(Item(item.name, sha256, item.label, item.probabilities, item.note, fold))
    return kept


class _Leaders:
    """The first pictures of folds, whose others look like them."""

    def __init__(self) -> None:
        self._hashes = array("Q")
        self._folds: list[int] = []
        self._sizes: list[int] = []

    def fold_of(self, perceptual: int, number: int) -> int:
        """The fold of the first leader that a picture looks like; `number`, its own, where it leads a new one."""
        near = np.bitwise_count(np.frombuffer(self._hashes, np.uint64) ^ np.uint64(perceptual)) <= NEAR
        place = int(near.argmax()) if near.any() else len(self._folds)
        if place == len(self._folds):
            self._hashes.append(perceptual)
            self._folds.append(number)
            self._sizes.append(1)
        elif self._sizes[place] == MAX_FOLD:
            self._folds[place], self._sizes[place] = number, 1
        else:
            self._sizes[place] += 1
        return self._folds[place]


def classes_of(items: Iterable[Item], folder: Path | None) -> list[str]:
    """Names that pictures can be given: the class folders in `folder`, and what the network has called them."""
    found = {label for item in items for label, _ in item.probabilities}
    found |= {item.label for item in items if item.label}
    if folder is not None and folder.is_dir():
        names = {one.name for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")}
        found |= {unicodedata.normalize("NFC", name) for name in names}  # as labels are spelt
    return sorted(found)
