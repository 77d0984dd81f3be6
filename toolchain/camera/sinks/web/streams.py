"""The application: the page and its files, the newest answer, and streams of answers and pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

import toolchain
from toolchain.camera.sinks.web.metrics import MEDIA_TYPE
from toolchain.camera.sinks.web.publisher import BOUNDARY, STREAM_START

T = TypeVar("T")

MAX_AUDIENCE = 16
"""How many viewers one channel has at most."""
STATIC = Path(__file__).with_name("static")
FILES = {
    "/": (STATIC / "index.html", "text/html"),
    "/app.js": (STATIC / "app.js", "text/javascript"),
    "/style.css": (STATIC / "style.css", "text/css"),
    "/icon.svg": (STATIC / "icon.svg", "image/svg+xml"),
    # Found without importing `toolchain.pages`, which needs Jinja: a device does not have that.
    "/page.css": (Path(toolchain.__file__).parent / "pages" / "page.css", "text/css"),
}
"""The files by their paths in the URL. They are read once: nothing that a viewer sends becomes a path."""


class LatestValue(Generic[T]):
    """The newest of a sequence of values, for many readers at their own pace. Used in the thread of one event
    loop."""

    def __init__(self) -> None:
        self._value: T | None = None
        self._version = 0
        self._closed = False
        self._changed = asyncio.Event()

    def put(self, value: T) -> None:
        self._value = value
        self._version += 1
        self._wake()

    def forget(self) -> None:
        """Forget the value, so that later readers do not get an old one."""
        self._value = None

    def close(self) -> None:
        """Let all present and later readers know that nothing follows."""
        self._closed = True
        self._wake()

    async def newer(self, than: int) -> tuple[int, T] | None:
        """Wait for a version above `than` (0: any); return it with its value, or None if nothing follows."""
        while not self._closed:
            if self._value is not None and self._version > than:
                return self._version, self._value
            await self._changed.wait()
        return None

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Channel:
    """A stream that many viewers follow. Used in the event loop; `changed` is called when one comes or goes."""

    def __init__(self, media_type: str, start: bytes, changed: Callable[[], None]) -> None:
        self.viewers: int = 0
        self._media_type = media_type
        self._start = start
        self._changed = changed
        self._newest: LatestValue[bytes] = LatestValue()

    def put(self, data: bytes) -> None:
        if self.viewers:
            self._newest.put(data)

    def close(self) -> None:
        self._newest.close()

    def response(self) -> Response:
        """The stream for one more viewer, or a refusal."""
        if self.viewers >= MAX_AUDIENCE:
            return PlainTextResponse("Too many viewers. Try again later.\n", 503, {"Retry-After": "10"})
        return _Stream(self, {"Content-Type": self._media_type})

    async def follow(self, send: Send) -> None:
        """Send the newest value again and again, each value once."""
        await _body(send, self._start)
        version = 0
        while True:
            # The server accepts one message before the viewer has read the previous one, and waits at the next. It
            # waits at this empty one, so that the value is chosen only when it can be sent.
            await _body(send, b"")
            found = await self._newest.newer(version)
            if found is None:
                break
            version, data = found
            await _body(send, data)

    def come(self) -> None:
        self.viewers += 1
        self._changed()

    def go(self) -> None:
        self.viewers -= 1
        if not self.viewers:
            self._newest.forget()
        self._changed()


def pictures(changed: Callable[[], None]) -> Channel:
    """Pictures that replace each other (MJPEG)."""
    return Channel(f"multipart/x-mixed-replace; boundary={BOUNDARY}", STREAM_START, changed)


def answers(changed: Callable[[], None]) -> Channel:
    """Server-sent events. A viewer who loses the connection connects again after two seconds."""
    return Channel("text/event-stream; charset=utf-8", b"retry: 2000\n\n", changed)


class _Stream(Response):
    def __init__(self, channel: Channel, headers: Mapping[str, str]) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self._channel = channel
        # Proxies such as nginx would buffer the response.
        self.init_headers({**headers, "X-Accel-Buffering": "no"})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            await self._until_gone(receive, send)
        await _body(send, b"", more=False)

    async def _until_gone(self, receive: Receive, send: Send) -> None:
        self._channel.come()
        following = asyncio.ensure_future(self._channel.follow(send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            done, _ = await asyncio.wait({following, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._channel.go()
            following.cancel()
            leaving.cancel()
        if following in done:
            following.result()


async def _left(receive: Receive) -> None:
    message: Message = {}
    while message.get("type") != "http.disconnect":
        message = await receive()


async def _body(send: Send, data: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


def make_app(
    pictures: Channel, answers: Channel, now: Callable[[], bytes], metrics: Callable[[], bytes]
) -> Starlette:
    """The application without access control (see `guard`). `now` returns the newest answer as JSON, `metrics` the
    figures for Prometheus."""

    async def answer(_: Request) -> Response:
        return Response(now() + b"\n", media_type="application/json")

    async def figures(_: Request) -> Response:
        return Response(metrics(), headers={"Content-Type": MEDIA_TYPE})

    async def follow_pictures(_: Request) -> Response:
        return pictures.response()

    async def follow_answers(_: Request) -> Response:
        return answers.response()

    streams = {"/answer": answer, "/metrics": figures, "/answers": follow_answers, "/picture": follow_pictures}
    routes = [Route(path, endpoint, methods=["GET"]) for path, endpoint in streams.items()]
    routes += [Route(path, _file(*found), methods=["GET"]) for path, found in FILES.items()]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False  # it would redirect to the Host of the request
    return app


def _file(path: Path, media_type: str) -> Callable[[Request], Response]:
    content = path.read_bytes()

    async def endpoint(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return endpoint  # type: ignore[return-value]
