"""Streams that do not end by themselves: each viewer gets the newest, at the viewer's own pace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from toolchain.camera.sinks.web.latest_value import LatestValue
from toolchain.camera.sinks.web.messages import BOUNDARY, STREAM_START

MAX_AUDIENCE = 16
"""Viewers of one channel at once."""


class Channel:
    """Something that many may follow. Lives in the event loop; `changed` is called when one comes or goes."""

    def __init__(self, media_type: str, start: bytes, changed: Callable[[], None]) -> None:
        self.viewers = 0
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
        """Send what is newest again and again, each thing once."""
        await _body(send, self._start)
        version = 0
        while True:
            # The server takes one message although the viewer has not read the one before, and waits at the next.
            # This one, of nothing, is where it waits: what follows is chosen when it can be sent.
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
    """Pictures that take each other's place (MJPEG)."""
    return Channel(f"multipart/x-mixed-replace; boundary={BOUNDARY}", STREAM_START, changed)


def answers(changed: Callable[[], None]) -> Channel:
    """Server-sent events. A viewer who loses the connection asks again after two seconds."""
    return Channel("text/event-stream; charset=utf-8", b"retry: 2000\n\n", changed)


class _Stream(Response):
    def __init__(self, channel: Channel, headers: Mapping[str, str]) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self._channel = channel
        # Proxies such as nginx would hold an answer back until they have a bufferful of it.
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
