"""Files are moved whole or not at all, also to another file system."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from tests.artifacts import tiny_artifact
from tests.clips import plain
from toolchain.cli import run
from toolchain.system import files
from toolchain.system.files import check_regular, read_regular, sha256_of

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


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices")
def test_only_files_are_read_and_only_up_to_a_size(tmp_path: Path) -> None:
    whole = tmp_path / "whole.txt"
    whole.write_bytes(b"1234")
    (tmp_path / "link.txt").symlink_to(whole)
    assert read_regular(whole, 4) == read_regular(tmp_path / "link.txt", 4) == b"1234"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(40 << 30)
    handles = len(list(Path("/dev/fd").iterdir()))
    for path, reason in (
        (whole, "it has 4 bytes, and at most 3 bytes are read"),
        (sparse, "it has 40 GiB, and at most 3 bytes are read"),
        (tmp_path / "pipe", "it is a pipe or a device, not a file"),
        (tmp_path / "zero", "it is a pipe or a device, not a file"),
        (tmp_path, "it is a folder, not a file"),
        (tmp_path / "none", "No such file or directory"),
    ):
        for read in (read_regular, check_regular, sha256_of):
            with pytest.raises(OSError) as told:  # noqa: PT011 - what it says is looked at
                read(path, 3)
            assert (told.value.strerror, told.value.filename) == (reason, str(path))
    assert len(list(Path("/dev/fd").iterdir())) == handles


FIFOS: dict[str, tuple[str, list[str]]] = {
    "photograph": ("a.jpg", ["predict", "tiny.onnx", "a.jpg"]),
    "model": ("a.onnx", ["card", "a.onnx"]),
    "run": ("run/run.json", ["export", "run"]),
    "report": ("bench.json", ["bench", "tiny.onnx", "--compare", "bench.json"]),
    "record": ("1.json", ["data", "restore", "1.json"]),
    "checkpoint": ("run/checkpoint/settings.json", ["finetune", "--resume", "run"]),
    "a mark of a folder": ("photos/cat/run.json", ["data", "check", "photos"]),
    "recommended": ("run/recommended.json", ["predict", "run", "a.png"]),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
@pytest.mark.parametrize("kind", FIFOS)
@pytest.mark.parametrize("lay", ["pipe", "device", "sparse"])
def test_commands_wait_for_no_pipe_and_read_no_device(
    kind: str, lay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, words = FIFOS[kind]
    monkeypatch.chdir(tmp_path)
    tiny_artifact(Path("tiny.onnx"))
    for folder in ("run", "photos/dog", "photos/cat"):
        Path(folder).mkdir(parents=True)
    Path("run/model.onnx").write_bytes(Path("tiny.onnx").read_bytes())
    for path in ("a.png", "photos/dog/1.png", "photos/cat/1.png"):
        cv2.imwrite(path, plain("red"))
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    if lay == "pipe":
        os.mkfifo(name)
    elif lay == "device":
        Path(name).symlink_to("/dev/zero")
    else:
        with Path(name).open("wb") as file:
            file.truncate(40 << 30)
    code = run([*words, "--quiet"])
    told = capsys.readouterr().err
    if kind == "a mark of a folder":
        assert code == 1
    elif kind == "recommended":  # it is advice
        assert code == 0
    else:
        assert code == 2
        assert ("40 GiB" if lay == "sparse" else "a pipe or a device") in told
