"""A line of figures, added to a file of results."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path


def append_row(path: Path, row: Mapping[str, object], fields: Sequence[str]) -> None:
    """Add `row` to a CSV file, which is begun with the names of `fields` if it is not there yet."""
    new = not path.exists()
    path.parent.mkdir(exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields)
        if new:
            writer.writeheader()
        writer.writerow(row)
