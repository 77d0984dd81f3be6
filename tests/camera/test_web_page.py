"""The page in a real browser, where there is one."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.clips import plain
from tests.web_support import ABOUT, BROWSER, Chromium, answer, place, view, wait_until
from toolchain.camera.sinks.web import Address
from toolchain.camera.sinks.web.streams import FILES
from toolchain.drawn.pets import draw

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")

TOKEN = "a-token-of-a-sensible-length"
PICTURE_IS_THERE = "document.getElementById('picture')?.hidden === false"
BANNER = "(one => one && !one.hidden ? one.textContent : '')(document.getElementById('banner'))"
LABEL = "document.getElementById('label')?.textContent"


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Chromium]:
    browser = Chromium(tmp_path)
    yield browser
    browser.close()


def pixel(chromium: Chromium, path: Path, x: int = 300, y: int = 200) -> tuple[int, ...]:
    """Colour (RGB) at a place of the page, as it is painted."""
    chromium.screenshot(path)
    return tuple(int(value) for value in cv2.imread(str(path))[y, x, ::-1])


def shows(chromium: Chromium, folder: Path, wanted: tuple[int, int, int]) -> Callable[[], bool]:
    def look() -> bool:
        return bool(np.abs(np.subtract(pixel(chromium, folder / "page.png"), wanted)).max() < 12)

    return look


def test_label_picture_bars_and_figures(chromium: Chromium, tmp_path: Path) -> None:
    with view() as shown:
        chromium.open(shown.url)
        shown.show(answer(0, plain("green", 480, 640)))
        chromium.until(PICTURE_IS_THERE)
        wait_until(shows(chromium, tmp_path, (0, 255, 0)))
        # One picture, and then nothing: the newest is what is seen, not the one before.
        shown.show(answer(1, plain("blue", 480, 640)))
        wait_until(shows(chromium, tmp_path, (0, 0, 255)))
        assert chromium.value(LABEL) == "red cat"
        rows = chromium.value("[...document.querySelectorAll('#bars li')].map(one => one.innerText)")
        names = [["red", "cat", "75", "%"], ["green", "dog", "20", "%"], ["fish", "5.0", "%"]]
        assert [row.split() for row in rows] == names
        wide = chromium.value("[...document.querySelectorAll('#bars b')].map(one => one.style.width)")
        assert wide == ["75%", "20%", "5%"]
        figures = {name: chromium.value(f"document.getElementById('{name}').textContent")
                   for name in ("age", "fps", "infer", "answers", "sure")}  # fmt: skip
        assert figures == {"age": "31", "fps": "29.9", "infer": "5.3", "answers": "2", "sure": "75 % sure"}
        about = chromium.value("document.getElementById('about').innerText")
        assert all(text in about for text in ABOUT.values())
        shown.show(answer(2, rejected=True))
        chromium.until(f"{LABEL} === 'not sure'")
        assert "red cat" in chromium.value("document.getElementById('sure').textContent")
        chromium.until("document.querySelector('#spark polyline').getAttribute('points')")


def test_a_label_is_read_out_when_it_stays_and_not_at_every_answer(chromium: Chromium) -> None:
    with view() as shown:
        chromium.open(shown.url)
        spoken = "document.getElementById('spoken')"
        shown.show(answer(0))
        chromium.until(f"{LABEL} === 'red cat'")
        chromium.value(
            f"window.count = 0; new MutationObserver(() => count++).observe({spoken}, {{childList: true}})"
        )
        stop = threading.Event()

        def go_on() -> None:
            number = 1
            while not stop.wait(0.03):
                shown.show(answer(number))
                number += 1

        thread = threading.Thread(target=go_on)
        thread.start()
        chromium.until(f"{spoken}.textContent === 'red cat'")
        chromium.value("new Promise(done => setTimeout(done, 500))")
        stop.set()
        thread.join()
        assert chromium.value("count") == 1
        live = chromium.value("[...document.querySelectorAll('[aria-live]')].map(one => one.id)")
        assert live == ["spoken"]


@pytest.mark.slow
def test_trouble_is_told_and_the_page_comes_back_by_itself(chromium: Chromium, tmp_path: Path) -> None:
    with view() as shown:
        chromium.open(shown.url)
        shown.show(answer(0, plain("green", 480, 640)))
        chromium.until(PICTURE_IS_THERE)
        assert chromium.value(BANNER) == ""
        shown.idle("camera 0 gave no frame for 3 s; trying again")
        chromium.until(f"{BANNER}.startsWith('camera 0 gave')")
        shown.idle("")
        chromium.until(f"{BANNER}.startsWith('No new picture for')")
        shown.show(answer(1, plain("green", 480, 640)))
        chromium.until(f"{BANNER} === ''")
    chromium.until(f"{BANNER}.includes('Trying again')")
    with view(Address(*place(shown))) as again:
        again.show(answer(5, plain("blue", 480, 640), label="another"))
        chromium.until(f"{LABEL} === 'another' && {BANNER} === ''")
        wait_until(shows(chromium, tmp_path, (0, 0, 255)))


def test_who_may_not_look_any_more_is_told(chromium: Chromium) -> None:
    with view(token=TOKEN) as shown:
        chromium.open(shown.url)
        shown.show(answer(0))
        chromium.until(f"{LABEL} === 'red cat'")
        assert chromium.value("location.search") == ""
        assert chromium.value("document.cookie") == "", "scripts cannot read it"
    with view(Address(*place(shown)), token=TOKEN[::-1]):
        chromium.until(f"{BANNER}.includes('may not look')")


def test_a_paused_page_follows_nothing(chromium: Chromium, tmp_path: Path) -> None:
    with view() as shown:
        chromium.open(shown.url)
        shown.show(answer(0, plain("green", 480, 640)))
        chromium.until(PICTURE_IS_THERE)
        chromium.value(
            "window.freed = []; window.free = URL.revokeObjectURL;"
            "URL.revokeObjectURL = (one) => { freed.push(one); free.call(URL, one); }"
        )
        chromium.value("document.getElementById('pause').click()")
        chromium.until("freed[0]?.startsWith('blob:')")
        wait_until(lambda: shown.viewers == 0)
        wait_until(lambda: not shown._pictures.viewers)
        assert chromium.value(BANNER).startswith("Paused")
        assert chromium.value(PICTURE_IS_THERE)
        chromium.value("document.getElementById('pause').click()")
        wait_until(lambda: shown.viewers == 1)
        shown.show(answer(1, plain("blue", 480, 640)))
        wait_until(shows(chromium, tmp_path, (0, 0, 255)))


@pytest.mark.parametrize(("width", "dark"), [(1100, False), (390, True), (320, False)])
def test_it_fits_and_is_light_or_dark(chromium: Chromium, tmp_path: Path, width: int, dark: bool) -> None:
    bgr = cv2.cvtColor(draw("cat", 3, size=480), cv2.COLOR_RGB2BGR)
    with view(about=ABOUT | {"source": "rtsp://" + "a-long-name-" * 12}) as shown:
        chromium.open(shown.url, width, 800, dark=dark)
        shown.show(answer(0, bgr, label="a_class_name_of_" + "very" * 12 + "_many_letters"))  # type: ignore[arg-type]
        chromium.until(PICTURE_IS_THERE)
        assert chromium.value("document.documentElement.scrollWidth <= innerWidth")
        paper = pixel(chromium, tmp_path / "page.png", 4, 4)
        assert max(paper) < 60 if dark else min(paper) > 240


def test_nothing_is_asked_of_anybody_else_and_the_policy_forbids_nothing_it_needs(tmp_path: Path) -> None:
    chromium = Chromium(tmp_path)
    with view() as shown:
        chromium.tell(
            "Page.addScriptToEvaluateOnNewDocument",
            source="""
            window.forbidden = [];
            document.addEventListener("securitypolicyviolation", (event) => forbidden.push(event.blockedURI));""",
        )
        chromium.tell("Page.enable")
        chromium.open(shown.url)
        shown.show(answer(0))
        chromium.until(PICTURE_IS_THERE)
        chromium.value("document.getElementById('pause').click()")
        chromium.until("document.getElementById('picture').src.startsWith('blob:')")
        chromium.value("document.getElementById('pause').click()")
        wait_until(lambda: shown.viewers == 1)
        assert chromium.value("forbidden") == []
        # And it does forbid what the page does not need.
        chromium.value("""
            document.body.append(Object.assign(document.createElement("script"), {text: "window.ran = 1"}));
            document.body.append(Object.assign(new Image(), {src: "http://192.0.2.1/x.png"}));""")
        chromium.until("forbidden.length >= 2")
        assert chromium.value("window.ran") is None
        chromium.close()
        log = chromium.net_log.read_text(encoding="utf-8", errors="replace")
        asked = set(re.findall(r'"url":"((?:http|ws)[^"]+)"', log))
        # Chromium itself looks for its dictionaries and updates.
        own = re.compile(r"https?://[^/]*(google|gvt1)")
        others = {url for url in asked if not own.match(url)}
        assert others, "the log has what was asked"
        assert {url for url in others if not url.startswith(shown.url)} == set()


def test_its_files_name_no_other_address() -> None:
    for path, _ in FILES.values():
        text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?://|@import|url\(", text), path


def test_a_script_can_watch_the_pictures_too() -> None:
    """OpenCV reads the stream as it reads any camera's, so that one edgetl can watch another."""
    with view() as shown:
        stop = threading.Event()

        def go_on() -> None:
            while not stop.wait(0.05):
                shown.show(answer(0, plain("green", 240, 320)))

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            capture = cv2.VideoCapture(shown.url + "picture", cv2.CAP_FFMPEG)
            whole, bgr = capture.read()
            capture.release()
        finally:
            stop.set()
            thread.join()
        assert whole
        assert bgr.shape == (240, 320, 3)
        assert bgr[200, 160, 1] > 240
