"""Six animals, drawn by code when they are first used: photographs for tests and trials without a network."""

from __future__ import annotations

from pathlib import Path

from toolchain.datasets.folder import list_folder
from toolchain.datasets.index import DatasetIndex
from toolchain.datasets.named import NamedDataset, is_offered
from toolchain.drawn import pets as drawn
from toolchain.errors import MissingError
from toolchain.system import folders
from toolchain.system.progress import Reporter


def make(data_root: Path, reporter: Reporter) -> Path:
    """The folder of the drawn pets, in `data_root` or the user's cache; they are drawn where it is not whole.

    Raises MissingError when they cannot be stored.
    """
    cache = folders.cache_folder()
    places = (data_root, cache, folders.temporary_folder())
    found = next((folder for folder in map(drawn.find, places) if folder), None)
    if found is not None:
        return found
    try:
        return drawn.materialise([place for place in places if is_offered(place)], reporter)
    except OSError as error:
        raise MissingError(
            f"the drawn pets can be stored neither in {data_root} nor in {cache}: {error.strerror or error}",
            "Set EDGETL_DATA to a folder that you may write to; 10 MB are enough.",
        ) from None


def find(data_root: Path) -> Path | None:
    """The folder of the drawn pets below `data_root`, or None when it is not there."""
    folder = data_root / drawn.FOLDER
    return folder if folder.is_dir() else None


def index(folder: Path) -> DatasetIndex:
    """List the drawn pets. Raises BadInputError as `list_folder` does."""
    return list_folder(folder, "drawn-pets", strict=False)


DRAWN_PETS = NamedDataset(
    name="drawn-pets",
    description="Six animals drawn by code when first used; needs no network",
    classes=6,
    photographs=480,
    licences={"drawn pets": "Apache-2.0 (made by edgetl)"},
    folder=drawn.FOLDER,
    find=find,
    index=index,
    make=make,
)
