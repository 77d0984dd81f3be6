"""Folders to review, and journals of reviews, that are damaged or would do harm."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bad_inputs.entry import Entry, Make, Stock

FOLDER = "collected"
LINES = f"{FOLDER}/collected.jsonl"
RECORD = f"{FOLDER}.set-aside/1.json"
REVIEW = (("review", FOLDER, "--into", "photos"),)
RESTORE = (("data", "restore", RECORD),)
LINE = (
    '{"file": "1.jpg", "time": "2026-11-26T12:00:00Z", "label": "cat", "probabilities": [["cat", 0.5]], '
    '"rejected": false, "why": "uncertain", "artifact": ""}\n'
)


def _lines(content: bytes | str) -> Make:
    """Collected pictures, none of which can be shown: a page would be served for one that can."""

    def make(stock: Stock, place: Path) -> None:
        (place / FOLDER).mkdir()
        (place / "outside.jpg").write_bytes((place / "good.png").read_bytes())
        (place / FOLDER / "1.jpg").write_bytes(b"no picture")
        (place / LINES).write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def _lines_folder(stock: Stock, place: Path) -> None:
    (place / LINES).mkdir(parents=True)


def _journal(change: Callable[[dict[str, Any]], object]) -> Make:
    """A picture that was moved into a class, with another journal."""

    def make(stock: Stock, place: Path) -> None:
        for name in (f"{FOLDER}/2.jpg", "photos/cat/1.jpg", "outside.txt", f"{FOLDER}.set-aside/1/x"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(name.encode())
        entry = {
            "step": 1,
            "name": "1.jpg",
            "sha256": hashlib.sha256(b"photos/cat/1.jpg").hexdigest(),
            "now": str(place / "photos/cat/1.jpg"),
            "label": "cat",
        }
        document = {"schema": "edgetl.review/1", "folder": FOLDER, "entries": [entry]}
        change(document)
        (place / RECORD).write_text(json.dumps(document))

    return make


def _entry(**values: Any) -> Make:
    return _journal(lambda document: document["entries"][0].update(values))


ENTRIES = (
    Entry("lines-are-a-folder", REVIEW, _lines_folder),
    *(
        Entry(f"lines-{name}", REVIEW, _lines(content), (0,))
        for name, content in {
            "empty": "",
            "binary": bytes(range(256)) * 20,
            "cut-off": LINE[:50],
            "a-list": "[]\n",
            "lead-out": LINE.replace("1.jpg", "../outside.jpg"),
            "absolute": LINE.replace("1.jpg", "/etc/passwd"),
            "null-byte": LINE.replace("1.jpg", "\\u00001.jpg"),
            "no-picture": LINE,
            "100000-deep": "[" * 100_000 + "\n",
            "probabilities-of-text": LINE.replace("0.5", '"much"'),
        }.items()
    ),
    Entry("journal-leads-up", RESTORE, _entry(name="../1.jpg"), says="not a path below"),
    Entry("journal-absolute", RESTORE, _entry(name="/etc/passwd"), says="not a path below"),
    Entry("journal-of-another-content", RESTORE, _entry(sha256="0" * 64), says="gone or have changed"),
    Entry("journal-takes-a-strange-file", RESTORE, _entry(now="/etc/hostname"), says="gone or have changed"),
    Entry("journal-takes-a-device", RESTORE, _entry(now="/dev/zero"), says="gone or have changed"),
    Entry("journal-null-byte", RESTORE, _entry(name="1\0.jpg"), says="not a path below"),
    Entry("journal-step-of-text", RESTORE, _entry(step="one"), says="1.json"),
    Entry("journal-name-empty", RESTORE, _entry(name=""), says="not a path below"),
    Entry("journal-place-is-taken", RESTORE, _entry(name="2.jpg"), says="there again"),
    Entry("journal-entries-null", RESTORE, _journal(lambda document: document.update(entries=None)), says="1.json"),
)
