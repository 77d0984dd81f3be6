"""The preprocessing in JavaScript gives the pixels of the one in Python, in Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from toolchain.browser import STATIC
from toolchain.drawn.pets import draw
from toolchain.images.preprocess import Image, Preprocess

NODE = shutil.which("node")
HERE = Path(__file__).parent

SPECS = {
    "area": Preprocess(),
    "a crop": Preprocess(160, 192, shortest_edge=224, interpolation="linear"),
    "cubic": Preprocess(224, 224, shortest_edge=235, interpolation="cubic"),
    "squash": Preprocess(96, 128, resize="squash", shortest_edge=128),
    "linear squash": Preprocess(224, 160, resize="squash", interpolation="linear"),
    "cubic squash": Preprocess(192, 192, resize="squash", interpolation="cubic"),
}
SIZES = {
    "a camera's": (480, 640),
    "twice": (448, 448),
    "thrice, upright": (672, 675),
    "the network's own": (224, 224),
    "odd": (331, 499),
    "small": (61, 97),
    "one side small": (40, 900),
    "a line": (2, 300),
    "one pixel": (1, 1),
    "halves": (225, 227),
}


def picture(height: int, width: int) -> Image:
    """A drawing with noise, so that each pixel counts."""
    drawn = draw("cat", 3, size=64)
    rows, columns = np.arange(height) * 64 // height, np.arange(width) * 64 // width
    noise = np.random.default_rng(height * width).integers(-60, 60, (height, width, 3))
    return np.clip(drawn[rows][:, columns] + noise, 0, 255).astype(np.uint8)


@pytest.mark.skipif(NODE is None, reason="no Node on this machine")
def test_pixels_are_those_of_python(tmp_path: Path) -> None:
    cases = [(way, size) for way in SPECS for size in SIZES]
    pictures = {size: picture(*shape) for size, shape in SIZES.items()}
    described = [
        {"spec": asdict(SPECS[way]), "height": SIZES[size][0], "width": SIZES[size][1]} for way, size in cases
    ]
    (tmp_path / "cases.json").write_text(json.dumps(described), encoding="utf-8")
    (tmp_path / "pictures").write_bytes(b"".join(pictures[size].tobytes() for _, size in cases))
    module = shutil.copy(STATIC / "classify.js", tmp_path / "classify.mjs")  # Node goes by the name
    words = [HERE / "prepare.mjs", module, *(tmp_path / name for name in ("cases.json", "pictures", "out"))]
    assert NODE
    subprocess.run([NODE, *words], check=True, timeout=60)
    found = np.frombuffer((tmp_path / "out").read_bytes(), np.uint8)
    at = 0
    for way, size in cases:
        expected = SPECS[way](pictures[size])
        got = found[at : (at := at + expected.size)].reshape(expected.shape)
        difference = np.abs(got.astype(int) - expected).max()
        assert difference <= 1, f"{way} of {size}: {difference}"
    assert at == len(found)
