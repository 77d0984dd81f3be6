"""A log that other programs rotate while it is written."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from toolchain.camera.sinks import AnswerLostError
from toolchain.camera.sinks.log import Log
from toolchain.errors import BadInputError


def _line(number: int) -> str:
    return f'{{"frame":{number},"label":"red"}}'


def _copytruncate(path: Path) -> None:
    shutil.copy(path, path.with_suffix(".1"))
    os.truncate(path, 0)


def _rename(path: Path) -> None:
    path.rename(path.with_suffix(".1"))


def _rename_and_create(path: Path) -> None:
    path.rename(path.with_suffix(".1"))
    path.touch()


@pytest.mark.parametrize(
    ("rotate", "kept"),
    [
        (_copytruncate, True),
        (_rename, True),
        (_rename_and_create, True),
        (Path.unlink, False),
        (lambda path: shutil.rmtree(path.parent), False),
    ],
    ids=["copytruncate", "rename", "rename and create", "remove", "remove the folder"],
)
def test_a_log_goes_on_after_it_was_rotated(tmp_path: Path, rotate: Callable[[Path], object], kept: bool) -> None:
    path = tmp_path / "logs" / "answers.jsonl"
    with Log(path) as log:
        for number in range(3):
            log.write(_line(number))
        rotate(path)
        for number in range(3, 5):
            log.write(_line(number))
        assert path.read_text().splitlines() == [_line(3), _line(4)], "no NUL bytes, no line lost"
    if kept:
        assert path.with_suffix(".1").read_text().splitlines() == [_line(0), _line(1), _line(2)]


def test_an_older_log_is_gone_on_with_even_when_its_last_line_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(_line(0) + "\n" + _line(1)[:7])
    with Log(path) as log:
        log.write(_line(2))
    assert path.read_text().splitlines() == [_line(0), _line(1)[:7], _line(2)]


@pytest.mark.parametrize("content", [b"\xff\xd8 a photograph", b'{"schema": 1}', b"frame,label\n"])
def test_what_is_no_log_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "precious"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match="is no log"):
        Log(path)
    assert path.read_bytes() == content


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full, as Linux has it")
def test_a_full_disk_loses_the_line_and_not_the_log() -> None:
    with Log(Path("/dev/full")) as log, pytest.raises(AnswerLostError, match="No space left"):
        log.write(_line(0))


def test_a_log_that_its_server_has_lost_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On NFS a file that another machine has replaced is stale, and stays so."""
    path = tmp_path / "answers.jsonl"
    fstat = os.fstat
    with Log(path) as log:
        log.write(_line(0))
        lost = fstat(log._descriptor).st_ino

        def stale(descriptor: int) -> os.stat_result:
            found = fstat(descriptor)
            if found.st_ino == lost:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            return found

        monkeypatch.setattr(os, "fstat", stale)
        _rename(path)
        for number in (1, 2):
            log.write(_line(number))
    assert path.read_text().splitlines() == [_line(1), _line(2)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_pipe_is_written_to_as_it_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    with Log(pipe) as log:
        log.write(_line(0))
    reader.join(5)
    assert read == [_line(0) + "\n"]
