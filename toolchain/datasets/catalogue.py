"""The data sets that edgetl knows by name, where they are looked for, and the one way to open any data."""

from __future__ import annotations

import difflib
import os
from dataclasses import replace
from pathlib import Path

from toolchain.datasets.folder import list_folder
from toolchain.datasets.groups import with_groups
from toolchain.datasets.index import DatasetIndex, require_usable
from toolchain.datasets.named import NamedDataset
from toolchain.datasets.splits import Dataset, make_splits
from toolchain.errors import BadInputError, MissingError
from toolchain.plugins import Registry, instance_of
from toolchain.system import folders
from toolchain.system.progress import Reporter, Silent

_SILENT = Silent()

DATASETS: Registry[NamedDataset] = Registry(
    "datasets",
    {
        "pets": "toolchain.datasets.pets:PETS",
        "cats-vs-dogs": "toolchain.datasets.cats_vs_dogs:CATS_VS_DOGS",
        "drawn-pets": "toolchain.datasets.drawn_pets:DRAWN_PETS",
    },
    instance_of(NamedDataset),
)


def data_root() -> Path:
    """Where named data sets lie: `$EDGETL_DATA`, or the user's cache folder."""
    chosen = os.environ.get("EDGETL_DATA")
    return folders.expanded(chosen).absolute() if chosen else folders.cache_folder()


def open_dataset(data: str, *, group_by: str | None = None, reporter: Reporter = _SILENT) -> Dataset:
    """Open a data set by name (`pets`, `cats-vs-dogs`, `drawn-pets`) or a folder of photographs by path.

    Every photograph is read once, for its hash; none is decoded. `drawn-pets` are drawn when first asked for. With
    `group_by`, photographs of one group are in one split (see `groups.with_groups`).
    Raises BadInputError when `data` is neither a known name nor a usable folder, MissingError when the named data
    set is not on this machine.
    """
    index = list_data(data, reporter=reporter)
    return make_splits(with_groups(index, group_by) if group_by else index, reporter)


def list_data(data: str, *, reporter: Reporter = _SILENT, strict: bool = True) -> DatasetIndex:
    """The files of a data set without reading them; otherwise as `open_dataset`. Unless `strict`, a folder that
    cannot be trained on is listed with its problems.
    """
    entry = named(data)
    if entry is None:
        path = folders.expanded(data)
        if not data or not (path.is_dir() or path.name != data):
            raise _unknown(data, path)
        return list_folder(path, strict=strict)
    folder = entry.make(data_root(), reporter) if entry.make else entry.find(data_root())
    if folder is None:
        raise MissingError(
            f"{entry.name} is not on this machine: looked for {data_root() / entry.folder}",
            f"Get it with `edgetl data fetch {entry.name}`, or set EDGETL_DATA to the folder that holds "
            f"{entry.folder}.",
        )
    index = entry.index(folder)
    return replace(require_usable(index) if strict else index, licences=entry.licences)


def named(name: str) -> NamedDataset | None:
    """The data set of that name, or None for an unknown name (a folder). Raises MissingError as `Registry.get`."""
    return DATASETS.get(name) if name in DATASETS else None


def photographs_of(name: str, path: str, given: str | None = None) -> Path:
    """Where the photographs of the run on data set `name` lie now, which lay under `path` then.

    `given`, a known name or a folder, decides; else `path`, and where that is gone, `$EDGETL_DATA`. Whether they
    are the ones is for their hashes to say. Raises as `open_dataset` does for `given`.
    """
    if given is not None:
        return list_data(given).root
    if Path(path).is_dir():
        return Path(path)
    entry = named(name)
    moved = entry.find(data_root()) if entry else data_root() / Path(path).name
    return moved if moved is not None and moved.is_dir() else Path(path)


def _unknown(data: str, path: Path) -> BadInputError:
    known = ", ".join(DATASETS.names())
    if path.is_file():
        return BadInputError(
            f"{data} is a file, not a folder of photographs", f"Pass a folder, or one of: {known}."
        )
    near = difflib.get_close_matches(data.lower().replace("_", "-"), DATASETS.names(), n=1, cutoff=0.6)
    guess = f"Did you mean {near[0]}? " if near else ""
    return BadInputError(
        f"{data!r} is neither a known data set nor a folder", f"{guess}Known are: {known}; or pass a folder's path."
    )
