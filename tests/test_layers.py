"""The device half never imports torch, and imports point downwards only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import toolchain

PACKAGE = Path(toolchain.__file__).parent

ORDER = (
    "_version", "_pyinstaller", "errors", "system", "plugins", "images", "pages", "drawn", "datasets", "artifact",
    "runs", "evaluation", "backbones", "runtimes", "classifier", "timing", "recommended", "camera", "review",
    "bench", "doctor", "export", "training", "adopt", "teach", "explain", "cli",
)  # fmt: skip
"""From the ground up: each may import those before it, and none of those after it."""

RANK = {name: rank for rank, name in enumerate(ORDER)}

DEVICE_HALF = (
    "toolchain.artifact",
    "toolchain.bench.runner",
    "toolchain.timing.worker",
    "toolchain.camera.loop",
    "toolchain.classifier",
    "toolchain.review.server",
    "toolchain.cli.review",
    "toolchain.cli.bench",
    "toolchain.cli.camera",
    "toolchain.cli.data",
    "toolchain.cli.doctor",
    "toolchain.cli.predict",
    "toolchain.cli.teach",
    "toolchain.cli.explain.why",
    "toolchain.datasets.catalogue",
    "toolchain.explain.why.report",
    "toolchain.explain.why",
    "toolchain.artifact.ir",
    "toolchain.images.preprocess",
    "toolchain.backbones.recipes",
    "toolchain.runs",
    "toolchain.teach.script",
    "toolchain.runtimes.onnxruntime",
    "toolchain.runtimes.openvino",
)


def _imports(path: Path) -> set[str]:
    """Second parts of the `toolchain.*` modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("toolchain.")}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    layer = relative.parts[0].removesuffix(".py")
    if layer in {"__init__", "__main__"}:
        pytest.skip("the package's front door")
    above = {name for name in _imports(path) if RANK.get(name, 0) > RANK[layer]}
    assert not above, f"{relative} imports {above}, which lie above it"


@pytest.mark.parametrize("module", DEVICE_HALF)
def test_device_half_never_imports_torch(module: str) -> None:
    code = (
        f"import sys, {module}; print([name for name in ('torch', 'torchvision', 'nncf') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
