"""What the tests of the data sets share besides fixtures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from toolchain.system.progress import Task

Tree = Callable[[dict[str, bytes]], Path]
"""Writes files (path below a folder -> content) and returns the folder."""


class Remembering:
    """A reporter that keeps what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []
        self.steps = 0

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.steps += steps

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        yield self

    def say(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.warned.append(message)


@dataclass
class Server:
    """A local web server. `files` are what it serves; the rest is how it misbehaves and what it has seen."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    etag: str = '"one"'
    cut_after: list[int] = field(default_factory=list)
    """For each coming request, the number of bytes after which the connection is dropped."""
    status: list[int] = field(default_factory=list)
    """For each coming request, an error to answer instead."""
    knows_ranges: bool = True
    ranges_seen: list[str | None] = field(default_factory=list)
