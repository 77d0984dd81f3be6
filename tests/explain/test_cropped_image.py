"""Pixels put back into their photograph are what preprocessing finds in it."""

from __future__ import annotations

import numpy as np
import pytest

from toolchain.explain.pictures import CroppedImage, as_png
from toolchain.images.preprocess import Preprocess, decode

SPECS = {
    "whole short side": Preprocess().with_size(64),
    "a border around the crop": Preprocess(height=64, width=64, shortest_edge=72),
    "odd border": Preprocess(height=63, width=64, shortest_edge=73),
    "wide crop": Preprocess(height=40, width=64, shortest_edge=64),
    "squashed": Preprocess(height=48, width=64, resize="squash"),
    "linear": Preprocess(height=64, width=64, shortest_edge=72, interpolation="linear"),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("shape", [(300, 451), (97, 33), (64, 64), (72, 72), (50, 40), (301, 1999)])
def test_saved_pixels_come_back_to_the_bit(spec: Preprocess, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    photograph = rng.integers(0, 256, (*shape, 3), np.uint8)
    placed = CroppedImage.of(photograph, spec)
    assert (placed.pixels == spec(photograph)).all()
    pixels = rng.integers(0, 256, (spec.height, spec.width, 3), np.uint8)
    saved = decode(as_png(placed.with_pixels(pixels)))
    assert (spec(saved) == pixels).all()
    assert (spec(decode(as_png(placed.whole))) == spec(photograph)).all()


def test_a_picture_of_the_crop_alone_would_not_come_back() -> None:
    spec = SPECS["a border around the crop"]
    pixels = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    assert (spec(pixels) != pixels).mean() > 0.5
