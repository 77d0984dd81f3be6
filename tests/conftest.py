"""Data that many tests use."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path

import cv2
import pytest

from toolchain.datasets.drawn import draw
from toolchain.datasets.splits import decide

WANTED = {"train": 5, "val": 1, "calibration": 1, "test": 1}
"""Pictures for each class of `drawn_folder`."""


@pytest.fixture(scope="session")
def drawn_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders with 24 drawn pictures, 96 pixels wide: cat, dog and fish.

    Every class has photographs in every split, whatever JPEG encoder this OpenCV has. Not to be written to.
    """
    root = tmp_path_factory.mktemp("drawn")
    for label in ("cat", "dog", "fish"):
        (root / label).mkdir()
        have: Counter[str] = Counter()
        for index in range(1000):
            bgr = cv2.cvtColor(draw(label, index, size=96), cv2.COLOR_RGB2BGR)
            data = cv2.imencode(".jpg", bgr)[1].tobytes()
            split = decide(hashlib.sha256(data).hexdigest())
            if have[split] < WANTED[split]:
                have[split] += 1
                (root / label / f"{label}-{index:03}.jpg").write_bytes(data)
            if have == WANTED:
                break
        assert have == WANTED
    return root


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs, `$EDGETL_DATA`; skips the test where it does not hold the pets."""
    chosen = os.environ.get("EDGETL_DATA")
    if not chosen:
        pytest.skip("EDGETL_DATA is not set: no real photographs")
    root = Path(chosen).expanduser().absolute()
    if not (root / "oxford-iiit-pet" / "images").is_dir():
        pytest.skip(f"{root} does not hold oxford-iiit-pet")
    return root
