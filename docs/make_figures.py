"""Write the figures of the documents from what was measured: `python docs/make_figures.py`.

A figure in a document stands between `<!--=NAME-->` and `<!--/-->`, a table between `<!-- table: NAME -->` and
`<!-- end of table -->`. `figures/numbers.py` and `figures/tables.py` say what each name is, from the results files
of `benchmarks/` and `models/pets`. A test fails when a document is stale, and when one states an accuracy that has
no name.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(DOCS))

from figures.numbers import FIGURES  # noqa: E402
from figures.tables import TABLES  # noqa: E402

FIGURE = re.compile(r"(?<=<!--=)([a-z0-9.-]+)-->(.*?)(?=<!--/-->)", re.DOTALL)
TABLE = re.compile(r"(?<=<!-- table: )([a-z0-9.-]+) -->\n.*?(?=<!-- end of table -->)", re.DOTALL)


def documents() -> list[Path]:
    """The pages that hold figures."""
    pages = (path for path in sorted(DOCS.rglob("*.md")) if "site" not in path.relative_to(DOCS).parts)
    return [ROOT / "README.md", ROOT / "benchmarks" / "finetune" / "README.md", *pages]


def fresh(text: str) -> str:
    """A document's text with the figures that its names stand for now. Raises KeyError for an unknown name."""
    text = FIGURE.sub(lambda found: f"{found[1]}-->{FIGURES[found[1]]()}", text)
    return TABLE.sub(lambda found: f"{found[1]} -->\n{TABLES[found[1]]()}", text)


if __name__ == "__main__":
    for page in documents():
        page.write_text(fresh(page.read_text(encoding="utf-8")), encoding="utf-8")
