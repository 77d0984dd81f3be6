"""uvicorn in a thread of its own, which stops within a time limit."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
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
FINISH_S = 0.5
"""How long viewers have to read the end of their streams when the server stops."""
STOP_LIMIT_S = 2.5


class Connection(H11Protocol):
    """uvicorn's connection, which buffers one message at most, and does not wait for a viewer forever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # The next message waits until the system has taken all of the previous one.
        transport.set_write_buffer_limits(high=0)
        self._seen: tuple[Any, ...] = ()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._watcher.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        idle = self.cycle is None or self.cycle.response_complete
        seen = (waiting, self.cycle)
        if (waiting or idle) and seen == self._seen:
            self.transport.abort()
            return
        self._seen = seen
        self._watcher = self.loop.call_later(STUCK_S, self._watch)


class _Telling:
    """`app`; its first error is reported, since uvicorn's log is off."""

    def __init__(self, app: ASGIApp, reporter: Reporter) -> None:
        self._app = app
        self._reporter = reporter
        self._told = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            if not self._told:
                self._told = True
                self._reporter.warn(f"the web view failed to answer a request: {error!r}")
            raise


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
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self.loop = asyncio.new_event_loop()
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
