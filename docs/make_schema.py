"""Write bench.schema.json from the classes of toolchain/bench/results.py: `python docs/make_schema.py`."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from toolchain.bench.results import BenchReport

SCHEMA = Path(__file__).resolve().parent.parent / "toolchain" / "bench" / "bench.schema.json"


def schema() -> str:
    """The JSON Schema (draft 2020-12) of `bench.json`, as text."""
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "edgetl.bench/1"}
    return json.dumps(document | msgspec.json.schema(BenchReport), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(schema(), encoding="utf-8")
