"""The one reader of photographs: bytes are read once, bounded, checked against their hash, decoded, and cached.

Everything in edgetl that looks at the pixels of a data set's photographs gets them here: the network's input, the
larger picture that training crops are cut from, and the thumbnail of a report. `prefetched` makes batches of them
while the network works on the batch before.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from toolchain.errors import MissingError, UnreadableImageError
from toolchain.images.cache import PictureCache
from toolchain.images.encoded import held, read_bytes
from toolchain.images.preprocess import DECODING, Image, Preprocess, decode, decoded
from toolchain.system.processor import cores
from toolchain.system.progress import Reporter

LARGER = 8 / 7
"""Shortest edge of the pictures that training crops are cut from, over that of the network's input (256 to 224)."""

THUMBNAIL_PIXELS = 160
"""Longest edge of a thumbnail."""

AHEAD = 3
"""Batches that are made while a network works on one."""

_DECODER = f"decoding {DECODING} OpenCV {cv2.__version__}"


@dataclass(frozen=True)
class Photograph:
    """One image file. `name` is its path below the data set's folder, `label` an index into the classes.

    `sha256` is that of the file's content, in hexadecimal digits, or empty where nobody has computed it.
    Photographs of one `group` belong together in splits and folds; without one, a photograph is on its own.
    """

    name: str
    path: Path
    label: int
    sha256: str = ""
    group: str = ""


@dataclass(frozen=True)
class _Variant:
    """A picture that is made of a photograph. `name` says how, in the cache; `shape` is its height and width."""

    name: str
    make: Callable[[Image], Image]
    shape: tuple[int, int] | None = None


class Reader:
    """Photographs as pictures, all uint8 RGB [height, width, 3].

    `cache` is the folder of the cache, or None to decode each time. Unless `keep`, the cache is read, but nothing
    is added to it. Usable from many threads and processes at once.

    A file whose content is not that of `Photograph.sha256` is never decoded for it. Methods that return pictures
    raise UnreadableImageError.
    """

    def __init__(self, spec: Preprocess, cache: Path | None, reporter: Reporter, *, keep: bool = True) -> None:
        self.spec = spec
        self._cache = PictureCache(cache, reporter, keep=keep)
        self._input = _input_variant(spec)
        edge = round(LARGER * min(spec.height, spec.width))
        self._larger = _Variant(f"shortest edge {edge} {_DECODER}", lambda image: _shrunk(image, shortest=edge))
        self._thumbnail = _Variant(
            f"longest edge {THUMBNAIL_PIXELS} {_DECODER}", lambda image: _shrunk(image, longest=THUMBNAIL_PIXELS)
        )

    def input(self, photo: Photograph) -> Image:
        """The network's input, [spec.height, spec.width, 3]."""
        return self._pictures(photo, [self._input])[0]

    def inputs(self, photo: Photograph, specs: Collection[Preprocess]) -> list[Image]:
        """The inputs of networks with other preprocessing; the photograph is decoded once at most."""
        return self._pictures(photo, [_input_variant(spec) for spec in specs])

    def larger(self, photo: Photograph) -> Image:
        """The whole photograph, no larger than training needs."""
        return self._pictures(photo, [self._larger])[0]

    def thumbnail(self, photo: Photograph) -> Image:
        """The whole photograph, no side longer than `THUMBNAIL_PIXELS`."""
        return self._pictures(photo, [self._thumbnail])[0]

    def verified(self, photo: Photograph) -> Image:
        """As `input`, but the file is read in any case, and must still have the content of `photo.sha256`.

        Raises MissingError where it is gone or has changed.
        """
        with held(photo.path):
            return self._pictures(photo, [self._input], content(photo))[0]

    def load(self, name: str, path: Path, label: int = -1) -> Photograph:
        """The photograph in a file that nobody has hashed yet, with its input kept; the file is read once."""
        with held(path):
            data = read_bytes(path)
            photo = Photograph(name, path, label, hashlib.sha256(data).hexdigest())
            self._cache.touch(photo.sha256)
            if not self._cache.has(photo.sha256, self._input.name):
                self._pictures(photo, [self._input], data)
        return photo

    def prepare(self, photo: Photograph, *, larger: bool = False, thumbnail: bool = False) -> None:
        """Make sure that `photo` can be decoded, and keep the pictures of it that will be asked for."""
        wanted = [self._input] + [self._larger] * larger + [self._thumbnail] * thumbnail
        self._cache.touch(photo.sha256)
        if not all(self._cache.has(photo.sha256, variant.name) for variant in wanted):
            self._pictures(photo, wanted)

    def problem_of(self, photo: Photograph, *, larger: bool = False, thumbnail: bool = False) -> str:
        """Why `photo` cannot be used; empty when it can, and then it is kept as `prepare` says."""
        try:
            self.prepare(photo, larger=larger, thumbnail=thumbnail)
        except UnreadableImageError as error:
            return error.message
        return ""

    def tidy(self) -> None:
        """Note what was used, and keep the cache below its limit."""
        self._cache.tidy()

    def _pictures(self, photo: Photograph, variants: list[_Variant], data: bytes | None = None) -> list[Image]:
        """The pictures that `variants` make of `photo`, whose `data` may have been read and checked before."""
        found = [self._cache.get(photo.sha256, variant.name, variant.shape) for variant in variants]
        if not any(picture is None for picture in found):
            return [picture for picture in found if picture is not None]
        if data is None:
            with held(photo.path), _told_as_unreadable():
                return self._made(photo, variants, found, content(photo))
        return self._made(photo, variants, found, data)

    def _made(
        self, photo: Photograph, variants: list[_Variant], found: list[Image | None], data: bytes
    ) -> list[Image]:
        with decoded(data, str(photo.path)) as image:
            pictures = []
            for picture, variant in zip(found, variants, strict=True):
                if picture is None:
                    picture = variant.make(image)
                    if photo.sha256:
                        self._cache.put(photo.sha256, variant.name, picture)
                pictures.append(picture)
            return pictures


