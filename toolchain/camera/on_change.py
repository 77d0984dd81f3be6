"""A command that is run whenever the answer becomes another one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TextIO

import msgspec

from toolchain.camera.answering import Answered
from toolchain.camera.smoothing import seen_as
from toolchain.progress import Reporter

LIMIT_S = 30.0
"""A command that takes longer is ended."""


class OnChange:
    """Runs a shell command for each change of label, "not sure" being one of them, and waits for it.

    The command finds the answer in its environment (`EDGETL_LABEL`, `EDGETL_PROBABILITY`, `EDGETL_REJECTED` 0 or 1,
    `EDGETL_FRAME`, `EDGETL_TIME_S`) and as a line of JSON on standard input, never in its own words: a label is not
    to be executed. What it prints goes to standard error.
    """

    def __init__(self, command: str, reporter: Reporter, limit_s: float = LIMIT_S) -> None:
        self._command = command
        self._reporter = reporter
        self._limit_s = limit_s
        self._begun = False
        self._last: str | None = None
        self._told = False
        self._running: subprocess.Popen[bytes] | None = None

    def show(self, answered: Answered) -> None:
        prediction = answered.prediction
        seen = seen_as(prediction.label, prediction.rejected)
        if self._begun and seen == self._last:
            return
        self._begun, self._last = True, seen
        line = answered.line()
        values = {name: int(value) if isinstance(value, bool) else value for name, value in line.items()}
        told = {f"EDGETL_{name.upper()}": str(value) for name, value in values.items()}
        with subprocess.Popen(
            self._command,
            shell=True,
            env=os.environ | told,
            stdin=subprocess.PIPE,
            stdout=_descriptor(sys.stderr) or subprocess.PIPE,
            start_new_session=True,
        ) as process:
            self._running = process
            try:
                said, _ = process.communicate(msgspec.json.encode(line) + b"\n", timeout=self._limit_s)
            except subprocess.TimeoutExpired:
                _kill(process)
                self._complain(f"took longer than {self._limit_s:g} s and was ended")
                return
            finally:
                self._running = None
        if said and sys.stderr is not None:
            sys.stderr.write(said.decode(errors="replace"))
        if process.returncode:
            self._complain(f"ended with exit code {process.returncode}")

    def close(self) -> None:
        """End the command that is still running, if one is."""
        if self._running is not None:
            _kill(self._running)

    def _complain(self, what: str) -> None:
        if not self._told:
            self._reporter.warn(f"--on-change: the command {what} (said once)")
            self._told = True


def _descriptor(stream: TextIO | None) -> int | None:
    """The file behind a stream; None where it was replaced by text (a notebook, a capture)."""
    try:
        return stream.fileno() if stream else None
    except (AttributeError, OSError):
        return None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a shell with all that it started."""
    with suppress(OSError):  # it ended by itself
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
