"""The documents are what the code and the results files give now, and what they say of the tree is true."""

from __future__ import annotations

import ast
import json
import re
import runpy
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from test_layers import ORDER

import toolchain

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
TEXTS = [path for path in PAGES if path.parent.name not in {"decisions"} and path.name != "CHANGELOG.md"]


@cache
def made(script: str) -> dict[str, Any]:
    return runpy.run_path(str(DOCS / script))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> str:
    """A page without its code, its generated tables and the figures that have names."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"<!-- (table|output): .*?<!-- end of \1 -->", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--=.*?<!--/-->", "", text, flags=re.DOTALL)
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`|^    .*$", "", text, flags=re.MULTILINE)


def test_command_reference_is_fresh() -> None:
    fresh = made("make_commands.py")["reference"]()
    assert (DOCS / "reference" / "commands.md").read_text(encoding="utf-8") == fresh, "python docs/make_commands.py"


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="signatures are printed differently by each Python")
def test_python_reference_is_fresh() -> None:
    fresh = made("make_python.py")["reference"]()
    assert (DOCS / "reference" / "python.md").read_text(encoding="utf-8") == fresh, "python docs/make_python.py"


def test_schema_of_the_benchmark_is_fresh() -> None:
    schema = made("make_schema.py")
    assert schema["SCHEMA"].read_text(encoding="utf-8") == schema["schema"](), "python docs/make_schema.py"


def test_index_of_decisions_is_fresh() -> None:
    decisions = made("make_decisions.py")
    assert decisions["TARGET"].read_text(encoding="utf-8") == decisions["index"](), "python docs/make_decisions.py"


@pytest.mark.parametrize("path", made("make_figures.py")["documents"](), ids=name_of)
def test_figures_are_the_measured_ones(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == made("make_figures.py")["fresh"](text), "python docs/make_figures.py"


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_every_measured_figure_has_a_name(path: Path) -> None:
    """Accuracies, times and sizes come from results files and recipes."""
    assert not re.findall(r"\b0\.\d{3}\b|\b\d+(?:\.\d+)? (?:ms|MB)\b|\b\d\.\d+ times\b", prose(path))


def test_every_name_of_a_figure_is_used() -> None:
    figures = made("make_figures.py")
    texts = "".join(path.read_text(encoding="utf-8") for path in figures["documents"]())
    unused = [name for name in figures["FIGURES"] if f"<!--={name}-->" not in texts]
    unused += [name for name in figures["TABLES"] if f"<!-- table: {name} -->" not in texts]
    assert not unused


def test_recorded_terminal_is_fresh_and_small() -> None:
    demo = made("make_demo.py")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == demo["readme"](text), "python docs/make_demo.py"
    commands = json.loads(demo["RECORD"].read_text(encoding="utf-8"))
    assert demo["PICTURE"].read_text(encoding="utf-8") == demo["picture"](commands), "python docs/make_demo.py"
    assert [command["command"] for command in commands] == list(demo["COMMANDS"].values())
    assert demo["PICTURE"].stat().st_size < 500_000


def test_readme_begins_with_its_two_lines() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    code = [line.strip() for line in lines if line.startswith("    ")]
    assert code[:2] == ["pip install '.[train]' && edgetl demo", "pip install -e '.[test]' && pytest"]


def anchors(path: Path) -> set[str]:
    """What headings of a page can be linked to by, as GitHub and MkDocs make it of them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        target, _, anchor = link.partition("#")
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), link
        assert not anchor or there.suffix != ".md" or anchor in anchors(there), link


def test_each_decision_has_a_number_of_its_own() -> None:
    numbers = [path.name[:4] for path in made("make_decisions.py")["records"]()]
    assert len(numbers) == len(set(numbers))


ARCHITECTURE = (DOCS / "architecture.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)` \| .+ \| (device|training|both) \|$", ARCHITECTURE, flags=re.MULTILINE)


def test_architecture_names_each_package_in_the_order_of_its_layers() -> None:
    listed = [name for name, _ in ROWS]
    assert listed == [name for name in ORDER if not name.startswith("_")]
    assert all(f"`{name}`" in ARCHITECTURE for name in ORDER)
    package = Path(toolchain.__file__).parent
    there = {path.name.removesuffix(".py") for path in package.iterdir() if path.suffix in {"", ".py"}}
    assert set(ORDER) == there - {"__init__", "__main__", "__pycache__", "models"}


def test_the_device_half_of_architecture_imports_no_torch() -> None:
    """Packages of the device half import torch only where `torch:` devices are run or looked for."""
    package = Path(toolchain.__file__).parent
    for name, half in ROWS:
        files = [package / f"{name}.py", *(package / name).rglob("*.py")] if half == "device" else []
        importing = {
            path.relative_to(package).as_posix() for path in files if path.is_file() and _imports_torch(path)
        }
        assert importing <= {"runtimes/torch.py", "runtimes/devices.py"}


def _imports_torch(path: Path) -> bool:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if any(name.split(".")[0] in {"torch", "torchvision"} for name in names):
            return True
    return False


def test_architecture_points_to_files_that_are_there() -> None:
    package = Path(toolchain.__file__).parent
    named = re.findall(r"`([a-z_]+(?:/[a-z_]+)*\.py)`", ARCHITECTURE)
    assert len(named) > 12
    assert [name for name in named if not (package / name).is_file() and not (ROOT / name).is_file()] == [
        name for name in named if name in {"preprocess.py", "recipes.py", "networks.py"}
    ]


@pytest.mark.parametrize("path", made("make_decisions.py")["records"](), ids=name_of)
def test_a_decision_has_its_parts(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.match(rf"# {int(path.name[:4])}\. .+\n\n\*\*Status:\*\* (accepted|superseded|proposed)", text)
    assert "\n## Decision\n" in text
    # Outside of what was measured once, figures come from results files.
    kept = re.sub(r"^## Measured once\n.*?(?=^## |\Z)", "", prose(path), flags=re.DOTALL | re.MULTILINE)
    assert not re.findall(r"\b0\.\d{3}\b|\b\d+(?:\.\d+)? ms\b", kept)
