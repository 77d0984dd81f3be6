"""A folder of class folders, with or without train, val and test above them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from toolchain.datasets import scan
from toolchain.datasets.index import (
    QUIET_REASONS,
    DatasetIndex,
    GivenSplit,
    ImageEntry,
    LeftOut,
    Problem,
    by_reason,
    describe_left_out,
    first_few,
    require_usable,
    too_few_classes,
)
from toolchain.datasets.scan import FolderContents
from toolchain.errors import BadInputError

SIDES: dict[str, GivenSplit] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Folder names, in any case, that stand for a side of the split."""

LAYOUT_HINT = "Arrange the photographs as FOLDER/<class>/*.jpg, or as FOLDER/{train,val,test}/<class>/*.jpg."

OUTSIDE = "outside the class folders"


@dataclass
class _Class:
    """What is found of a class on one side, in all folders of its name: é is written in one or two characters."""

    photographs: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


@dataclass
class _Side:
    """One folder above class folders. `left_out` is what does not belong to a class."""

    folder: Path
    loose: int
    left_out: list[LeftOut]
    classes: dict[str, _Class] = field(default_factory=dict)

    @property
    def photographs(self) -> int:
        return sum(len(one.photographs) for one in self.classes.values())


def list_folder(root: Path, name: str = "", *, strict: bool = True) -> DatasetIndex:
    """List the photographs under `root`; classes are sorted by name. Only files whose names say nothing are opened.

    Raises BadInputError when `root` does not exist or has another layout; and, if `strict`, for what is otherwise
    in the index's `problems`: class folders without photographs, classes that only val or test has, and others.
    """
    if not root.is_dir():
        found = "is a file, not a folder of photographs" if root.exists() else "does not exist"
        raise BadInputError(f"{root} {found}", LAYOUT_HINT)
    root = root.resolve()
    name = name or root.name or "photographs"
    top = scan.scan_folder(root)
    if any(one.name == "./" for one in top.left_out):
        raise BadInputError(f"{root} {top.left_out[0].reason}", "Check its permissions.")
    sides = _sides(top)
    left_out = list(_beside(top, sides)) if sides else []
    if not sides:
        sides = [("train", _look_into(root, "", top))]
        if top.photographs and not sides[0][1].classes:
            raise BadInputError(
                f"{root} holds {len(top.photographs)} photographs but no class folders", LAYOUT_HINT
            )
    classes = tuple(sorted({class_name for _, side in sides for class_name in side.classes}))
    problems = _problems(root, sides)
    if len(classes) == 1 and not problems:
        problems = (too_few_classes(name, root, classes),)
    given: dict[GivenSplit, tuple[ImageEntry, ...]] = {}
    for meaning, side in sides:
        left_out += [*side.left_out, *(one for found in side.classes.values() for one in found.left_out)]
        given[meaning] = (*given.get(meaning, ()), *_listed(root, side, classes))
    warnings = (*(f"{root}: {line}" for line in describe_left_out(left_out)), *_doubts(root, classes, given))
    index = DatasetIndex(name, root, classes, given, warnings, left_out=tuple(left_out), problems=problems)
    return require_usable(index) if strict else index


def _sides(top: FolderContents) -> list[tuple[GivenSplit, _Side]]:
    """Folders that stand for sides, train first; none where the class folders lie in the root itself.

    A class can be called "train": then the photographs are in that folder itself, not in folders below it.
    """
    found = []
    for folder in top.folders:
        meaning = SIDES.get(folder.name.lower())
        if meaning:
            prefix = f"{folder.name}/"
            side = _look_into(folder, prefix, scan.scan_folder(folder, prefix))
            if side.classes and (side.loose < side.photographs or not side.loose):
                found.append((meaning, side))
    return [one for meaning in ("train", "val", "test") for one in found if one[0] == meaning]


def _look_into(folder: Path, prefix: str, inside: FolderContents) -> _Side:
    """The classes in `folder`, each with all below it."""
    side = _Side(folder, len(inside.photographs), list(inside.left_out))
    side.left_out += [LeftOut(f"{prefix}{path.name}", OUTSIDE) for path in inside.photographs]
    for child in inside.folders:
        found = scan.find_photographs(child, f"{prefix}{child.name}/")
        if not found.photographs and any(one.reason == scan.OWN for one in found.left_out):
            # Where runs are kept: not an empty class, and nothing to advise anything about.
            side.left_out += found.left_out
            continue
        same = side.classes.setdefault(unicodedata.normalize("NFC", child.name), _Class())
        same.photographs += found.photographs
        same.left_out += found.left_out
    return side


