"""A folder of class folders, with or without train, val and test above them."""

from __future__ import annotations

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
from toolchain.system.text import is_printable

SPLIT_FOLDERS: dict[str, GivenSplit] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names of folders, in any case, that stand for a split."""

LAYOUT_HINT = "Arrange the photographs as FOLDER/<class>/*.jpg, or as FOLDER/{train,val,test}/<class>/*.jpg."

OUTSIDE = "outside the class folders"
RIGHT_FOLDER = "is this the right folder?"
"""A question at the end of a warning that folders below those of the classes answer, where they are groups."""


@dataclass
class _Class:
    """What is found of a class in one split, in all folders of its name: é may be one character or two."""

    photographs: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


@dataclass
class _SplitFolder:
    """A folder of class folders. `loose` photographs lie in it directly; `left_out` belongs to no class."""

    split: GivenSplit
    folder: Path
    loose: int
    left_out: list[LeftOut]
    classes: dict[str, _Class] = field(default_factory=dict)

    @property
    def photographs(self) -> int:
        return sum(len(one.photographs) for one in self.classes.values())


def list_folder(root: Path, name: str = "", *, strict: bool = True) -> DatasetIndex:
    """List the photographs under `root`; classes are sorted by name. Only files with no known suffix are opened.

    Raises BadInputError when `root` does not exist or has another layout. Other problems, such as class folders
    without photographs or classes that only val or test has, raise it too if `strict`; else they are `problems` of
    the index.
    """
    if not root.is_dir():
        found = "is a file, not a folder of photographs" if root.exists() else "does not exist"
        raise BadInputError(f"{root} {found}", LAYOUT_HINT)
    root = root.resolve()
    name = name or root.name or "photographs"
    top = scan.scan_folder(root)
    if any(one.name == "./" for one in top.left_out):
        raise BadInputError(f"{root} {top.left_out[0].reason}", "Check its permissions.")
    parts = _split_folders(top)
    left_out = list(_outside(top, parts)) if parts else []
    if not parts:
        parts = [_scan_split("train", root, "", top)]
        if top.photographs and not parts[0].classes:
            raise BadInputError(
                f"{root} holds {len(top.photographs)} photographs but no class folders", LAYOUT_HINT
            )
    classes = tuple(sorted({class_name for part in parts for class_name in part.classes}))
    problems = _problems(root, parts)
    if len(classes) == 1 and not problems:
        problems = (too_few_classes(name, root, classes),)
    given: dict[GivenSplit, tuple[ImageEntry, ...]] = {}
    for part in parts:
        left_out += [
            *part.left_out,
            *(one for found in part.classes.values() for one in found.left_out),
        ]
        given[part.split] = (*given.get(part.split, ()), *_entries(root, part, classes))
    warnings = (*(f"{root}: {line}" for line in describe_left_out(left_out)), *_deep_classes(root, classes, given))
    index = DatasetIndex(name, root, classes, given, warnings, left_out=tuple(left_out), problems=problems)
    return require_usable(index) if strict else index


def _split_folders(top: FolderContents) -> list[_SplitFolder]:
    """Folders that stand for splits, train first; none where the class folders lie in the root itself.

    A class can be called "train": then the photographs are in that folder itself, not in folders below it.
    """
    found = []
    for folder in top.folders:
        split = SPLIT_FOLDERS.get(folder.name.lower())
        if split:
            prefix = f"{folder.name}/"
            part = _scan_split(split, folder, prefix, scan.scan_folder(folder, prefix))
            if part.classes and (part.loose < part.photographs or not part.loose):
                found.append(part)
    return [part for split in ("train", "val", "test") for part in found if part.split == split]


def _scan_split(split: GivenSplit, folder: Path, prefix: str, inside: FolderContents) -> _SplitFolder:
    """The classes in `folder`, each with all files below it."""
    part = _SplitFolder(split, folder, len(inside.photographs), list(inside.left_out))
    part.left_out += [LeftOut(f"{prefix}{path.name}", OUTSIDE) for path in inside.photographs]
    for child in inside.folders:
        found = scan.find_photographs(child, f"{prefix}{child.name}/")
        if not found.photographs and any(one.reason == scan.OWN for one in found.left_out):
            # A folder of runs is not an empty class.
            part.left_out += found.left_out
            continue
        same = part.classes.setdefault(unicodedata.normalize("NFC", child.name), _Class())
        same.photographs += found.photographs
        same.left_out += found.left_out
    return part


def _outside(top: FolderContents, parts: list[_SplitFolder]) -> Iterator[LeftOut]:
    """Files in the root, and in its folders that stand for no split."""
    yield from top.left_out
    yield from (LeftOut(path.name, OUTSIDE) for path in top.photographs)
    taken = {part.folder for part in parts}
    for folder in top.folders:
        if folder not in taken:
            found = scan.find_photographs(folder, f"{folder.name}/")
            names = (path.relative_to(folder.parent).as_posix() for path in found.photographs)
            yield from (LeftOut(name, f"in a folder beside {parts[0].folder.name}") for name in names)
            yield from found.left_out


def _entries(root: Path, part: _SplitFolder, classes: tuple[str, ...]) -> Iterator[ImageEntry]:
    for label, class_name in enumerate(classes):
        if class_name in part.classes:
            for path in sorted(part.classes[class_name].photographs):
                yield ImageEntry(path.relative_to(root).as_posix(), path, label)


def _problems(root: Path, parts: list[_SplitFolder]) -> tuple[Problem, ...]:
    """All that prevents training on the folder."""
    return tuple(
        Problem(message, hint)
        for found, hint in (
            (_layout(root, parts), "Keep one folder for each of train, val and test, train among them."),
            (_odd_names(root, parts), "Rename it."),
            (_empty(root, parts), "Put photographs into it, or move it out of the data."),
            (_unknown_classes(root, parts), "Add training photographs of it, or take it out."),
        )
        for message in found
    )


def _layout(root: Path, parts: list[_SplitFolder]) -> Iterator[str]:
    first: dict[GivenSplit, _SplitFolder] = {}
    for part in parts:
        if part.split in first:
            names = f"{first[part.split].folder.name} and {part.folder.name}"
            yield f"{root} holds both {names}, which mean the same split"
        first.setdefault(part.split, part)
    if "train" not in first:
        yield f"{root} holds {' and '.join(part.folder.name for part in first.values())} but no train folder"


def _odd_names(root: Path, parts: list[_SplitFolder]) -> Iterator[str]:
    """Names of classes that no model file could hold: not UTF-8, or with control characters."""
    for part in parts:
        prefix = "" if part.folder == root else f"{part.folder.name}/"
        bad = [one.name.removeprefix(prefix) for one in part.left_out if one.reason == scan.BAD_NAME]
        names = {name.partition("/")[0] for name in bad if "/" in name}
        names |= {repr(name)[1:-1] for name in part.classes if not is_printable(name)}
        yield from (f"{root}: the folder name '{prefix}{name}' is not valid text" for name in sorted(names))


def _empty(root: Path, parts: list[_SplitFolder]) -> Iterator[str]:
    empty = {}
    for part in parts:
        prefix = "" if part.folder == root else f"{part.folder.name}/"
        for class_name, found in sorted(part.classes.items()):
            if not found.photographs:
                loud = [one for one in found.left_out if one.reason not in QUIET_REASONS]
                why = "; ".join(f"{reason}: {len(names)}" for reason, names in by_reason(loud).items())
                empty[f"{prefix}{class_name}"] = f" ({why})" if why else ""
    if len(empty) == 1:
        yield from (f"{root / name} holds no photographs{why}" for name, why in empty.items())
    elif empty:
        each = first_few([name + why for name, why in empty.items()], 10)
        yield f"{root}: {len(empty)} class folders hold no photographs: {each}"


def _unknown_classes(root: Path, parts: list[_SplitFolder]) -> Iterator[str]:
    known = {class_name for part in parts if part.split == "train" for class_name in part.classes}
    for part in parts:
        unknown = sorted(set(part.classes) - known)
        if known and unknown:
            yield f"{root}: {part.folder.name} holds the class {first_few(unknown)}, which train does not"


def _deep_classes(
    root: Path, classes: tuple[str, ...], given: Mapping[GivenSplit, tuple[ImageEntry, ...]]
) -> Iterator[str]:
    photos = [photo for listed in given.values() for photo in listed]
    shallow = {photo.label for photo in photos if _is_in_class_folder(photo)}
    deep = [classes[label] for label in sorted({photo.label for photo in photos} - shallow)]
    if deep:
        yield f"{root}: the photographs of {first_few(deep)} lie in folders below; {RIGHT_FOLDER}"


def _is_in_class_folder(photo: ImageEntry) -> bool:
    parents = Path(photo.name).parts[:-1]
    return len(parents) == 1 or (len(parents) == 2 and parents[0].lower() in SPLIT_FOLDERS)
