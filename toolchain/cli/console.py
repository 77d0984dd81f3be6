"""The terminal: results to stdout, progress and remarks to stderr, JSON on request."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

import click
from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from toolchain.cli import answers
from toolchain.errors import BadInputError
from toolchain.system import files, masking
from toolchain.system.progress import Silent, Task
from toolchain.system.text import harmless

PLAIN_INTERVAL_S = 60.0
"""Seconds between progress lines of one step if there is no terminal. A shorter step is one line."""

WIDE = 200
"""The width of tables that go to a file or a pipe."""


class _Terminal(RichConsole):
    """Makes control characters in names of files and classes harmless."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(harmless(text, keep="\n\t"), **options)

    def on_broken_pipe(self) -> None:
        """Nobody reads remarks and progress any more: no reason to stop. Nobody reads the result: it ends."""
        if not self.stderr:
            super().on_broken_pipe()
        with suppress(OSError, AttributeError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


class Console:
    """The output of one command, and its `Reporter` (see `toolchain.system.progress`)."""

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        # A table in a file or a pipe must not lose columns to a terminal that is not there.
        is_terminal = bool(getattr(sys.stdout, "isatty", bool)())
        fitted = is_terminal or os.environ.get("COLUMNS", "").isdigit()
        # Names of files and classes such as `[bold]` and `:cat:` are not markup.
        self._out = _Terminal(highlight=False, markup=False, emoji=False, width=None if fitted else WIDE)
        self._err = _Terminal(stderr=True, highlight=False, markup=False, emoji=False)

    def result(self, document: Any, *renderables: RenderableType) -> None:
        """Print the result of the command: `document` as JSON with `--json`, else `renderables` for people.

        Strings are printed as they are. Lines are never cut; a terminal wraps long ones.
        """
        if self.json:
            answers.given = True
            self.json_line(document, indent=2)
            return
        for renderable in renderables:
            text = masking.without_typed(renderable) if isinstance(renderable, str) else renderable
            self._out.print(text, soft_wrap=True)

    def json_line(self, document: Any, *, indent: int = 0) -> None:
        """Print `document` as JSON, with or without `--json`; on one line if `indent` is 0."""
        text = masking.without_typed(files.to_json(document, indent=indent).decode().rstrip("\n"))
        # UTF-8, regardless of the terminal's encoding; as text if stdout takes no bytes.
        click.echo(text.encode() if hasattr(sys.stdout, "buffer") else text)

    def say(self, message: str) -> None:
        if not self.quiet:
            self._err.print(harmless(masking.masked(message)), soft_wrap=True)

    def warn(self, message: str) -> None:
        self._err.print(f"warning: {harmless(masking.masked(message))}", style="yellow", soft_wrap=True)

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        description = harmless(description)
        if self.quiet:
            with Silent().task(description, total) as task:
                yield task
        elif self._err.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(elapsed_when_finished=True),
                TextColumn("{task.fields[note]}", markup=False),
            )
            with Progress(*columns, console=self._err) as progress:
                yield _Bar(progress, description, total)
        else:
            yield _Lines(self._err, description, total)


class _Bar:
    def __init__(self, progress: Progress, description: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total, note="")

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._progress.advance(self._task, steps)
        if note:
            self._progress.update(self._task, note=harmless(note))


class _Lines:
    """Progress for logs: a line at the end of each step, and more, with the time left, if it takes minutes."""

    def __init__(self, err: RichConsole, description: str, total: int) -> None:
        self._err, self._description, self._total = err, description, total
        self._done = 0
        self._note = ""
        self._ended = False
        self._start = self._told = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        self._note = note or self._note
        now = time.monotonic()
        finished = self._done >= self._total
        if self._ended or (not finished and now - self._told < PLAIN_INTERVAL_S):
            return
        self._told = now
        self._ended = finished  # further calls would repeat the last line
        elapsed = now - self._start
        left = elapsed / max(self._done, 1) * (self._total - self._done)
        span = f"{elapsed:.1f} s" if finished else f"{left:.0f} s left"
        parts = [f"{self._description}: {self._done}/{self._total}", span, self._note]
        self._err.print(", ".join(part for part in parts if part), soft_wrap=True)


def needs(module: str) -> None:
    """Raise ModuleNotFoundError if `module` is not installed, before work begins that needs it at the end."""
    if find_spec(module) is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def output_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json`, `--quiet` and `--debug` to a command. Its function gets a `console` instead."""

    @click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
    @click.option("--quiet", is_flag=True, help="Print results and warnings only.")
    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(function)
    def wrapped(*args: Any, as_json: bool, quiet: bool, debug: bool, **kwargs: Any) -> Any:
        _refuse_addresses(kwargs)
        return function(*args, console=Console(json=as_json, quiet=quiet), **kwargs)

    return wrapped


def _refuse_addresses(values: Mapping[str, Any]) -> None:
    """Raise BadInputError for an address in the place of a file. It would become the name of a new file."""
    for parameter in click.get_current_context().command.params:
        value = values.get(parameter.name or "")
        for path in value if isinstance(value, tuple) else (value,):
            if isinstance(path, os.PathLike) and masking.is_address(str(path)) and not os.path.lexists(path):
                name = parameter.opts[0] if isinstance(parameter, click.Option) else parameter.human_readable_name
                raise BadInputError(
                    f"{name} takes a file or folder of this machine, not {masking.shown(str(path))}",
                    "The address of a stream goes after `edgetl camera --source`.",
                )
