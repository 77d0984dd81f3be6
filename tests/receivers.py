"""Those who receive answers: a real broker (mosquitto) and a real HTTP server, which can be stopped and started."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PLACES = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
MOSQUITTO = shutil.which("mosquitto", path=PLACES)
LIMIT_S = 15.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A mosquitto on this machine, at a port that stays the same. It keeps nothing on disk."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._lines = lines or ("allow_anonymous true",)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        assert MOSQUITTO
        file = self._folder / "mosquitto.conf"
        file.write_text("\n".join([f"listener {self.port} 127.0.0.1", "persistence false", *self._lines]) + "\n")
        log = (self._folder / "mosquitto.log").open("ab")
        self._process = subprocess.Popen([MOSQUITTO, "-c", str(file)], stdout=log, stderr=log)
        end = time.monotonic() + LIMIT_S
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert time.monotonic() < end, "mosquitto did not start"
            time.sleep(0.01)

    def freeze(self) -> None:
        """Answer nothing any more, as a machine without power: no connection is closed."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def password_file(folder: Path, user: str, password: str) -> Path:
    """A file of mosquitto's with one user."""
    file = folder / "users"
    program = shutil.which("mosquitto_passwd", path=PLACES)
    assert program
    subprocess.run([program, "-b", "-c", str(file), user, password], check=True, capture_output=True)
    file.chmod(0o644)
    return file


class Subscriber:
    """Keeps all messages of a broker in their order, and which of them were retained from before."""

    def __init__(self, port: int, user: str | None = None, password: str | None = None) -> None:
        from paho.mqtt.client import CallbackAPIVersion, Client

        self.messages: list[tuple[str, str]] = []
        self.retained: dict[str, str] = {}
        ready = threading.Event()

        def on_message(client: object, data: object, message: Any) -> None:
            text = message.payload.decode()
            self.messages.append((message.topic, text))
            if message.retain:
                self.retained[message.topic] = text

        self._client = Client(CallbackAPIVersion.VERSION2)
        if user:
            self._client.username_pw_set(user, password)
        self._client.on_connect = lambda client, *_: client.subscribe("#")
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_message = on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert ready.wait(LIMIT_S)

    def of(self, topic: str) -> list[str]:
        return [text for name, text in self.messages if name == topic]

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Hook:
    """An HTTP server at a port that stays the same. It keeps what is posted to it.

    `answers` are the status codes of the first requests, then it is 200; `wait_s` passes before each.
    """

    def __init__(self, answers: Sequence[int] = (), headers: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        self.got: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.codes: list[int] = list(answers)
        self.wait: Callable[[], object] = lambda: None
        self._headers = headers or {}
        self._server: ThreadingHTTPServer | None = None
        self.url = f"http://127.0.0.1:{self.port}/hook"

    def __enter__(self) -> Hook:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.wait()
                hook.paths.append(self.path)
                hook.headers.append(dict(self.headers.items()))
                code = hook.codes.pop(0) if hook.codes else 200
                if code == 200:
                    hook.got.append(json.loads(body))
                with suppress(OSError):
                    self.send_response(code)
                    for name, value in hook._headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            do_GET = do_POST  # noqa: N815 - a redirection that is followed would come like this

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def kill(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
