"""What lies below a folder: the photographs, by their content and not by their names, and all else with a reason.

The one place that decides which files are photographs. Nothing below the folder is passed over in silence: files on
disk are the photographs and what is left out (see `LeftOut`), together.
"""

from __future__ import annotations

import errno
import os
import re
from collections import deque
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from toolchain.datasets import own_output
from toolchain.datasets.index import LeftOut
from toolchain.images.encoded import EMPTY, HEAD_BYTES, HEIC, RAW, is_called_picture, kind_of
from toolchain.images.preprocess import HEIC_NEEDS, can_decode
from toolchain.system.text import is_encodable

HIDDEN = "hidden"
SYSTEM_FILE = "a file of the system"
HELPER = "in a helper folder of the system"
OWN = own_output.REASON
BACKUP = "a backup of the file beside it"
THUMBNAIL = "the thumbnail of a video"
LIBRARY = "in the library of a photo program"
BROKEN_LINK = "a link that leads nowhere"
LOOP = "a link back to a folder that it lies in"
TWICE = "a link to a folder that is searched already"
NO_FILE = "neither a file nor a folder"
BAD_NAME = "its name is not valid text"
"""Of folders: they name classes, and are read by whoever reads the data. Of photographs any name will do."""

_SYSTEM_FILE = re.compile(
    r"\._.*|\.ds_store|\.localized|(eh)?thumbs(_vista)?\.db(:encryptable)?|desktop\.ini|icon\r|\.?picasa\.ini|"
    r"zbthumbnail\.info|\.nomedia|\.directory",
    re.IGNORECASE | re.DOTALL,
)
"""Thumbnails and settings that file managers leave behind: nobody misses them."""

_HELPER = re.compile(
    # Synology, QNAP, Windows, file systems, macOS, Samba, in this order.
    r"@eadir|#recycle|#snapshot|@tmp|@recycle|@recently-snapshot|\.@__thumb|\$recycle\.bin|recycler|recycled|"
    r"system volume information|found\.\d{3}|lost\+found|lost\.dir|__macosx|network trash folder|temporary items|"
    r"\.trash(es|-.*)?|\.thumbnails|\.spotlight-v100|\.fseventsd",
    re.IGNORECASE,
)
_BACKUP = re.compile(r"(.+?)(_original|~|\.bak|\.backup|\.old|\.orig)")
"""What ExifTool and editors leave beside a file that they changed: the same picture once more."""

_LIBRARY = re.compile(r".*\.(photoslibrary|photolibrary|aplibrary|lrdata|photobooth)", re.IGNORECASE)
"""Folders that hold each photograph in several sizes and versions."""


@dataclass(frozen=True)
class Contents:
    """The entries of one folder, names sorted. `folders` are those to look into, links among them."""

    photographs: tuple[Path, ...]
    folders: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class Found:
    """All below a folder: photographs folder by folder, and whatever else is there."""

    photographs: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]


def find(folder: Path, prefix: str = "", seen: set[tuple[int, int]] | None = None) -> Found:
    """Search `folder` with all below it. Names of what is left out begin with `prefix`, and those of folders end
    with a slash. Links to folders are followed, each real folder once; `seen` are those of searches before.
    """
    photographs: list[Path] = []
    left_out: list[LeftOut] = []
    seen = set() if seen is None else seen
    links: deque[tuple[Path, str]] = deque()

    def search(folder: Path, prefix: str) -> None:
        identity = _identity(folder)
        if identity and identity in seen:
            left_out.append(LeftOut(prefix, TWICE))
            return
        if identity:
            seen.add(identity)
        inside = contents(folder, prefix)
        photographs.extend(inside.photographs)
        left_out.extend(inside.left_out)
        for child in inside.folders:
            name = f"{prefix}{child.name}/"
            if child.is_symlink():
                links.append((child, name))
            else:
                search(child, name)

    search(folder, prefix)
    # Links last: a folder is known by its own name where it has one.
    while links:
        search(*links.popleft())
    return Found(tuple(photographs), tuple(left_out))


