"""The lesson as a page: what the camera sees, a button for each thing, and how good it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from toolchain.camera.sinks.web import Address, WebView
from toolchain.camera.sinks.web.publisher import Now, Publisher
from toolchain.camera.sinks.web.streams import make_app
from toolchain.errors import EdgetlError
from toolchain.system import files
from toolchain.system.progress import Reporter
from toolchain.teach.lesson import Lesson, State, headline, readable

MAX_ASKED = 4096
"""Bytes of what a viewer may send."""
STATIC = Path(__file__).with_name("static")
FILES = {
    "/": (STATIC / "index.html", "text/html"),
    "/teach.js": (STATIC / "teach.js", "text/javascript"),
    "/teach.css": (STATIC / "teach.css", "text/css"),
}
"""What goes before the camera's own page; the rest is shared with it."""


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """What a viewer wants done."""

    do: Literal["add", "start", "stop", "forget", "teach"]
    thing: str = ""


@dataclass(frozen=True)
class _Now(Now):
    lesson: State

    def json(self) -> bytes:
        document = json.loads(super().json())
        state = asdict(self.lesson)
        for thing in state["things"]:
            thing["readable"] = readable(thing["name"])
        document |= {"lesson": state, "headline": headline(self.lesson), "running": bool(document["about"])}
        if self.answered is not None and not self.answered.network:
            document["answer"] = None
        return files.to_json(document, indent=0).strip()


class _Publisher(Publisher):
    def __init__(self, lesson: Lesson, publisher: tuple[Callable[..., None], Reporter]) -> None:
        super().__init__({}, *publisher)
        self._lesson = lesson

    def now(self) -> Now:
        return _Now(**vars(super().now()), lesson=self._lesson.state())


class TeachPage(WebView):
    """Shows the lesson on a page, and does what its viewers press. Addresses, names and tokens as of `WebView`."""

    name = "the page"

    def __init__(
        self,
        address: Address,
        lesson: Lesson,
        *,
        token: str | None = None,
        hosts: Sequence[str] = (),
        reporter: Reporter,
    ) -> None:
        super().__init__(address, {}, token=token, hosts=hosts, reporter=reporter)
        self._publisher = _Publisher(lesson, (self._hand_on, reporter))
        self._app = make_app(self._pictures, self._answers, lambda: self._publisher.now().json(), self._figures)
        routes = [Route(path, _file(*found), methods=["GET"]) for path, found in FILES.items()]
        routes.append(Route("/do", _doing(lesson, lambda: self._publisher.now().json()), methods=["POST"]))
        self._app.router.routes[:0] = routes

    def __enter__(self) -> TeachPage:
        super().__enter__()
        return self


def _doing(lesson: Lesson, now: Callable[[], bytes]) -> Callable[[Request], Awaitable[Response]]:
    """What answers `POST /do` with the new state, or with what is wrong."""

    def act(asked: Asked) -> bytes:
        actions: Mapping[str, Callable[[], object]] = {
            "add": lambda: lesson.add(asked.thing),
            "start": lambda: lesson.start_take(asked.thing),
            "stop": lesson.stop_take,
            "forget": lambda: lesson.forget_take(asked.thing),
            "teach": lesson.teach,
        }
        actions[asked.do]()
        return now()

    async def endpoint(request: Request) -> Response:
        # Forms of other sites cannot send this type, and their scripts are not allowed to.
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return JSONResponse({"error": "send JSON"}, 415)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_ASKED:
                return JSONResponse({"error": "that is too long"}, 413)
        try:
            asked = msgspec.json.decode(body, type=Asked)
        except msgspec.DecodeError as error:
            return JSONResponse({"error": str(error)}, 400)
        try:
            return Response(await asyncio.to_thread(act, asked), media_type="application/json")
        except EdgetlError as error:
            return JSONResponse({"error": error.message, "hint": error.hint}, 409)

    return endpoint


def _file(path: Path, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    content = path.read_bytes()

    async def endpoint(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return endpoint
