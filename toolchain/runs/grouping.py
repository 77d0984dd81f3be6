"""The data of a run, split as the run split it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from toolchain.datasets import SPLITS, Dataset
from toolchain.datasets.catalogue import list_data, open_dataset
from toolchain.datasets.groups import with_groups
from toolchain.datasets.index import LeftOut
from toolchain.datasets.known import keep_known
from toolchain.datasets.splits import resplit
from toolchain.errors import BadInputError
from toolchain.images.preprocess import is_whole
from toolchain.runs import LEFT_OUT_FILE, MAX_SPLITS_BYTES, read_earlier, read_run, read_splits
from toolchain.system import files
from toolchain.system.progress import Reporter


def open_as_trained(data: str, folders: Iterable[Path], reporter: Reporter) -> Dataset:
    """Open a data set by the groups of the first run in `folders` that had any, where `data` has such groups; and
    with the splits of the first one that was trained.

    Otherwise photographs that the run was trained on would be in test: small classes are ranked, and photographs
    that came later, or that the run left out as they cannot be decoded, change the ranks. Raises as `open_dataset`.
    """
    folders = tuple(folders)
    dataset = _opened(data, folders, reporter)
    for folder in folders:
        with suppress(BadInputError):
            known = read_earlier(folder)
            known |= {one.sha256: split for split, listed in read_splits(folder).items() for one in listed}
            if known:
                return keep_known(_without_lost(dataset, folder), known, to_train=False)
    return dataset


def _without_lost(dataset: Dataset, folder: Path) -> Dataset:
    """`dataset` without what the run in `folder` could not decode, where it still cannot be."""
    with suppress(OSError, msgspec.DecodeError):
        left_out = files.read_json(folder / LEFT_OUT_FILE, list[LeftOut], MAX_SPLITS_BYTES)
        lost = {dataset.root / one.name: one.reason for one in left_out if one.lost}
        photos = [photo.path for split in SPLITS for photo in dataset.splits[split]]
        broken = {path: lost[path] for path in photos if path in lost and not _is_readable(path)}
        return resplit(dataset, broken) if broken else dataset
    return dataset


def _is_readable(path: Path) -> bool:
    with suppress(OSError):
        return is_whole(path.read_bytes())
    return False


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
