"""Pictures that look alike although their bytes differ: another size, another quality, the next frame of a burst.

A perceptual hash (pHash, Zauner 2010) keeps of a small grey picture only its 64 lowest frequencies, and of each
only whether it is above their median. Scaling, compression and other light hardly change that. Two pictures are
near when few bits differ.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from toolchain.images.preprocess import Image

BITS = 64
NEAR = 8
"""Up to so many bits differ between pictures of one scene, and hardly ever between others; see decision 155."""

_SIDE = 32
_FREQUENCIES = 8
_BLOCK = 256
"""So many hashes are compared with all others at once."""


def perceptual_hash(image: Image) -> int:
    """The hash of an RGB picture, uint8 [height, width, 3]: 64 bits."""
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    low = cv2.dct(grey)[:_FREQUENCIES, :_FREQUENCIES].ravel()
    middle = np.median(low[1:])  # the first is the mean brightness, far above all others
    return int.from_bytes(np.packbits(low > middle).tobytes(), "big")


def near_groups(hashes: NDArray[np.uint64], distance: int = NEAR) -> list[list[int]]:
    """Groups of two and more `hashes`, uint64 [n], that a chain of pairs connects of which at most `distance` bits
    differ, by their places; each in order. All are compared with all."""
    unlike, which = np.unique(hashes, return_inverse=True)
    labels = np.arange(len(unlike))
    for start in range(0, len(unlike), _BLOCK):
        near = np.bitwise_count(unlike[start : start + _BLOCK, None] ^ unlike[None, :]) <= distance
        # Pairs are not kept: of ten thousand frames of one scene there are fifty million.
        for row in near:
            joined = labels[row]
            if (joined != joined[0]).any():
                labels[np.isin(labels, joined)] = joined.min()
    groups: dict[int, list[int]] = {}
    for place, label in enumerate(labels[which].tolist()):
        groups.setdefault(label, []).append(place)
    return [group for group in groups.values() if len(group) > 1]
