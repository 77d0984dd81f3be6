"""The course of a run, a line for each epoch: `metrics.jsonl`, and the same as CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from toolchain.errors import BadInputError
from toolchain.runs import METRICS_CSV_FILE, METRICS_FILE
from toolchain.system import files


def read_lines(folder: Path) -> list[dict[str, float]]:
    """The epochs of the run in `folder`, first one first. Raises BadInputError when the file is damaged."""
    path = folder / METRICS_FILE
    return [_epoch(path, line) for line in path.read_bytes().splitlines()] if path.exists() else []


def _epoch(path: Path, line: bytes) -> dict[str, float]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadInputError(f"{path} is damaged", "Start the run again.")
    return found


def write_csv(folder: Path) -> None:
    """Write `metrics.csv` from `metrics.jsonl`."""
    lines = read_lines(folder)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]))
    writer.writeheader()
    writer.writerows(lines)
    files.write_bytes(folder / METRICS_CSV_FILE, text.getvalue().encode())


def keep_lines(path: Path, count: int) -> None:
    """Drop what an interrupted epoch may have left after the last checkpoint.

    Raises BadInputError when what is kept is damaged: it would be found at the end of the next epoch.
    """
    lines = path.read_bytes().splitlines(keepends=True)[:count] if path.exists() else []
    for line in lines:
        _epoch(path, line)
    path.write_bytes(b"".join(lines))
