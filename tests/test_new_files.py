"""What is written is as readable as any other new file, and a full disk is told with its place."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from toolchain.explain.gallery import new_folder
from toolchain.system import files


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_new_files_and_folders_are_as_readable_as_others_and_nobody_asks_for_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To ask for it is to change it, for every thread of the program."""
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.delattr(os, "umask")
            files.write_bytes(tmp_path / "file", b"content")
            with new_folder(tmp_path / "folder", "why") as (beside, _):
                (beside / "page").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_full_disk_is_told_with_its_place(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space left") as caught, files.replaced(tmp_path / "result"):
        raise full
    assert caught.value.filename == str(tmp_path / "result")
    assert not list(tmp_path.iterdir())
