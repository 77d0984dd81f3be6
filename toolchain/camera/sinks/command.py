"""Shell commands that run whenever the answer changes, or becomes "not sure"."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TextIO

from toolchain.camera.answering import Answered
from toolchain.camera.sinks import AnswerLostError, Delivery, Sink, SinkContext
from toolchain.camera.smoothing import seen_as
from toolchain.errors import BadInputError
from toolchain.system.progress import Reporter

LIMIT_S = 30.0
"""A command that takes longer is killed."""


@dataclass(frozen=True)
class CommandOptions:
    """Shell commands: `on_change` for each new label, `on_unsure` for each change to "not sure"."""

    on_change: str | None = None
    on_unsure: str | None = None

    def __post_init__(self) -> None:
        for name, command in (("--on-change", self.on_change), ("--on-unsure", self.on_unsure)):
            if command is not None and not command.strip():
                raise BadInputError(f"{name} has no command", "Name one, or leave it out.")

    def open(self, context: SinkContext) -> Command:
        return Command(self.on_change, self.on_unsure, context.reporter)


class Command(Sink):
    """Runs the shell command `on_change` for each new label and `on_unsure` when the answer becomes "not sure", and
    waits for it. `on_change` never runs for a rejected answer, and the first label after one is new.

    A command finds the answer in its environment (`EDGETL_LABEL`, `EDGETL_PROBABILITY`, `EDGETL_REJECTED` 0 or 1,
    `EDGETL_GUESS`, `EDGETL_FRAME`, `EDGETL_TIME_S`, `EDGETL_REGION` if there are regions) and as a line of JSON on
    standard input, never in its own words, so that no label is executed (unless the command itself does that, as
    `bash -c "$EDGETL_LABEL"` would).
    If the answer is rejected, `EDGETL_LABEL` is empty. What the command prints goes to standard error. Jobs that it
    leaves in the background are killed before the next command, and when the camera ends.
    """

    name = "--on-change"
    delivery: Delivery = "newest"

    def __init__(self, on_change: str | None, on_unsure: str | None, reporter: Reporter) -> None:
        self._on_change = on_change
        self._on_unsure = on_unsure
        self._reporter = reporter
        self._last: dict[str, str | None] = {}
        """What was seen last, by region."""
        self._told: set[str] = set()
        self._running: subprocess.Popen[bytes] | None = None
        self._left_running: int | None = None
        """The process group of the last command, if it left jobs in the background."""

    def show(self, answered: Answered) -> None:
        for one in answered.each():
            seen = seen_as(one.prediction.label, one.prediction.rejected)
            if one.region in self._last and seen == self._last[one.region]:
                continue
            name, command = ("--on-unsure", self._on_unsure) if seen is None else ("--on-change", self._on_change)
            if command is not None:
                self._run(name, command, one)
            # Unless the command could not be started: then the next answer tries.
            self._last[one.region] = seen

    def _run(self, name: str, command: str, answered: Answered) -> None:
        line = answered.line()
        values = {key: int(value) if isinstance(value, bool) else value for key, value in line.items()}
        values |= {"label": line["answer"] or "", "guess": line["label"]}
        told = {
            f"EDGETL_{key.upper()}": _for_environment(value) for key, value in values.items() if key != "answer"
        }
        self._kill_jobs()
        try:
            process = subprocess.Popen(
                command,
                shell=True,
                env=os.environ | told,
                stdin=subprocess.PIPE,
                stdout=_descriptor(sys.stderr) or subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise AnswerLostError(f"the command cannot be started: {error.strerror}") from None
        with process:
            self._running = process
            try:
                said, _ = process.communicate(answered.json_line().encode() + b"\n", timeout=LIMIT_S)
            except subprocess.TimeoutExpired:
                _kill(process.pid)
                self._complain(name, f"took longer than {LIMIT_S:g} s and was ended")
                return
            finally:
                self._running = None
            self._left_running = process.pid if _has_jobs(process.pid) else None
        if said and sys.stderr is not None:
            sys.stderr.write(said.decode(errors="replace"))
        if process.returncode:
            self._complain(name, f"ended with exit code {process.returncode}")

    def close(self) -> None:
        """Kill the command if it is still running, and what the last one left in the background."""
        if self._running is not None:
            _kill(self._running.pid)
        self._kill_jobs()

    def _kill_jobs(self) -> None:
        """Kill what the last command left in the background."""
        if self._left_running is not None:
            _kill(self._left_running)
            self._left_running = None

    def _complain(self, name: str, what: str) -> None:
        if name not in self._told:
            self._told.add(name)
            self._reporter.warn(f"{name}: the command {what} (said once)")


def _descriptor(stream: TextIO | None) -> int | None:
    """The descriptor of a stream; None if it was replaced by an object in memory (a notebook, a test)."""
    try:
        return stream.fileno() if stream else None
    except (AttributeError, OSError):
        return None


def _for_environment(value: object) -> str:
    """A label as an environment variable can hold it: without NUL and lone surrogates."""
    return str(value).replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _has_jobs(group: int) -> bool:
    """Whether anything of a process group still runs after its shell has ended."""
    try:
        os.killpg(group, 0)
    except (AttributeError, OSError):  # Windows has no process groups
        return False
    return True


def _kill(process: int) -> None:
    """Kill a shell and all that it started."""
    with suppress(OSError):  # they have ended by themselves
        if hasattr(os, "killpg"):
            os.killpg(process, signal.SIGKILL)
        else:
            os.kill(process, signal.SIGTERM)
