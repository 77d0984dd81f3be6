"""How pixels become what a foreign network wants: known ways by name, and any other by numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from toolchain.adopt.onnx_file import ForeignModel
from toolchain.backbones import IMAGENET_MEAN, IMAGENET_STD
from toolchain.errors import BadInputError
from toolchain.images.preprocess import Colour, Preprocess
from toolchain.system import strict

Three = tuple[float, float, float]


@dataclass(frozen=True)
class Normalisation:
    """(pixel - mean) / std, for pixels of 0 to 255; `mean` and `std` are in the order of `colour`."""

    name: str
    mean: Three
    std: Three
    colour: Colour = "RGB"

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 [n, height, width, 3] of uint8 RGB pixels."""
        ordered = pixels if self.colour == "RGB" else pixels[..., ::-1]
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return np.asarray((ordered.astype(np.float32) - mean) / std, np.float32)

    @property
    def swapped(self) -> Normalisation:
        """The same numbers with the channels in the other order."""
        other: Colour = "RGB" if self.colour == "BGR" else "BGR"
        return replace(self, name=f"{self.name},colour={other}", colour=other)


def _same(value: float) -> Three:
    return (value, value, value)


def _times(values: Three, factor: float) -> Three:
    red, green, blue = values
    return red * factor, green * factor, blue * factor


KNOWN = {
    one.name: one
    for one in (
        Normalisation("imagenet", _times(IMAGENET_MEAN, 255), _times(IMAGENET_STD, 255)),
        Normalisation("unit", _same(0), _same(255)),
        Normalisation("half", _same(127.5), _same(127.5)),
        Normalisation("raw", _same(0), _same(1)),
        Normalisation("caffe", (103.939, 116.779, 123.68), _same(1), "BGR"),
    )
}
"""torchvision, timm and fastai; 0 to 1; -1 to 1; 0 to 255; and Caffe's."""

KEYS = ("mean", "std", "colour", "size", "edge", "resize", "interpolation")
HINT = (
    f"Say one of {', '.join(KNOWN)}, and {', '.join(f'{key}=…' for key in KEYS)} by commas: "
    "--preprocess imagenet,edge=232 or mean=0.5/0.5/0.5,std=0.5/0.5/0.5 (0 to 1)."
)


@dataclass(frozen=True)
class Told:
    """What `--preprocess` says: the normalisation, where it does, and fields of Preprocess."""

    normalisation: Normalisation | None = None
    size: int = 0
    fields: tuple[tuple[str, Any], ...] = ()
    colour: Colour | None = None
    """Where nothing but the order of colours was said of the normalisation."""

    @property
    def says_way(self) -> bool:
        """Whether anything was said of the normalisation."""
        return self.normalisation is not None or self.colour is not None

    @property
    def name(self) -> str:
        """What was said of the normalisation, as it is typed."""
        return self.normalisation.name if self.normalisation is not None else f"colour={self.colour}"

    def allows(self, way: Normalisation, own: Normalisation | None) -> bool:
        """Whether `way` is what was told, or else what the file itself tells (`own`)."""
        if (wanted := self.with_colour(own)) is not None:
            return way == wanted
        return self.colour is not None and way.colour == self.colour

    def with_colour(self, own: Normalisation | None) -> Normalisation | None:
        """The way that was told, or that which the file tells, in the order of colours that was told."""
        if self.normalisation is not None or own is None or self.colour in (None, own.colour):
            return self.normalisation or own
        return own.swapped


def parse(text: str | None) -> Told:
    """Read `--preprocess`. Raises BadInputError for a word that means nothing."""
    if text is None:
        return Told()
    words = [word.strip() for word in text.split(",") if word.strip()]
    base = KNOWN.get(words[0]) if words else None
    given: dict[str, str] = {}
    for word in words[1:] if base else words:
        key, equals, value = word.partition("=")
        if not equals or key not in KEYS:
            raise BadInputError(f"--preprocess does not know {word!r}", HINT)
        given[key] = value
    if not words:
        raise BadInputError("--preprocess says nothing", HINT)
    fields: dict[str, Any] = {key: given[key] for key in ("resize", "interpolation") if key in given}
    if "edge" in given:
        fields["shortest_edge"] = _whole("edge", given["edge"])
    size = _whole("size", given["size"]) if "size" in given else 0
    told = _normalisation(text, base, given)
    if base is None and told is not None and not {"mean", "std"} & set(given):
        return Told(None, size, tuple(fields.items()), told.colour)
    return Told(told, size, tuple(fields.items()))


def _normalisation(text: str, base: Normalisation | None, given: dict[str, str]) -> Normalisation | None:
    if not {"mean", "std", "colour"} & set(given):
        return base
    found = base or KNOWN["unit"]
    colour = given.get("colour", found.colour)
    if colour not in ("RGB", "BGR"):
        raise BadInputError(f"--preprocess: colour is RGB or BGR, not {colour!r}", HINT)
    mean = _times(_three("mean", given["mean"]), 255) if "mean" in given else found.mean
    std = _times(_three("std", given["std"]), 255) if "std" in given else found.std
    if min(std) <= 0:
        raise BadInputError("--preprocess: std must be above 0", HINT)
    return Normalisation(text, mean, std, colour)  # type: ignore[arg-type]


def _whole(key: str, value: str) -> int:
    if not (value.isdecimal() and value.isascii() and len(value) < 6 and int(value)):
        raise BadInputError(f"--preprocess: {key} is a number of pixels, not {value!r}", HINT)
    return int(value)


def _three(key: str, value: str) -> Three:
    try:
        numbers = [float(part) for part in value.split("/")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3 or not all(math.isfinite(number) for number in numbers):
        raise BadInputError(f"--preprocess: {key} is three numbers such as 0.5/0.5/0.5, not {value!r}", HINT)
    return (numbers[0], numbers[1], numbers[2])


def preprocess_for(foreign: ForeignModel, told: Told) -> Preprocess:
    """How photographs become the network's pixels. Raises BadInputError where their size is not known, or is
    not what the file says."""
    height, width = foreign.height or told.size, foreign.width or told.size
    if not height or not width:
        raise BadInputError(f"{foreign.path} takes pictures of any size", "Say one: --preprocess size=224")
    if told.size and (height, width) != (told.size, told.size):
        raise BadInputError(f"{foreign.path} takes {height} x {width} pixels, not {told.size}", "Leave size= out.")
    fields = {"shortest_edge": round(max(height, width) / foreign.edge), **dict(told.fields)}
    try:
        return strict.convert({"height": height, "width": width, **fields}, Preprocess)
    except msgspec.ValidationError as error:
        raise BadInputError(f"--preprocess: {error}", HINT) from None


def candidates(foreign: ForeignModel) -> list[Normalisation]:
    """The ways that are plausible for a file: what it tells, in either order of colours, or all that are known."""
    known = list(KNOWN.values()) if foreign.normalises is None else [KNOWN[foreign.normalises]]
    return [one for way in known for one in (way, way.swapped)]
