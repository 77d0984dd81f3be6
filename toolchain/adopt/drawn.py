"""Drawn pictures on which it shows whether a file is the network, where there are no photographs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolchain.drawn.pets import CLASSES, draw
from toolchain.images.preprocess import Preprocess

DRAWN = 6
SIDE = 384


def drawn(spec: Preprocess) -> NDArray[np.uint8]:
    """A few pictures as a network's input, uint8 [n, height, width, 3]."""
    return np.stack([spec(draw(CLASSES[index % len(CLASSES)], index, size=SIDE)) for index in range(DRAWN)])
