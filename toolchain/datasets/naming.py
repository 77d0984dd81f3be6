"""Photographs named on the command line: files, folders and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from toolchain.datasets import scan
from toolchain.datasets.index import LeftOut, describe_left_out
from toolchain.errors import BadInputError


@dataclass(frozen=True)
class Named:
    """`paths` are the photographs, each once, in the order of the words; those of a folder or pattern are sorted.

    `left_out` are the other files in the folders and among the matches. `nothing` maps each word that stands for no
    photograph to the reason.
    """

    paths: tuple[Path, ...]
    nothing: dict[str, str]
    left_out: tuple[LeftOut, ...] = ()


@dataclass
class _Finds:
    paths: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    seen: set[tuple[int, int]] = field(default_factory=set)

    def add_folder(self, folder: Path) -> None:
        prefix = "" if folder == Path() else f"{folder.as_posix().rstrip('/')}/"
        found = scan.find_photographs(folder, prefix, self.seen)
        self.paths += found.photographs
        self.left_out += found.left_out


def photographs_named(words: Sequence[str]) -> Named:
    """Find the photographs that `words` stand for: a file, a folder with all below it, a pattern (`*`, `**`).

    `-` is a photograph on standard input. A path that exists is taken literally, even with `*` in its name, and a
    file is taken whatever it holds. Files that a pattern matches are taken only if they are photographs.
    """
    paths: dict[Path, None] = {}
    left_out: dict[str, LeftOut] = {}
    nothing = {}
    for word in words:
        finds = _found(word)
        if not finds.paths:
            nothing[word or "''"] = _reason(word, finds.left_out)
        paths.update(dict.fromkeys(finds.paths))
        left_out.update({one.name: one for one in finds.left_out})
    # One word may name a file that another leaves out.
    taken = {str(path) for path in paths}
    return Named(tuple(paths), nothing, tuple(one for one in left_out.values() if one.name not in taken))


def _found(word: str) -> _Finds:
    # As programs have it that read one from a pipe, unless a file is called so.
    path = Path("/dev/stdin" if word == "-" and not os.path.lexists(word) else word)
    finds = _Finds()
    if not word:  # a variable of the shell that is not set; as a path it would be the current folder
        return finds
    if path.is_dir():
        finds.add_folder(path)
    elif os.path.lexists(path):
        finds.paths.append(path)
    elif glob.has_magic(word):
        _match(word, finds)
    return finds


def _match(pattern: str, finds: _Finds) -> None:
    try:
        found = glob.glob(_pattern(Path(pattern)), recursive=True)  # noqa: PTH207 - Path.glob knows no absolute pattern
    except RecursionError:
        raise BadInputError(f"{pattern}: folders are nested too deeply", "Name a folder inside.") from None
    matches = sorted(map(Path, found))
    folders = []
    seen: dict[str, str] = {}
    for match in matches:
        real = os.path.realpath(match.parent)
        if seen.setdefault(real, str(match.parent)) != str(match.parent):
            finds.left_out.append(LeftOut(str(match), scan.TWICE))
        elif match.is_dir():
            if reason := _passed_over([match, *match.parents], pattern):
                names = scan.all_files(match, f"{match.as_posix()}/")
                finds.left_out += [LeftOut(name, reason) for name in names]
            else:
                folders.append(match)
        elif reason := _passed_over(match.parents, pattern) or scan.reject_reason(match):
            finds.left_out.append(LeftOut(str(match), reason))
        else:
            finds.paths.append(match)
    matched = set(folders)
    for folder in folders:
        if matched.isdisjoint(folder.parents):  # `**` also matches what is inside
            finds.add_folder(folder)


def _pattern(path: Path) -> str:
    """The path as a pattern. Folders that exist stand for themselves, as in `photos [old]/*.jpg`."""
    there = next((folder for folder in path.parents if folder.is_dir()), Path())
    rest = path.relative_to(there)
    return str(Path(glob.escape(str(there))) / rest)


def _passed_over(folders: Iterable[Path], pattern: str) -> str:
    """Why files in `folders` are left out, unless the pattern names these folders by more than `*`."""
    asked = [part for part in Path(pattern).parts if part.strip("*")]
    unasked = (one for one in folders if one.name and not any(fnmatch(one.name, part) for part in asked))
    return next(filter(None, map(scan.skip_reason, unasked)), "")


def _reason(word: str, left_out: Sequence[LeftOut]) -> str:
    if left_out:
        return "; ".join(("no photographs", *describe_left_out(left_out)))
    if not word:
        return "an empty word names no file"
    if Path(word).is_dir():
        return "the folder holds no photographs"
    return "nothing matches" if glob.has_magic(word) else "does not exist"