def _beside(top: FolderContents, sides: list[tuple[GivenSplit, _Side]]) -> Iterator[LeftOut]:
    """What lies in the root, and in folders there that are no sides."""
    yield from top.left_out
    yield from (LeftOut(path.name, OUTSIDE) for path in top.photographs)
    taken = {side.folder for _, side in sides}
    for folder in top.folders:
        if folder not in taken:
            found = scan.find_photographs(folder, f"{folder.name}/")
            names = (path.relative_to(folder.parent).as_posix() for path in found.photographs)
            yield from (LeftOut(name, f"in a folder beside {sides[0][1].folder.name}") for name in names)
            yield from found.left_out


def _listed(root: Path, side: _Side, classes: tuple[str, ...]) -> Iterator[ImageEntry]:
    for label, class_name in enumerate(classes):
        if class_name in side.classes:
            for path in sorted(side.classes[class_name].photographs):
                yield ImageEntry(path.relative_to(root).as_posix(), path, label)


def _problems(root: Path, sides: list[tuple[GivenSplit, _Side]]) -> tuple[Problem, ...]:
    """All that keeps the folder from being trained on."""
    return tuple(
        Problem(message, hint)
        for found, hint in (
            (_layout(root, sides), "Keep one folder for each of train, val and test, train among them."),
            (_odd_names(root, sides), "Rename it."),
            (_empty(root, sides), "Put photographs into it, or move it out of the data."),
            (_strangers(root, sides), "Add training photographs of it, or take it out."),
        )
        for message in found
    )


def _layout(root: Path, sides: list[tuple[GivenSplit, _Side]]) -> Iterator[str]:
    first: dict[GivenSplit, _Side] = {}
    for meaning, side in sides:
        if meaning in first:
            yield f"{root} holds both {first[meaning].folder.name} and {side.folder.name}, which mean the same"
        first.setdefault(meaning, side)
    if "train" not in first:
        yield f"{root} holds {' and '.join(side.folder.name for side in first.values())} but no train folder"


def _odd_names(root: Path, sides: list[tuple[GivenSplit, _Side]]) -> Iterator[str]:
    """Bytes that are no UTF-8, or control characters: no model file could hold them."""
    for _, side in sides:
        prefix = "" if side.folder == root else f"{side.folder.name}/"
        bad = [one.name.removeprefix(prefix) for one in side.left_out if one.reason == scan.BAD_NAME]
        names = {name.partition("/")[0] for name in bad if "/" in name}
        names |= {repr(name)[1:-1] for name in side.classes if re.search(r"[\x00-\x1f]", name)}
        yield from (f"{root}: the folder name '{prefix}{name}' is not valid text" for name in sorted(names))


def _empty(root: Path, sides: list[tuple[GivenSplit, _Side]]) -> Iterator[str]:
    empty = {}
    for _, side in sides:
        prefix = "" if side.folder == root else f"{side.folder.name}/"
        for class_name, found in sorted(side.classes.items()):
            if not found.photographs:
                loud = [one for one in found.left_out if one.reason not in QUIET_REASONS]
                why = "; ".join(f"{reason}: {len(names)}" for reason, names in by_reason(loud).items())
                empty[f"{prefix}{class_name}"] = f" ({why})" if why else ""
    if len(empty) == 1:
        yield from (f"{root / name} holds no photographs{why}" for name, why in empty.items())
    elif empty:
        each = first_few([name + why for name, why in empty.items()], 10)
        yield f"{root}: {len(empty)} class folders hold no photographs: {each}"


def _strangers(root: Path, sides: list[tuple[GivenSplit, _Side]]) -> Iterator[str]:
    known = {class_name for meaning, side in sides if meaning == "train" for class_name in side.classes}
    for _, side in sides:
        strangers = sorted(set(side.classes) - known)
        if known and strangers:
            yield f"{root}: {side.folder.name} holds the class {first_few(strangers)}, which train does not"


def _doubts(
    root: Path, classes: tuple[str, ...], given: Mapping[GivenSplit, tuple[ImageEntry, ...]]
) -> Iterator[str]:
    photos = [photo for listed in given.values() for photo in listed]
    shallow = {photo.label for photo in photos if _is_in_class_folder(photo)}
    deep = [classes[label] for label in sorted({photo.label for photo in photos} - shallow)]
    if deep:
        yield f"{root}: the photographs of {first_few(deep)} lie in folders below; is this the right folder?"


def _is_in_class_folder(photo: ImageEntry) -> bool:
    parents = Path(photo.name).parts[:-1]
    return len(parents) == 1 or (len(parents) == 2 and parents[0].lower() in SIDES)
