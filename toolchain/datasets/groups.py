"""Groups of photographs that must not be torn apart by the split: takes, bursts, scenes, patients.

Photographs of one scene are near-copies. With some of them in train and others in test, accuracy is flattered.
`with_groups` finds the groups by folders or names. A group has the same name in all classes: a patient with
pictures of both kinds, or a kitchen in which both things were photographed, is on one side as a whole.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from toolchain.datasets.folder import RIGHT_FOLDER
from toolchain.datasets.index import EMPTY_SHA256, DatasetIndex, ImageEntry, first_few
from toolchain.errors import BadInputError

WAYS = "Known: folder, prefix, regex:PATTERN."

_NUMBERED = re.compile(r"(.+)[-_ ]\d+", re.DOTALL)

_Finder = Callable[[DatasetIndex, ImageEntry], str]


def with_groups(index: DatasetIndex, by: str) -> DatasetIndex:
    """`index` with the group of each photograph.

    By `folder` that is the folder below its class's; by `prefix`, its name up to the last `-`, `_` or space that
    only digits follow; by `regex:PATTERN`, what the first parenthesis of the pattern matches in its path below the
    data. A photograph that has none is on its own; a warning counts these.
    Raises BadInputError when `by` is none of these, or finds no group at all.
    """
    find = _finder(by)
    given = {
        split: tuple(replace(photo, group=find(index, photo)) for photo in photos)
        for split, photos in index.given.items()
    }
    alone = [photo.name for photos in given.values() for photo in photos if not photo.group]
    if len(alone) == len(index.photographs):
        raise BadInputError(f"{index.name}: --group-by {by} finds no group: {_wanted(by)}", WAYS)
    warnings = [f"{len(alone)} photographs are in no group, and split one by one: {first_few(alone)}"] * bool(alone)
    known = [line for line in index.warnings if by != "folder" or not line.endswith(RIGHT_FOLDER)]
    return replace(index, given=given, warnings=(*known, *warnings))


def keys(index: DatasetIndex, hashes: Mapping[Path, str]) -> dict[Path, str]:
    """What each photograph is split by: its group, or the SHA-256 of its content.

    Groups that share a photograph, by its content, have one key.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while (above := parent.get(key, key)) != key:
            parent[key] = parent.get(above, above)
            key = above
        return key

    for photo in index.photographs:
        sha256 = hashes[photo.path]
        if photo.group and sha256 != EMPTY_SHA256:
            parent[root(sha256)] = root(photo.group)
    names: dict[str, str] = {}
    for photo in index.photographs:
        if photo.group:
            one = root(photo.group)
            names[one] = min(names.get(one, photo.group), photo.group)
    found = {photo.path: root(photo.group or hashes[photo.path]) for photo in index.photographs}
    return {path: names.get(key, key) for path, key in found.items()}


def _finder(by: str) -> _Finder:
    if by == "folder":
        return _folder
    if by == "prefix":
        return lambda index, photo: _match(_NUMBERED.fullmatch(PurePosixPath(photo.name).stem))
    way, _, text = by.partition(":")
    if way != "regex" or not text:
        raise BadInputError(f"--group-by {by} is not known", WAYS)
    try:
        pattern = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise BadInputError(f"--group-by {by}: not a regular expression ({error})", WAYS) from None
    if not pattern.groups:
        raise BadInputError(
            f"--group-by {by}: no parenthesis says which part names the group",
            r"Such as: regex:patient(\d+) for cat/patient12-3.jpg.",
        )
    return lambda index, photo: _match(pattern.search(photo.name))


def _match(found: re.Match[str] | None) -> str:
    return (found[1] or "") if found else ""


def _folder(index: DatasetIndex, photo: ImageEntry) -> str:
    """The folder below that of the class; empty where the photograph lies in the class's own."""
    folders = [unicodedata.normalize("NFC", part) for part in PurePosixPath(photo.name).parts[:-1]]
    label = index.classes[photo.label]
    below = folders[folders.index(label) + 1 :] if label in folders else []
    return below[0] if below else ""


def _wanted(by: str) -> str:
    if by == "folder":
        return "no photograph lies in a folder below that of its class"
    if by == "prefix":
        return "no name ends with -, _ or a space and digits"
    return "the pattern matches no path"
