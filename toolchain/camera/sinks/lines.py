"""Answers as lines: JSON for programs and logs, one line for each change of label for people."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable
from threading import Event

import click

from toolchain.camera.answering import Answered
from toolchain.camera.drawing import shown_name
from toolchain.camera.sinks.background import LineLostError
from toolchain.classifier import percent
from toolchain.system import files, masking
from toolchain.system.text import harmless

Print = Callable[[str], None]
"""Prints one line at once, without waiting for a full buffer."""

PIECE = getattr(select, "PIPE_BUF", 512)
"""Bytes that a pipe takes at once when it says that it can be written to."""
LOOK_S = 0.1


class JsonLines:
    """One JSON object for each answer. `give_up` ends a `print_line` that waits."""

    def __init__(self, print_line: Print, give_up: Callable[[], None] = lambda: None) -> None:
        self._print = print_line
        self.close = give_up

    def show(self, answered: Answered) -> None:
        self._print(files.to_json(answered.line(), indent=0).decode().strip())


class Changes:
    """A line whenever the answer becomes another one. `give_up` ends a `print_line` that waits."""

    def __init__(self, print_line: Print, give_up: Callable[[], None] = lambda: None) -> None:
        self._print = print_line
        self.close = give_up
        self._last: str | None = None

    def show(self, answered: Answered) -> None:
        prediction = answered.prediction
        name = shown_name(prediction)
        if name != self._last:
            figures = f"{percent(prediction.probability):>5}  age {answered.age_ms:4.0f} ms"
            self._print(f"{answered.frame.time_s:8.2f} s  {figures}  {harmless(name)}")
            self._last = name


class Output:
    """Standard output, to which whole lines are written without ever hanging in one.

    A pipe that nobody reads is full sooner or later, and who writes into it sleeps until its reader ends. Here a
    line waits until there is room, or `give_up` says that it is to wait no longer. With `json`, lines are UTF-8
    whatever the encoding of the terminal.
    """

    def __init__(self, *, json: bool = False) -> None:
        self._json = json
        self._given_up = Event()
        self._descriptor = _waitable_stdout()
        self._torn = False
        """Whether a line was written in part."""

    def write(self, line: str, limit_s: float | None = None) -> None:
        """Write a line when there is room for it, even after `give_up` if that is within `limit_s`.

        Raises LineLostError when it cannot be written.
        """
        line = masking.without_typed(line)
        if self._descriptor is None:
            click.echo(line.encode() if self._json and hasattr(sys.stdout, "buffer") else line)
            return
        sys.stdout.flush()
        encoding = "utf-8" if self._json else sys.stdout.encoding
        left = (f"\n{line}\n" if self._torn else f"{line}\n").encode(encoding, "backslashreplace")
        end_s = None if limit_s is None else time.monotonic() + limit_s
        while left:
            self._wait_for_room(self._descriptor, end_s)
            left = left[os.write(self._descriptor, left[:PIECE]) :]
            self._torn = bool(left)

    def give_up(self) -> None:
        """Let a line that waits for room be lost."""
        self._given_up.set()

    def _wait_for_room(self, descriptor: int, end_s: float | None) -> None:
        while not select.select([], [descriptor], [], LOOK_S)[1]:
            if self._given_up.is_set() if end_s is None else time.monotonic() > end_s:
                raise LineLostError("nobody reads standard output")


def _waitable_stdout() -> int | None:
    """The descriptor of standard output where one can wait for room in it; None elsewhere, and under a test."""
    stdout = sys.__stdout__
    if os.name != "posix" or stdout is None or stdout is not sys.stdout:
        return None
    try:
        return stdout.fileno()
    except (OSError, ValueError):
        return None
