"""Files for `data restore` that are no record of what was set aside, or that would do harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bad_inputs.entry import Entry, Make, Stock, nothing

FOLDER = "photos.set-aside"
RECORD = f"{FOLDER}/1.json"
RESTORE = (("data", "restore", RECORD),)


def _text(change: Callable[[str], str | bytes]) -> Make:
    """A data set from which a file was set aside, with another record."""

    def make(stock: Stock, place: Path) -> None:
        for name in ("photos/cat/1.jpg", "photos/dog/1.jpg", f"{FOLDER}/1/cat/bad.jpg"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(name.encode())
        (place / "outside.txt").write_text("outside")
        whole = {
            "schema": "edgetl.set-aside/1",
            "data": "photos",
            "moved": [{"name": "cat/bad.jpg", "reason": "not a readable picture"}],
        }
        text = change(json.dumps(whole))
        (place / RECORD).write_bytes(text.encode() if isinstance(text, str) else text)

    return make


def _names(*names: Any) -> Make:
    def change(text: str) -> str:
        document = json.loads(text)
        document["moved"] = [{"name": name, "reason": "?"} for name in names]
        return json.dumps(document)

    return _text(change)


def _then(make: Make, act: Callable[[Path], object]) -> Make:
    def both(stock: Stock, place: Path) -> None:
        make(stock, place)
        act(place)

    return both


def _same(text: str) -> str:
    return text


def _elsewhere(place: Path) -> None:
    (place / RECORD).rename(place / "1.json")


def _taken(place: Path) -> None:
    (place / "photos/cat/bad.jpg").write_text("another")


def _linked(place: Path) -> None:
    (place / "photos/cat/bad.jpg").symlink_to(place / "outside.txt")


def _folder(place: Path) -> None:
    (place / RECORD).unlink()
    (place / RECORD).mkdir()


TEXTS: dict[str, Callable[[str], str | bytes]] = {
    "empty": lambda text: "",
    "cut-off": lambda text: text[:40],
    "a-list": lambda text: "[]",
    "not-utf-8": lambda text: text.replace("bad", "b\xe9d").encode("latin-1"),
    "100000-deep": lambda text: '{"moved":' + "[" * 100_000,
    "schema-of-tomorrow": lambda text: text.replace("set-aside/1", "set-aside/2"),
    "moved-null": lambda text: text.replace("[{", "null, [{")[:60] + "}",
}
NAMES: dict[str, tuple[Any, ...]] = {
    "leads-up": ("../outside.txt",),
    "leads-up-later": ("cat/../../outside.txt",),
    "absolute": ("/etc/passwd",),
    "empty-name": ("",),
    "number": (5,),
    "name-of-300-letters": ("a" * 300,),
    "several-that-are-nowhere": ("cat/gone.jpg", "dog/gone.jpg"),
    "name-of-the-data": (".",),
}
ENTRIES = (
    *(Entry(name, RESTORE, _text(change), says="1.json") for name, change in TEXTS.items()),
    *(Entry(name, RESTORE, _names(*names), (0, 2)) for name, names in NAMES.items()),
    Entry("missing", RESTORE, nothing, says="1.json"),
    Entry("a-folder", RESTORE, _then(_text(_same), _folder), says="1.json"),
    Entry("elsewhere", (("data", "restore", "1.json"),), _then(_text(_same), _elsewhere), says="1.json"),
    Entry("place-is-taken", RESTORE, _then(_text(_same), _taken), says="there again"),
    Entry("place-is-a-link", RESTORE, _then(_text(_same), _linked), says="there again"),
    Entry("a-photograph", (("data", "restore", "good.png"),), says="good.png"),
    Entry("dev-null", (("data", "restore", "/dev/null"),), says="/dev/null"),
)
