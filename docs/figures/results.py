"""What was measured: the results files of `benchmarks/` and `models/pets`, read once, and how figures are shown."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
CAMERA = ROOT / "benchmarks" / "camera" / "results"
ADOPT = ROOT / "benchmarks" / "adopt" / "results"
BROWSER = ROOT / "benchmarks" / "browser" / "results"
EXPLAIN = ROOT / "benchmarks" / "explain" / "results"
TEACH = ROOT / "benchmarks" / "teach" / "results"
NEAR = RESULTS / "near-duplicates.csv"
PETS = ROOT / "models" / "pets" / "bench.json"

Row = dict[str, str]


@cache
def rows_of(path: Path) -> tuple[Row, ...]:
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


@cache
def json_of(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def where(path: Path, **values: str) -> list[Row]:
    return [row for row in rows_of(path) if all(row[name] == value for name, value in values.items())]


def mean(rows: list[Row], column: str) -> float:
    return statistics.mean(float(row[column]) for row in rows)


def span(values: list[str]) -> str:
    """`a to b`, or one value."""
    ordered = sorted(values, key=float)
    return ordered[0] if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"


def first(path: Path, column: str, form: str = "", **values: str) -> Callable[[], str]:
    def figure() -> str:
        text = where(path, **values)[0][column]
        return format(float(text), form) if form else text

    return figure


def table(head: str, rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]], *below: str) -> str:
    names = head.split(" | ")
    lines = [f"| {head} |", "|" + "---|" * len(names)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, *(part for line in below for part in ("", line))]) + "\n"
