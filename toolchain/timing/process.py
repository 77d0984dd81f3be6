"""The runner's side of a worker: start it, ask it with a time limit, tell why it died. It looks for devices too."""

from __future__ import annotations

import contextlib
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from tempfile import TemporaryFile
from typing import Any, Protocol, TypeVar

import msgspec

from toolchain.errors import MissingError
from toolchain.runtimes.devices import Device, probe
from toolchain.system import files, interpreter, strict
from toolchain.system.progress import Reporter, Silent
from toolchain.timing import noise
from toolchain.timing.protocol import Reply, Request

PROGRAM = "from toolchain.timing import worker; worker.main()"
CLOSE_LIMIT_S = 5.0
PROBE_LIMIT_S = 60.0
_SILENT = Silent()
Answer = TypeVar("Answer")


class WorkerError(Exception):
    """A worker did not do what it was asked. `unavailable`: the arm cannot exist on this machine."""

    def __init__(self, reason: str, unavailable: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.unavailable = unavailable


class AnyWorker(Protocol):
    """A worker wherever it runs: a WorkerProcess, or one on another machine (`toolchain.timing.machines`)."""

    def ask(self, do: str, argument: Any, answer: type[Answer], limit_s: float) -> Answer:
        """As WorkerProcess.ask."""

    def close(self) -> None:
        """End it, in any state."""


class WorkerProcess:
    """A process that answers lines of JSON with lines of JSON. `close` ends it in any state.

    It runs the Python text `program`, or else `command`. Raises MissingError where this program has no Python
    interpreter to start.
    """

    def __init__(self, program: str = PROGRAM, command: Sequence[str] = ()) -> None:
        command = command or interpreter.command(program)
        self._stderr = TemporaryFile()  # noqa: SIM115, closed with the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr
        )
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # A thread, since a pipe cannot be waited for with a limit on every system. It sleeps in the read.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, do: str, argument: Any, answer: type[Answer], limit_s: float) -> Answer:
        """Let the worker do something and return its answer.

        Raises WorkerError with the reason when it refuses, dies, answers nonsense, or gives no answer in `limit_s`
        seconds; after all but the first the worker is ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(files.to_json(Request(do, argument), indent=0))
            self._process.stdin.flush()
            line = self._lines.get(timeout=limit_s)
        except OSError:
            line = None
        except queue.Empty:
            self.close()
            raise WorkerError(f"no answer in {limit_s:g} s ({do}); it was ended") from None
        if line is None:
            reason = self._reason_of_death()
            self.close()
            raise WorkerError(self._epitaph(do, reason))
        try:
            reply = files.from_json(line, Reply)
            if reply.failure is not None:
                raise WorkerError(reply.failure.reason, reply.failure.unavailable)
            return strict.convert(reply.answer, answer)
        except msgspec.DecodeError:
            self.close()
            shown = line[:60].decode(errors="replace").strip()
            raise WorkerError(f"the process answered nonsense during {do}: {shown!r}") from None

    def kill(self) -> None:
        """End the process from any thread; one that waits in `ask` is told."""
        self._process.kill()

    def close(self) -> None:
        """End the process at once: it holds nothing that would be lost."""
        if self._process.poll() is None:
            noise.count(self.pid)
        self.kill()
        # A process that hangs in a driver may not end at once; the runner does not wait for it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_LIMIT_S)
        self._reader.join(CLOSE_LIMIT_S)
        if self._reader.is_alive():
            return
        for file in (self._process.stdin, self._process.stdout, self._stderr):
            assert file is not None
            # Closing flushes once more what could not be sent to a dead process.
            with contextlib.suppress(OSError):
                file.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _epitaph(self, do: str, reason: str) -> str:
        return f"the process ended during {do}: {reason}"

    def _reason_of_death(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        said = self._said()
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            hint = " (was there too little memory?)" if name == "SIGKILL" else ""
            return f"killed by {name}{hint}"
        return f"exit code {code}" + (f", {said[-1]}" if said else "")

    def _said(self) -> list[str]:
        """The lines that it has written to its stderr."""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace").strip().splitlines()


def probe_devices(
    names: Sequence[str],
    reporter: Reporter = _SILENT,
    launch: Callable[[], AnyWorker] = WorkerProcess,
) -> list[Device]:
    """Look for each of `names`, which are known to be well formed, in their order.

    A worker looks: a broken driver may crash or hang the process that asks for it.
    """
    devices = []
    worker: AnyWorker | None = None
    try:
        with reporter.task("looking for devices", len(names)) as task:
            for name in names:
                try:
                    worker = worker or launch()
                    devices.append(worker.ask("probe", name, Device, PROBE_LIMIT_S))
                except MissingError:
                    # A frozen app cannot start another interpreter: it looks in its own process.
                    devices.append(probe(name))
                except WorkerError as error:
                    devices.append(Device(name, False, f"looking for it failed: {error.reason}"))
                    if worker:
                        worker.close()
                    worker = None
                task.advance(note=name)
    finally:
        if worker:
            worker.close()
    return devices
