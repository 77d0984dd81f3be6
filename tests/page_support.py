"""Pages to look at in a real browser: onnxruntime-web where it was fetched, a server, and a camera of pictures."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest

from tests.web_support import BROWSER, Chromium
from toolchain.browser import choose, write_page
from toolchain.browser.runtime import WebRuntime, cached, find_runtime
from toolchain.images.preprocess import Image
from toolchain.system.progress import Silent

in_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")

ASKED = "--use-fake-ui-for-media-stream"
"""Chromium answers for the person: the camera may be used."""
CAMERA = "--use-fake-device-for-media-stream"


def runtime_here() -> WebRuntime:
    """onnxruntime-web from edgetl's cache; tests do not fetch it, and are skipped without."""
    if not cached().is_file():
        pytest.skip("onnxruntime-web was not fetched yet: edgetl export models/pets --browser DIR")
    return find_runtime(cached(), Silent())


def page_of(path: Path, folder: Path) -> Path:
    write_page(*choose(path), folder, runtime_here())
    return folder


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder at an address of this machine, as `python -m http.server` does."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def chromium(folder: Path, *options: str) -> Iterator[Chromium]:
    folder.mkdir(exist_ok=True)
    browser = Chromium(folder, *options)
    try:
        yield browser
    finally:
        browser.close()


def film(path: Path, pictures: Sequence[Image]) -> str:
    """The option that lets Chromium's camera show RGB pictures of one size, again and again."""
    data = [cv2.imencode(".jpg", cv2.cvtColor(one, cv2.COLOR_RGB2BGR))[1].tobytes() for one in pictures]
    path.write_bytes(b"".join(data))
    return f"--use-file-for-fake-video-capture={path}"


LOADED = "document.getElementById('start')?.disabled === false"
OFFLINE = "document.getElementById('offline')?.textContent.includes('without a network')"
BANNER = "(one => one && !one.hidden ? one.textContent : '')(document.getElementById('banner'))"
LABEL = "document.getElementById('label').textContent"
NAMED = """fetch({url}).then((answer) => answer.blob())
    .then((blob) => name(new File([blob], {url})))
    .then((answer) => ({{...answer, logits: [...answer.logits]}}))"""
"""The answer to a photograph that the server has beside the page, as if it had been chosen."""
PIXELS = """(async (url) => {
  const { prepare } = await import("./classify.js");
  const blob = await (await fetch(url)).blob();
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { alpha: false });
  context.drawImage(bitmap, 0, 0);
  const spec = (await (await fetch("page.json")).json()).preprocess;
  const read = (left, top, width, height) => context.getImageData(left, top, width, height).data;
  const pixels = prepare(spec, bitmap.width, bitmap.height, read);
  return btoa(Array.from(pixels, (byte) => String.fromCharCode(byte)).join(""));
})"""
"""The network's input, decoded and resized by the browser."""
