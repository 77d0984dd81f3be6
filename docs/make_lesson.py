"""Make docs/tutorial/lesson.ipynb from lesson.py beside it: `python docs/make_lesson.py`. A test finds it stale.

Cells begin with a line `# %%`, those of text with `# %% [markdown]`. The notebook holds no results.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parent / "tutorial" / "lesson.py"
TARGET = Path(__file__).parent / "tutorial" / "lesson.ipynb"


def notebook() -> str:
    """The notebook as JSON."""
    _, *parts = SOURCE.read_text(encoding="utf-8").split("# %%")
    document = {
        "cells": [_cell(number, part) for number, part in enumerate(parts)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _cell(number: int, part: str) -> dict[str, Any]:
    head, _, body = part.partition("\n")
    is_text = head.strip() == "[markdown]"
    lines = body.strip("\n").split("\n")
    if is_text:
        lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
    source = [f"{line}\n" for line in lines[:-1]] + lines[-1:]
    cell: dict[str, Any] = {"cell_type": "markdown" if is_text else "code", "id": f"cell-{number}", "metadata": {}}
    return cell | ({"source": source} if is_text else {"execution_count": None, "outputs": [], "source": source})


if __name__ == "__main__":
    TARGET.write_text(notebook(), encoding="utf-8")
