"""A source that does not exist is told before anything is opened: the machine may lack a window too."""

from __future__ import annotations

from pathlib import Path

from toolchain.errors import BadInputError


def refuse_missing(source: str) -> None:
    """Raise BadInputError where `source` can only be a path, and nothing is there."""
    is_other = not source.strip() or source.isdecimal() or source.startswith("/dev/") or "://" in source
    if is_other or source.lower().startswith("file:") or " ! " in source:
        return
    try:
        is_there = Path(source).exists()
    except (OSError, ValueError):  # no name that a file could have
        is_there = False
    if not is_there:
        raise BadInputError(f"{source} does not exist", "--source takes a camera's number, FILE, URL or FOLDER.")
