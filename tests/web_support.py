"""Answers to show, and viewers that are real: sockets, and Chromium where there is one."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from tests.clips import plain
from toolchain.camera.answering import Answered
from toolchain.camera.frames import BgrImage, Frame
from toolchain.camera.sinks.web import Address, WebView
from toolchain.classifier import Prediction
from toolchain.system.progress import Reporter, Silent

HERE = Address("127.0.0.1", 0)
ABOUT = {"artifact": "model.int8.onnx", "device": "ort:cpu", "source": "camera 0"}
LIMIT_S = 10.0
BITS = 16
END_OF_PICTURE = b"\r\n--edgetl-picture\r\n"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def answer(
    number: int = 0, bgr: BgrImage | None = None, *, rejected: bool = False, label: str = "red_cat"
) -> Answered:
    top = ((label, 0.75), ("green_dog", 0.2), ("fish", 0.05))
    prediction = Prediction(label, 0.75, rejected, top, np.zeros(3, np.float32))
    bgr = plain("red") if bgr is None else bgr
    frame = Frame(number, numbered(bgr, number) if bgr.size else bgr, 100.0, number / 30)
    return Answered(frame, prediction, age_ms=31.4, infer_ms=5.25, fps=29.9)


@contextmanager
def view(
    address: Address = HERE,
    reporter: Reporter | None = None,
    token: str | None = None,
    about: Mapping[str, str] = ABOUT,
) -> Iterator[WebView]:
    with WebView(address, about, token=token, reporter=reporter or Silent()) as shown:
        yield shown


def place(shown: WebView) -> tuple[str, int]:
    """Host and port that a view is at, seen from this machine."""
    parts = urlsplit(shown.url)
    assert parts.port
    return "127.0.0.1", parts.port


def ask(
    shown: WebView, path: str = "/", method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    """One whole answer. Underlines in the names of headers stand for dashes."""
    connection = http.client.HTTPConnection(*place(shown), timeout=LIMIT_S)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def wait_until(true: Callable[[], Any], limit_s: float = LIMIT_S) -> Any:
    """Wait until something is so, and return it; fail after `limit_s`."""
    end = time.monotonic() + limit_s
    while not (found := true()):
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.005)
    return found


def numbered(bgr: BgrImage, number: int) -> BgrImage:
    """A copy of a picture with a number in its first rows: 16 squares, white for each bit that is set."""
    marked = bgr.copy()
    side = bgr.shape[1] // BITS
    for bit in range(BITS):
        marked[:side, bit * side : (bit + 1) * side] = 255 * (number >> bit & 1)
    return marked


def number_of(bgr: BgrImage) -> int:
    """The number that `numbered` wrote."""
    side = bgr.shape[1] // BITS
    squares = (bgr[:side, bit * side : (bit + 1) * side] for bit in range(BITS))
    return sum(int(square.mean() > 127) << bit for bit, square in enumerate(squares))


class Viewer:
    """Follows one of the two streams, when it is told to read."""

    def __init__(self, shown: WebView, path: str, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(LIMIT_S)
        self.socket.connect(place(shown))
        # HTTP/1.0: what comes is not cut into chunks.
        self.socket.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
        self._file = self.socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers = self._headers()

    def _headers(self) -> dict[str, str]:
        found = {}
        while line := self._file.readline().strip().decode():
            name, _, value = line.partition(": ")
            found[name.lower()] = value
        return found

    def jpeg(self) -> bytes:
        """The next picture in the stream, as it was sent."""
        while self._file.readline().strip():
            pass  # the boundary and the head of the part
        found = bytearray()
        while not found.endswith(END_OF_PICTURE):
            line = self._file.readline()
            assert line, "the stream has ended"
            found += line
        # What was read of the next part is its boundary; its head is next.
        return bytes(found.removesuffix(END_OF_PICTURE))

    def picture(self) -> tuple[int, BgrImage]:
        """The next picture in the stream, with the number that `numbered` wrote into it."""
        bgr = np.asarray(cv2.imdecode(np.frombuffer(self.jpeg(), np.uint8), cv2.IMREAD_COLOR), np.uint8)
        return number_of(bgr), bgr

    def event(self) -> dict[str, Any]:
        """The next event in the stream."""
        while not (line := self._file.readline()).startswith(b"data: "):
            assert line, "the stream has ended"
        found: dict[str, Any] = json.loads(line[6:])
        return found

    def rest(self) -> bytes:
        return self._file.read()

    def close(self) -> None:
        self._file.close()
        self.socket.close()


PLACE_PIPES = """
import fcntl, os, sys
first, second = (fcntl.fcntl(int(pipe), fcntl.F_DUPFD, 64) for pipe in sys.argv[1:3])
os.dup2(first, 3)
os.dup2(second, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads from descriptor 3 and writes to 4; the pipes are first moved out of the way, they might be each
other's. The new process does that: what runs between fork and exec may crash beside the threads of a runtime."""


class Chromium:
    """A headless Chromium with one page, told what to do by its DevTools protocol over two pipes."""

    def __init__(self, folder: Path, *options: str) -> None:
        assert BROWSER
        to_browser, self._to = os.pipe()
        self._from, from_browser = os.pipe()

        self.net_log = folder / "net.json"
        place = [sys.executable, "-c", PLACE_PIPES, str(to_browser), str(from_browser)]
        words = [*place, BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
                 "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
                 f"--user-data-dir={folder / 'profile'}", f"--log-net-log={self.net_log}",
                 *options, "about:blank"]  # fmt: skip
        self._process = subprocess.Popen(
            words, pass_fds=(to_browser, from_browser), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_browser)
        os.close(from_browser)
        self._read = os.fdopen(self._from, "rb")
        self._number = 0
        self._session = ""
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def tell(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            text = bytearray()
            while (letter := self._read.read(1)) != b"\0":
                assert letter, "Chromium has ended"
                text += letter
            found = json.loads(text)
            if found.get("id") == self._number:
                assert "error" not in found, found
                return found["result"]

    def open(self, url: str, width: int = 1100, height: int = 800, *, dark: bool = False) -> None:
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 500)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tell("Emulation.setEmulatedMedia", features=[scheme])
        self.tell("Page.navigate", url=url)

    def value(self, script: str) -> Any:
        """What `script` is in the page; a promise is waited for."""
        found = self.tell("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str) -> Any:
        return wait_until(lambda: self.value(script), 20)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.tell("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        self._session = ""
        self.tell("Browser.close")
        try:
            self._process.wait(10)
        finally:
            self._process.kill()
            self._process.wait()
            self._read.close()
            os.close(self._to)