def contents(folder: Path, prefix: str = "") -> Contents:
    """The entries of `folder`, not of the folders in it. One that cannot be read says so, and has none."""
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        return Contents((), (), (_left_out(prefix or "./", f"{_CANNOT_BE_READ}{error.strerror}"),))
    photographs: list[Path] = []
    folders: list[Path] = []
    left_out: list[LeftOut] = []
    names = {entry.name for entry in entries}
    for entry in entries:
        name = prefix + entry.name
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError as error:  # a link in a circle, or one to where nobody may look
            reason = BROKEN_LINK if error.errno == errno.ELOOP else f"{_CANNOT_BE_READ}{error.strerror}"
            left_out.append(_left_out(name, reason))
            continue
        if is_folder:
            reason = passed_over(Path(entry.path)) or (
                LOOP if entry.is_symlink() and _leads_back(entry.path) else ""
            )
            if reason:
                left_out.extend(_all_below(entry, name, reason))
            else:
                folders.append(Path(entry.path))
        elif reason := _reason(entry, is_file, names):
            left_out.append(_left_out(name, reason))
        else:
            photographs.append(Path(entry.path))
    return Contents(tuple(photographs), tuple(folders), tuple(left_out))


def no_photograph(path: Path) -> str:
    """Why the file `path` is not taken for a photograph; empty when it is."""
    return "" if is_called_picture(path.name) else _look(path)


def passed_over(folder: Path) -> str:
    """Why a folder is not looked into; empty when it is."""
    if _HELPER.fullmatch(folder.name):
        return HELPER
    if own := own_output.reason_for(folder):
        return own
    if folder.name.startswith("."):
        return HIDDEN
    if _LIBRARY.fullmatch(folder.name):
        return LIBRARY
    if not is_encodable(folder.name):
        return BAD_NAME
    return ""


def all_files(folder: Path, prefix: str = "") -> Iterator[str]:
    """Names of all files below `folder`, of links, and (with a slash) of folders that cannot be read."""
    unreadable: list[str] = []
    for parent, children, names in os.walk(folder, onerror=lambda error: unreadable.append(str(error.filename))):
        children.sort()
        above = prefix + (Path(parent).relative_to(folder).as_posix() + "/").removeprefix("./")
        linked = [name for name in children if Path(parent, name).is_symlink()]
        yield from (above + (name) for name in sorted([*names, *linked]))
    yield from (f"{prefix}{(Path(path).relative_to(folder).as_posix())}/" for path in unreadable)


_LOST = frozenset((BROKEN_LINK, BAD_NAME, HEIC_NEEDS))
_CANNOT_BE_READ = "cannot be read: "
_NOT_READ_HERE = ", which this OpenCV does not read"


def _left_out(name: str, reason: str) -> LeftOut:
    lost = reason in _LOST or reason.startswith(_CANNOT_BE_READ) or reason.endswith(_NOT_READ_HERE)
    return LeftOut(name, reason, lost)


def _all_below(entry: os.DirEntry[str], name: str, reason: str) -> list[LeftOut]:
    if entry.is_symlink():
        return [_left_out(f"{name}/", reason)]
    return [_left_out(file, reason) for file in all_files(Path(entry.path), f"{name}/")]


def _reason(entry: os.DirEntry[str], is_file: bool, beside: Set[str]) -> str:
    """Why something that is no folder is not a photograph; empty when it is one. `beside` are the names there."""
    name = entry.name
    if _SYSTEM_FILE.fullmatch(name):
        return SYSTEM_FILE
    if name.startswith("."):
        return HIDDEN
    if not is_file:
        return BROKEN_LINK if entry.is_symlink() and not Path(entry.path).exists() else NO_FILE
    if own_output.SNAPSHOT.fullmatch(name):
        return OWN
    if is_called_picture(name):
        return ""
    if (backup := _BACKUP.fullmatch(name)) and backup[1] in beside:
        return BACKUP
    return THUMBNAIL if name.lower().endswith(".thm") else _look(Path(entry.path))


def _look(path: Path) -> str:
    """Why a file is no photograph that can be read here, by its first bytes; empty when it is."""
    try:
        with path.open("rb", buffering=0) as file:
            kind = kind_of(file.read(HEAD_BYTES), path.name)
    except OSError as error:
        return f"{_CANNOT_BE_READ}{error.strerror or error}"
    if can_decode(kind):
        return ""
    if kind.name == HEIC:
        return HEIC_NEEDS
    if kind.is_picture and kind.name != RAW:
        return f"{kind.name}{_NOT_READ_HERE}"
    return "an empty file" if kind.name == EMPTY else kind.name


def _identity(folder: Path) -> tuple[int, int] | None:
    """What a folder is, by whatever path it is reached; None where that cannot be told."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found.st_ino else None


def _leads_back(path: str) -> bool:
    target = os.path.realpath(path)
    return Path(os.path.realpath(Path(path).parent)).is_relative_to(target)
