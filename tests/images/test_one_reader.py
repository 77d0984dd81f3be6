"""Photographs are opened in one place, and no more often than they must be."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import toolchain
from tests.conftest import QUICK
from toolchain.training.finetune import finetune
from toolchain.training.settings import TrainSettings

PACKAGE = Path(toolchain.__file__).parent

OPENERS = {"imread", "imdecode", "imreadmulti", "imdecodemulti", "imreadanimation", "open_heif", "read_heif"}
MODULES = {"Image", "ImageFile"}
"""Pillow's modules, whose `open` opens a picture."""

ELSEWHERE = {
    "camera/sources/images.py": "a moving picture is decoded frame by frame, from a place in the middle",
}
"""Modules outside `images/` that open pictures themselves, with the reason."""


def _opens_pictures(source: str) -> bool:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in OPENERS:
            return True
        if isinstance(node, ast.ImportFrom) and OPENERS & {alias.name for alias in node.names}:
            return True
        if isinstance(node, ast.Attribute) and node.attr == "open":
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if owner in MODULES:
                return True
    return False


def test_no_picture_is_opened_outside_images() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] != "images" and _opens_pictures(path.read_text(encoding="utf-8"))
    }
    assert found == set(ELSEWHERE)
    assert _opens_pictures((PACKAGE / "images" / "preprocess.py").read_text(encoding="utf-8")), "the test sees them"


@pytest.mark.parametrize(
    "source",
    [
        "import cv2\ncv2.imread('x')",
        "from PIL import Image\nImage.open('x')",
        "import PIL.Image\nPIL.Image.open(f)",
    ],
)
def test_the_ways_to_open_a_picture_are_known(source: str) -> None:
    assert _opens_pictures(source)
    assert not _opens_pictures("from pathlib import Path\nPath('x').open()")


@pytest.fixture
def opened() -> Iterator[Counter[str]]:
    """How often each file was opened by Python, by its path."""
    counts: Counter[str] = Counter()
    listening = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event == "open":
            counts[str(arguments[0])] += 1

    sys.addaudithook(hook)  # it cannot be taken away again
    yield counts
    listening = False


def test_a_run_reads_each_photograph_twice_and_with_a_cache_once(
    tmp_path: Path, drawn_folder: Path, opened: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for its hash, which decides its split; once to decode it. The report's thumbnails are in the cache."""
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))
    settings = TrainSettings(str(drawn_folder), weights="none", probe_only=True, **QUICK)  # type: ignore[arg-type]
    photographs = [str(path) for path in drawn_folder.rglob("*.*")]
    assert len(photographs) > 20
    for run, times in (("first", 2), ("second", 1)):
        opened.clear()
        finetune(settings, tmp_path / run)
        assert {path: opened[path] for path in photographs} == dict.fromkeys(photographs, times)
    assert "data:image/jpeg" in (tmp_path / "second" / "report.html").read_text(encoding="utf-8")
