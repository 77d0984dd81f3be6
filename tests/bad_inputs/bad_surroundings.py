"""Streams, environment and folders that a command meets besides its input."""

from __future__ import annotations

import os
from pathlib import Path

from tests.bad_inputs.bad_photographs import encoded
from tests.bad_inputs.entry import GOOD, MODEL, Entry, Stock, camera, predict

PREDICT = predict(GOOD)


def _no_room(stock: Stock, place: Path) -> None:
    (place / "full").symlink_to("/dev/full")


def _gone(stock: Stock, place: Path) -> None:
    """The current folder is removed."""
    here = place / "here"
    here.mkdir()
    os.chdir(here)
    here.rmdir()


INPUTS: dict[str, bytes] = {
    "nothing": b"",
    "zeros": bytes(1000),
    "a-photograph": encoded("png"),
    "text": b"yes\n" * 9,
}
READERS = (predict("/dev/stdin"), predict("-"), ("card", "-"), camera("-"))
READ = tuple(Entry(f"stdin-of-{name}", READERS, codes=(0, 2, 3), stdin=content) for name, content in INPUTS.items())

FULL = tuple(
    Entry(f"stdout-is-full-{name}", (words,), codes=(2,), stdout="/dev/full", says="No space left")
    for name, words in {
        "predict": PREDICT,
        "card": ("card", MODEL),
        "data-list": ("data", "list"),
        "camera": camera(GOOD),
        "version": ("--version",),
        "help": ("--help",),
    }.items()
)

ENVIRONMENTS: dict[str, dict[str, str]] = {
    "data-root-is-a-file": {"EDGETL_DATA": GOOD},
    "data-root-is-missing": {"EDGETL_DATA": "/nonexistent/data"},
    "data-root-of-nobody": {"EDGETL_DATA": "~nobody-at-all/data"},
    "cache-of-nobody": {"EDGETL_CACHE": "~nobody-at-all/cache"},
    "data-root-is-a-device": {"EDGETL_DATA": "/dev/null"},
    "cache-is-a-file": {"EDGETL_CACHE": "/dev/null"},
    "threads-of-text": {"OMP_NUM_THREADS": "many"},
    "columns-of-text": {"COLUMNS": "wide"},
    "columns-of-none": {"COLUMNS": "0"},
    "columns-of-a-billion": {"COLUMNS": "1000000000"},
    "terminal-unknown": {"TERM": "toaster"},
    "locale-unknown": {"LC_ALL": "xx_YY.nothing", "LANG": "xx"},
    "home-is-missing": {"HOME": "/nonexistent"},
    "token-empty": {"EDGETL_WEB_TOKEN": ""},
}
SURROUNDED = tuple(
    Entry(
        name,
        (PREDICT, ("card", MODEL), ("data", "list"), ("data", "info", "pets"), camera(GOOD)),
        codes=(0, 2, 3),
        environment=environment,
    )
    for name, environment in ENVIRONMENTS.items()
)

NOWHERE = {"EDGETL_DATA": "/dev/null"}
PLACES = (
    Entry("current-folder-is-gone", (predict(GOOD), ("card", MODEL), ("data", "info", ".")), _gone, (2,)),
    Entry("log-to-a-full-disk", (camera(GOOD, "--log", "full"),), _no_room, (1,), says="No space left"),
    Entry("recording-to-a-full-disk", (camera(GOOD, "--record", "full"),), _no_room, (0, 2), told_by_error=False),
    Entry("bench-into-a-full-disk", (("bench", MODEL, "--out", "full"),), _no_room, (2,)),
    Entry("fetch-onto-a-device", (("data", "fetch", "pets"),), codes=(2, 3), environment=NOWHERE),
    Entry("on-change-that-fails", (camera(GOOD, "--on-change", "exit 9"),), codes=(0,)),
    Entry("on-change-that-is-not-there", (camera(GOOD, "--on-change", "/nonexistent/command"),), codes=(0,)),
    Entry("on-change-that-reads-nothing", (camera(GOOD, "--on-change", "true <&-"),), codes=(0,)),
)  # fmt: skip

ENTRIES = (*READ, *FULL, *SURROUNDED, *PLACES)
