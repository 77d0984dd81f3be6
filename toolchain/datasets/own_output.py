"""Folders that edgetl wrote, told by what they hold: a class may be called "runs", and a run anything."""

from __future__ import annotations

import re
from pathlib import Path

REASON = "written by edgetl"

ASIDE_SUFFIX = ".set-aside"
"""Ends the name of a folder that holds what was moved out of the data beside it; never a class."""

SNAPSHOT = re.compile(r"edgetl-\d{8}-\d{6}(_\d+)?\.png")
"""What `camera` saves: a picture with its own answer written on it."""

_MARKS = {
    "run.json": b'"edgetl.run/',
    "bench.json": b'"edgetl.bench/',
    "index.html": b'content="edgetl ',
    "checkpoint/settings.json": b'"data_sha256"',
}
"""What these files hold within their first bytes; the last stands for a run that has not finished."""

_EXPLANATION = re.compile(r"(ideal|why|features|attack)-\d+")
"""Without its page, a folder of explanations holds pictures alone: by its place."""

_HEAD_BYTES = 4096


def reason_for(folder: Path) -> str:
    """`REASON` for a folder that edgetl wrote; empty for any other."""
    is_own = (
        folder.name.endswith(ASIDE_SUFFIX)
        or (folder.parent.name == "explain" and _EXPLANATION.fullmatch(folder.name))
        or any(_holds(folder / name, mark) for name, mark in _MARKS.items())
    )
    return REASON if is_own else ""


def _holds(path: Path, mark: bytes) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            if mark in head:
                return True
            file.seek(max(0, path.stat().st_size - _HEAD_BYTES))
            return path.suffix == ".json" and mark in file.read()
    except OSError:
        return False
