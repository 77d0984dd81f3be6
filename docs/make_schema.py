"""Write bench.schema.json from the classes of toolchain/bench/results.py: `python docs/make_schema.py`."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import msgspec

from toolchain.bench.results import BenchReport

SCHEMA = Path(__file__).resolve().parent.parent / "toolchain" / "bench" / "bench.schema.json"


def schema() -> str:
    """The JSON Schema (draft 2020-12) of `bench.json`, as text."""
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "edgetl.bench/1"}
    document |= _dedented(msgspec.json.schema(BenchReport))
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _dedented(part: Any) -> Any:
    """With descriptions as Python 3.13 has docstrings: without the indentation of the source."""
    if isinstance(part, list):
        return [_dedented(one) for one in part]
    if not isinstance(part, dict):
        return part
    return {
        key: inspect.cleandoc(value) if key == "description" and isinstance(value, str) else _dedented(value)
        for key, value in part.items()
    }


if __name__ == "__main__":
    SCHEMA.write_text(schema(), encoding="utf-8")
