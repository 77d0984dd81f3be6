"""The generated pages are those that the code gives now."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_command_reference_is_fresh() -> None:
    made = runpy.run_path(str(DOCS / "make_commands.py"))
    assert (DOCS / "commands.md").read_text(encoding="utf-8") == made["reference"](), "python docs/make_commands.py"


def test_schema_of_the_benchmark_is_fresh() -> None:
    made = runpy.run_path(str(DOCS / "make_schema.py"))
    assert made["SCHEMA"].read_text(encoding="utf-8") == made["schema"](), "python docs/make_schema.py"


def test_figures_of_the_readme_are_the_measured_ones() -> None:
    made = runpy.run_path(str(DOCS / "make_figures.py"))
    assert (DOCS.parent / "README.md").read_text(encoding="utf-8") == made["page"](), "python docs/make_figures.py"


def test_figures_of_the_guide_are_the_measured_ones() -> None:
    made = runpy.run_path(str(DOCS / "make_figures.py"))
    assert (DOCS / "guide.md").read_text(encoding="utf-8") == made["guide"](), "python docs/make_figures.py"


def test_readme_begins_with_its_two_lines() -> None:
    lines = (DOCS.parent / "README.md").read_text(encoding="utf-8").splitlines()
    code = [line.strip() for line in lines if line.startswith("    ")]
    assert code[:2] == ["pip install '.[train]' && edgetl demo", "pip install -e '.[test]' && pytest"]
