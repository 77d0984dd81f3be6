"""The one way to take some of many photographs: every class has its share, and no part of a class is preferred."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def stratified(labels: Sequence[Any], keys: Sequence[Any] | None = None) -> list[int]:
    """The order in which to take photographs with these `labels`: any number of the first is a fair sample.

    Classes take turns. Within a class, photographs come in the order of `keys`, such as their SHA-256, or in a
    random order that is the same each time. Neither is the order of the files: neighbours in a folder are often
    pictures of the same animal, or in the same light.
    """
    if keys is None:
        keys = np.random.default_rng(0).permutation(len(labels)).tolist()
    order = sorted(range(len(labels)), key=lambda place: keys[place])
    places = {label: number for number, label in enumerate(sorted(set(labels)))}
    taken = dict.fromkeys(places, 0)
    turns = []
    for place in order:
        turns.append((taken[labels[place]], places[labels[place]], place))
        taken[labels[place]] += 1
    return [place for _, _, place in sorted(turns)]
