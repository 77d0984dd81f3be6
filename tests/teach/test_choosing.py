"""Which frames of a take are kept."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from teach_support import frames, picture

from toolchain.camera.frames import BgrImage
from toolchain.camera.smoothing import thumbnail
from toolchain.teach.choosing import ALIKE, INTERVAL_S, RECENT, Chooser, sharpness


def chosen(pictures: list[BgrImage], fps: float = 30) -> tuple[list[BgrImage], Chooser]:
    chooser = Chooser()
    kept = [chooser.see(bgr, number / fps) for number, bgr in enumerate(pictures)]
    return [bgr for bgr in (*kept, chooser.end()) if bgr is not None], chooser


def test_a_thing_that_moves_gives_several_pictures_none_like_another() -> None:
    kept, _ = chosen([frame.bgr for frame in frames(picture("cat"), 90)])
    assert 5 <= len(kept) <= 90 / 30 / INTERVAL_S + 1
    small = [thumbnail(bgr).astype(int) for bgr in kept]
    apart = [np.abs(one - other).mean() for place, one in enumerate(small) for other in small[:place]]
    assert min(apart) >= ALIKE


def test_a_thing_that_stays_gives_one_picture_whatever_the_noise() -> None:
    rng = np.random.default_rng(0)
    still = picture("cat")
    noisy = [np.clip(still + rng.normal(0, 5, still.shape), 0, 255).astype(np.uint8) for _ in range(60)]
    kept, chooser = chosen(noisy)
    assert len(kept) == 1
    assert chooser.left_out["alike"] >= 5


def test_what_a_take_remembers_is_bounded() -> None:
    """One that nobody ends goes on all night."""
    chooser, still = Chooser(), picture("cat")[:64, :64]
    for number in range(RECENT + 50):
        chooser.see(still, number / 30)
    assert len(chooser._sharpness) == RECENT


@pytest.mark.parametrize("empty", ["black", "grey", "dark noise"])
def test_pictures_of_nothing_are_left_out(empty: str) -> None:
    noise = np.random.default_rng(0).normal(0, 3, (120, 160, 3))
    bgr = {"black": 0 * noise, "grey": 0 * noise + 128, "dark noise": np.abs(noise)}[empty].astype(np.uint8)
    kept, chooser = chosen([bgr] * 30)
    assert not kept
    assert chooser.left_out == {"empty": 30}


def test_blurred_frames_are_left_out_and_a_blurred_thing_is_not() -> None:
    sharp = [frame.bgr for frame in frames(picture("dog"), 60)]
    blurred = [cv2.GaussianBlur(bgr, (0, 0), 4) for bgr in sharp]
    _, chooser = chosen(sharp + [cv2.flip(bgr, 1) for bgr in blurred[:20]])
    assert chooser.left_out["blurred"] >= 3
    kept, chooser = chosen(blurred)  # a lens that is never sharp: the best of it
    assert len(kept) >= 3
    assert not chooser.left_out["blurred"]


def test_of_the_frames_in_an_interval_the_sharpest_is_taken() -> None:
    sharp = picture("cat")
    soft = cv2.GaussianBlur(sharp, (0, 0), 2)
    kept, _ = chosen([soft, soft, sharp, soft])
    assert len(kept) == 1
    assert kept[0] is sharp


def test_light_does_not_count_as_sharpness() -> None:
    bgr = picture("cat")
    dimmed = (bgr * 0.4).astype(np.uint8)
    assert sharpness(dimmed) == pytest.approx(sharpness(bgr), rel=0.25)
    assert sharpness(cv2.GaussianBlur(bgr, (0, 0), 3)) < 0.5 * sharpness(bgr)
