"""The photographs that a person names: files, folders and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolchain.datasets.folder import is_photograph


@dataclass(frozen=True)
class Named:
    """`paths` are the photographs, each once, in the order in which they were named; folders and patterns sorted.

    `nothing` maps words that stand for no photograph to the reason.
    """

    paths: tuple[Path, ...]
    nothing: dict[str, str]


def photographs_named(words: Sequence[str]) -> Named:
    """Find the photographs that `words` stand for: a file, a folder with all below it, a pattern (`*`, `**`).

    What exists is taken as it is, whatever its name: a file, and the folders that a pattern begins with.
    """
    paths: dict[Path, None] = {}
    nothing = {}
    for word in words:
        found = list(_found(word))
        if not found:
            nothing[word] = _reason(word)
        paths.update(dict.fromkeys(found))
    return Named(tuple(paths), nothing)


def _found(word: str) -> Iterable[Path]:
    path = Path(word)
    if path.is_dir():
        return _below(path)
    if path.exists() or not glob.has_magic(word):
        return [path] if path.exists() else []
    matches = sorted(Path(match) for match in glob.glob(_pattern(path), recursive=True))  # noqa: PTH207 - Path.glob knows no absolute pattern
    files = [match for match in matches if not match.is_dir() and is_photograph(match.name)]
    folders = [match for match in matches if match.is_dir()]
    return [*files, *(photo for folder in folders for photo in _below(folder))]


def _pattern(path: Path) -> str:
    """The pattern that a path is, in which folders that exist stand for themselves: `photos [old]/*.jpg`."""
    there = next((folder for folder in path.parents if folder.is_dir()), Path())
    rest = path.relative_to(there)
    return str(Path(glob.escape(str(there))) / rest)


def _below(folder: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent, name) for name in sorted(names) if is_photograph(name)]
    return found


def _reason(word: str) -> str:
    if Path(word).is_dir():
        return "the folder holds no photographs"
    return "nothing matches" if glob.has_magic(word) else "does not exist"
