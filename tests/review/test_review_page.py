"""The page in a real browser, where there is one, on a desk and on a phone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from review_support import Serve, collect, line, near_copy

from tests.web_support import BROWSER, Chromium
from toolchain.camera.sinks.web import Address
from toolchain.review.items import Item
from toolchain.review.server import ReviewPage
from toolchain.review.session import Review
from toolchain.system.progress import Silent

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")

ANSWERS = [
    ("cat", {"cat": 0.48, "dog": 0.44, "fish": 0.05}),
    ("dog", {"cat": 0.55, "dog": 0.4}),
    ("fish", {"fish": 0.6, "cat": 0.3}),
    ("turtle", {"fish": 0.7, "cat": 0.2}),
]
CARDS = "[...document.querySelectorAll('#grid > li')]"


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Chromium]:
    browser = Chromium(tmp_path)
    yield browser
    browser.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = collect(tmp_path / "collected", ANSWERS, size=320)
    first = "20261126T120000Z-0.jpg"
    near_copy(found, first, "20261126T120100Z-9.jpg")
    with (found / "collected.jsonl").open("a") as file:
        file.write(line("20261126T120100Z-9.jpg", {"cat": 0.7, "dog": 0.1}))
    return found


def _key(chromium: Chromium, key: str) -> None:
    for kind in ("keyDown", "keyUp"):
        text = {"text": key} if len(key) == 1 and kind == "keyDown" else {}
        code = {"Enter": {"windowsVirtualKeyCode": 13, "text": "\r"}}.get(key, text) if kind == "keyDown" else {}
        chromium.tell("Input.dispatchKeyEvent", type=kind, key=key, **code)


def _shot(chromium: Chromium, name: str) -> None:
    """Keep a picture of the page where somebody wants to look at it."""
    if folder := os.environ.get("EDGETL_TEST_SHOTS"):
        chromium.until(f"{CARDS}.every(one => one.querySelector('img').complete)")
        chromium.screenshot(Path(folder) / name)


def test_a_key_that_is_held_decides_one_picture(
    chromium: Chromium, tmp_path: Path, folder: Path, serve: Serve
) -> None:
    page, review = serve(folder, tmp_path / "photos")
    chromium.open(page.url)
    chromium.until(f"document.activeElement === {CARDS}[0]")
    chromium.tell("Input.dispatchKeyEvent", type="keyDown", key="k", text="k")
    chromium.until(f"{CARDS}.length === 3")
    for _ in range(3):
        chromium.until(f"document.activeElement === {CARDS}[0]")
        chromium.tell("Input.dispatchKeyEvent", type="keyDown", key="k", text="k", autoRepeat=True)
    chromium.tell("Input.dispatchKeyEvent", type="keyUp", key="k")
    _key(chromium, "x")
    chromium.until(f"{CARDS}.length === 2")
    assert (review.done().kept, review.done().set_aside) == (2, 1), "of two alike that were kept"


def test_from_the_first_key_to_the_last_by_keyboard(
    chromium: Chromium, tmp_path: Path, folder: Path, serve: Serve
) -> None:
    page, review = serve(folder, tmp_path / "photos")
    chromium.open(page.url)
    chromium.until(f"{CARDS}.length === 4")
    assert chromium.value(f"{CARDS}[0].querySelector('.more').textContent") == "+1 alike"
    chromium.until(f"{CARDS}[0].querySelector('img').naturalWidth > 0")
    _shot(chromium, "desktop.png")
    assert chromium.value("document.getElementById('count').textContent").startswith("5 to look at, 0 moved into")
    chromium.until(f"document.activeElement === {CARDS}[0]")
    _key(chromium, "2")  # a dog, and the copy with it
    chromium.until(f"{CARDS}.length === 3")
    assert len(list((tmp_path / "photos/dog").iterdir())) == 2
    chromium.until(f"document.activeElement === {CARDS}[0]")
    _key(chromium, "z")
    chromium.until(f"{CARDS}.length === 4")
    assert not (tmp_path / "photos/dog").exists()
    chromium.value(f"{CARDS}[0].focus()")
    _key(chromium, "f")
    chromium.until(f"{CARDS}.length === 5")
    _key(chromium, "Enter")
    chromium.until(f"{CARDS}.length === 4")
    assert len(list((tmp_path / "photos/cat").iterdir())) == 1
    chromium.until(f"document.activeElement === {CARDS}[0]")
    _key(chromium, "n")
    chromium.until("document.getElementById('rename').open")
    chromium.tell("Input.insertText", text="Great Dane")
    _shot(chromium, "rename.png")
    _key(chromium, "Enter")
    chromium.until(f"{CARDS}.length === 3")
    assert len(list((tmp_path / "photos/Great Dane").iterdir())) == 1
    chromium.until(f"document.activeElement === {CARDS}[0]")
    _key(chromium, "ArrowRight")
    assert chromium.value(f"document.activeElement === {CARDS}[1]")
    _key(chromium, "v")
    chromium.until("document.getElementById('look').open && document.getElementById('large').naturalWidth > 0")
    chromium.value("document.getElementById('close').click()")
    chromium.value(f"{CARDS}[1].focus()")
    _key(chromium, "k")
    chromium.until(f"{CARDS}.length === 2")
    chromium.until(f"document.activeElement === {CARDS}[1]")
    _key(chromium, "x")
    chromium.until(f"{CARDS}.length === 1")
    done = review.done()
    assert (done.moved, done.kept, done.set_aside, done.left) == ({"Great Dane": 1, "cat": 1}, 1, 1, 1)
    chromium.value("document.getElementById('finish').click()")
    assert page.finished.wait(10)


def test_by_touch_on_a_phone(chromium: Chromium, tmp_path: Path, folder: Path, serve: Serve) -> None:
    page, review = serve(folder, tmp_path / "photos", "0.0.0.0")
    chromium.open(page.url.replace(page.url.split("/")[2].split(":")[0], "127.0.0.1"), 390, 844)
    chromium.until(f"{CARDS}.length === 4")
    assert "token" not in chromium.value("location.href")
    assert chromium.value("document.documentElement.scrollWidth") <= 390, "nothing is beyond the edge"
    least = (
        "Math.min(...[...document.querySelectorAll('#grid button')].map(one => one.getBoundingClientRect().height))"
    )
    assert chromium.value(least) >= 32
    _shot(chromium, "phone.png")
    chromium.value(f"{CARDS}[1].querySelector('.answers button').click()")
    chromium.until(f"{CARDS}.length === 3")
    chromium.value(f"{CARDS}[0].querySelector('.others button:last-child').click()")
    chromium.until(f"{CARDS}.length === 2")
    assert review.done().moved == {"cat": 1}
    assert review.done().set_aside == 2, "the copy, too"


def test_a_suspected_name_is_put_right_or_kept(chromium: Chromium, tmp_path: Path, drawn_folder: Path) -> None:
    data = shutil.copytree(drawn_folder, tmp_path / "photos")
    cats = sorted(path.name for path in (data / "cat").iterdir())
    items = [
        Item(f"cat/{name}", "", "cat", (("dog", 0.9), ("cat", 0.01)), "1.0% sure of its name") for name in cats[:2]
    ]
    review = Review(data, items, data, Silent())
    with ReviewPage(review, Address("127.0.0.1", 0), reporter=Silent()) as page:
        chromium.open(page.url, 800, 700, dark=True)
        chromium.until(f"{CARDS}.length === 2")
        assert chromium.value(f"{CARDS}[0].querySelector('.now').textContent") == "Now in cat"
        answers = (
            "[...document.querySelectorAll('#grid > li:first-child .answers button')].map(one => one.innerText)"
        )
        assert [text.split()[0] for text in chromium.value(answers)] == ["dog"], "not the name that it has"
        _shot(chromium, "suspects.png")
        chromium.until(f"document.activeElement === {CARDS}[0]")
        _key(chromium, "Enter")
        chromium.until(f"{CARDS}.length === 1")
        chromium.until(f"document.activeElement === {CARDS}[0]")
        _key(chromium, "k")
        chromium.until(f"{CARDS}.length === 0 && !document.getElementById('nothing').hidden")
    assert (data / "dog" / cats[0]).is_file()
    assert (data / "cat" / cats[1]).is_file()


def test_a_failure_is_told_and_nothing_seems_decided(
    chromium: Chromium, tmp_path: Path, folder: Path, serve: Serve
) -> None:
    page, _ = serve(folder, tmp_path / "photos")
    chromium.open(page.url)
    chromium.until(f"{CARDS}.length === 4")
    shutil.move(folder / "20261126T120001Z-1.jpg", tmp_path)
    chromium.value(f"{CARDS}[1].querySelector('.answers button').click()")
    chromium.until("!document.getElementById('banner').hidden")
    assert "not there any more" in chromium.value("document.getElementById('banner').textContent")
    assert chromium.value(f"{CARDS}.length") == 4
    page.__exit__()
    chromium.value(f"{CARDS}[2].querySelector('.answers button').click()")
    chromium.until("document.getElementById('banner').textContent.startsWith('edgetl is not there any more')")
