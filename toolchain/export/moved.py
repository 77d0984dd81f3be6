"""Photographs of a run that lie elsewhere now: found by content, whatever they are called."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from toolchain.datasets.catalogue import data_root, named
from toolchain.datasets.naming import photographs_named
from toolchain.errors import BadInputError
from toolchain.runs import SplitFile
from toolchain.runtimes.devices import cores
from toolchain.system import files
from toolchain.system.progress import Reporter


class Moved:
    """The photographs below `folder` (or the name of a data set) by their SHA-256; each is read once.

    Raises BadInputError where there is no photograph.
    """

    def __init__(self, folder: Path, reporter: Reporter) -> None:
        entry = named(str(folder))
        self.folder = folder = (entry.find(data_root()) if entry else None) or folder
        if not folder.is_dir():
            raise BadInputError(f"{folder} is not a folder", "Name the one that holds the run's photographs.")
        paths = photographs_named([str(folder)]).paths
        if not paths:
            raise BadInputError(f"{folder} holds no photographs", "Name the folder where they are now with --data.")
        self._paths: dict[str, Path] = {}
        with ThreadPoolExecutor(cores()) as pool, reporter.task(f"reading {folder.name}", len(paths)) as task:
            for path, sha256 in zip(paths, pool.map(files.sha256_of, paths), strict=True):
                self._paths.setdefault(sha256, path.absolute())
                task.advance()

    def named(self, listed: Iterable[SplitFile]) -> tuple[SplitFile, ...]:
        """`listed` with the names that they have now; those that are not here keep their own."""
        return tuple(replace(file, name=str(self._paths.get(file.sha256, file.name))) for file in listed)
