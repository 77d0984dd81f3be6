"""Heat maps, and pictures that preprocessing leaves as they are."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from toolchain.explain.pictures import framed
from toolchain.explain.why import area_of_half, as_heat, as_sixteen_bits, hottest, inside, overlay
from toolchain.images.preprocess import Preprocess


def test_heat_is_what_speaks_for_the_class_squared_and_sums_to_one() -> None:
    heat = as_heat(np.array([[-5.0, 1.0], [2.0, 0.0]]))
    assert heat == pytest.approx(np.array([[0, 0.2], [0.8, 0]]))
    assert heat.dtype == np.float32


def test_where_nothing_speaks_for_the_class_there_is_no_heat() -> None:
    heat = as_heat(np.full((4, 4), -1.0))
    assert heat.sum() == 0
    assert inside(heat, np.ones((4, 4))) == 0
    assert area_of_half(heat) == 1
    assert np.array_equal(overlay(np.full((4, 4, 3), 200, np.uint8), heat), np.full((4, 4, 3), 50, np.uint8))


def test_shares_and_hottest_pixels() -> None:
    heat = as_heat(np.sqrt(np.array([[4.0, 3.0, 2.0, 1.0]])))
    assert inside(heat, np.array([[1, 0.5, 0, 0]])) == pytest.approx(0.55)
    assert hottest(heat, 0.5).tolist() == [[True, True, False, False]]
    assert hottest(np.zeros((1, 4), np.float32), 0.5).sum() == 2
    assert area_of_half(heat) == 0.5
    assert area_of_half(as_heat(np.eye(10)[:1])) == pytest.approx(0.1)


def test_the_heat_itself_is_a_picture_of_16_bits() -> None:
    read = cv2.imdecode(np.frombuffer(as_sixteen_bits(as_heat(np.sqrt([[0.0, 1.0, 2.0]]))), np.uint8), -1)
    assert read is not None
    assert read.dtype == np.uint16
    assert read.tolist() == [[0, 32768, 65535]]


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(),
        Preprocess(height=224, width=224, shortest_edge=232),
        Preprocess(height=50, width=71, shortest_edge=90),
        Preprocess(height=60, width=40, resize="squash"),
    ],
)
def test_a_framed_picture_goes_through_preprocessing_unchanged(preprocess: Preprocess) -> None:
    shape = (preprocess.height, preprocess.width, 3)
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert np.array_equal(preprocess(framed(picture, preprocess)), picture)
