"""The course of a run, a line for each epoch: `metrics.jsonl`, and the same as CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from toolchain import files
from toolchain.runs import METRICS_CSV_FILE, METRICS_FILE


def read_lines(folder: Path) -> list[dict[str, float]]:
    """The epochs of the run in `folder`, first one first."""
    path = folder / METRICS_FILE
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def write_csv(folder: Path) -> None:
    """Write `metrics.csv` from `metrics.jsonl`."""
    lines = read_lines(folder)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]))
    writer.writeheader()
    writer.writerows(lines)
    files.write_bytes(folder / METRICS_CSV_FILE, text.getvalue().encode())


def keep_lines(path: Path, count: int) -> None:
    """Drop what an interrupted epoch may have left after the last checkpoint."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    path.write_text("".join(lines[:count]), encoding="utf-8")
