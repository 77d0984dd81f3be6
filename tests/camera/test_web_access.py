"""Who may look, and what browsers are told."""

from __future__ import annotations

import hashlib
import hmac
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.conftest import Recorder
from tests.web_support import HERE, Viewer, answer, ask, place, view, wait_until
from toolchain.camera.sinks.web import Address, WebView
from toolchain.camera.sinks.web.guard import MAX_WRONG, SECURITY_HEADERS, WRONG_TOKEN_S
from toolchain.errors import BadInputError
from toolchain.system.progress import Silent

EVERYWHERE = Address("0.0.0.0", 0)
TOKEN = "a-token-of-a-sensible-length"
POLICY = dict(SECURITY_HEADERS)["Content-Security-Policy"]


def token_of(shown: WebView) -> str:
    return parse_qs(urlsplit(shown.url).query)["token"][0]


def test_here_no_token_is_needed() -> None:
    with view() as shown:
        assert "token" not in shown.url
        assert shown.url.startswith("http://127.0.0.1:")
        for path, kind in [("/", "text/html"), ("/app.js", "text/javascript"), ("/style.css", "text/css"),
                           ("/page.css", "text/css"), ("/icon.svg", "image/svg+xml"),
                           ("/answer", "application/json")]:  # fmt: skip
            response, body = ask(shown, path)
            assert (response.status, (response.headers["content-type"] or "").split(";")[0]) == (200, kind)
            assert body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9999", "127.0.0.1", "[::1]:80"])
def test_local_names(host: str) -> None:
    with view() as shown:
        assert ask(shown, Host=host)[0].status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil:80", "[::1", "", "0.0.0.0"]
)
def test_a_name_that_was_made_to_point_here_is_refused(host: str) -> None:
    with view() as shown:
        for path in ("/", "/answer", "/picture", "/answers"):
            response, body = ask(shown, path, Host=host)
            assert response.status == 403
            assert b"evil" not in body


