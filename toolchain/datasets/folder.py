"""A folder of class folders, with or without train, val and test above them."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from toolchain.datasets.listing import Listed, Listing, Side, some
from toolchain.errors import BadInputError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})

SIDES: dict[str, Side] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Folder names, in any case, that stand for a side of the split."""

ASIDE_SUFFIX = ".set-aside"
"""Ends the name of a folder that holds what was moved out of the data beside it; never a class."""

LAYOUT_HINT = "Arrange the photographs as FOLDER/<class>/*.jpg, or as FOLDER/{train,val,test}/<class>/*.jpg."


def is_photograph(name: str) -> bool:
    """Whether a file name is that of an image file (by its suffix) and not hidden."""
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def list_folder(root: Path, name: str = "") -> Listing:
    """List the photographs under `root`; classes are sorted by name. Nothing is read yet.

    Raises BadInputError when `root` does not exist, has another layout, fewer than two classes, a class folder
    without photographs, or a class that only val or test has.
    """
    if not root.is_dir():
        found = "is a file, not a folder of photographs" if root.exists() else "does not exist"
        raise BadInputError(f"{root} {found}", LAYOUT_HINT)
    root = root.resolve()
    warnings = []
    loose = sum(entry.is_file() and is_photograph(entry.name) for entry in os.scandir(root))
    sides, beside = _sides(root)
    folders = {side: _class_folders(folder) for side, folder in sides.items()}
    if beside:
        warnings.append(f"{root}: ignored, since they stand beside {sides['train'].name}: {some(beside)}")
    if loose and folders["train"]:
        warnings.append(f"{root}: {loose} photographs lie outside the class folders and are ignored")
    classes = tuple(sorted(folders["train"]))
    if loose and not classes:
        raise BadInputError(f"{root} holds {loose} photographs but no class folders", LAYOUT_HINT)
    _check_classes(root, folders)
    labels = {class_name: label for label, class_name in enumerate(classes)}
    given: dict[Side, tuple[Listed, ...]] = {}
    for side, by_class in folders.items():
        listed: list[Listed] = []
        for class_name in sorted(by_class):
            listed += _photographs(root, by_class[class_name], labels[class_name])
        given[side] = tuple(listed)
    shallow = {photo.label for photos in given.values() for photo in photos if _is_in_class_folder(photo)}
    deep = [class_name for class_name in classes if labels[class_name] not in shallow]
    if deep:
        warnings.append(f"{root}: the photographs of {some(deep)} lie in folders below; is this the right folder?")
    return Listing(name or root.name or "photographs", root, classes, given, tuple(warnings))


def _sides(root: Path) -> tuple[dict[Side, Path], list[str]]:
    """The folder of each side, and the folders that are neither; the root is train where there are no sides."""
    sides: dict[Side, Path] = {}
    beside = []
    for folder in _visible_folders(root):
        side = SIDES.get(folder.name.lower())
        # A class can be called "train"; then photographs, not class folders, are in it.
        if side is None or not _visible_folders(folder) or _has_photographs(folder):
            beside.append(folder.name)
        elif side in sides:
            raise BadInputError(
                f"{root} holds both {sides[side].name} and {folder.name}, which mean the same", "Keep one of them."
            )
        else:
            sides[side] = folder
    if not sides:
        return {"train": root}, []
    sides = {side: sides[side] for side in ("train", "val", "test") if side in sides}
    if "train" not in sides:
        raise BadInputError(
            f"{root} holds {' and '.join(folder.name for folder in sides.values())} but no train folder",
            LAYOUT_HINT,
        )
    return sides, beside


def _check_classes(root: Path, folders: dict[Side, dict[str, Path]]) -> None:
    known = folders["train"]
    for side, by_class in folders.items():
        strangers = sorted(set(by_class) - set(known))
        if strangers:
            raise BadInputError(
                f"{root}: {side} holds the class {some(strangers)}, which train does not",
                "Add training photographs of it, or take it out.",
            )
    # Bytes that are not UTF-8 come as lone surrogates, which no model file could hold.
    undecodable = [class_name for class_name in known if re.search(r"[\ud800-\udfff\x00-\x1f]", class_name)]
    if undecodable:
        raise BadInputError(f"{root}: the folder name {undecodable[0]!r} is not valid text", "Rename it.")


def _class_folders(folder: Path) -> dict[str, Path]:
    """Class folders by name. File systems write é in one or two characters; a class must not be two for that."""
    return {unicodedata.normalize("NFC", child.name): child for child in _visible_folders(folder)}


def _visible_folders(folder: Path) -> list[Path]:
    try:
        entries = [entry for entry in os.scandir(folder) if entry.is_dir()]
    except PermissionError:
        raise BadInputError(f"{folder} may not be read", "Check its permissions.") from None
    return sorted(Path(entry.path) for entry in entries if not _is_passed_over(entry.name))


def _is_passed_over(folder_name: str) -> bool:
    return folder_name.startswith((".", "__MACOSX")) or folder_name.endswith(ASIDE_SUFFIX)


def _has_photographs(folder: Path) -> bool:
    return any(is_photograph(entry.name) for entry in os.scandir(folder) if not entry.is_dir())


def _is_in_class_folder(photo: Listed) -> bool:
    parents = Path(photo.name).parts[:-1]
    return len(parents) == 1 or (len(parents) == 2 and parents[0].lower() in SIDES)


def _photographs(root: Path, folder: Path, label: int) -> list[Listed]:
    found = []
    for parent, children, names in os.walk(folder):
        children[:] = [
            child for child in children if not child.startswith(".") and not child.endswith(ASIDE_SUFFIX)
        ]
        found += [Path(parent, name) for name in names if is_photograph(name)]
    if not found:
        raise BadInputError(
            f"{folder} holds no photographs ({', '.join(sorted(suffix[1:] for suffix in SUFFIXES))})",
            "Put photographs into it, or remove the folder.",
        )
    return [Listed(path.relative_to(root).as_posix(), path, label) for path in sorted(found)]
