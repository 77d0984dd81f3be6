"""What a run has noted about its epochs, in a folder that may come from others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from toolchain.errors import BadInputError
from toolchain.training.records import append_line, keep_lines, read_lines

EPOCH = {"epoch": 1, "loss": 0.5}


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_link_to_another_file_is_not_written_through(tmp_path: Path) -> None:
    private = tmp_path / "private.txt"
    private.write_text("precious")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.jsonl").symlink_to(private)
    keep_lines(folder, 0)
    append_line(folder, EPOCH)
    assert private.read_text() == "precious"
    assert read_lines(folder) == [EPOCH]


def test_a_torn_line_is_told_before_training_goes_on(tmp_path: Path) -> None:
    append_line(tmp_path, EPOCH)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "lo')
    keep_lines(tmp_path, 1)
    assert read_lines(tmp_path) == [EPOCH]
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "lo')
    with pytest.raises(BadInputError, match=r"metrics\.jsonl"):
        keep_lines(tmp_path, 2)
