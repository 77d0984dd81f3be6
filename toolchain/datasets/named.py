"""What a data set with a name declares about itself: a `NamedDataset`, one in a module of its own."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from toolchain.datasets.index import DatasetIndex
from toolchain.system.progress import Reporter


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
class NamedDataset:
    """A data set with a name, and how it is found, listed and obtained.

    `find` returns its folder below the data root, or None when it is not there; `index` lists that folder.
    `downloads` are unpacked into `folder` below the data root. A data set that is made on this machine has `make`
    instead: it is called with the data root, and returns the folder.
    """

    name: str
    description: str
    classes: int
    photographs: int
    licences: dict[str, str]
    """What is licensed, and its terms."""
    folder: str
    find: Callable[[Path], Path | None]
    index: Callable[[Path], DatasetIndex]
    homepage: str = ""
    downloads: tuple[Download, ...] = ()
    make: Callable[[Path, Reporter], Path] | None = None


def is_offered(folder: Path) -> bool:
    """Whether a folder is not marked read-only. The superuser could write there all the same, and should not."""
    try:
        return bool(folder.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    except OSError:
        return True
