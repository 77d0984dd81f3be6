"""Pictures that go through the deployed preprocessing unchanged."""

from __future__ import annotations

import numpy as np

from toolchain.images.preprocess import Image, Preprocess


def framed(picture: Image, preprocess: Preprocess) -> Image:
    """The photograph that `preprocess` turns into exactly `picture`, uint8 RGB of the network's size.

    That is the picture itself, or, where preprocessing cuts a border off, the picture with its outermost pixels
    repeated around it.
    """
    if preprocess.resize == "squash":
        return picture
    across, down = preprocess.shortest_edge - preprocess.width, preprocess.shortest_edge - preprocess.height
    left, top = across // 2, down // 2
    return np.pad(picture, ((top, down - top), (left, across - left), (0, 0)), mode="edge")
