"""A live stream on this machine: motion JPEG over HTTP, which can be cut, held up, and brought back."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2

from toolchain.camera.frames import BgrImage

Picture = Callable[[int], "BgrImage | bytes"]
"""The picture of a number; bytes are sent as they are, in the place of a JPEG."""


def free_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Stream:
    """Sends `picture(0)`, `picture(1)`, ... at `fps` to whoever asks. The numbers go on when it is cut and back.

    `port` is any free one, unless it is named.
    """

    def __init__(self, picture: Picture, fps: float = 30.0, port: int = 0) -> None:
        self._picture = picture
        self._fps = fps
        self._server: ThreadingHTTPServer | None = None
        self._cut = threading.Event()
        self._number = 0
        self.sent_s: dict[int, float] = {}
        """When each picture left, by the monotonic clock."""
        self.flowing = threading.Event()
        """Cleared, connections stay open and nothing comes."""
        self._port = port or free_port()
        self.url = f"http://127.0.0.1:{self._port}/live"

    def __enter__(self) -> Stream:
        self.back()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def back(self) -> None:
        """Listen, and let pictures flow."""
        stream = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stream._send(self)

            def log_message(self, *_: object) -> None:
                pass

        self._cut = threading.Event()
        self.flowing.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def cut(self) -> None:
        """Close all connections, and take no new ones."""
        self._cut.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _send(self, handler: BaseHTTPRequestHandler) -> None:
        cut = self._cut
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        due = time.monotonic()
        while not cut.is_set():
            if not self.flowing.wait(0.02):
                due = time.monotonic()
                continue
            picture = self._picture(self._number)
            data = picture if isinstance(picture, bytes) else cv2.imencode(".jpg", picture)[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.sent_s[self._number] = time.monotonic()
            self._number += 1
            try:
                handler.wfile.write(head.encode() + data + b"\r\n")
            except OSError:
                return
            due += 1 / self._fps
            time.sleep(max(0.0, due - time.monotonic()))
        with suppress(OSError):
            handler.connection.shutdown(socket.SHUT_RDWR)
