"""Views of photographs: drawn within bounds, and made alike by OpenCV and by torch."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from toolchain.training.crops import View, draw_view, make_view, make_views


def _smooth(height: int, width: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 12), None, 0, 255, cv2.NORM_MINMAX)


@pytest.mark.parametrize("size", [(200, 300), (300, 200), (1, 1), (3, 500)])
@pytest.mark.parametrize("smallest", [0.08, 0.5, 1.0])
def test_views_lie_inside_the_photograph(size: tuple[int, int], smallest: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        view = draw_view(*size, rng, smallest)
        assert 0 <= view.top <= size[0] - view.height
        assert 0 <= view.left <= size[1] - view.width
        assert view.height >= 1
        assert view.width >= 1


def test_views_show_the_share_that_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    shares = [view.height * view.width / 40000 for view in (draw_view(200, 200, rng, 0.5) for _ in range(500))]
    assert min(shares) > 0.4  # long crops are cut at the edge
    assert 0.65 < np.mean(shares) < 0.8


def test_a_plain_view_is_the_photograph() -> None:
    image = _smooth(64, 64, 0)
    view = View(0, 0, 64, 64, False, np.ones(3), 0.0)
    np.testing.assert_array_equal(make_view(image, view, 64, 64), image)
    mirrored = View(0, 0, 64, 64, True, np.ones(3), 0.0)
    np.testing.assert_array_equal(make_view(image, mirrored, 64, 64), image[:, ::-1])
    bright = View(0, 0, 64, 64, False, np.array([1.0, 0.0, 1.0]), 20.0)
    made = make_view(image, bright, 64, 64)
    np.testing.assert_array_equal(made[..., 0], np.minimum(image[..., 0].astype(int) + 20, 255))
    assert (made[..., 1] == 148).all()


def test_torch_makes_the_same_views_as_opencv() -> None:
    images = [_smooth(180, 260, 1), _smooth(256, 171, 2), _smooth(90, 90, 3)]
    rng = np.random.default_rng(4)
    views = [draw_view(*image.shape[:2], rng, 0.4) for image in images]
    expected = np.stack([make_view(image, view, 96, 96) for image, view in zip(images, views, strict=True)])
    tensors = [torch.from_numpy(image).permute(2, 0, 1) for image in images]
    made = make_views(tensors, views, 96, 96).numpy()
    assert made.shape == expected.shape
    assert made.dtype == np.uint8
    difference = np.abs(made.astype(int) - expected.astype(int))
    assert difference.mean() < 1.5
    assert np.quantile(difference, 0.99) < 8


def test_edges_of_a_small_picture_are_not_darkened_beside_a_large_one() -> None:
    flat, large = torch.full((3, 90, 120), 200, dtype=torch.uint8), torch.zeros(3, 256, 256, dtype=torch.uint8)
    views = [View(0, 0, 90, 120, False, np.ones(3), 0.0), View(0, 0, 256, 256, False, np.ones(3), 0.0)]
    made = make_views([flat, large], views, 224, 224)
    assert (made[0] == 200).all()
