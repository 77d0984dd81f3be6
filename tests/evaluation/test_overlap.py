"""What a network has seen is told by its run."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolchain.evaluation.overlap import seen_photographs
from toolchain.runs import read_run, read_splits


def test_all_but_test_was_seen(run_folder: Path) -> None:
    splits = read_splits(run_folder)
    seen = seen_photographs(run_folder, read_run(run_folder).model.sha256)
    assert seen == {photo.sha256 for split in ("train", "val", "calibration") for photo in splits[split]}
    assert not seen & {photo.sha256 for photo in splits["test"]}
    assert seen_photographs(run_folder) == seen


@pytest.mark.parametrize("sha256", ["0" * 64, None])
def test_of_another_run_and_of_none_nothing_is_known(run_folder: Path, tmp_path: Path, sha256: str | None) -> None:
    assert seen_photographs(run_folder if sha256 else tmp_path, sha256) == set()
