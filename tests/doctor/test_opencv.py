"""Which OpenCV lies in `cv2`, with installations as pip leaves them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from toolchain.doctor.opencv import PACKAGES, look, problem


def _site(folder: Path, claimed: dict[str, str], version: str | None) -> list[str]:
    """A site-packages with metadata of `claimed` packages, and a `cv2` of `version`."""
    for name, number in claimed.items():
        info = folder / f"{name.replace('-', '_')}-{number}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    if version is not None:
        (folder / "cv2").mkdir(parents=True)
        (folder / "cv2" / "version.py").write_text(f'opencv_version = "{version}"\ncontrib = False\n')
    return [str(folder)]


@pytest.mark.parametrize("name", PACKAGES)
def test_any_of_the_four_alone_is_fine(name: str, tmp_path: Path) -> None:
    found = look(_site(tmp_path, {name: "4.12.0.88"}, "4.12.0"))
    assert found.packages == ((name, "4.12.0.88"),)
    assert problem(found) is None
    assert f"from {name} 4.12.0.88" in found.said


def test_an_opencv_that_pip_does_not_know_is_fine(tmp_path: Path) -> None:
    assert problem(look(_site(tmp_path, {}, "4.6.0"))) is None  # conda's, or the distribution's
    assert look([str(tmp_path / "empty")]).said == "not installed"


@pytest.mark.parametrize(
    ("claimed", "version", "keep"),
    [
        ({"opencv-python-headless": "5.0.0.93", "opencv-python": "4.10.0.84"}, "5.0.0.93", "opencv-python"),
        (
            {"opencv-python-headless": "5.0.0.93", "opencv-contrib-python": "4.10.0.84"},
            "4.10.0.84",
            "opencv-contrib-python",
        ),
        (
            {"opencv-python": "4.10.0.84"},
            "5.0.0.93",
            "opencv-python",
        ),  # one was over it, and is gone
    ],
)
def test_two_in_one_folder_are_named_with_what_mends_it(
    claimed: dict[str, str], version: str, keep: str, tmp_path: Path
) -> None:
    found = look(_site(tmp_path, claimed, version))
    gap = problem(found)
    assert gap is not None
    assert not gap.necessary
    assert all(name in gap.what for name in claimed)
    assert gap.fix.startswith("pip uninstall -y ")
    assert all(name in gap.fix for name in claimed)
    assert gap.fix.endswith(f"pip install --no-deps {keep}")


def test_one_that_hides_another_is_fine(tmp_path: Path) -> None:
    paths = _site(tmp_path / "own", {"opencv-python": "4.10.0.84"}, "4.10.0")
    paths += _site(tmp_path / "system", {"opencv-python-headless": "4.6.0.66"}, "4.6.0")
    assert look(paths).packages == (("opencv-python", "4.10.0.84"),)
    assert problem(look(paths)) is None


def test_what_is_here_is_what_is_found() -> None:
    found = look()
    assert found.folder == str(Path(cv2.__file__).parent)
    assert cv2.__version__.startswith(found.version[:5])


@pytest.mark.parametrize("words", [["predict", "m.onnx", "x.jpg"], ["doctor"]])
def test_an_opencv_that_lacks_a_library_is_told(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "cv2").mkdir()
    (tmp_path / "cv2" / "__init__.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')\n"
    )
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", ""), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nfrom toolchain.cli import run\nsys.exit(run({words!r}))"],
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 3, told
    assert "libGL.so.1" in told
    assert "pip install --no-deps" in told
    assert "headless" in told
