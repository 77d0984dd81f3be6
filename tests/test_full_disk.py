"""What a full disk says: the system itself names no file."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import pytest

from toolchain import files
from toolchain.errors import BadInputError
from toolchain.scratch import scratch_folder

FULL = Path("/dev/full")
on_a_full_disk = pytest.mark.skipif(not FULL.exists(), reason="only Linux has a disk that is always full")


@on_a_full_disk
def test_a_full_folder_of_temporary_files_is_named_with_what_to_do() -> None:
    with pytest.raises(BadInputError) as caught, scratch_folder("edgetl-test-") as folder:
        FULL.write_bytes(b"x")
    assert str(folder.parent) in caught.value.message
    assert "TMPDIR=FOLDER" in caught.value.hint
    assert not folder.exists()


@on_a_full_disk
def test_other_errors_and_other_disks_are_not_blamed_on_it() -> None:
    with pytest.raises(FileNotFoundError), scratch_folder("edgetl-test-") as folder:
        (folder / "nothing").read_bytes()
    with pytest.raises(OSError, match="elsewhere"), scratch_folder("edgetl-test-"):
        raise OSError(errno.ENOSPC, "No space left on device", "/elsewhere/file")


def test_no_folder_for_temporary_files_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(BadInputError, match="no temporary files can be made") as caught:
        scratch_folder("edgetl-test-").__enter__()
    assert "TMPDIR" in caught.value.hint


@on_a_full_disk
def test_a_file_that_finds_no_place_is_named(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises(OSError, match="No space left") as caught, files.replaced(path):
        FULL.write_bytes(b"x")
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
