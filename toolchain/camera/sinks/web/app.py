"""What is served: the page and its files, the two streams, and the newest answer alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import toolchain
from toolchain.camera.sinks.web.streams import Channel

STATIC = Path(__file__).with_name("static")
FILES = {
    "/": (STATIC / "index.html", "text/html"),
    "/app.js": (STATIC / "app.js", "text/javascript"),
    "/style.css": (STATIC / "style.css", "text/css"),
    "/icon.svg": (STATIC / "icon.svg", "image/svg+xml"),
    # Found without importing `toolchain.pages`, which needs Jinja: a device does not have that.
    "/page.css": (Path(toolchain.__file__).parent / "pages" / "page.css", "text/css"),
}
"""Every file that can be asked for, by its place in the URL. They are read once: nothing that a viewer sends
becomes the path of a file."""


def make_app(pictures: Channel, answers: Channel, now: Callable[[], bytes]) -> Starlette:
    """The application, without any thought of who may ask (see `guard`). `now` gives the newest answer as JSON."""

    async def answer(_: Request) -> Response:
        return Response(now() + b"\n", media_type="application/json")

    async def follow_pictures(_: Request) -> Response:
        return pictures.response()

    async def follow_answers(_: Request) -> Response:
        return answers.response()

    streams = {"/answer": answer, "/answers": follow_answers, "/picture": follow_pictures}
    routes = [Route(path, endpoint, methods=["GET"]) for path, endpoint in streams.items()]
    routes += [Route(path, _file(*found), methods=["GET"]) for path, found in FILES.items()]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False  # it would answer with the name that the request came with
    return app


def _file(path: Path, media_type: str) -> Callable[[Request], Response]:
    content = path.read_bytes()

    async def endpoint(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return endpoint  # type: ignore[return-value]
