"""Fetching a named data set from its publisher: download, check, unpack in a temporary folder, rename."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from toolchain.datasets.download import download
from toolchain.datasets.named import NamedDataset, is_offered
from toolchain.datasets.unpack import unpack
from toolchain.errors import BadInputError, MissingError
from toolchain.system import claims
from toolchain.system.progress import Reporter, Silent

DOWNLOADS = ".edgetl-downloads"
"""Folder below the data root for archives and parts of them; removed when the data set is in place."""


def fetch(
    entry: NamedDataset,
    root: Path,
    *,
    reporter: Reporter | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Path:
    """Download a data set below `root` and return its folder. A data set that is there already is not touched.

    Raises BadInputError for a wrong checksum or an unacceptable archive, MissingError when the
    publisher cannot be reached or the disk is too small.
    """
    reporter = reporter or Silent()
    if entry.make is not None:
        return entry.make(root, reporter)
    found = entry.find(root)
    if found is not None:
        reporter.say(f"{entry.name} is already at {found}")
        return found
    target = root / entry.folder
    _check_place(entry, root, target)
    with claims.writing(target, "fetching it", "Wait until it has ended."):
        try:
            return _fetched(entry, root, target, reporter, pause)
        finally:
            with suppress(OSError):  # parts of archives are kept for the next time
                (root / DOWNLOADS).rmdir()


def _fetched(
    entry: NamedDataset, root: Path, target: Path, reporter: Reporter, pause: Callable[[float], None]
) -> Path:
    archives = [download(source, root / DOWNLOADS, reporter, pause=pause) for source in entry.downloads]
    # An empty folder may be a disk, or a link to one: files from another disk could not be renamed into it.
    there = target.is_dir()
    for left in (target if there else root).glob(f".{entry.folder}.*"):  # by a process that was killed
        if (left / entry.folder).is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{entry.folder}.", dir=target if there else root) as temporary:
        beside = Path(temporary, entry.folder)
        beside.mkdir()
        with reporter.task(f"unpacking {entry.name}", len(archives)) as task:
            for archive in archives:
                try:
                    unpack(archive, beside)
                except BadInputError:
                    # The next try must not begin with a damaged archive.
                    archive.unlink(missing_ok=True)
                    raise
                task.advance()
        if entry.find(Path(temporary)) is None:
            # Neither the folder nor the archives may be used by the next try.
            for archive in archives:
                archive.unlink(missing_ok=True)
            raise BadInputError(
                f"{entry.name}: the archives do not hold the expected folders",
                "Try again later. If the error stays, the publisher has changed them: please report it.",
            )
        if there:
            for child in beside.iterdir():
                child.rename(target / child.name)
        else:
            beside.rename(target)
    for archive in archives:
        archive.unlink()
    found = entry.find(root)
    if found is None:
        raise BadInputError(f"{entry.name} cannot be found at {target}, where it was unpacked")
    return found


def _check_place(entry: NamedDataset, root: Path, target: Path) -> None:
    if target.exists() and not (target.is_dir() and all(map(_is_nothing, target.iterdir()))):
        raise BadInputError(
            f"{target} is there, but it does not hold the data set {entry.name}", "Move it away, then fetch again."
        )
    if not is_offered(root):
        raise BadInputError(f"{root} is read-only", "Set EDGETL_DATA to a folder that you may write to.")
    root.mkdir(parents=True, exist_ok=True)
    archives = sum(source.size_bytes for source in entry.downloads)
    # Packed photographs are as large as unpacked ones, so both need the room of the archives.
    parts = root / DOWNLOADS
    received = sum(path.stat().st_size for path in parts.iterdir()) if parts.is_dir() else 0
    needed, free = 2.1 * archives - received, shutil.disk_usage(root).free
    if needed > free:
        raise MissingError(
            f"{entry.name} needs {needed / 1e9:.1f} GB at {root}, where {free / 1e9:.1f} GB are free",
            "Make room, or set EDGETL_DATA to a folder on a larger disk.",
        )


def _is_nothing(path: Path) -> bool:
    """Whether `path` is what a system puts on an empty disk, or hidden, as what a killed process has left is."""
    return path.name.startswith(".") or path.name in {"lost+found", "System Volume Information", "$RECYCLE.BIN"}
