"""A log of JSON lines that other programs may rotate while it is written."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from toolchain.camera.answering import Answered
from toolchain.camera.sinks import AnswerLostError, Sink, SinkContext
from toolchain.camera.sinks.lines import json_line
from toolchain.errors import BadInputError

HEAD = 4096
"""Bytes of an older file that are looked at, to see whether it is a log."""
MARK = b'{"frame":'
"""What each line of a log begins with."""


@dataclass(frozen=True)
class LogOptions:
    """Answers are appended to `path` as lines of JSON."""

    path: Path
    role = "the log"

    def open(self, context: SinkContext) -> Log:
        return Log(self.path)


def from_text(value: str) -> LogOptions:
    """The options that `--sink log=FILE.jsonl` stands for."""
    if not value:
        raise BadInputError("the sink `log` needs a file", "Write --sink log=FILE.jsonl.")
    return LogOptions(Path(value))


class Log(Sink):
    """Appends lines to a file, or writes them to a pipe; each is there whole as soon as it is written.

    Lines always go to the end of what `path` names at that moment: a file that was renamed or removed is made anew,
    and one that was emptied (logrotate's `copytruncate`) goes on from its start. An older log is gone on with.
    Raises BadInputError for what cannot be written, or is no log.
    """

    delivery = "all"

    def __init__(self, path: Path) -> None:
        self.name = f"writing {path}"
        if path.is_dir():
            raise BadInputError(f"{path} is a folder", "Name a file: --log FILE.jsonl.")
        if path.is_file() and not _is_log(path):
            raise BadInputError(f"{path} exists already, and is no log of edgetl", "Name another file.")
        self._path = path
        self._torn = False
        """Whether the file ends in a part of a line."""
        try:
            self._descriptor = self._opened()
        except OSError as error:
            raise BadInputError(f"{path} cannot be written: {error.strerror}", "Name another place.") from None

    def show(self, answered: Answered) -> None:
        self.write(json_line(answered))

    def close(self) -> None:
        with suppress(OSError):  # the disk is full, which was told when it was found
            os.close(self._descriptor)

    def write(self, line: str) -> None:
        """Append a line. Raises AnswerLostError when it cannot be written; the next one may."""
        try:
            self._follow()
            self._append(line.encode() + b"\n")
        except BrokenPipeError:
            raise  # it was a pipe, and nobody reads it any more
        except OSError as error:
            raise AnswerLostError(error.strerror or str(error)) from None

    def _follow(self) -> None:
        """Open the file again where its name stands for another one now."""
        ours = os.fstat(self._descriptor)
        if not stat.S_ISREG(ours.st_mode):
            return
        with suppress(FileNotFoundError):
            if os.path.samestat(ours, self._path.stat()):
                return
        descriptor = self._opened()
        os.close(self._descriptor)
        self._descriptor = descriptor

    def _opened(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(self._path, flags, 0o666)
        self._torn = _ends_within_a_line(self._path)
        return descriptor

    def _append(self, data: bytes) -> None:
        left = b"\n" + data if self._torn and os.fstat(self._descriptor).st_size else data
        while left:  # as a rule in one piece, so that lines of several programs do not mix
            written = os.write(self._descriptor, left)
            left = left[written:]
            self._torn = bool(left)


def _is_log(path: Path) -> bool:
    """Whether a file may be gone on with: it is empty, or begins like a log."""
    with suppress(OSError), path.open("rb") as file:  # what cannot be read may be written all the same
        head = file.read(HEAD).lstrip(b"\0")
        return not head or head.startswith(MARK)
    return True


def _ends_within_a_line(path: Path) -> bool:
    """Whether the last line of a file was never ended: the power went, or the disk was full."""
    with suppress(OSError):
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read(1) != b"\n"
    return False
