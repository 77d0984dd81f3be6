"""Scanning a folder: the photographs in it, by content and not by name, and all other files with a reason.

Only this module decides which files are photographs. No file is dropped in silence: each is either a photograph or
left out (see `LeftOut`).
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections import deque
from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from toolchain.datasets.index import LeftOut
from toolchain.images.encoded import EMPTY, HEAD_BYTES, HEIC, RAW, is_called_picture, kind_of
from toolchain.images.preprocess import HEIC_NEEDS, can_decode
from toolchain.system import files
from toolchain.system.text import is_encodable

HIDDEN = "hidden"
SYSTEM_FILE = "a file of the system"
HELPER = "in a helper folder of the system"
OWN = "written by edgetl"
BACKUP = "a backup of the file beside it"
THUMBNAIL = "the thumbnail of a video"
LIBRARY = "in the library of a photo program"
BROKEN_LINK = "a link that leads nowhere"
LOOP = "a link back to a folder that it lies in"
TWICE = "a link to a folder that is searched already"
NO_FILE = "neither a file nor a folder"
BAD_NAME = "its name is not valid text"
"""Said of folders only, since they name classes. The name of a photograph may be anything."""

_SYSTEM_FILE = re.compile(
    r"\._.*|\.ds_store|\.localized|(eh)?thumbs(_vista)?\.db(:encryptable)?|desktop\.ini|icon\r|\.?picasa\.ini|"
    r"zbthumbnail\.info|\.nomedia|\.directory",
    re.IGNORECASE | re.DOTALL,
)
"""Thumbnails and settings that file managers leave behind."""

_HELPER = re.compile(
    # Synology, QNAP, Windows, file systems, macOS, Samba, in this order.
    r"@eadir|#recycle|#snapshot|@tmp|@recycle|@recently-snapshot|\.@__thumb|\$recycle\.bin|"
    r"system volume information|found\.\d{3}|lost\+found|lost\.dir|__macosx|network trash folder|temporary items|"
    r"\.trash(es|-.*)?|\.thumbnails|\.spotlight-v100|\.fseventsd",
    re.IGNORECASE,
)
_OLD_BINS = re.compile(r"recycler|recycled", re.IGNORECASE)
"""Those of Windows before Vista, which hold a list of what was thrown away, or folders of users. Else these are
words for waste."""
_BACKUP = re.compile(r"(.+?)(_original|~|\.bak|\.backup|\.old|\.orig)")
"""Earlier versions that ExifTool and editors leave beside a file: the same picture once more."""

_LIBRARY = re.compile(r".*\.(photoslibrary|photolibrary|aplibrary|lrdata|photobooth)", re.IGNORECASE)
"""Folders that hold each photograph in several sizes and versions."""

ASIDE_SUFFIX = ".set-aside"
"""Ends the name of a folder that holds what was moved out of the data beside it; never a class."""

_SNAPSHOT = re.compile(r"edgetl-\d{8}-\d{6}(_\d+)?\.png")
"""What `camera` saves: a picture with its own answer written on it."""

_OWN_MARKS = {
    "run.json": b'"edgetl.run/',
    "bench.json": b'"edgetl.bench/',
    "index.html": b'content="edgetl ',
    "checkpoint/settings.json": b'"data_sha256"',
}
"""What these files hold within their first bytes; the last stands for a run that has not finished."""

_EXPLANATION = re.compile(r"(ideal|why|features|attack)-\d+")
"""Without its page, a folder of explanations holds pictures alone: by its place."""

_MARK_BYTES = 4096


@dataclass(frozen=True)
class FolderContents:
    """The entries of one folder, names sorted. `folders` are those to look into, links among them."""

    photographs: tuple[Path, ...]
    folders: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class Found:
    """All files below a folder: photographs, folder by folder, and the others."""

    photographs: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]


def find_photographs(folder: Path, prefix: str = "", seen: set[tuple[int, int]] | None = None) -> Found:
    """Search `folder` and all folders below it.

    Links to folders are followed, each real folder once; `seen` holds those of earlier searches. Names of files
    that are left out begin with `prefix`; names of folders end with a slash.
    """
    photographs: list[Path] = []
    left_out: list[LeftOut] = []
    seen = set() if seen is None else seen
    folders = deque([(folder, prefix)])
    links: deque[tuple[Path, str]] = deque()
    while folders or links:
        # Links come last: a folder goes by its own name where it has one.
        place, prefix = folders.popleft() if folders else links.popleft()
        identity = _identity(place)
        if identity and identity in seen:
            left_out.append(LeftOut(prefix, TWICE))
            continue
        if identity:
            seen.add(identity)
        inside = scan_folder(place, prefix)
        photographs.extend(inside.photographs)
        left_out.extend(inside.left_out)
        children = [(child, f"{prefix}{child.name}/") for child in inside.folders]
        folders.extendleft(child for child in reversed(children) if not child[0].is_symlink())
        links.extend(child for child in children if child[0].is_symlink())
    return Found(tuple(photographs), tuple(left_out))


def scan_folder(folder: Path, prefix: str = "") -> FolderContents:
    """The entries of `folder` itself. A folder that cannot be read is left out, with the reason."""
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        return FolderContents((), (), (_left_out(prefix or "./", f"{_CANNOT_BE_READ}{error.strerror}"),))
    photographs: list[Path] = []
    folders: list[Path] = []
    left_out: list[LeftOut] = []
    names = {entry.name for entry in entries}
    for entry in entries:
        name = prefix + entry.name
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError as error:  # a link in a circle, or into a folder without permission
            reason = BROKEN_LINK if error.errno == errno.ELOOP else f"{_CANNOT_BE_READ}{error.strerror}"
            left_out.append(_left_out(name, reason))
            continue
        if is_folder:
            reason = skip_reason(Path(entry.path)) or (
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
    return FolderContents(tuple(photographs), tuple(folders), tuple(left_out))


def reject_reason(path: Path) -> str:
    """Why the file `path` is not taken for a photograph; empty when it is."""
    if is_called_picture(path.name):
        return ""
    if not path.is_file():  # a pipe would wait for its writer
        return BROKEN_LINK if path.is_symlink() and not path.exists() else NO_FILE
    return _head_reason(path)


def _is_bin(folder: Path) -> bool:
    with suppress(OSError):
        names = {one.name.casefold() for one in folder.iterdir()}
        return bool(names & {"info2", "desktop.ini"}) or any(name.startswith("s-1-") for name in names)
    return False


def skip_reason(folder: Path) -> str:
    """Why a folder is not searched; empty when it is."""
    if _HELPER.fullmatch(folder.name) or (_OLD_BINS.fullmatch(folder.name) and _is_bin(folder)):
        return HELPER
    if _is_own(folder):
        return OWN
    if folder.name.startswith("."):
        return HIDDEN
    if _LIBRARY.fullmatch(folder.name):
        return LIBRARY
    if not is_encodable(folder.name):
        return BAD_NAME
    return ""


def _is_own(folder: Path) -> bool:
    """Whether edgetl wrote a folder. What it holds tells: a class may be called "runs", and a run anything."""
    return (
        folder.name.endswith(ASIDE_SUFFIX)
        or (folder.parent.name == "explain" and _EXPLANATION.fullmatch(folder.name) is not None)
        or any(_holds(folder / name, mark) for name, mark in _OWN_MARKS.items())
    )


def _holds(path: Path, mark: bytes) -> bool:
    try:
        files.check_regular(path, sys.maxsize)
        with path.open("rb") as file:
            head = file.read(_MARK_BYTES)
            if mark in head:
                return True
            file.seek(max(0, path.stat().st_size - _MARK_BYTES))
            return path.suffix == ".json" and mark in file.read()
    except OSError:
        return False


def all_files(folder: Path, prefix: str = "") -> Iterator[str]:
    """Names of all files and links below `folder`, and (with a slash) of folders that cannot be read."""
    folders = [(str(folder), prefix)]
    unreadable = []
    while folders:
        place, above = folders.pop()
        try:
            with os.scandir(place) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            unreadable.append(above if place != str(folder) else f"{prefix}./")
            continue
        inner = []
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                inner.append((entry.path, f"{above}{entry.name}/"))
            else:
                yield above + entry.name
        folders += reversed(inner)
    yield from unreadable


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
    """Why an entry that is not a folder is not a photograph; empty when it is. `beside` are the names beside it."""
    name = entry.name
    if _SYSTEM_FILE.fullmatch(name):
        return SYSTEM_FILE
    if name.startswith("."):
        return HIDDEN
    if not is_file:
        return BROKEN_LINK if entry.is_symlink() and not Path(entry.path).exists() else NO_FILE
    if _SNAPSHOT.fullmatch(name):
        return OWN
    if is_called_picture(name):
        return ""
    if (backup := _BACKUP.fullmatch(name)) and backup[1] in beside:
        return BACKUP
    return THUMBNAIL if name.lower().endswith(".thm") else _head_reason(Path(entry.path))


def _head_reason(path: Path) -> str:
    """Why a file is not a photograph that can be read here, by its first bytes; empty when it is."""
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
    """What identifies a folder, whatever the path to it; None where that is unknown."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found.st_ino else None


def _leads_back(path: str) -> bool:
    target = os.path.realpath(path)
    return Path(os.path.realpath(Path(path).parent)).is_relative_to(target)
