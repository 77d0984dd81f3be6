"""What a network has seen is told by its run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from toolchain.evaluation.overlap import seen_photographs
from toolchain.runs import EARLIER_FILE, read_run, read_splits


def test_all_but_test_was_seen(run_folder: Path) -> None:
    splits = read_splits(run_folder)
    seen = seen_photographs(run_folder, read_run(run_folder).model.sha256)
    assert seen == {photo.sha256 for split in ("train", "val", "calibration") for photo in splits[split]}
    assert not seen & {photo.sha256 for photo in splits["test"]}
    assert seen_photographs(run_folder) == seen


@pytest.mark.parametrize("sha256", ["0" * 64, None])
def test_of_another_run_and_of_none_nothing_is_known(run_folder: Path, tmp_path: Path, sha256: str | None) -> None:
    assert seen_photographs(run_folder if sha256 else tmp_path, sha256) == set()


def test_what_taught_the_runs_before_has_been_seen_too(run_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    earlier = {"a" * 64: "train", "b" * 64: "val", "c" * 64: "test"}
    (tmp_path / "run" / EARLIER_FILE).write_text(json.dumps(earlier))
    assert seen_photographs(tmp_path / "run") - seen_photographs(run_folder) == {"a" * 64, "b" * 64}
