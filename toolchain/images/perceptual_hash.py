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


def near_pairs(hashes: NDArray[np.uint64], distance: int = NEAR) -> NDArray[np.int64]:
    """The pairs of `hashes`, uint64 [n], of which at most `distance` bits differ: int64 [pairs, 2], the lower place
    first. All are compared with all.
    """
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(hashes), _BLOCK):
        rest = hashes[start:]
        bits = np.bitwise_count(rest[:_BLOCK, None] ^ rest[None, :])
        first, second = np.nonzero(bits <= distance)
        ordered = first < second
        found.append(start + np.stack([first[ordered], second[ordered]], axis=1))
    return np.concatenate(found)


def near_groups(hashes: NDArray[np.uint64], distance: int = NEAR) -> list[list[int]]:
    """Groups of two and more `hashes` that a chain of near pairs connects, by their places; each in order."""
    parent = list(range(len(hashes)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for first, second in near_pairs(hashes, distance).tolist():
        one, other = root(first), root(second)
        parent[max(one, other)] = min(one, other)
    groups: dict[int, list[int]] = {}
    for place in range(len(hashes)):
        groups.setdefault(root(place), []).append(place)
    return [group for group in groups.values() if len(group) > 1]
