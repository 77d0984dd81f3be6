"""The data of a run, split as the run split it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from toolchain.datasets import Dataset
from toolchain.datasets.catalogue import open_dataset
from toolchain.errors import BadInputError
from toolchain.runs import read_run
from toolchain.system.progress import Reporter


def open_as_trained(data: str, folders: Iterable[Path], reporter: Reporter) -> Dataset:
    """Open a data set by the groups of the first run in `folders` that had any, where `data` has such groups.

    Otherwise photographs that the run was trained on would be in test. Raises as `open_dataset`.
    """
    for folder in folders:
        if by := _grouping_of(folder):
            with suppress(BadInputError):
                return open_dataset(data, group_by=by, reporter=reporter)
    return open_dataset(data, reporter=reporter)


def _grouping_of(folder: Path) -> str:
    try:
        chosen = read_run(folder).settings.get("group_by")
    except BadInputError:
        return ""
    return chosen if isinstance(chosen, str) else ""
