"""Photographs with labels, in splits: what every data set looks like to the rest of edgetl."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from toolchain.datasets.index import LeftOut
from toolchain.images.reader import Photograph

__all__ = ["SPLITS", "Dataset", "Photograph", "sha256_of_labelled"]

SPLITS = ("train", "val", "calibration", "test")


@dataclass(frozen=True)
class Dataset:
    """Named classes and, for each split, its photographs in a fixed order.

    `warnings` are things that the user should know: photographs that are missing, duplicates across splits.
    `licences` maps what is licensed to its terms. `left_out` are the files below `root` that are in no split.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    splits: dict[str, tuple[Photograph, ...]]
    warnings: tuple[str, ...] = ()
    licences: dict[str, str] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()

    def split_sha256(self, split: str) -> str:
        """A hash of which photographs the split holds, under which label; independent of order and folder."""
        return sha256_of_labelled((photo.sha256, self.classes[photo.label]) for photo in self.splits[split])

    @property
    def sha256(self) -> str:
        """A hash of all splits together."""
        parts = [f"{split} {self.split_sha256(split)}" for split in SPLITS]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def sha256_of_labelled(photographs: Iterable[tuple[str, str]]) -> str:
    """A hash of photographs, given as pairs of content hash and label; independent of their order."""
    lines = sorted(f"{sha256} {label}" for sha256, label in photographs)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
