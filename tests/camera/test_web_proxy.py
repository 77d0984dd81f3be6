"""The page behind a reverse proxy: with a prefix before its paths, and with the name that the viewer asked by."""

from __future__ import annotations

import http.client
import http.cookiejar
import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest

from tests.web_support import ABOUT, BROWSER, HERE, LIMIT_S, Chromium, answer, ask, place, wait_until
from toolchain.camera.sinks.web import Address, WebView
from toolchain.errors import BadInputError
from toolchain.system.progress import Silent

TOKEN = "a-token-of-a-sensible-length"
NAME = "cameras.localhost"
"""A name that browsers take for this machine without asking anybody, and that is none of the page's own."""


@contextmanager
def proxied(shown: WebView, prefix: str, *, pass_host: bool = True) -> Iterator[str]:
    """A proxy that shows `shown` below `prefix`, as nginx's `proxy_pass` does; where it can be asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith(prefix):
                self.send_error(404)
                return
            upstream = http.client.HTTPConnection(*place(shown), timeout=LIMIT_S)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            if not pass_host:
                del headers["Host"]
            upstream.request("GET", "/" + self.path.removeprefix(prefix), headers=headers)
            response = upstream.getresponse()
            self.send_response_only(response.status)
            for name, value in response.getheaders():
                if name.lower() not in {"transfer-encoding", "connection"}:
                    self.send_header(name, value)
            self.end_headers()
            try:
                while data := response.read1(65536):
                    self.wfile.write(data)
            except OSError:
                pass  # the viewer has gone
            finally:
                upstream.close()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://{NAME}:{server.server_port}{prefix}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def view(address: Address = HERE, token: str | None = None, hosts: tuple[str, ...] = ()) -> Iterator[WebView]:
    with WebView(address, ABOUT, token=token, hosts=hosts, reporter=Silent()) as shown:
        yield shown


class Viewer:
    """Follows redirects and keeps cookies by path, as browsers do."""

    def __init__(self) -> None:
        self.cookies = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy())
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.cookies)
        )

    def open(self, url: str) -> http.client.HTTPResponse:
        # The name is this machine's without being looked up; the Host header has it.
        parts = urlsplit(url)
        request = urllib.request.Request(url.replace(parts.netloc, f"127.0.0.1:{parts.port}", 1))
        request.add_unredirected_header("Host", parts.netloc)
        response: http.client.HTTPResponse = self._opener.open(request, timeout=LIMIT_S)
        return response


@pytest.mark.parametrize("prefix", ["/cam/", "/", "/a/deep/place/"])
@pytest.mark.parametrize("address", [HERE, Address("0.0.0.0", 0)])
def test_a_token_leads_to_the_page_below_a_prefix(prefix: str, address: Address) -> None:
    with view(address, TOKEN) as shown, proxied(shown, prefix) as url:
        shown.show(answer(7))
        viewer = Viewer()
        with viewer.open(f"{url}?token={TOKEN}") as page:
            assert page.status == 200
            assert urlsplit(page.url).path == prefix
            assert not urlsplit(page.url).query
            html = page.read().decode()
        [cookie] = viewer.cookies
        assert cookie.path == (prefix.rstrip("/") or "/"), "nothing else that the proxy serves gets it"
        for name in [*re.findall(r'(?:href|src)="([^"]+)"', html), "answer"]:
            with viewer.open(urljoin(url, name)) as found:
                assert found.status == 200, name
        with viewer.open(urljoin(url, "answers")) as events:
            while not (line := events.readline()).startswith(b"data: "):
                pass
            assert json.loads(line[6:])["answer"]["frame"] == 7
            assert events.headers["X-Accel-Buffering"] == "no"
        with viewer.open(urljoin(url, "picture")) as pictures:
            assert pictures.readline() == b"--edgetl-picture\r\n"


@pytest.mark.parametrize("path", ["answer", "app.js", "not/there"])
def test_a_token_on_any_address_leads_to_the_page(path: str) -> None:
    with view(token=TOKEN) as shown:
        response, _ = ask(shown, f"/{path}?token={TOKEN}")
        assert (
            urljoin(f"http://proxy/cam/{path}?token={TOKEN}", response.headers["location"]) == "http://proxy/cam/"
        )


def test_without_a_token_a_name_must_be_known() -> None:
    with view() as shown, proxied(shown, "/cam/") as url, pytest.raises(urllib.error.HTTPError) as raised:
        Viewer().open(url)
    assert raised.value.code == 403
    said = raised.value.read().decode()
    assert "--web-host NAME" in said
    assert "--web-token TOKEN" in said
    assert NAME not in said, "nothing is reflected"
    with view(hosts=("other.example", NAME.upper())) as shown, proxied(shown, "/cam/") as url:
        assert Viewer().open(url).status == 200
        assert ask(shown, Host="127.0.0.1")[0].status == 200
        assert ask(shown, Host="evil.example")[0].status == 403
    with view() as shown, proxied(shown, "/cam/", pass_host=False) as url:
        assert Viewer().open(url).status == 200


def test_with_a_token_any_name_will_do_and_without_the_token_none() -> None:
    with view(token=TOKEN) as shown:
        for host in ("cam.example", "127.0.0.1", "[::1]:80"):
            assert ask(shown, "/answer", Host=host, Authorization=f"Bearer {TOKEN}")[0].status == 200
            assert ask(shown, "/answer", Host=host)[0].status == 401


@pytest.mark.parametrize("name", ["", " ", "a b", "http://cam.example", "cam.example/x", "[::1", "*", "me@host"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(BadInputError, match="no name of a host"):
        WebView(HERE, ABOUT, hosts=(name,), reporter=Silent())


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_a_browser_shows_it_below_a_prefix(tmp_path: Path) -> None:
    chromium = Chromium(tmp_path)
    try:
        with view(token=TOKEN) as shown, proxied(shown, "/cam/") as url:
            chromium.open(f"{url}?token={TOKEN}")
            wait_until(lambda: shown.viewers, 20)
            shown.show(answer(3))
            chromium.until("document.getElementById('label')?.textContent === 'red cat'")
            chromium.until("document.getElementById('picture')?.naturalWidth > 0")
            assert chromium.value("location.pathname + location.search") == "/cam/"
    finally:
        chromium.close()