def test_other_sites_cannot_show_it() -> None:
    with view() as shown:
        for site in ("cross-site", "same-site"):
            for path in ("/picture", "/answers", "/answer"):
                assert ask(shown, path, Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors")[0].status == 403
            assert ask(shown, "/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate")[0].status == 200
        assert ask(shown, "/answer", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors")[0].status == 200


def test_every_answer_has_the_security_headers() -> None:
    assert "unsafe" not in POLICY
    assert "default-src 'none'" in POLICY
    with view(EVERYWHERE) as shown:
        bearer = f"Bearer {token_of(shown)}"
        found = [
            ask(shown, "/", Authorization=bearer)[0],
            ask(shown, "/answer", Authorization=bearer)[0],
            ask(shown, "/picture", method="HEAD", Authorization=bearer)[0],
            ask(shown, "/answers", method="HEAD", Authorization=bearer)[0],
            ask(shown, "/nothing", Authorization=bearer)[0],
            ask(shown, "/", method="POST", Authorization=bearer)[0],
            ask(shown, "/")[0],
            ask(shown, "/?token=wrong")[0],
            ask(shown, f"/?token={token_of(shown)}")[0],
        ]
        assert [response.status for response in found] == [200, 200, 200, 200, 404, 405, 401, 403, 303]
        for response in found:
            for name, value in SECURITY_HEADERS:
                assert response.headers.get_all(name) == [value]
            assert response.headers["server"] is None


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_get_and_head(method: str) -> None:
    with view() as shown:
        for path in ("/", "/picture", "/answers", "/answer"):
            assert ask(shown, path, method=method)[0].status == 405


@pytest.mark.parametrize(
    "path", ["/../pyproject.toml", "/static/", "/%2e%2e/view.py", "/index.html", "/answer/", "//"]
)
def test_nothing_else_is_served_and_nothing_reflected(path: str) -> None:
    with view() as shown:
        response, body = ask(shown, path)
        assert (response.status, body) == (404, b"Not Found")
        assert response.headers["location"] is None


def test_the_address_is_told() -> None:
    here, elsewhere = Recorder(), Recorder()
    with view(reporter=here) as shown:
        assert (here.said, here.warned) == ([f"watch at {shown.url}"], [])
    with view(EVERYWHERE, reporter=elsewhere) as shown:
        assert elsewhere.said == []
        assert [line for line in elsewhere.warned if shown.url in line and "other machines" in line]


def test_from_elsewhere_a_token_is_needed_and_made() -> None:
    with view(EVERYWHERE) as one, view(EVERYWHERE) as other:
        assert len(token_of(one)) >= 43
        assert token_of(one) != token_of(other)
        assert urlsplit(one.url).hostname != "0.0.0.0"
        for path in ("/", "/app.js", "/page.css", "/picture", "/answers", "/answer", "/nothing"):
            response, body = ask(one, path)
            assert response.status == 401
            assert token_of(one).encode() not in body
        assert ask(one, "/answer", Authorization=f"Bearer {token_of(one)}")[0].status == 200
        assert ask(one, "/answer", Authorization=f"Bearer {token_of(other)}")[0].status == 401


def test_the_token_becomes_a_cookie_and_leaves_the_address() -> None:
    with view(EVERYWHERE, token=TOKEN) as shown:
        response, _ = ask(shown, f"/?token={TOKEN}")
        assert (response.status, response.headers["location"]) == (303, "./")
        cookie = response.headers["set-cookie"] or ""
        assert "path" not in cookie.lower(), "it is for the folder of the page, wherever a proxy shows that"
        for part in ("HttpOnly", "SameSite=strict"):
            assert part in cookie
        assert TOKEN not in cookie
        pair = cookie.split(";")[0]
        for path in ("/", "/app.js", "/answer"):
            assert ask(shown, path, Cookie=pair)[0].status == 200
        assert ask(shown, "/", Cookie=pair[:-1] + ("0" if pair[-1] != "0" else "1"))[0].status == 401
        assert ask(shown, "/", Cookie=f"{pair.split('=')[0]}={TOKEN}")[0].status == 401
    with view(Address("0.0.0.0", place(shown)[1]), token=TOKEN) as again:
        assert ask(again, "/", Cookie=pair)[0].status == 401, (
            "a cookie is good for one run: nothing is derived from it"
        )
    with view(Address("0.0.0.0", place(shown)[1])) as again:
        assert ask(again, "/", Cookie=pair)[0].status == 401


def test_a_given_token_is_needed_here_too() -> None:
    with view(HERE, token=TOKEN) as shown:
        assert shown.url.endswith(f"/?token={TOKEN}")
        assert ask(shown, "/")[0].status == 401
        assert ask(shown, "/", Authorization=f"bearer {TOKEN}")[0].status == 200
        assert ask(shown, "/", Host="evil.example")[0].status == 401
        assert ask(shown, f"/?token={TOKEN}", Host="camera.behind.a.proxy")[0].status == 303


@pytest.mark.parametrize("token", ["", "short", "with a space in the middle", "ümlauts-are-not-ascii", "x" * 300])
def test_tokens_that_will_not_do(token: str) -> None:
    with pytest.raises(BadInputError):
        WebView(HERE, {}, token=token, reporter=Silent())


@pytest.mark.parametrize("wrong", ["%ff%00", "a", TOKEN + "a", TOKEN[:-1], TOKEN.upper(), "%C3%BC", ""])
def test_wrong_tokens_are_answered_slowly(wrong: str) -> None:
    with view(EVERYWHERE, token=TOKEN) as shown:
        start = time.monotonic()
        status = ask(shown, f"/?token={wrong}")[0].status
        # An empty value is no token at all.
        assert status == (403 if wrong else 401)
        assert not wrong or time.monotonic() - start >= 0.9 * WRONG_TOKEN_S


def test_guessing_is_slow_however_many_ask_at_once() -> None:
    with view(EVERYWHERE, token=TOKEN) as shown, ThreadPoolExecutor(24) as crowd:
        start = time.monotonic()
        asked = [crowd.submit(ask, shown, f"/?token={number:020}") for number in range(24)]
        found = [each.result()[0].status for each in asked]
        seconds = time.monotonic() - start
        # Not one guess more than these was looked at.
        assert 1 <= found.count(403) <= MAX_WRONG * (1 + seconds // WRONG_TOKEN_S)
        assert found.count(403) + found.count(429) == 24
        assert found.count(429) >= 8
        assert ask(shown, "/", Authorization=f"Bearer {TOKEN}")[0].status == 200, "it is over soon"


def test_a_right_token_is_let_in_while_its_address_sends_wrong_ones() -> None:
    """Behind a proxy, all viewers have one address."""
    with view(EVERYWHERE, token=TOKEN) as shown, ThreadPoolExecutor(16) as crowd:
        flood = [crowd.submit(ask, shown, f"/?token={number:020}") for number in range(64)]
        found = []
        while not all(one.done() for one in flood):
            found.append(ask(shown, "/answer", Authorization=f"Bearer {TOKEN}")[0].status)
            found.append(ask(shown, f"/?token={TOKEN}")[0].status)
        assert 429 in {one.result()[0].status for one in flood}
        assert set(found) == {200, 303}


def test_requests_that_fail_are_reported_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """One malformed request must not hide all later errors."""
    from toolchain.camera.sinks.web import server

    def broken(*_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(server, "WARN_AGAIN_S", 0.2)
    monkeypatch.setattr("toolchain.camera.sinks.web.publisher.Now.json", broken)
    reporter = Recorder()
    with view(reporter=reporter) as shown:
        for _ in range(3):
            assert ask(shown, "/answer")[0].status == 500
        assert len(reporter.warned) == 1
        time.sleep(0.25)
        assert ask(shown, "/answer")[0].status == 500
    assert [line for line in reporter.warned if "ZeroDivisionError" in line] == reporter.warned
    assert len(reporter.warned) == 2


def test_who_looks_already_goes_on_while_others_guess() -> None:
    with view(HERE, token=TOKEN) as shown, ThreadPoolExecutor(8) as crowd:
        response, _ = ask(shown, f"/?token={TOKEN}")
        pair = (response.headers["set-cookie"] or "").split(";")[0]
        viewer = Viewer(shown, f"/answers HTTP/1.0\r\nCookie: {pair}\r\nIgnored:")
        asked = [crowd.submit(ask, shown, f"/?token={number:020}") for number in range(8)]
        shown.show(answer(7))
        wait_until(lambda: (viewer.event()["answer"] or {}).get("frame") == 7)
        assert {each.result()[0].status for each in asked} <= {403, 429}
        viewer.close()


def test_cookies_are_no_way_to_guess_tokens_and_wrong_tokens_lock_no_viewer_out() -> None:
    with view(EVERYWHERE, token="passwordpassword") as shown:
        response, _ = ask(shown, "/?token=passwordpassword")
        pair = (response.headers["set-cookie"] or "").split(";")[0]
        name = pair.partition("=")[0]
        guess = hmac.new(b"passwordpassword", b"edgetl camera, cookie", hashlib.sha256).hexdigest()
        assert ask(shown, "/", Cookie=f"{name}={guess}")[0].status == 401
        with ThreadPoolExecutor(6) as pool:
            wrong = [pool.submit(ask, shown, "/?token=wrongwrongwrongwrong") for _ in range(6)]
            time.sleep(0.2)
            assert ask(shown, "/answer", Cookie=pair)[0].status == 200
            assert {one.result()[0].status for one in wrong} <= {403, 429}
