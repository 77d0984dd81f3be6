"""Answers as lines: JSON for programs and logs, one line for each change of label for people."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from toolchain import files
from toolchain.camera.answering import Answered
from toolchain.camera.drawing import shown_name
from toolchain.errors import BadInputError
from toolchain.names import harmless

Print = Callable[[str], None]
"""Prints one line at once, without waiting for a full buffer."""


class JsonLines:
    """One JSON object for each answer."""

    def __init__(self, print_line: Print) -> None:
        self._print = print_line

    def show(self, answered: Answered) -> None:
        self._print(files.to_json(answered.line(), indent=0).decode().strip())

    def close(self) -> None:
        pass


class Changes:
    """A line whenever the answer becomes another one."""

    def __init__(self, print_line: Print) -> None:
        self._print = print_line
        self._last: str | None = None

    def show(self, answered: Answered) -> None:
        prediction = answered.prediction
        name = shown_name(prediction)
        if name != self._last:
            figures = f"{prediction.probability:6.1%}  age {answered.age_ms:4.0f} ms"
            self._print(f"{answered.frame.time_s:8.2f} s  {figures}  {harmless(name)}")
            self._last = name

    def close(self) -> None:
        pass


class Log:
    """A new file for JSON lines, or a pipe; each is in it as soon as it is written.

    Raises BadInputError if it cannot be made. An older log of the same name is kept, not written over.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir() or (path.is_file() and path.stat().st_size):
            raise BadInputError(f"{path} exists already", "Name another file, or move it away.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: TextIO = path.open("w", encoding="utf-8", buffering=1)
        except OSError as error:
            raise BadInputError(f"{path} cannot be written: {error.strerror}", "Name another place.") from None

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # the disk is full, which was told when it was found
            self._file.close()

    def write(self, line: str) -> None:
        self._file.write(f"{line}\n")
