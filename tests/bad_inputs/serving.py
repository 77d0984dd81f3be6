"""A server on this machine that answers every path with whatever bytes, and as long as it likes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Answer = Callable[[socket.socket, threading.Event], None]
"""Writes to a connection whose request has been read; the event says that nobody waits any more."""


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """Yield HOST:PORT at which `answer` is given to each connection, in a thread of its own."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)

        def one(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.settimeout(5)
                _request(connection)
                connection.settimeout(1)
                answer(connection, ended)
                connection.shutdown(socket.SHUT_RDWR)

        def listen() -> None:
            while not ended.is_set():
                with suppress(OSError):
                    connection, _ = server.accept()
                    threading.Thread(target=one, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            host, port = server.getsockname()
            yield f"{host}:{port}"
        finally:
            ended.set()
            thread.join()


def says(*parts: bytes) -> Answer:
    """Sends `parts` and closes."""

    def answer(connection: socket.socket, ended: threading.Event) -> None:
        for part in parts:
            connection.sendall(part)

    return answer


def says_without_end(part: bytes, *, head: bytes = b"", pause_s: float = 0.0, most: int = 100_000) -> Answer:
    """Sends `head` and then `part`, again and again."""

    def answer(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(head)
        for _ in range(most):
            if ended.wait(pause_s) if pause_s else ended.is_set():
                return
            connection.sendall(part)

    return answer


def says_and_waits(*parts: bytes) -> Answer:
    """Sends `parts` and keeps the connection open."""

    def answer(connection: socket.socket, ended: threading.Event) -> None:
        for part in parts:
            connection.sendall(part)
        ended.wait(60)

    return answer


def http(body: bytes, content_type: str = "", *, status: str = "200 OK", length: int | str | None = None) -> bytes:
    """A whole answer; without `length`, that of the body."""
    kind = f"Content-Type: {content_type}\r\n" if content_type else ""
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\n{kind}Content-Length: {size}\r\nConnection: close\r\n\r\n".encode() + body


def _request(connection: socket.socket) -> None:
    received = b""
    while b"\r\n\r\n" not in received and len(received) < 1 << 16:
        part = connection.recv(4096)
        if not part:
            return
        received += part
