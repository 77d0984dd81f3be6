"""Photographs are opened in one place, and no more often than they must be."""

from __future__ import annotations

import ast
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import toolchain
from tests.conftest import QUICK
from toolchain.bench.inputs import Chosen, prepare
from toolchain.datasets.catalogue import open_dataset
from toolchain.images.cache import cache_folder
from toolchain.images.preprocess import Preprocess
from toolchain.images.reader import Reader
from toolchain.system.progress import Silent
from toolchain.training.finetune import finetune
from toolchain.training.photographs import find_outliers, readable
from toolchain.training.settings import TrainSettings
from toolchain.training.team import Team

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


@dataclass(frozen=True)
class Data:
    """A data set with a broken photograph, and pictures of other things."""

    settings: TrainSettings
    photographs: list[Path]
    broken: Path
    others: list[Path]


@pytest.fixture
def data(tmp_path: Path, drawn_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))
    root, others = tmp_path / "data", tmp_path / "others"
    shutil.copytree(drawn_folder, root, ignore=shutil.ignore_patterns("fish"))
    shutil.copytree(drawn_folder / "fish", others)
    broken = min((root / "cat").iterdir())
    broken.write_bytes(broken.read_bytes()[:-200])
    settings = TrainSettings(str(root), weights="none", probe_only=True, outliers=str(others), **QUICK)  # type: ignore[arg-type]
    return Data(settings, sorted(root.rglob("*.*")), broken, sorted(others.iterdir()))


def _check_counts(opened: Counter[str], data: Data, times: int) -> None:
    """Each photograph was opened so many times; a broken one is not in the cache, and others need no split."""
    found = {path: opened[str(path)] for path in (*data.photographs, *data.others)}
    assert len(found) == 24
    assert found == {**dict.fromkeys(data.photographs, times), data.broken: 2, **dict.fromkeys(data.others, 1)}


def test_photographs_are_read_twice_and_with_a_cache_once(opened: Counter[str], data: Data) -> None:
    """Once for its hash, which decides its split; once to decode it, into all pictures that are needed."""
    for times in (2, 1):
        opened.clear()
        reader = Reader(data.settings.preprocess, cache_folder(), Silent())
        dataset, skipped = readable(open_dataset(data.settings.data), data.settings, reader, Team(), Silent())
        assert skipped == 1
        outliers = find_outliers(data.settings, dataset, reader, Silent())
        for photo in (*outliers, *(photo for photos in dataset.splits.values() for photo in photos)):
            reader.input(photo)
        for photo in dataset.splits["test"]:
            reader.thumbnail(photo)
        _check_counts(opened, data, times)


def test_bench_and_export_read_each_photograph_once_at_most(
    opened: Counter[str], data: Data, tmp_path: Path
) -> None:
    photos = open_dataset(data.settings.data).splits["train"]
    photos = tuple(photo for photo in photos if photo.path != data.broken)
    spec, other = data.settings.preprocess, Preprocess(height=32, width=32, shortest_edge=32)
    chosen = Chosen(tuple(photo.path for photo in photos), sha256=tuple(photo.sha256 for photo in photos))
    for specs, times in (([spec, other], 1), ([spec], 0)):
        opened.clear()
        prepare(chosen, specs, tmp_path, Silent())
        assert {opened[str(photo.path)] for photo in photos} == {times}
        filled = Reader(spec, cache_folder(), Silent())
        for photo in photos:
            filled.prepare(photo)
    opened.clear()
    export = Reader(spec, cache_folder(), Silent(), keep=False)
    for photo in photos:
        export.verified(photo)
    assert {opened[str(photo.path)] for photo in photos} == {1}, "its content is compared with the run's"


@pytest.mark.slow
def test_a_run_reads_photographs_no_more_often(tmp_path: Path, opened: Counter[str], data: Data) -> None:
    for run, times in (("first", 2), ("second", 1)):
        opened.clear()
        finetune(data.settings, tmp_path / run)
        _check_counts(opened, data, times)
    assert "data:image/jpeg" in (tmp_path / "second" / "report.html").read_text(encoding="utf-8")
