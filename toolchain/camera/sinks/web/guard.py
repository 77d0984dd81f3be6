"""Access control: the Host header, the token, and headers that keep other sites from reading the page."""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
from collections import Counter
from collections.abc import Collection
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from toolchain.errors import BadInputError

MIN_TOKEN = 16
MAX_TOKEN = 256
WRONG_TOKEN_S = 0.5
"""How long the response to a wrong token is delayed."""
MAX_WRONG = 4
"""How many responses to wrong tokens of one address may be pending; further wrong ones are refused at once."""
MAX_WRONG_OF_ALL = 64

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

SECURITY_HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), microphone=(), geolocation=()"),
)

_PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width"><title>edgetl</title><p>{}</p></html>'
)
_ASK = 'Open the address that edgetl printed, with its token. If you just did, <a href="./">go on</a>.'
_NAME = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")

_STRANGE_NAME = (
    "This page is shown at localhost only. If it may be shown by the name that this address has, as behind a "
    "proxy, start edgetl with <code>--web-host NAME</code>, or with <code>--web-token TOKEN</code>."
)


def make_token() -> str:
    """A random token of 256 bits."""
    return secrets.token_urlsafe(32)


def check_token(token: str) -> str:
    """`token` itself. Raises BadInputError if it is too short, or cannot be part of a header."""
    if not MIN_TOKEN <= len(token) <= MAX_TOKEN or not all("!" <= letter <= "~" for letter in token):
        raise BadInputError(
            f"a token has {MIN_TOKEN} to {MAX_TOKEN} letters, digits or signs, and no spaces",
            "Leave it out to have one made.",
        )
    return token


class Guard:
    """Passes permitted requests on to `app`: those with `token`, or, if there is none, those whose Host is one of
    `names`. `port` is the port of the server.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, names: Collection[str], port: int) -> None:
        self._app = app
        self._token = token.encode() if token else None
        # Browsers send a cookie to all ports of a host, so servers of other ports see it. It is not derived from
        # the token, which could otherwise be guessed from it.
        self._cookie_name = f"edgetl-{port}"
        self._cookie = make_token()
        self._names = names
        self._wrong: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refusal = await self._refusal(scope)
        await (refusal or self._app)(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        # With DNS rebinding, the name of another site points to this machine, and is the Host here. With a token,
        # any name will do: pages of that site know neither token nor cookie.
        if not self._token and (len(hosts) != 1 or _host_of(hosts[0]) not in self._names):
            return _page(_STRANGE_NAME, 403)
        if _from_another_site(headers):
            return _page("Other sites may not show this page.", 403)
        return await self._refusal_by_token(scope, headers) if self._token else None

    async def _refusal_by_token(self, scope: Scope, headers: Headers) -> Response | None:
        assert self._token
        address = scope["client"][0] if scope.get("client") else ""
        if _same(Request(scope).cookies.get(self._cookie_name), self._cookie.encode()):
            return None
        # Right tokens are let in however many wrong ones come from the same address, such as that of a proxy.
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return None if _same(bearer.strip(), self._token) else await self._refuse_wrong(address, 401)
        asked = parse_qs(scope["query_string"].decode("latin-1"), encoding="latin-1").get("token")
        if asked is None:
            return _page(_ASK, 401, {"WWW-Authenticate": "Bearer"})
        if not _same(asked[0], self._token):
            return await self._refuse_wrong(address, 403)
        # A relative redirect to the page, and a cookie without a path: only the browser knows the prefix that a
        # proxy adds, and other pages of the proxy get no cookie.
        clean = RedirectResponse("../" * (scope["path"].count("/") - 1) or "./", 303)
        clean.set_cookie(self._cookie_name, self._cookie, httponly=True, samesite="strict", path=None)
        return clean

    async def _refuse_wrong(self, address: str, status: int) -> Response:
        if self._wrong[address] >= MAX_WRONG or self._wrong.total() >= MAX_WRONG_OF_ALL:
            return _page("Too many wrong tokens.", 429, {"Retry-After": "1"})
        self._wrong[address] += 1
        try:
            await asyncio.sleep(WRONG_TOKEN_S)
        finally:
            self._wrong[address] -= 1
            self._wrong += Counter()  # forgets addresses with none
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
        return _page("This token is wrong. " + _ASK, status, headers)


def check_name(name: str) -> str:
    """A name or address for the Host header, normalised: without a port, in lower case.

    Raises BadInputError for an invalid name.
    """
    found = _host_of(name) if _NAME.fullmatch(name) else None
    if not found:
        raise BadInputError(f"{name!r} is no name of a host", "Name it as browsers do: --web-host cam.example.org.")
    return found


def _same(given: str | None, wanted: bytes) -> bool:
    return given is not None and hmac.compare_digest(given.encode("utf-8", "surrogateescape"), wanted)


def _host_of(host: str) -> str | None:
    """The name in `NAME` or `NAME:PORT`, in lower case."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _from_another_site(headers: Headers) -> bool:
    """Whether a page of another origin asks. It could not read the response, but would take up a viewer's slot."""
    site = headers.get("sec-fetch-site", "none")
    return site not in {"none", "same-origin"} and headers.get("sec-fetch-mode") != "navigate"


def _page(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return HTMLResponse(_PAGE.format(text), status, headers)
