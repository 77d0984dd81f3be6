"""The data of a run, split as the run split it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from toolchain.datasets import Dataset
from toolchain.datasets.catalogue import list_data, open_dataset
from toolchain.datasets.groups import with_groups
from toolchain.datasets.known import keep_known
from toolchain.errors import BadInputError
from toolchain.runs import read_run, read_splits
from toolchain.system.progress import Reporter


def open_as_trained(data: str, folders: Iterable[Path], reporter: Reporter) -> Dataset:
    """Open a data set by the groups of the first run in `folders` that had any, where `data` has such groups; and
    with the splits of the first one that went on from another run, which had decided some before.

    Otherwise photographs that the run was trained on would be in test. Raises as `open_dataset`.
    """
    folders = tuple(folders)
    dataset = _opened(data, folders, reporter)
    for folder in folders:
        with suppress(BadInputError):
            if read_run(folder).continuation:
                known = {one.sha256: split for split, listed in read_splits(folder).items() for one in listed}
                return keep_known(dataset, known)
    return dataset


def _opened(data: str, folders: Iterable[Path], reporter: Reporter) -> Dataset:
    for folder in folders:
        if by := _grouping_of(folder):
            with suppress(BadInputError):
                return open_dataset(data, group_by=by, reporter=reporter)
    return open_dataset(data, reporter=reporter)


def grouping_for(data: str, folder: Path) -> str | None:
    """How the run in `folder` grouped its photographs, where `data` has such groups, too."""
    by = _grouping_of(folder)
    with suppress(BadInputError):
        return by if by and with_groups(list_data(data), by) else None
    return None


def _grouping_of(folder: Path) -> str:
    try:
        chosen = read_run(folder).settings.get("group_by")
    except BadInputError:
        return ""
    return chosen if isinstance(chosen, str) else ""
