"""Write docs/decisions/index.md from the decision records: `python docs/make_decisions.py`."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent / "decisions"
TARGET = FOLDER / "index.md"
HEAD = """# Decisions

Each record has a status, the decision and its evidence. Figures under "Evidence" come from results files in the
repository, by script. Those under "Measured once" were measured when the decision was made, and neither script nor
output was kept.

| number | decision | status |
|---|---|---|
"""


def records() -> list[Path]:
    return sorted(FOLDER.glob("[0-9][0-9][0-9][0-9]-*.md"))


def index() -> str:
    """The whole page."""
    rows = []
    for path in records():
        text = path.read_text(encoding="utf-8")
        title, status = re.match(r"# \d+\. (.*)\n", text), re.search(r"^\*\*Status:\*\* (\w+)", text, re.MULTILINE)
        if title is None or status is None:
            raise SystemExit(f"{path} has no title or no status")
        rows.append(f"| {path.name[:4]} | [{title[1]}]({path.name}) | {status[1]} |")
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    TARGET.write_text(index(), encoding="utf-8")
