"""The device half never imports torch, and imports point downwards only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import toolchain

PACKAGE = Path(toolchain.__file__).parent

RANK = {
    "cli": 5,
    "training": 4, "export": 4, "bench": 4, "camera": 4, "explain": 4, "demo": 5,
    "classifier": 3, "backbones": 3,
    "runtimes": 2, "datasets": 2, "ready_made": 2, "recipes": 2, "runs": 2,
    "artifact": 1.5, "card": 1.5,
    "preprocess": 1, "encoded": 1, "page": 1, "ir": 1, "external_data": 1,
    "figures": 0, "processor": 0, "scratch": 0, "errors": 0, "progress": 0, "files": 0,
    "ending": 0, "strict": 0, "picture_size": 0, "interpreter": 0,
    "masking": 0, "claims": 0, "names": 0, "telemetry": 0, "whole": 0,
    "folders": 0, "_pyinstaller": 0, "_version": 0, "__init__": 0,
}  # fmt: skip
"""Higher ranks may import lower ones and their own."""

EXCEPTIONS = {("runtimes/torch.py", "backbones")}
"""PyTorch as a runtime is the workshop's network by definition; it is loaded only when asked for."""

DEVICE_HALF = (
    "toolchain.artifact",
    "toolchain.bench.runner",
    "toolchain.bench.worker",
    "toolchain.camera.loop",
    "toolchain.classifier",
    "toolchain.cli.bench",
    "toolchain.cli.camera",
    "toolchain.cli.data",
    "toolchain.cli.doctor",
    "toolchain.cli.predict",
    "toolchain.cli.explain.why",
    "toolchain.datasets.catalogue",
    "toolchain.explain.occlusion",
    "toolchain.explain.pages",
    "toolchain.explain.why",
    "toolchain.ir",
    "toolchain.preprocess",
    "toolchain.recipes",
    "toolchain.runs",
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
    above = {
        name
        for name in _imports(path)
        if name in RANK and RANK[name] > RANK[layer] and (relative.as_posix(), name) not in EXCEPTIONS
    }
    assert not above, f"{relative} imports {above}, which lie above it"


@pytest.mark.parametrize("module", DEVICE_HALF)
def test_device_half_never_imports_torch(module: str) -> None:
    code = (
        f"import sys, {module}; print([name for name in ('torch', 'torchvision', 'nncf') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
