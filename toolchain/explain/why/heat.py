"""Heat maps: where a network looked, as weights over the pixels of its input. No torch in here."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from toolchain.images.preprocess import Image

Heat = NDArray[np.float32]
"""float32 [height, width], not negative. It sums to 1, or to 0 if nothing speaks for the class."""

EMPHASIS = 2
FLOOR = 0.25
"""The brightness of the picture where there is no heat."""


def as_heat(values: NDArray[np.floating]) -> Heat:
    """The positive part of `values` [height, width], which speaks for the class, as weights that sum to 1.

    Values are squared. Otherwise faint ones all over a large background would add up to as much as the animal.
    """
    positive = np.maximum(values, 0).astype(np.float64) ** EMPHASIS
    total = float(positive.sum())
    heat: Heat = (positive / total if total > 0 else positive).astype(np.float32)
    return heat


def as_sixteen_bits(heat: Heat) -> bytes:
    """The heat as a grey PNG of 16 bits: 65535 is the hottest pixel, 0 is no heat."""
    strength = heat / heat.max() if heat.max() > 0 else heat
    done, data = cv2.imencode(".png", np.rint(65535 * strength).astype(np.uint16))
    assert done
    return data.tobytes()


def overlay(picture: Image, heat: Heat) -> Image:
    """`picture`, brighter and coloured where the heat is; uint8 RGB of the same size."""
    strength = heat / heat.max() if heat.max() > 0 else heat
    levels = np.rint(255 * strength).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB).astype(np.float32)
    light = (FLOOR + (1 - FLOOR) * strength)[..., None]
    share = 0.5 * strength[..., None]
    return np.rint((1 - share) * light * picture + share * colours).astype(np.uint8)


def hottest(heat: Heat, share: float) -> NDArray[np.bool_]:
    """Which pixels [height, width] are the hottest `share` of all; among equals, the first."""
    count = round(share * heat.size)
    chosen = np.zeros(heat.size, bool)
    chosen[np.argsort(-heat, axis=None, kind="stable")[:count]] = True
    return chosen.reshape(heat.shape)


def area_of_half(heat: Heat) -> float:
    """The fraction of the picture, 0 to 1, that holds half of the heat. It is small if one detail decides."""
    total = heat.sum(dtype=np.float64)
    if total <= 0:
        return 1.0
    reached = np.cumsum(np.sort(heat, axis=None)[::-1], dtype=np.float64)
    return float((np.searchsorted(reached, total / 2) + 1) / heat.size)


def inside(heat: Heat, region: NDArray[np.floating]) -> float:
    """The fraction of the heat, 0 to 1, inside `region` [height, width], which has a fraction for each pixel."""
    total = heat.sum(dtype=np.float64)
    return float((heat * region).sum(dtype=np.float64) / total) if total > 0 else 0.0
