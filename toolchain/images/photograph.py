"""One photograph as a file: where it lies, what it is called, what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Photograph:
    """One image file. `name` is its path below the data set's folder, `label` an index into the classes."""

    name: str
    path: Path
    label: int
    sha256: str
