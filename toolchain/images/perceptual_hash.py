"""Pictures that look alike although their bytes differ: another size, another quality, the next frame of a burst.

A difference hash has a bit for each pair of neighbours in a very small picture: whether the right one is brighter.
Scaling, compression and other light hardly change it. Two pictures are near when few bits differ.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from toolchain.images.preprocess import Image

BITS = 64
_ROWS = 8
_BLOCK = 256
"""So many hashes are compared with all others at once."""


def difference_hash(image: Image) -> int:
    """The hash of an RGB picture, uint8 [height, width, 3]: 64 bits, of 8 rows of 9 brightnesses each."""
    small = cv2.resize(image, (_ROWS + 1, _ROWS), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    bits = np.packbits(grey[:, 1:] > grey[:, :-1])
    return int.from_bytes(bits.tobytes(), "big")


def near_pairs(hashes: NDArray[np.uint64], distance: int) -> NDArray[np.int64]:
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


def near_groups(hashes: NDArray[np.uint64], distance: int) -> list[list[int]]:
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
