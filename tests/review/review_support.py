"""Folders to review: pictures as a camera collects them, and the JSON lines beside them."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from toolchain.drawn.pets import draw
from toolchain.review.server import ReviewPage
from toolchain.review.session import Review

LIMIT_S = 20.0

Serve = Callable[..., tuple[ReviewPage, Review]]
"""Serves a folder's review, of `folder, into, host, token, reporter`, until the test ends."""


def collect(folder: Path, answers: list[tuple[str, dict[str, float]]], *, size: int = 160) -> Path:
    """A folder with a picture of each animal, and what a network has answered to it."""
    folder.mkdir(parents=True)
    lines = []
    for number, (animal, shares) in enumerate(answers):
        name = f"20261126T1200{number:02}Z-{number}.jpg"
        bgr = cv2.cvtColor(draw(animal, 100 + number, size=size), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / name), bgr)
        lines.append(line(name, shares))
    (folder / "collected.jsonl").write_text("".join(lines))
    return folder


def line(name: str, shares: dict[str, float], why: str = "uncertain") -> str:
    best = max(shares, key=lambda label: shares[label])
    entry = {
        "file": name,
        "time": "2026-11-26T12:00:00Z",
        "label": None if why == "rejected" else best,
        "probabilities": sorted(shares.items(), key=lambda one: -one[1]),
        "rejected": why == "rejected",
        "why": why,
        "artifact": "0" * 64,
    }
    return json.dumps(entry) + "\n"


def near_copy(folder: Path, name: str, other: str) -> None:
    """The same picture, a little darker and compressed again."""
    bgr = cv2.imread(str(folder / name))
    assert bgr is not None
    cv2.imwrite(str(folder / other), np.clip(bgr.astype(np.int16) - 6, 0, 255).astype(np.uint8), [1, 80])


def ask(
    url: str, path: str = "/", body: Any = None, *, method: str | None = None, **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """One whole answer of the page at `url`. Underlines in the names of headers stand for dashes."""
    parts = urlsplit(url)
    assert parts.port
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=LIMIT_S)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    data = None
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json", **given}
    connection.request(method or ("GET" if data is None else "POST"), path, data, given)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    return response.status, answer, {name.lower(): value for name, value in response.getheaders()}
