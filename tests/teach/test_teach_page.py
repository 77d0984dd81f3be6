"""The lesson's page: who may press what, and a whole lesson in a real browser, wide and narrow."""

from __future__ import annotations

import http.client
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from teach_support import Held, Slow, picture

from tests.conftest import Recorder
from tests.full_disk import files_of_at_most
from tests.web_support import BROWSER, HERE, LIMIT_S, Chromium, ask, place, wait_until
from toolchain.camera.loop import Control
from toolchain.teach.page import TeachPage
from toolchain.teach.session import Classroom, TeachSettings, teach

TOKEN = "a-token-of-a-sensible-length"


@contextmanager
def lesson(root: Path, held: Held, *things: str, token: str | None = None, **settings: str) -> Iterator[TeachPage]:
    """A lesson that runs in a thread of its own, before a camera that the test holds; its page."""
    control, told = Control(), Recorder()
    pages: list[TeachPage] = []
    there = threading.Event()

    class Page(TeachPage):
        def __enter__(self) -> TeachPage:
            super().__enter__()
            pages.append(self)
            there.set()
            return self

    def surface(room: Classroom, control: Control) -> TeachPage:
        return Page(HERE, room.lesson, token=token, reporter=told)

    def run() -> None:
        try:
            teach(TeachSettings(root / "a", things, **settings), surface, control, told, held)
        finally:
            there.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert there.wait(LIMIT_S)
    try:
        yield pages[0]
    finally:
        control.end("quit")
        thread.join(LIMIT_S)
        assert not thread.is_alive()


def do(page: TeachPage, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(*place(page), timeout=LIMIT_S)
    sent = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", "/do", body, {name: value for name, value in sent.items() if value})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    is_json = response.headers.get("Content-Type", "").startswith("application/json")
    return response.status, json.loads(content) if is_json else {}


@pytest.fixture
def held() -> Held:
    return Held(picture("cat"))


def test_who_may_press(tmp_path: Path, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classroom, "_teacher", lambda self: Slow())
    start = b'{"do": "start", "thing": "cup"}'
    with lesson(tmp_path, held, "cup", "pen") as page:
        refused = {
            415: do(page, start, Content_Type="text/plain"),
            403: do(page, start, Host="elsewhere.example"),
            400: do(page, b'{"do": "delete everything"}'),
            413: do(page, b"x" * 5000),
            409: do(page, b'{"do": "start", "thing": "nosuch"}'),
        }
        assert {status: answer[0] for status, answer in refused.items()} == {status: status for status in refused}
        # A form of another site, which needs no permission to be sent.
        assert do(page, start, Content_Type="application/x-www-form-urlencoded", Sec_Fetch_Site="cross-site",
                  Sec_Fetch_Mode="navigate")[0] == 415  # fmt: skip
        assert do(page, start, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="cors")[0] == 403
        status, state = do(page, start)
        assert (status, state["lesson"]["recording"]) == (200, "cup")
        assert do(page, b'{"do": "stop"}')[1]["lesson"]["phase"] == "collecting"
        assert (
            do(page, b'{"do": "add", "thing": "a/b"}')[1]["error"] == "'a/b' cannot be the name of a class folder"
        )
        assert do(page, b'{"do": "teach"}')[0] == 409
        response, _ = ask(page, "/do")
        assert response.status == 405


def test_with_a_token_nobody_else_presses(tmp_path: Path, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classroom, "_teacher", lambda self: Slow())
    start = b'{"do": "start", "thing": "cup"}'
    with lesson(tmp_path, held, "cup", token=TOKEN) as page:
        assert do(page, start)[0] == 401
        status, state = do(page, start, Authorization=f"Bearer {TOKEN}")
        assert (status, state["lesson"]["recording"]) == (200, "cup")


@pytest.mark.skipif(os.name != "posix", reason="no limits of this kind on this system")
def test_what_the_disk_does_not_take_is_told(tmp_path: Path, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classroom, "_teacher", lambda self: Slow())
    with lesson(tmp_path, held, "cup") as page:
        (stuck := tmp_path / "a" / "photographs" / "cup" / "take001-0001.jpg").parent.mkdir()
        with files_of_at_most(10):
            status, said = do(page, b'{"do": "add", "thing": "lamp"}')
        assert (status, said["error"]) == (409, "the disk is full: lamp was not added")
        assert do(page, b'{"do": "start", "thing": "cup"}')[0] == 200
        wait_until(stuck.exists)
        assert do(page, b'{"do": "stop"}')[0] == 200
        stuck.unlink()
        stuck.mkdir()
        status, said = do(page, b'{"do": "forget", "thing": "cup"}')
        assert (status, said["error"][:36]) == (409, "the last take of cup was not removed")
        assert do(page, b'{"do": "add", "thing": "lamp"}')[0] == 200


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Chromium]:
    browser = Chromium(tmp_path)
    yield browser
    browser.close()


def press(chromium: Chromium, label: str) -> None:
    chromium.until(f"document.querySelector('[aria-label=\"{label}\"]')?.disabled === false")
    chromium.value(f"document.querySelector('[aria-label=\"{label}\"]').click()")


HEADLINE = "document.getElementById('headline').textContent"


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1100, 390])
def test_a_whole_lesson(chromium: Chromium, tmp_path: Path, held: Held, width: int) -> None:
    with lesson(tmp_path, held, "cup", weights="none", model="mobilenet_v3_small") as page:
        chromium.open(page.url, width)
        chromium.until("document.getElementById('picture')?.hidden === false")
        chromium.until(f"{HEADLINE} === 'Hold cup before the camera, and record a take.'")
        chromium.value("document.getElementById('name').value = 'pen'")
        chromium.value("document.querySelector('#adding button').click()")
        for thing, take, shown in (("cup", 0, "cat"), ("pen", 0, "fish"), ("cup", 1, "cat"), ("pen", 1, "fish")):
            held.bgr = picture(shown, take)
            press(chromium, f"Record {thing}")
            chromium.until(f"{HEADLINE}.startsWith('Show {thing}: ') && parseInt({HEADLINE}.split(': ')[1]) >= 6")
            assert chromium.value("document.body.classList.contains('recording')")
            chromium.screenshot(tmp_path / "recording.png")
            press(chromium, f"Stop {thing}")
            chromium.until("!document.body.classList.contains('recording')")
        chromium.value("document.getElementById('train').click()")
        wait_until(lambda: chromium.value(f"{HEADLINE}.includes('takes that it was not taught')"), 120)
        chromium.until("document.getElementById('label').hidden === false")
        rows = chromium.value("[...document.querySelectorAll('#things .count')].map(one => one.textContent)")
        assert [" 2 takes " in row and "right" in row for row in rows] == [True, True, False], rows
        overflow = chromium.value("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow == 0
        small = "[...document.querySelectorAll('button')].filter(one => one.offsetHeight < 44).length"
        assert chromium.value(small) == 0
        chromium.screenshot(tmp_path / "taught.png")
    assert {path.name for path in (tmp_path / "a" / "run").iterdir()} >= {"run.json", "model.onnx"}
