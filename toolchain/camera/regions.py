"""Parts of the picture that are answered instead of the whole, each with a name."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from toolchain.errors import BadInputError

Box = tuple[int, int, int, int]
"""Left, top, right and bottom edge in pixels; the last two lie outside."""
MAX_REGIONS = 16
LEAST = 3.0
"""Percent of the picture that a region has at least in each direction, if it is drawn: else it was a click."""
HINT = "Write X,Y,WIDTH,HEIGHT in pixels or each with %, and NAME= before it for a name: door=10%,0%,40%,100%."

_NAME = re.compile(r"[^\W_][\w .-]{0,39}")
"""What may stand in a topic of MQTT and in the name of a variable's value alike."""
RESERVED = frozenset({"availability"})


@dataclass(frozen=True)
class Region:
    """A rectangle with its left upper corner at `x`, `y`: in pixels, or in percent of the (turned) frame."""

    name: str
    x: float
    y: float
    width: float
    height: float
    percent: bool

    def box(self, height: int, width: int) -> Box:
        """The pixels that it covers of a frame of `height` x `width`, at least one in each direction.

        Raises BadInputError if it lies outside.
        """
        across, down = (width / 100, height / 100) if self.percent else (1.0, 1.0)
        left, top = round(self.x * across), round(self.y * down)
        right = min(width, max(left + 1, round((self.x + self.width) * across)))
        bottom = min(height, max(top + 1, round((self.y + self.height) * down)))
        if left >= right or top >= bottom:
            raise BadInputError(
                f"the region {self.name!r} lies outside of frames of {width} x {height} pixels",
                "Give it a place within them; percent fit frames of any size.",
            )
        return left, top, right, bottom

    def __str__(self) -> str:
        """What `--region` takes."""
        sign = "%" if self.percent else ""
        return f"{self.name}=" + ",".join(f"{one:g}{sign}" for one in (self.x, self.y, self.width, self.height))


def drawn(one: tuple[float, float], other: tuple[float, float], regions: Sequence[Region]) -> Region | None:
    """The region between two corners, in percent, called by the first number that is free among `regions`. None if
    it is too small to be meant."""
    left, right = sorted(min(100.0, max(0.0, corner[0])) for corner in (one, other))
    top, bottom = sorted(min(100.0, max(0.0, corner[1])) for corner in (one, other))
    if min(right - left, bottom - top) < LEAST or len(regions) >= MAX_REGIONS:
        return None
    names = {region.name for region in regions}
    name = next(str(number) for number in range(1, MAX_REGIONS + 1) if str(number) not in names)
    left, top = round(left, 1), round(top, 1)
    return Region(name, left, top, round(right - left, 1), round(bottom - top, 1), percent=True)


def parse_regions(texts: Sequence[str]) -> tuple[Region, ...]:
    """Read texts such as `door=10%,0%,40%,100%` and `320,0,320,480`. Those without a name get their number for one.

    Raises BadInputError for what is no rectangle, and for names that are used twice.
    """
    if len(texts) > MAX_REGIONS:
        raise BadInputError(f"there are {len(texts)} regions, and at most {MAX_REGIONS} are answered", HINT)
    regions = tuple(_parse(text, number) for number, text in enumerate(texts, 1))
    names = [region.name for region in regions]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadInputError(f"two regions are called {twice[0]!r}", "Give each a name of its own.")
    return regions


def _parse(text: str, number: int) -> Region:
    name, named, place = text.rpartition("=")
    name = name.strip() if named else str(number)
    if not _NAME.fullmatch(name) or name.lower() in RESERVED:
        raise BadInputError(f"a region cannot be called {name!r}", HINT)
    words = [word.strip() for word in place.split(",")]
    percent = all(word.endswith("%") for word in words)
    try:
        x, y, width, height = (float(word.removesuffix("%") if percent else word) for word in words)
    except ValueError:
        raise BadInputError(f"{text!r} is no region", HINT) from None
    within = not percent or max(x + width, y + height) < 100 + 1e-6  # sums of decimals are not exact
    finite = all(map(math.isfinite, (x, y, width, height)))
    if not finite or min(x, y) < 0 or min(width, height) <= 0 or not within:
        raise BadInputError(f"{text!r} is no region of a picture", HINT)
    return Region(name, x, y, width, height, percent)
