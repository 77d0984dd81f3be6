"""uvicorn in a thread of its own, which stops within a time limit."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from threading import Thread
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from toolchain.camera.sinks.web.guard import SECURITY_HEADERS
from toolchain.system.progress import Reporter

STUCK_S = 10.0
"""A connection is closed if the viewer reads nothing, or requests nothing, for so long."""
MAX_CONNECTIONS = 128
"""Connections at once, of which one address may have half. For a new one, the longest idle one is closed."""
WAITING = 128
"""How many connections the system holds until they are accepted."""
BACKLOG = 16
"""How many connections asyncio accepts at once, before it is known which of them are too many."""
KEPT_FILES = 48
"""File descriptors that are left to the rest of the process."""
WARN_AGAIN_S = 60.0
"""The least time between two warnings about requests that fail."""
FINISH_S = 0.5
"""How long viewers have to read the end of their streams when the server stops."""
STOP_LIMIT_S = 2.5


class Connection(H11Protocol):
    """uvicorn's connection, which buffers one message at most, and does not wait for a viewer forever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.since_s: float = self.loop.time()
        make_room(self)
        # The next message waits until the system has taken all of the previous one.
        transport.set_write_buffer_limits(high=0)
        self._seen: tuple[Any, ...] = ()
        self._watch()

    @property
    def is_idle(self) -> bool:
        """Whether it has no request that is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_lost(self, exc: Exception | None) -> None:
        self._watcher.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        seen = (waiting, self.cycle)
        if (waiting or self.is_idle) and seen == self._seen:
            self.transport.abort()
            return
        self._seen = seen
        self._watcher = self.loop.call_later(STUCK_S, self._watch)


def make_room(new: Connection) -> None:
    """Close a connection if there are too many: the longest idle one of the same address, if that has too many,
    else the longest idle one of all. If none is idle, close `new`."""
    limit = connection_limit()
    everyone = [one for one in new.connections if isinstance(one, Connection) and not one.transport.is_closing()]
    same = [one for one in everyone if one.client and new.client and one.client[0] == new.client[0]]
    crowd = same if len(same) > max(1, limit // 2) else everyone if len(everyone) > limit else []
    if crowd:
        idle = [one for one in crowd if one.is_idle and one is not new]
        min(idle, key=lambda one: one.since_s, default=new).transport.abort()


@lru_cache(maxsize=1)
def connection_limit() -> int:
    """How many connections there may be: fewer where a process may open few files (`ulimit -n`)."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(MAX_CONNECTIONS, max(4, (files - KEPT_FILES) // 2)) if files > 0 else MAX_CONNECTIONS


class _Telling:
    """`app`; its errors are reported, one a minute at most, since uvicorn's log is off."""

    def __init__(self, app: ASGIApp, reporter: Reporter) -> None:
        self._app = app
        self._reporter = reporter
        self._told_s = -WARN_AGAIN_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            now = time.monotonic()
            if now - self._told_s >= WARN_AGAIN_S:
                self._told_s = now
                self._reporter.warn(f"the web view failed to answer a request: {error!r}")
            raise


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for one in sockets or []:
            one.listen(WAITING)  # asyncio has set it to the number of connections that it accepts at once


class Server:
    """Serves `app` at a listening socket. `stopping` is called in the event loop to end the streams."""

    def __init__(
        self, app: ASGIApp, listening: socket.socket, stopping: Callable[[], None], reporter: Reporter
    ) -> None:
        self._listening = listening
        self._stopping = stopping
        config = uvicorn.Config(
            _Telling(app, reporter),
            http=Connection,
            ws="none",
            loop="asyncio",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            headers=list(SECURITY_HEADERS),
            backlog=BACKLOG,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        # Its own handler would write a traceback for each connection that cannot be accepted.
        self.loop.set_exception_handler(lambda loop, context: None)
        self._thread = Thread(target=self._serve, name="web view: server", daemon=True)

    def start(self) -> None:
        """Start serving. Outside of the main thread, uvicorn leaves signals alone."""
        self._thread.start()

    def stop(self) -> None:
        """End all streams, then all connections; returns within `STOP_LIMIT_S`."""
        self.call(self._stop)
        self._thread.join(STOP_LIMIT_S)

    def call(self, function: Callable[..., None], *values: Any) -> None:
        """Call `function` in the event loop soon; ignored once that is closed."""
        try:
            self.loop.call_soon_threadsafe(function, *values)
        except RuntimeError:
            if not self.loop.is_closed():
                raise

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._server.serve(sockets=[self._listening]))
            self.loop.run_until_complete(self._leave_nothing())
        finally:
            self.loop.close()

    async def _leave_nothing(self) -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=FINISH_S)

    def _stop(self) -> None:
        self._stopping()
        self._server.should_exit = True
        self.loop.call_later(FINISH_S, self._cut_off)

    def _cut_off(self) -> None:
        for connection in list(self._server.server_state.connections):
            if connection.transport:
                connection.transport.abort()
