"""How long-running code tells what it is doing, without knowing about terminals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One piece of work with a known length."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """`steps` more are done; `note` is a short running value, such as `loss 0.41`."""


class Reporter(Protocol):
    """Where progress goes. The command line draws bars (`cli/console.py`); a library call stays silent."""

    def task(self, description: str, total: int) -> AbstractContextManager[Task]: ...

    def say(self, message: str) -> None:
        """Tell a fact."""

    def warn(self, message: str) -> None:
        """Tell something the user should look at."""


class _SilentTask:
    def advance(self, steps: int = 1, note: str = "") -> None:
        pass


class Silent:
    """A reporter that says nothing."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        yield _SilentTask()

    def say(self, message: str) -> None:
        pass

    def warn(self, message: str) -> None:
        pass
