"""Which photographs a network has seen: a test on these says nothing about new ones."""

from __future__ import annotations

from pathlib import Path

from toolchain.errors import BadInputError
from toolchain.runs import read_run, read_splits


def seen_photographs(folder: Path, run_sha256: str | None = None) -> set[str]:
    """SHA-256 of the photographs that the run in `folder` was trained on or chosen by: all splits but test.

    Empty where the folder does not tell, or where `run_sha256` is not that of the run's weights.
    """
    try:
        if run_sha256 is not None and read_run(folder).model.sha256 != run_sha256:
            return set()
        splits = read_splits(folder)
    except BadInputError:
        return set()
    return {photo.sha256 for split, photos in splits.items() if split != "test" for photo in photos}


def known_splits(folder: Path, run_sha256: str | None = None) -> dict[str, str]:
    """The split of each photograph, by SHA-256, of a run that goes on from another one: these are not decided anew.

    Empty where the folder holds no such run, or not the one with weights of `run_sha256`.
    """
    try:
        run = read_run(folder)
        if run.continuation is None or run_sha256 not in (None, run.model.sha256):
            return {}
        return {photo.sha256: split for split, photos in read_splits(folder).items() for photo in photos}
    except BadInputError:
        return {}
