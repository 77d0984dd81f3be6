"""What came of a lesson, as plain data: how good the network is, by takes that it was not taught with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from toolchain.system import files

LEARNT_FILE = "taught.json"
"""In the run's folder."""


@dataclass(frozen=True)
class Learnt:
    """What came of it: the run's folder, and how good it is, by takes that it was not taught with.

    `top1` is None where no thing has two takes; `by_thing` is None for things of which that is not known. `test` is
    the accuracy of the very network that runs, on a take of each thing that never taught.
    """

    run: str
    things: tuple[str, ...]
    pictures: int
    top1: float | None
    top1_ci95: tuple[float, float] | None
    takes: int
    by_thing: dict[str, float | None]
    others_rejected: float | None
    """Share of pictures of a thing that a head rejects which was taught all but that thing."""
    test: float | None
    seconds: float


def read_learnt(run: Path) -> Learnt | None:
    """What came of the lesson that made a run; None where that is not there."""
    try:
        return files.read_json(run / LEARNT_FILE, Learnt)
    except (OSError, msgspec.DecodeError):
        return None
