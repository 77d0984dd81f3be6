"""Answers as lines: JSON for programs and logs, one line for each change of label for people."""

from __future__ import annotations

import os
import select
import sys
import time
from dataclasses import dataclass
from threading import Event

import click

from toolchain.camera.answering import Answered, shown_name
from toolchain.camera.sinks import AnswerLostError, Delivery, Sink, SinkContext
from toolchain.classifier import percent
from toolchain.system import masking
from toolchain.system.text import harmless

PIECE = getattr(select, "PIPE_BUF", 512)
"""How many bytes a pipe that is ready takes without blocking."""
POLL_S = 0.1


@dataclass(frozen=True)
class LinesOptions:
    """Answers are printed to `output`: each as JSON, or one line whenever the answer changes."""

    output: Output
    json: bool = False

    def open(self, context: SinkContext) -> Lines:
        return Lines(self.output, json=self.json)


class Lines(Sink):
    """Prints answers. When nobody reads them any more, the camera ends."""

    name = "printing"
    delivery: Delivery = "all"
    essential = True

    def __init__(self, output: Output, *, json: bool = False) -> None:
        self._output = output
        self._json = json
        self._last: dict[str, str] = {}
        """What was printed last, by region."""

    def show(self, answered: Answered) -> None:
        if self._json:
            self._output.write(answered.json_line())
            return
        for one in answered.each():
            name = shown_name(one.prediction)
            if name != self._last.get(one.region):
                figures = f"{percent(one.prediction.probability):>5}  age {one.age_ms:4.0f} ms"
                what = f"{one.region}: {name}" if one.region else name
                self._output.write(f"{one.frame.time_s:8.2f} s  {figures}  {harmless(what)}")
                self._last[one.region] = name

    def close(self) -> None:
        self._output.give_up()


class Output:
    """Standard output, written in whole lines that never block for ever.

    A pipe that nobody reads fills up, and a write to it then blocks until its reader ends. Here, a line waits until
    there is room or `give_up` was called. With `json`, lines are UTF-8 whatever the encoding of the terminal.
    """

    def __init__(self, *, json: bool = False) -> None:
        self._json = json
        self._given_up = Event()
        self._descriptor = _waitable_stdout()
        self._torn = False
        """Whether the last line was written only in part."""

    def write(self, line: str, limit_s: float | None = None) -> None:
        """Write a line as soon as there is room for it. With `limit_s`, wait so long, whatever `give_up` says.

        Raises AnswerLostError if it cannot be written.
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
        """Stop waiting for room; the line is lost."""
        self._given_up.set()

    def _wait_for_room(self, descriptor: int, end_s: float | None) -> None:
        while not select.select([], [descriptor], [], POLL_S)[1]:
            if self._given_up.is_set() if end_s is None else time.monotonic() > end_s:
                raise AnswerLostError("nobody reads standard output")


def _waitable_stdout() -> int | None:
    """The descriptor of standard output, if one can wait for room in it; else (and in tests) None."""
    stdout = sys.__stdout__
    if os.name != "posix" or stdout is None or stdout is not sys.stdout:
        return None
    try:
        return stdout.fileno()
    except (OSError, ValueError):
        return None
