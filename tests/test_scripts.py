"""Scripts that no test runs, since they take minutes: what they import from the package is there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(
    path for folder in ("benchmarks", "docs", "models", "examples") for path in ROOT.glob(f"{folder}/**/*.py")
)


def _imported(path: Path) -> Iterator[tuple[str, str]]:
    """Modules of the package, and the names that are taken from them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "toolchain":
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.partition(".")[0] == "toolchain")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_script_imports_is_there(path: Path) -> None:
    for module, name in _imported(path):
        assert not name or _holds(module, name), f"{module} has no {name}"


def _holds(module: str, name: str) -> bool:
    found = import_module(module)
    return hasattr(found, name) or (hasattr(found, "__path__") and find_spec(f"{module}.{name}") is not None)
