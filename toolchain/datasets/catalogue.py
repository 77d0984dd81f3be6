"""The data sets that edgetl knows by name, where they are looked for, and the one way to open any data."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from toolchain.datasets import cats_vs_dogs, pets
from toolchain.datasets.folder import list_folder
from toolchain.datasets.index import DatasetIndex, usable
from toolchain.datasets.photographs import Dataset
from toolchain.datasets.splits import divide
from toolchain.errors import BadInputError, MissingError
from toolchain.system import folders
from toolchain.system.progress import Reporter, Silent

_SILENT = Silent()


@dataclass(frozen=True)
class Download:
    """An archive of the publisher. `digest` is `md5:...` or `sha256:...`, or empty where none is published."""

    url: str
    size_bytes: int
    digest: str

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Entry:
    """A data set with a name. `folder` is where it lies below the data root; `downloads` unpack into it."""

    name: str
    description: str
    classes: int
    photographs: int
    licences: dict[str, str]
    folder: str
    homepage: str = ""
    downloads: tuple[Download, ...] = ()


PETS = Entry(
    name="pets",
    description="Oxford-IIIT Pet: 37 breeds of cats and dogs, official trainval and test lists",
    classes=37,
    photographs=7349,
    licences={"Oxford-IIIT Pet": "CC BY-SA 4.0; the photographs belong to their owners"},
    folder=pets.FOLDER,
    homepage="https://www.robots.ox.ac.uk/~vgg/data/pets/",
    downloads=(
        Download(
            "https://thor.robots.ox.ac.uk/pets/images.tar.gz", 791_918_971, "md5:5c4f3ee8e5d25df40f4fd59a7f44e54c"
        ),
        Download(
            "https://thor.robots.ox.ac.uk/pets/annotations.tar.gz",
            19_173_078,
            "md5:95a8c909bbe2e81eed6a22bccdf3f68f",
        ),
    ),
)
CATS_VS_DOGS = Entry(
    name="cats-vs-dogs",
    description="Microsoft's cats versus dogs (Asirra), a few broken files among them",
    classes=2,
    photographs=25_000,
    licences={"Cats vs. Dogs (Microsoft)": "Microsoft Research licence (MSR-LA, in the archive): for research"},
    folder=cats_vs_dogs.FOLDER,
    homepage="https://www.microsoft.com/en-us/download/details.aspx?id=54765",
    downloads=(
        Download(
            "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/"
            "kagglecatsanddogs_5340.zip",
            824_887_076,
            "",
        ),
    ),
)
DRAWN_PETS = Entry(
    name="drawn-pets",
    description="Six animals drawn by code when first used; needs no network",
    classes=6,
    photographs=480,
    licences={"drawn pets": "Apache-2.0 (made by edgetl)"},
    folder="drawn-pets-v1",
)

ENTRIES: Mapping[str, Entry] = {entry.name: entry for entry in (PETS, CATS_VS_DOGS, DRAWN_PETS)}

_FINDERS: Mapping[str, Callable[[Path], Path | None]] = {"pets": pets.find, "cats-vs-dogs": cats_vs_dogs.find}
_LISTERS: Mapping[str, Callable[[Path], DatasetIndex]] = {
    "pets": pets.list_pets,
    "cats-vs-dogs": cats_vs_dogs.list_cats_vs_dogs,
}


def data_root() -> Path:
    """Where named data sets lie: `$EDGETL_DATA`, or the user's cache folder."""
    chosen = os.environ.get("EDGETL_DATA")
    return folders.expanded(chosen).absolute() if chosen else folders.cache_folder()


def open_dataset(data: str, *, reporter: Reporter = _SILENT, without: Mapping[Path, str] | None = None) -> Dataset:
    """Open a data set by name (`pets`, `cats-vs-dogs`, `drawn-pets`) or a folder of photographs by path.

    Every photograph is read once, for its hash; none is decoded. `drawn-pets` are drawn when first asked for. Files
    of `without` are left out, for the reasons given.
    Raises BadInputError when `data` is neither a known name nor a usable folder, MissingError when the named data
    set is not on this machine.
    """
    return divide(list_data(data, reporter=reporter), reporter, without)


def list_data(data: str, *, reporter: Reporter = _SILENT, strict: bool = True) -> DatasetIndex:
    """The files of a data set without reading them; otherwise as `open_dataset`. Unless `strict`, a folder that
    cannot be trained on is listed with its problems.
    """
    entry = ENTRIES.get(data)
    if entry is None:
        path = folders.expanded(data)
        if not data or not (path.is_dir() or path.name != data):
            raise _unknown(data, path)
        return list_folder(path, strict=strict)
    if entry is DRAWN_PETS:
        root = drawn_pets(reporter)
        listing = list_folder(root, entry.name)
    else:
        found = locate(entry, data_root())
        if found is None:
            raise MissingError(
                f"{entry.name} is not on this machine: looked for {data_root() / entry.folder}",
                f"Get it with `edgetl data fetch {entry.name}`, or set EDGETL_DATA to the folder that holds "
                f"{entry.folder}.",
            )
        listing = _LISTERS[entry.name](found)
    return replace(usable(listing) if strict else listing, licences=entry.licences)


def locate(entry: Entry, root: Path) -> Path | None:
    """The folder of a named data set below `root`, or None when it is not there."""
    if entry.name in _FINDERS:
        return _FINDERS[entry.name](root)
    folder = root / entry.folder
    return folder if folder.is_dir() else None


def photographs_of(name: str, path: str, given: str | None = None) -> Path:
    """Where the photographs of the run on data set `name` lie now, which lay under `path` then.

    `given`, a known name or a folder, decides; else `path`, and where that is gone, `$EDGETL_DATA`. Whether they
    are the ones is for their hashes to say. Raises as `open_dataset` does for `given`.
    """
    if given is not None:
        return list_data(given).root
    if Path(path).is_dir():
        return Path(path)
    entry = ENTRIES.get(name)
    moved = locate(entry, data_root()) if entry else data_root() / Path(path).name
    return moved if moved is not None and moved.is_dir() else Path(path)


def drawn_pets(reporter: Reporter = _SILENT) -> Path:
    """The folder of the drawn pets; they are drawn on first use. Raises MissingError when they cannot be stored."""
    from toolchain.drawn import pets as drawn

    root, cache = data_root(), folders.cache_folder()
    places = (root, cache, folders.temporary_folder())
    found = next((folder for folder in map(drawn.find, places) if folder), None)
    if found is not None:
        return found
    try:
        return drawn.materialise([place for place in places if is_offered(place)], reporter)
    except OSError as error:
        raise MissingError(
            f"the drawn pets can be stored neither in {root} nor in {cache}: {error.strerror or error}",
            "Set EDGETL_DATA to a folder that you may write to; 10 MB are enough.",
        ) from None


def is_offered(folder: Path) -> bool:
    """Whether a folder is not marked read-only. The superuser could write there all the same, and should not."""
    try:
        return bool(folder.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    except OSError:
        return True


def _unknown(data: str, path: Path) -> BadInputError:
    known = ", ".join(ENTRIES)
    if path.is_file():
        return BadInputError(
            f"{data} is a file, not a folder of photographs", f"Pass a folder, or one of: {known}."
        )
    near = difflib.get_close_matches(data.lower().replace("_", "-"), ENTRIES, n=1, cutoff=0.6)
    guess = f"Did you mean {near[0]}? " if near else ""
    return BadInputError(
        f"{data!r} is neither a known data set nor a folder", f"{guess}Known are: {known}; or pass a folder's path."
    )
