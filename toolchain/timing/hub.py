"""The other machine's end of a connection: `edgetl worker`, started over ssh by `toolchain.timing.machines`.

It keeps the files that it is sent, in a temporary folder, and starts the workers that it is asked for. When the
connection ends, for whatever reason, it ends its workers and removes the folder.
"""

from __future__ import annotations

import hashlib
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from toolchain.errors import BadInputError
from toolchain.runtimes import machine
from toolchain.system.folders import scratch_folder
from toolchain.timing.noise import Watch, reasons, spare_cores
from toolchain.timing.process import WorkerError, WorkerProcess
from toolchain.timing.protocol import Failure, Observed, Piece, Question, Reply
from toolchain.timing.worker import serve, stdout_for_replies

IDLE_LIMIT_S = 12 * 3600.0
"""It ends when nothing was asked for so long: a connection whose other machine lost its power stays open here. A
machine may wait for hours until those before it have been measured."""

ARGUMENTS: dict[str, Any] = {
    "describe": None,
    "put": Piece,
    "start": None,
    "ask": Question,
    "close": int,
    "watch": None,
    "look": None,
}


class Hub:
    """What can be asked of another machine. `folder` is where files are kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._workers: dict[int, WorkerProcess] = {}
        self._watch = Watch()

    def describe(self, _: None) -> machine.Environment:
        """See `toolchain.runtimes.machine.describe`."""
        return machine.describe()

    def put(self, piece: Piece) -> str:
        """Add to a file, and return its path. Raises BadInputError where the whole is not what was sent."""
        folder = self._folder / Path(piece.key).name
        folder.mkdir(exist_ok=True)
        path = folder / Path(piece.name).name
        with path.open("ab") as file:
            file.write(piece.data)
        if piece.sha256 and hashlib.sha256(path.read_bytes()).hexdigest() != piece.sha256:
            path.unlink()
            raise BadInputError(f"{piece.name} was damaged on its way")
        return str(path)

    def start(self, _: None) -> int:
        """Start a worker; its number."""
        number = len(self._workers)
        self._workers[number] = WorkerProcess()
        return number

    def ask(self, question: Question) -> Reply:
        """Ask a worker. That it refuses or dies is part of the answer."""
        try:
            worker = self._workers[question.worker]
            return Reply(answer=worker.ask(question.do, question.argument, Any, question.limit_s))
        except WorkerError as error:
            return Reply(failure=Failure(error.reason, error.unavailable))

    def close(self, number: int) -> None:
        """End a worker."""
        self._workers[number].close()

    def watch(self, _: None) -> None:
        """Look at the machine's counters from here on."""
        self._watch = Watch()

    def look(self, _: None) -> Observed:
        """What the machine did since `watch`."""
        during = self._watch.look()
        return Observed(during, tuple(reasons(during, spare_cores())))

    def end(self, *, killing: bool = False) -> None:
        """End all workers. With `killing`, from any thread: whoever waits for an answer is told."""
        for worker in list(self._workers.values()):
            if killing:
                worker.kill()
            else:
                worker.close()


def main() -> None:
    """Do what stdin asks for until it ends."""
    replies = stdout_for_replies()
    with scratch_folder("edgetl-worker-") as folder:
        hub = Hub(folder)
        try:
            # Nobody is there any more to read what went wrong with stdout.
            with suppress(OSError):
                serve(_requests(hub), replies, hub, ARGUMENTS)
        finally:
            hub.end()


def _requests(hub: Hub) -> Iterator[bytes]:
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        lines.put(None)
        # A worker may be in the middle of something long.
        hub.end(killing=True)

    threading.Thread(target=read, daemon=True).start()
    with suppress(queue.Empty):
        while (line := lines.get(timeout=IDLE_LIMIT_S)) is not None:
            yield line
