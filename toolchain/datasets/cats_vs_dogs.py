"""Microsoft's cats versus dogs: as the publisher's archive has it, or already sorted into train and test.

Elson, Douceur, Howell, Saul: Asirra, CCS 2007. The archive holds `PetImages/{Cat,Dog}`, with a few empty files.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from toolchain.datasets.folder import list_folder
from toolchain.datasets.index import DatasetIndex
from toolchain.datasets.named import Download, NamedDataset
from toolchain.errors import BadInputError

FOLDER = "cats-vs-dogs"
ARCHIVE_FOLDER = "PetImages"


def find(data_root: Path) -> Path | None:
    """The folder that holds the classes or the splits, or None when it is not there."""
    sorted_root = data_root / FOLDER
    if (sorted_root / "train").is_dir():
        return sorted_root
    candidates = (sorted_root / ARCHIVE_FOLDER, data_root / ARCHIVE_FOLDER, sorted_root)
    return next((folder for folder in candidates if _has_classes(folder)), None)


def list_cats_vs_dogs(root: Path) -> DatasetIndex:
    """List the photographs under `root`; the classes are `cat` and `dog` in either layout. It may have problems.

    Raises BadInputError for any other class, and as `list_folder` does.
    """
    index = list_folder(root, name="cats-vs-dogs", strict=False)
    classes = tuple(name.lower() for name in index.classes)
    if classes != ("cat", "dog"):
        raise BadInputError(
            f"cats-vs-dogs: {root} holds {', '.join(index.classes)}, not cat and dog",
            "To use your own classes, pass the folder's path instead of the name.",
        )
    return replace(index, classes=classes)


def _has_classes(folder: Path) -> bool:
    return folder.is_dir() and {"cat", "dog"} <= {child.name.lower() for child in folder.iterdir()}


CATS_VS_DOGS = NamedDataset(
    name="cats-vs-dogs",
    description="Microsoft's cats versus dogs (Asirra), a few broken files among them",
    classes=2,
    photographs=25_000,
    licences={"Cats vs. Dogs (Microsoft)": "Microsoft Research licence (MSR-LA, in the archive): for research"},
    folder=FOLDER,
    find=find,
    index=list_cats_vs_dogs,
    homepage="https://www.microsoft.com/en-us/download/details.aspx?id=54765",
    downloads=(
        Download(
            "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/"
            "kagglecatsanddogs_5340.zip",
            824_887_076,
            # The publisher gives none; this is what others who fetched it have recorded.
            "sha256:b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
        ),
    ),
)
