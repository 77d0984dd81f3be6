"""A log of JSON lines that other programs may rotate while it is written.

`logging.handlers.WatchedFileHandler` was tried instead: it does not survive the removal of its folder, appends to a
line that was cut off, and keeps a line in its buffer when the disk is full, so that closing it fails.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from toolchain.camera.answering import Answered
from toolchain.camera.sinks import AnswerLostError, Delivery, Sink, SinkContext
from toolchain.errors import BadInputError
from toolchain.system import claims

HEAD = 4096
"""How many bytes of an older file are read to see whether it is a log."""
MARK = b'{"frame":'
"""How each line of a log begins."""


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
    """Appends lines to a file, or writes them to a pipe, without buffering.

    Each line begins with `mark`, by which an older file is recognised. A file that was renamed or removed is
    created again, and one that was emptied (logrotate's `copytruncate`) continues at its start. An older log is
    continued. One camera at a time writes it.
    Raises BadInputError for a file that cannot be written or is not a log.
    """

    delivery: Delivery = "all"

    def __init__(self, path: Path, mark: bytes = MARK) -> None:
        self.name: str = f"writing {path}"
        if path.is_dir():
            raise BadInputError(f"{path} is a folder", "Name a file: --log FILE.jsonl.")
        if path.is_file() and not _is_log(path, mark):
            raise BadInputError(f"{path} exists already, and is no log of edgetl", "Name another file.")
        self._path = path
        self._torn = False
        """Whether the file ends within a line."""
        try:
            self._descriptor = self._opened()
        except OSError as error:
            raise BadInputError(f"{path} cannot be written: {error.strerror}", "Name another place.") from None

    def show(self, answered: Answered) -> None:
        self.write(answered.json_line())

    def close(self) -> None:
        with suppress(OSError):  # the disk is full, which was reported before
            os.close(self._descriptor)

    def write(self, line: str) -> None:
        """Append a line. Raises AnswerLostError when it cannot be written; the next one may."""
        try:
            self._follow()
            self._append(line.encode() + b"\n")
        except BrokenPipeError:
            raise  # it is a pipe that nobody reads any more
        except claims.InUseError as error:
            raise AnswerLostError(error.message) from None
        except OSError as error:
            raise AnswerLostError(error.strerror or str(error)) from None

    def _follow(self) -> None:
        """Open the file again if its name now stands for another one."""
        with suppress(OSError):  # of a server that has lost the file (ESTALE), it is another one, too
            ours = os.fstat(self._descriptor)
            if not stat.S_ISREG(ours.st_mode) or os.path.samestat(ours, self._path.stat()):
                return
        descriptor = self._opened()
        self.close()
        self._descriptor = descriptor

    def _opened(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(self._path, flags, 0o666)
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and not claims.lock_file(descriptor):
            os.close(descriptor)
            raise claims.InUseError(f"{self._path} is in use: another camera writes it", "Name another file.")
        self._torn = _ends_within_a_line(self._path)
        return descriptor

    def _append(self, data: bytes) -> None:
        left = b"\n" + data if self._torn and os.fstat(self._descriptor).st_size else data
        while left:  # usually in one piece, so that lines of several programs do not mix
            written = os.write(self._descriptor, left)
            left = left[written:]
            self._torn = bool(left)


def _is_log(path: Path, mark: bytes) -> bool:
    """Whether a file may be continued: it is empty, or begins like a log."""
    with suppress(OSError), path.open("rb") as file:  # a file that cannot be read may still be written
        head = file.read(HEAD).lstrip(b"\0")
        return not head or head.startswith(mark)
    return True


def _ends_within_a_line(path: Path) -> bool:
    """Whether the last line of a file is incomplete: the power failed, or the disk was full."""
    with suppress(OSError):
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read(1) != b"\n"
    return False
