"""The page of a review: its files, its pictures, and decisions, which come as JSON and from this page only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import cv2
import msgspec
import numpy as np
from msgspec import Meta
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import toolchain
from toolchain.camera.sinks.web import Address, in_url, is_loopback, listen, reachable
from toolchain.camera.sinks.web.guard import LOCAL_NAMES, Guard, check_name, check_token, make_token
from toolchain.camera.sinks.web.server import Server
from toolchain.errors import BadInputError, EdgetlError
from toolchain.images.encoded import held, read_bytes
from toolchain.images.preprocess import decode
from toolchain.review.items import MAX_FOLD
from toolchain.review.session import Review
from toolchain.system import files
from toolchain.system.masking import Readable
from toolchain.system.progress import Reporter

STATIC = Path(__file__).with_name("static")
CAMERA = Path(toolchain.__file__).parent / "camera" / "sinks" / "web" / "static"
FILES = {
    "/": (STATIC / "index.html", "text/html"),
    "/app.js": (STATIC / "app.js", "text/javascript"),
    "/style.css": (STATIC / "style.css", "text/css"),
    "/icon.svg": (CAMERA / "icon.svg", "image/svg+xml"),
    "/page.css": (Path(toolchain.__file__).parent / "pages" / "page.css", "text/css"),
}
SIDES = {"small": 360, "large": 1400}
"""Longest edges of pictures in pixels."""
MAX_BODY_BYTES = 1 << 20


class _Decision(msgspec.Struct, forbid_unknown_fields=True):
    do: Literal["move", "keep", "set-aside", "undo", "finish"]
    numbers: Annotated[list[int], Meta(max_length=MAX_FOLD)] = []
    label: str = ""


class ReviewPage:
    """Serves `review` at `address` while it is entered. `token` and `hosts` are those of `camera --web`.

    Entering raises BadInputError or MissingError if the address is not available.
    """

    def __init__(
        self,
        review: Review,
        address: Address,
        *,
        token: str | None = None,
        hosts: Sequence[str] = (),
        reporter: Reporter,
    ) -> None:
        self._review = review
        self._address = address
        self._token = check_token(token) if token is not None else None
        self._hosts = [check_name(name) for name in hosts]
        self._reporter = reporter
        self._server: Server | None = None
        self.finished: threading.Event = threading.Event()
        """Set when the person on the page says so."""
        self.url: str = ""

    def __enter__(self) -> ReviewPage:
        listening = listen(self._address)
        host, port = listening.getsockname()[:2]
        local = is_loopback(host)
        token = self._token or (None if local else make_token())
        query = f"?token={quote(token, safe='')}" if token else ""
        self.url = f"http://{in_url(reachable(host))}:{port}/{query}"
        app = make_app(self._review, self.finished.set)
        guarded = Guard(app, token=token, names={*LOCAL_NAMES, host, *self._hosts}, port=port)
        self._server = Server(guarded, listening, lambda: None, self._reporter)
        self._server.start()
        # A token that was given is known already, and these lines end up in logs.
        url = self.url.partition("?")[0] if self._token else self.url
        if local:
            self._reporter.say(Readable(f"review at {url}{', with the token' if self._token else ''}"))
        else:
            known = "the token" if self._token else "this address"
            self._reporter.warn(Readable(f"other machines can review, unencrypted, if they know {known}: {url}"))
        return self

    def __exit__(self, *_: object) -> None:
        if self._server:
            self._server.stop()


def make_app(review: Review, finish: Callable[[], None]) -> Starlette:
    """The application without access control. `finish` is called when the page says that the review is over."""

    def items(_: Request) -> Response:
        return _json(review.state())

    def picture(request: Request) -> Response:
        side = SIDES.get(request.path_params["size"])
        if side is None:
            return Response(status_code=404)
        try:
            return Response(_jpeg(review.path(request.path_params["number"]), side), media_type="image/jpeg")
        except (EdgetlError, OSError):
            return Response(status_code=404)

    async def decide(request: Request) -> Response:
        if refusal := _refusal(request):
            return refusal
        body = await request.body()
        return await _in_thread(lambda: _decide(review, finish, body))

    routes = [
        Route("/items", items, methods=["GET"]),
        Route("/pictures/{size}/{number:int}", picture, methods=["GET"]),
        Route("/decide", decide, methods=["POST"]),
    ]
    routes += [Route(path, _file(*found), methods=["GET"]) for path, found in FILES.items()]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False  # it would redirect to the Host of the request
    return app


def _decide(review: Review, finish: Callable[[], None], body: bytes) -> Response:
    try:
        asked = msgspec.json.decode(body, type=_Decision)
    except msgspec.DecodeError as error:
        return _json({"error": f"this is no decision: {error}"}, 400)
    try:
        if asked.do == "move":
            review.move(asked.numbers, asked.label)
        elif asked.do == "keep":
            review.keep(asked.numbers)
        elif asked.do == "set-aside":
            review.set_aside(asked.numbers)
        elif asked.do == "undo":
            asked.numbers = list(review.undo())
    except EdgetlError as error:
        return _json({"error": f"{error.message}. {error.hint}"}, 409)
    except OSError as error:  # a full disk: what was confirmed before is safe
        return _json({"error": f"nothing was moved: {error.strerror or error}"}, 507)
    if asked.do == "finish":
        finish()
    return _json({"numbers": asked.numbers, "done": review.done(), "classes": review.classes})


def _refusal(request: Request) -> Response | None:
    """Refuse a decision that another site's page may have sent: forms cannot send JSON, and browsers say where a
    request comes from."""
    headers = request.headers
    if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return _json({"error": "decisions come as application/json"}, 415)
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return _json({"error": "other sites may not decide"}, 403)
    if int(headers.get("content-length", "0") or 0) > MAX_BODY_BYTES or "content-length" not in headers:
        return _json({"error": "too long"}, 413)
    return None


async def _in_thread(work: Callable[[], Response]) -> Response:
    from starlette.concurrency import run_in_threadpool

    return await run_in_threadpool(work)


def _jpeg(path: Path, side: int) -> bytes:
    """The picture in a file, no side longer than `side`, as a JPEG: browsers do not show all that edgetl reads."""
    with held(path):
        image = decode(read_bytes(path), path.name)
    scale = side / max(image.shape[:2])
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise BadInputError(f"{path} cannot be shown")
    return data.tobytes()


def _json(value: Any, status: int = 200) -> Response:
    return Response(files.to_json(value, indent=0), status, media_type="application/json")


def _file(path: Path, media_type: str) -> Callable[[Request], Response]:
    content = path.read_bytes()

    async def endpoint(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return endpoint  # type: ignore[return-value]
