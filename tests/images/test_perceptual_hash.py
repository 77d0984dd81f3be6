"""Pictures that look alike have near hashes; others have not."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from toolchain.drawn.pets import draw
from toolchain.images.perceptual_hash import NEAR, near_groups, perceptual_hash
from toolchain.images.preprocess import Image, decode


def compressed(image: Image) -> Image:
    return decode(cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 40])[1].tobytes())


def brighter(image: Image) -> Image:
    return np.clip(image.astype(np.int16) + 12, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "change",
    [compressed, brighter, lambda image: cv2.resize(image, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)],
    ids=["compressed", "brighter", "smaller"],
)
def test_changes_that_a_person_would_not_see_change_few_bits(change: Callable[[Image], Image]) -> None:
    for number in range(6):
        image = draw("cat", number, size=256)
        assert (perceptual_hash(image) ^ perceptual_hash(change(image))).bit_count() <= NEAR


def test_other_pictures_are_far() -> None:
    hashes = [perceptual_hash(draw("cat", number, size=256)) for number in range(8)]
    assert all((one ^ other).bit_count() > NEAR for one in hashes for other in hashes if one != other)


def test_a_shift_of_a_fiftieth_is_near_and_the_mirror_image_is_not() -> None:
    for number in range(4):
        image = draw("dog", number, size=256)
        assert (perceptual_hash(image) ^ perceptual_hash(image[5:, 5:])).bit_count() <= NEAR
    image = draw("cat", 0, size=256)
    assert (perceptual_hash(image) ^ perceptual_hash(image[:, ::-1].copy())).bit_count() > NEAR


def test_pairs_are_those_of_comparing_each_with_each() -> None:
    random = np.random.default_rng(3)
    hashes = random.integers(0, 2**64, 700, dtype=np.uint64)
    hashes[500:] = hashes[:200] ^ (np.uint64(1) << random.integers(0, 64, 200, dtype=np.uint64))
    hashes[500:600] ^= np.uint64(1) << random.integers(0, 64, 100, dtype=np.uint64)
    expected = {
        (first, second)
        for first in range(700)
        for second in range(first + 1, 700)
        if (int(hashes[first]) ^ int(hashes[second])).bit_count() <= 1
    }
    assert 100 <= len(expected) < 200
    found = near_groups(hashes, 1)
    assert {place for group in found for place in group} == {place for pair in expected for place in pair}
    together = {place: number for number, group in enumerate(found) for place in group}
    assert all(together[first] == together[second] for first, second in expected)


def test_many_frames_of_one_scene_are_one_group() -> None:
    """All pairs of them would take gigabytes."""
    hashes = np.random.default_rng(0).integers(0, 16, 6000).astype(np.uint64)
    assert near_groups(hashes) == [list(range(6000))]


def test_groups_are_chains_of_pairs() -> None:
    hashes = np.array([0b0, 0xFF00, 0b1, 0xFFFF00000000, 0b11, 0xFF01], np.uint64)
    assert near_groups(hashes, 1) == [[0, 2, 4], [1, 5]]
    assert near_groups(hashes[:0], 1) == []