def whole(photo: Photograph) -> Image:
    """The photograph at its own size, which no cache holds.

    Raises UnreadableImageError, also where the file is not that of `photo.sha256` any more.
    """
    with held(photo.path), _told_as_unreadable():
        return decode(content(photo), str(photo.path))


@contextmanager
def _told_as_unreadable() -> Iterator[None]:
    try:
        yield
    except MissingError as error:
        raise UnreadableImageError(error.message, error.hint) from None


def content(photo: Photograph) -> bytes:
    """The bytes of a photograph's file.

    Raises MissingError where the file is gone, or has changed since its hash was computed; UnreadableImageError
    where it cannot be read.
    """
    try:
        data = read_bytes(photo.path)
    except UnreadableImageError as error:
        if os.path.lexists(photo.path):
            raise
        raise MissingError(error.message, error.hint) from None
    if photo.sha256 and hashlib.sha256(data).hexdigest() != photo.sha256:
        raise MissingError(f"{photo.path}: the file has changed since it was first read", "Start again.")
    return data


def _input_variant(spec: Preprocess) -> _Variant:
    scaling = f"{spec.resize} {spec.shortest_edge} {spec.interpolation}"
    return _Variant(f"input {spec.width}x{spec.height} {scaling} {_DECODER}", spec, (spec.height, spec.width))


def _shrunk(image: Image, *, shortest: int = 0, longest: int = 0) -> Image:
    """`image` with a shortest or a longest edge of that many pixels; never enlarged."""
    height, width = image.shape[:2]
    scale = shortest / min(height, width) if shortest else longest / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def prefetched(groups: Sequence[Sequence[int]], load: Callable[[int], Image]) -> Iterator[NDArray[np.uint8]]:
    """Yield uint8 images [batch, height, width, 3] for each group of numbers; `load` makes the image of one.

    What `load` raises is raised here.
    """
    # OpenCV's own threads would fight with torch's; photographs are spread over threads here.
    cv2.setNumThreads(1)

    def submit(group: Sequence[int]) -> list[Future[Image]]:
        return [pool.submit(load, number) for number in group]

    with ThreadPoolExecutor(cores()) as pool:
        coming = iter(groups)
        waiting = [submit(group) for group in islice(coming, AHEAD)]
        try:
            while waiting:
                images = np.stack([future.result() for future in waiting.pop(0)])
                waiting += [submit(group) for group in islice(coming, 1)]
                yield images
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
