"""The page in a real browser, where there is one, with onnxruntime-web, where it was fetched."""

from __future__ import annotations

import base64
import json
import random
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import toolchain
from tests.artifacts import tiny_artifact
from tests.page_support import (
    ASKED,
    BANNER,
    CAMERA,
    LABEL,
    LOADED,
    NAMED,
    OFFLINE,
    PIXELS,
    chromium,
    film,
    in_browser,
    page_of,
    runtime_here,
    served,
)
from toolchain.artifact import read_artifact
from toolchain.browser import write_page
from toolchain.drawn.pets import draw
from toolchain.images.preprocess import read
from toolchain.runs.ready_made import ready_made_artifact

pytestmark = in_browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of the ready-made network, with photographs beside it. Not to be written to."""
    folder = page_of(ready_made_artifact(), tmp_path_factory.mktemp("page") / "page")
    for name, index, height, width in (("cat", 3, 480, 640), ("dog", 5, 700, 500), ("cat", 9, 150, 200)):
        rgb = cv2.resize(draw(name, index, size=512), (width, height))
        cv2.imwrite(str(folder / f"{name}{index}.jpg"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return folder


@pytest.mark.slow
def test_photographs_are_answered_as_predict_does(page: Path, tmp_path: Path) -> None:
    with served(page) as url, chromium(tmp_path / "browser") as browser:
        browser.open(url)
        browser.until(LOADED)
        classifier = toolchain.load(ready_made_artifact())
        for path in sorted(page.glob("*.jpg")):
            found = browser.value(NAMED.format(url=json.dumps(path.name)))
            expected = classifier.predict(path)
            assert found["label"] == expected.label
            assert found["rejected"] == expected.rejected
            # A pixel that is rounded otherwise can move a logit of int8 by several of its steps.
            assert abs(found["probability"] - expected.probability) < 0.05
            told = (expected.answer or "not sure").replace("_", " ")
            assert browser.value(LABEL) == told
            browser.until(f"document.getElementById('spoken').textContent === {json.dumps(told)}")


def test_the_camera_is_named_and_the_page_fits(page: Path, tmp_path: Path) -> None:
    cat = cv2.imread(str(page / "cat3.jpg"))[..., ::-1]
    camera = film(tmp_path / "cat.mjpeg", [cat] * 3)  # type: ignore[list-item]
    with served(page) as url, chromium(tmp_path / "browser", ASKED, CAMERA, camera) as browser:
        browser.open(url, 390, 844)
        browser.until(f"{LOADED} && document.getElementById('age').textContent !== '–'")
        label = toolchain.load(ready_made_artifact()).predict(page / "cat3.jpg").top[0][0]
        bars = browser.value("[...document.querySelectorAll('#bars li')].map((one) => one.innerText)")
        assert len(bars) == 5
        assert label.replace("_", " ") in bars[0]
        assert browser.value("document.documentElement.scrollWidth <= innerWidth")
        assert float(browser.value("document.getElementById('age').textContent")) < 5000
        browser.value("document.getElementById('start').click()")
        assert browser.value("stream === null && document.getElementById('start').textContent === 'Start'")


@pytest.mark.parametrize(
    ("options", "said"),
    [((CAMERA, "--deny-permission-prompts"), "may not be used"), ((ASKED,), "No camera was found")],
    ids=["refused", "none"],
)
def test_without_a_camera_the_page_says_so(page: Path, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    with served(page) as url, chromium(tmp_path / "browser", *options) as browser:
        browser.open(url)
        browser.until(LOADED)
        browser.value("document.getElementById('start').click()")
        browser.until(f"{BANNER}.includes({json.dumps(said)})")
        assert "photograph" in browser.value(BANNER)
        found = browser.value(NAMED.format(url='"cat3.jpg"'))
        assert found["label"]
        assert browser.value(BANNER) == ""


@pytest.mark.slow
def test_it_works_without_its_server_once_it_was_loaded(page: Path, tmp_path: Path) -> None:
    with chromium(tmp_path / "browser") as browser:
        with served(page) as url:
            browser.open(url)
            browser.until(OFFLINE)
            photograph = browser.value(
                "fetch('cat3.jpg').then((answer) => answer.arrayBuffer())"
                ".then((data) => localStorage.cat = String.fromCharCode(...new Uint8Array(data))).then(() => 1)"
            )
            assert photograph
        browser.open(url)
        browser.until(LOADED)
        found = browser.value(
            "name(new File([Uint8Array.from(localStorage.cat, (one) => one.charCodeAt(0))], 'cat.jpg'))"
            ".then((answer) => answer.top.map(([label]) => label))"
        )
        expected = toolchain.load(ready_made_artifact()).predict(page / "cat3.jpg")
        assert found == [name for name, _ in expected.top]
        assert browser.value("crossOriginIsolated"), "several threads need it"
        browser.open(f"{url.rstrip('/')}/index.html?from=a-bookmark")
        browser.until(LOADED)


@pytest.mark.slow
def test_a_newer_page_is_offered_and_not_mixed_with_the_old(tmp_path: Path) -> None:
    folder = tmp_path / "page"

    def write(*labels: str) -> None:
        write_page(tiny_artifact(tmp_path / "model.onnx", labels), "", folder, runtime_here())

    def best() -> str:
        return str(browser.value(NAMED.format(url="'cat.png'"))["label"])

    write("red", "green", "blue")
    cv2.imwrite(str(folder / "cat.png"), draw("cat", 3, size=256)[..., ::-1])
    with served(folder) as url, chromium(tmp_path / "browser") as browser:
        browser.open(url)
        browser.until(OFFLINE)
        old = best()
        write("rot", "gr\u00fcn", "blau")
        browser.value("window.old = true")
        browser.tell("Page.reload")
        browser.until(f"!window.old && {LOADED} && !document.getElementById('newer').hidden")
        assert best() == old
        browser.value("window.old = true")
        browser.value("document.getElementById('reload').click()")
        browser.until(f"!window.old && {LOADED}")
        assert best() == {"red": "rot", "green": "gr\u00fcn", "blue": "blau"}[old]
        assert browser.value("caches.keys().then((names) => names.length)") == 1


@pytest.mark.slow
@pytest.mark.photographs
def test_fifty_photographs_are_answered_as_predict_does(real_data: Path, tmp_path: Path) -> None:
    artifact = read_artifact(ready_made_artifact())
    page = page_of(ready_made_artifact(), tmp_path / "page")
    classifier = toolchain.load(artifact)
    photographs = random.Random(1).sample(sorted((real_data / "oxford-iiit-pet" / "images").glob("*.jpg")), 50)
    different = []
    with served(page) as url, chromium(tmp_path / "browser") as browser:
        browser.open(url)
        browser.until(LOADED)
        for number, path in enumerate(photographs):
            shutil.copy(path, page / f"{number}.jpg")
            place = json.dumps(f"{number}.jpg")
            expected, pixels = classifier.predict(path), read(path, artifact.card.preprocess)
            seen = np.frombuffer(base64.b64decode(browser.value(f"{PIXELS}({place})")), np.uint8)
            assert np.abs(seen.reshape(pixels.shape).astype(int) - pixels).max() <= 1
            found = browser.value(NAMED.format(url=place))
            if (found["label"], found["rejected"]) != (expected.label, expected.rejected):
                different.append(path.name)
    # A pixel that is rounded otherwise can turn an answer of int8 that was in the balance.
    assert len(different) <= 1, different


@pytest.mark.slow
def test_names_of_classes_are_text_and_the_policy_forbids_the_rest(tmp_path: Path) -> None:
    bad = '<img src=x onerror="window.ran = 1"><script>window.ran = 1</script>'
    artifact = tiny_artifact(tmp_path / "model.onnx", [f"{bad}{i}" for i in range(3)])
    write_page(artifact, "", tmp_path / "page", runtime_here())
    cv2.imwrite(str(tmp_path / "page" / "cat.png"), draw("cat", 3, size=256)[..., ::-1])
    with served(tmp_path / "page") as url, chromium(tmp_path / "browser") as browser:
        browser.tell(
            "Page.addScriptToEvaluateOnNewDocument",
            source="window.forbidden = [];"
            "document.addEventListener('securitypolicyviolation', (event) => forbidden.push(event.blockedURI));",
        )
        browser.tell("Page.enable")
        browser.open(url)
        browser.until(LOADED)
        found = browser.value(NAMED.format(url='"cat.png"'))
        assert found["label"].startswith("<img")
        assert browser.value(LABEL) == found["label"]
        assert browser.value("document.querySelectorAll('main img').length") == 1
        assert browser.value("[window.ran, forbidden]") == [None, []]
        browser.value("""
            document.body.append(Object.assign(document.createElement("script"), {text: "window.ran = 1"}));
            document.body.append(Object.assign(new Image(), {src: "http://192.0.2.1/x.png"}));""")
        browser.until("forbidden.length >= 2")
        assert browser.value("window.ran") is None


def test_what_cannot_be_loaded_is_told(page: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(page, tmp_path / "page")
    (broken / "model.onnx").write_bytes(b"another")
    with served(broken) as url, chromium(tmp_path / "browser") as browser:
        browser.open(url)
        browser.until(f"{BANNER}.includes('not the file that this page was written for')")
        browser.open((page / "index.html").as_uri())
        browser.until(f"{BANNER}.includes('opened as a file')")


def test_a_file_that_is_no_picture_is_told(page: Path, tmp_path: Path) -> None:
    with served(page) as url, chromium(tmp_path / "browser") as browser:
        browser.open(url)
        browser.until(LOADED)
        browser.value("name(new File(['<b>no</b>'], '<b>no</b>.jpg')).then(() => 1)")
        assert browser.value(BANNER) == "<b>no</b>.jpg is not a picture that this browser reads."
