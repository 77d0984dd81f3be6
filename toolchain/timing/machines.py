"""The machines that arms are measured on: this one, and others over ssh."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from toolchain.artifact import Artifact
from toolchain.errors import MissingError
from toolchain.runtimes import machine
from toolchain.system import strict
from toolchain.system.progress import Reporter
from toolchain.timing.noise import Watch, reasons, spare_cores
from toolchain.timing.process import AnyWorker, WorkerError, WorkerProcess
from toolchain.timing.protocol import LOCAL, Observed, Piece, Question, Reply
from toolchain.timing.ssh import Connection, Destination

PIECE = 1 << 18
"""Bytes of a file that are sent at once."""
GRACE_S = 20.0
"""How much longer an answer may take over the network, before its connection counts as lost."""
_ANSWER_S = 60.0

Answer = TypeVar("Answer")
Note = Callable[[str], None]


class Machine(Protocol):
    """A machine that workers run on. `name` is that of `--on`."""

    name: str

    def describe(self) -> machine.Environment:
        """Raises MissingError where it does not answer."""

    def launch(self) -> AnyWorker:
        """Start a worker."""

    def place(self, path: Path, note: Note) -> str:
        """The path of this file there, to which it is copied if need be. `note` is told how far it is.

        Raises WorkerError where it cannot be.
        """

    def place_artifact(self, artifact: Artifact, note: Note) -> str:
        """The same for a model file, which may be two."""

    def watch(self) -> None:
        """Look at what the machine does from here on."""

    def look(self) -> Observed | None:
        """What it did since; None where it does not answer any more."""

    def close(self) -> None:
        """End all that was started there, and remove what was copied."""


class Local:
    """This machine."""

    name = LOCAL

    def __init__(self, launch: Callable[[], WorkerProcess] = WorkerProcess) -> None:
        self.launch = launch
        self._watch = Watch()

    def describe(self) -> machine.Environment:
        return machine.describe()

    def place(self, path: Path, note: Note) -> str:
        return str(path.absolute())

    def place_artifact(self, artifact: Artifact, note: Note) -> str:
        return str(artifact.path.absolute())

    def watch(self) -> None:
        self._watch = Watch()

    def look(self) -> Observed:
        during = self._watch.look()
        return Observed(during, tuple(reasons(during, spare_cores())))

    def close(self) -> None:
        pass


class Remote:
    """Another machine, by one connection for all of its workers. Raises MissingError as `Connection` does."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._connection = Connection(name)
        self._placed: dict[str, str] = {}
        self._keys: dict[Path, str] = {}
        self._lost = ""

    def describe(self) -> machine.Environment:
        try:
            return self.ask("describe", None, machine.Environment, _ANSWER_S)
        except WorkerError as error:
            raise MissingError(
                f"edgetl on {self.name} does not answer: {error.reason}", "Install the same version there as here."
            ) from None

    def launch(self) -> AnyWorker:
        return _RemoteWorker(self)

    def place(self, path: Path, note: Note) -> str:
        if path in self._keys and (place := f"{self._keys[path]}/{path.name}") in self._placed:
            return self._placed[place]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise WorkerError(f"{path} cannot be read: {error.strerror or error}") from None
        self._keys[path] = hashlib.sha256(data).hexdigest()
        return self._put(self._keys[path], path.name, data, note)

    def place_artifact(self, artifact: Artifact, note: Note) -> str:
        if artifact.weights:
            self._put(artifact.sha256, artifact.path.with_suffix(".bin").name, artifact.weights, note)
        return self._put(artifact.sha256, artifact.path.name, artifact.model, note)

    def watch(self) -> None:
        with suppress(WorkerError):
            self.ask("watch", None, type(None), _ANSWER_S)

    def look(self) -> Observed | None:
        try:
            return self.ask("look", None, Observed, _ANSWER_S)
        except WorkerError:
            return None

    def close(self) -> None:
        self._connection.leave()

    def ask(self, do: str, argument: Any, answer: type[Answer], limit_s: float) -> Answer:
        """Ask the hub. Raises WorkerError when it refuses, and from then on when the connection is lost."""
        if self._lost:
            raise WorkerError(self._lost)
        try:
            return self._connection.ask(do, argument, answer, limit_s)
        except WorkerError as error:
            if not self._connection.has_ended:
                raise
            self._lost = f"{self.name}: {error.reason}"
            raise WorkerError(self._lost) from None

    def _put(self, key: str, name: str, data: bytes, note: Note) -> str:
        """Send a file unless it is there already."""
        place = f"{key}/{name}"
        if place not in self._placed:
            path = ""
            for start in range(0, max(len(data), 1), PIECE):
                note(f"copying {name}, {start / max(len(data), 1):.0%}")
                part = data[start : start + PIECE]
                last = start + PIECE >= len(data)
                piece = Piece(key, name, part, hashlib.sha256(data).hexdigest() if last else "")
                path = self.ask("put", piece, str, _ANSWER_S)
            self._placed[place] = path
        return self._placed[place]


class _RemoteWorker:
    """A worker on another machine, started when it is first asked."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._number: int | None = None

    def ask(self, do: str, argument: Any, answer: type[Answer], limit_s: float) -> Answer:
        if self._number is None:
            self._number = self._remote.ask("start", None, int, _ANSWER_S)
        question = Question(self._number, do, argument, limit_s)
        reply = self._remote.ask("ask", question, Reply, limit_s + GRACE_S)
        if reply.failure is not None:
            raise WorkerError(reply.failure.reason, reply.failure.unavailable)
        try:
            return strict.convert(reply.answer, answer)
        except msgspec.DecodeError as error:
            raise WorkerError(f"{self._remote.name} answered nonsense during {do}: {error}") from None

    def close(self) -> None:
        if self._number is not None:
            with suppress(WorkerError):
                self._remote.ask("close", self._number, type(None), _ANSWER_S)


def checked(names: Sequence[str]) -> tuple[str, ...]:
    """Names of machines, each once. Raises BadInputError for one that cannot be."""
    for name in names:
        if name != LOCAL:
            Destination.of(name)
    return tuple(dict.fromkeys(names)) or (LOCAL,)


@contextmanager
def connected(
    names: Sequence[str], reporter: Reporter, launch: Callable[[], WorkerProcess] = WorkerProcess
) -> Iterator[list[Machine]]:
    """Yield the machines of these names, connected to; `launch` starts workers on this one.

    Raises MissingError, with what to do, for the first that cannot be used.
    """
    with ExitStack() as stack:
        machines: list[Machine] = []
        for name in names:
            if name == LOCAL:
                machines.append(Local(launch))
                continue
            with reporter.task(f"connecting to {name}", 1) as task:
                machines.append(Remote(name))
                task.advance()
            stack.callback(machines[-1].close)
        yield machines
