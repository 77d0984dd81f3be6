"""Which photographs a network has seen: a test on these says nothing about new ones."""

from __future__ import annotations

from pathlib import Path

from toolchain.errors import BadInputError
from toolchain.runs import read_earlier, read_run, read_splits


def seen_photographs(folder: Path, run_sha256: str | None = None) -> set[str]:
    """SHA-256 of the photographs that the run in `folder` was trained on or chosen by, and the runs that it went on
    from: all splits but test.

    Empty where the folder does not tell, or where `run_sha256` is not that of the run's weights.
    """
    try:
        if run_sha256 is not None and read_run(folder).model.sha256 != run_sha256:
            return set()
        splits, earlier = read_splits(folder), read_earlier(folder)
    except BadInputError:
        return set()
    seen = {photo.sha256 for split, photos in splits.items() if split != "test" for photo in photos}
    return seen | {sha256 for sha256, split in earlier.items() if split != "test"}
