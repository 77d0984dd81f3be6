"""Files are moved whole or not at all, also to another file system."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolchain.system import files

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than `tmp_path`."""
    if not SHARED_MEMORY.is_dir() or SHARED_MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no second file system to write to")
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
        yield Path(folder)


def test_a_file_moves_to_another_file_system_as_it_is(tmp_path: Path, other_disk: Path) -> None:
    source, target = other_disk / "a.jpg", tmp_path / "new" / "folder" / "a.jpg"
    content = os.urandom(3_000_000)
    source.write_bytes(content)
    source.chmod(0o640)
    os.utime(source, ns=(10**18, 10**18 + 123))
    files.move(source, target)
    assert target.read_bytes() == content
    assert (target.stat().st_mtime_ns, stat.S_IMODE(target.stat().st_mode)) == (10**18 + 123, 0o640)
    assert not source.exists()
    assert [path.name for path in target.parent.iterdir()] == ["a.jpg"]


def test_a_link_stays_a_link(tmp_path: Path, other_disk: Path) -> None:
    (other_disk / "link.jpg").symlink_to("nowhere.jpg")
    files.move(other_disk / "link.jpg", tmp_path / "link.jpg")
    assert (tmp_path / "link.jpg").readlink() == Path("nowhere.jpg")
    assert list(other_disk.iterdir()) == []


@pytest.mark.parametrize("there", ["here", "other"])
def test_nothing_is_ever_overwritten(tmp_path: Path, other_disk: Path, there: str) -> None:
    source = (tmp_path if there == "here" else other_disk) / "a.jpg"
    source.write_bytes(b"new")
    (tmp_path / "b.jpg").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        files.move(source, tmp_path / "b.jpg")
    assert (tmp_path / "b.jpg").read_bytes() == b"old"
    assert source.read_bytes() == b"new"


def test_what_cannot_be_removed_is_not_there_twice(tmp_path: Path, other_disk: Path) -> None:
    """A photograph in a folder that may be read but not changed stays where it is, alone."""
    if os.name != "posix":
        pytest.skip("permissions of POSIX")
    tmp_path.chmod(0o777)
    other_disk.chmod(0o755)
    source = other_disk / "a.jpg"
    source.write_bytes(b"content")
    here = os.open(tmp_path, os.O_RDONLY)  # folders above are closed to others
    others = os.geteuid() == 0
    try:
        if others:
            os.seteuid(65534)
        else:
            other_disk.chmod(0o555)
        with pytest.raises(PermissionError):
            files.move(source, Path(f"/proc/self/fd/{here}/a.jpg"))
    finally:
        if others:
            os.seteuid(0)
        other_disk.chmod(0o755)
        os.close(here)
    assert source.read_bytes() == b"content"
    assert list(tmp_path.iterdir()) == []
