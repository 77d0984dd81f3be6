"""The one definition of preprocessing: from a photograph to the uint8 picture that enters the graph.

What comes after (conversion to float, normalisation) is inside the ONNX graph, so nobody can get it wrong.
Training, calibration, accuracy, `predict` and `camera` all go through this module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
from cv2.typing import MatLike
from msgspec import Meta
from numpy.typing import NDArray

from toolchain.errors import BadInputError, UnreadableImageError
from toolchain.images import encoded, room
from toolchain.images.encoded import HEIC, Kind
from toolchain.images.picture_size import MAX_PIXELS, claimed_pixels
from toolchain.system.installation import install

Image = NDArray[np.uint8]
"""uint8 [height, width, 3], RGB."""

Colour = Literal["RGB", "BGR"]
"""Order of a frame's channels: RGB everywhere but at OpenCV's border."""

Resize = Literal["shortest-edge", "squash"]
Side = Annotated[int, Meta(ge=1, le=8192)]

MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
STD = np.array([0.229, 0.224, 0.225], np.float32) * 255
"""Mean and standard deviation of ImageNet's pixels, RGB, 0 to 255: what the pretrained networks expect."""

DECODING = 3
"""Increased when `decode` accepts other files or gives other pixels: caches then ignore what they hold."""

HEIC_NEEDS = f"HEIC, which needs {install('heic')}"
"""The reason given for HEIC pictures that cannot be read."""

MAX_ASPECT_RATIO = 32
"""A picture that is longer than so many times its width is cut to that length."""

USUAL_SCANS = 16
"""Progressive JPEGs have ten or so."""
MAX_SCANNED_PIXELS = 1 << 31
"""Pixels times scans of a JPEG of more scans: three seconds of a core."""
LARGE_BYTES = 1 << 27

INTERPOLATIONS = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}


@dataclass(frozen=True)
class Preprocess:
    """What a caller does to a photograph before the graph. Stored in the card, word for word.

    `shortest-edge`: scale so that the shortest edge is `shortest_edge` pixels, then cut the centre
    `height` x `width`. `squash`: scale straight to `width` x `height`. `cubic` interpolates where a photograph is
    enlarged; where it is made smaller, areas are averaged, as Pillow's bicubic does and OpenCV's does not.
    """

    height: Side = 224
    width: Side = 224
    resize: Resize = "shortest-edge"
    shortest_edge: Side = 224
    interpolation: Literal["area", "linear", "cubic"] = "area"
    crop: Literal["center"] = "center"
    colour: Literal["RGB"] = "RGB"

    def __post_init__(self) -> None:
        if self.resize == "shortest-edge" and self.shortest_edge < max(self.height, self.width):
            raise ValueError(
                f"shortest_edge {self.shortest_edge} is smaller than the crop {self.height} x {self.width}"
            )

    def with_size(self, size: int, resize: Resize = "shortest-edge") -> Preprocess:
        """The same way to `size` x `size` pixels: the crop keeps its share, and the interpolation stays."""
        edge = round(self.shortest_edge * size / min(self.height, self.width))
        return replace(self, height=size, width=size, resize=resize, shortest_edge=max(edge, size))

    def __call__(self, image: Image) -> Image:
        """Turn an RGB picture of any size into the network's input, uint8 [height, width, 3]."""
        return np.ascontiguousarray(self.centre(self.scale(image)))

    def scale(self, image: NDArray[np.uint8], into: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """`image` scaled to the size from which the centre is cut out; in `into`, if that has this size.

        A picture that is longer than `MAX_ASPECT_RATIO` times its width is cut first: a line of pixels would become
        gigabytes, and only the centre is needed.
        """
        if self.resize == "shortest-edge":
            image = _middle(image, MAX_ASPECT_RATIO * min(image.shape[:2]))
        height, width = self.scaled_size(*image.shape[:2])
        if image.shape[:2] == (height, width):
            return image
        dst = into if into is not None and into.shape[:2] == (height, width) else None
        smaller = height * width < image.shape[0] * image.shape[1]
        kind = "area" if self.interpolation == "cubic" and smaller else self.interpolation
        return cv2.resize(image, (width, height), dst=dst, interpolation=INTERPOLATIONS[kind])  # type: ignore[return-value]

    def centre(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The middle of a scaled picture, [height, width, 3], as a view."""
        top, left = (image.shape[0] - self.height) // 2, (image.shape[1] - self.width) // 2
        return image[top : top + self.height, left : left + self.width]

    def scaled_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width to which a picture of `height` x `width` is scaled before its centre is cut out."""
        if self.resize == "squash":
            return self.height, self.width
        scale = self.shortest_edge / min(height, width)
        return max(self.shortest_edge, round(height * scale)), max(self.shortest_edge, round(width * scale))


def _middle(image: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """The middle of a picture, with no side longer than `longest`, as a view."""
    height, width = (min(side, longest) for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


class FramePreprocess:
    """`Preprocess` for a series of BGR frames: the same pixels, in buffers that are used again.

    Channels are swapped after scaling: the result is the same, and there are fewer pixels to swap. With `whole`,
    for graphs that resize by themselves, the frame keeps its size.
    """

    def __init__(self, spec: Preprocess, *, whole: bool = False) -> None:
        self._spec = spec
        self._whole = whole
        self._scaled: NDArray[np.uint8] = np.empty((0, 0, 3), np.uint8)
        self._pixels: NDArray[np.uint8] = np.empty((1, spec.height, spec.width, 3), np.uint8)

    def __call__(self, bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The network's input, uint8 RGB [1, height, width, 3], of a uint8 BGR frame; valid until the next call."""
        if self._whole:
            if self._pixels.shape[1:] != bgr.shape:
                self._pixels = np.empty((1, *bgr.shape), np.uint8)
            cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=self._pixels[0])
            return self._pixels
        scaled = self._spec.scale(bgr, self._scaled)
        if not np.may_share_memory(scaled, bgr):
            self._scaled = scaled
        cv2.cvtColor(self._spec.centre(scaled), cv2.COLOR_BGR2RGB, dst=self._pixels[0])
        return self._pixels


def check_colour(colour: str) -> Colour:
    """Return `colour` if it is an order of channels. Raises BadInputError otherwise."""
    if colour not in ("RGB", "BGR"):
        raise BadInputError(f"unknown order of colours {colour!r}", "Frames are RGB or BGR.")
    return colour  # type: ignore[return-value]


def check_frame(frame: object, colour: Colour = "RGB") -> Image:
    """Return `frame` as an RGB picture if it is one: uint8 [height, width, 3]; grey [height, width] is widened.

    With `colour` "BGR" its channels are swapped.

    Raises UnreadableImageError for anything else.
    """
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8:
        found = f"{frame.dtype} array" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise UnreadableImageError(
            f"a frame must be a uint8 NumPy array, not {found}", "Convert it to uint8 RGB, values 0 to 255."
        )
    if frame.ndim == 2:
        frame = np.repeat(frame[:, :, None], 3, axis=2)
    if frame.ndim != 3 or frame.shape[2] != 3 or min(frame.shape) < 1:
        raise UnreadableImageError(
            f"a frame must have the shape [height, width, 3], not {list(frame.shape)}",
            "Drop the alpha channel and pass one RGB picture at a time.",
        )
    return frame if colour == "RGB" else cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def from_pillow(picture: object) -> Image | None:
    """Pillow's `picture` as uint8 RGB, as `decode` gives files: turned by EXIF, 16 bits as 8, no alpha.

    None for anything else. Raises UnreadableImageError where Pillow cannot decode it.
    """
    pillow = sys.modules.get("PIL.Image")  # a program that has such a picture has imported it
    if pillow is None or not isinstance(picture, pillow.Image):
        return None
    from PIL import ImageOps

    try:
        turned = ImageOps.exif_transpose(picture)
        if turned.mode.startswith(("I", "F")):
            pixels = np.asarray(turned)
            if turned.mode == "F" or pixels.min() < 0 or pixels.max() > 0xFFFF:
                raise UnreadableImageError(
                    f"a picture of mode {turned.mode} is not supported", "Convert it to RGB."
                )
            return check_frame((pixels >> 8).astype(np.uint8))
        return np.asarray(turned.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise UnreadableImageError(f"the picture cannot be decoded: {error}") from None


@cache
def can_decode(kind: Kind) -> bool:
    """Whether `decode` reads pictures of this kind on this machine.

    OpenCV's builds read different formats, and can write each format that they can read.
    """
    if kind.name == HEIC:
        return find_spec("pillow_heif") is not None
    return bool(kind.suffix) and cv2.haveImageWriter(f"x{kind.suffix}")


def decode(data: bytes, name: str = "image") -> Image:
    """Decode a photograph (JPEG, PNG, WebP, BMP, TIFF, AVIF, HEIC, or the first frame of a GIF), turned upright.

    The result is uint8 RGB: grey becomes RGB, 16 bits become 8, alpha is dropped. Bytes after the end of the
    picture are ignored. Raises UnreadableImageError, naming `name`, when the bytes are not a whole picture: OpenCV
    would fill the missing part with grey, without an error.
    """
    if not data:
        raise UnreadableImageError(f"{name}: the file is empty")
    if encoded.is_truncated(data):
        raise UnreadableImageError(f"{name}: the picture is truncated", "Copy or download the file again.")
    if (pixels := claimed_pixels(data)) > MAX_PIXELS:
        raise UnreadableImageError(
            f"{name}: the picture has {pixels / 1e6:.0f} million pixels; at most {MAX_PIXELS / 1e6:.0f} are read",
            "Scale it down.",
        )
    if (scans := encoded.scans_of(data)) > USUAL_SCANS and scans * pixels > MAX_SCANNED_PIXELS:
        raise UnreadableImageError(f"{name}: the picture is stored in {scans} scans", "Save it again.")
    with room.for_pixels.taken(pixels):
        return _decoded(data, name)


def _decoded(data: bytes, name: str) -> Image:
    kind = encoded.kind_of(data[: encoded.HEAD_BYTES])
    if kind.name == HEIC:
        return _decode_heic(data, name)
    own_turns = kind.name == encoded.AVIF
    try:
        bgr = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION * own_turns
        )
    except cv2.error as error:
        raise UnreadableImageError(f"{name}: not a readable picture ({error.err})") from None
    if bgr is None:
        unknown = kind.is_picture and not can_decode(kind)
        reason = f"{kind.name}, which is not read here" if unknown else "not a readable picture"
        raise UnreadableImageError(f"{name}: {reason}")
    if bgr.dtype != np.uint8:
        raise UnreadableImageError(f"{name}: {bgr.dtype} pixels are not supported", "Save it with 8 bits.")
    rgb = _swapped(bgr)
    if own_turns:
        quarters, axis = encoded.turns_of(data)
        turned = np.rot90(rgb, quarters)
        rgb = np.ascontiguousarray(turned if axis is None else np.flip(turned, axis))
    return rgb  # type: ignore[return-value]


def is_whole(data: bytes) -> bool:
    """Whether `decode` reads these bytes on this machine."""
    try:
        decode(data)
    except UnreadableImageError:
        return False
    return True


def _swapped(bgr: MatLike) -> MatLike:
    """BGR as RGB; a large picture in its own memory, strip by strip."""
    if bgr.size < LARGE_BYTES:
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    rows = max(1, LARGE_BYTES // 8 // bgr[0].size)
    for top in range(0, len(bgr), rows):
        bgr[top : top + rows] = cv2.cvtColor(bgr[top : top + rows], cv2.COLOR_BGR2RGB)
    return bgr


def _decode_heic(data: bytes, name: str) -> Image:
    """Decode HEIC and HEIF with libheif, which turns the picture upright itself."""
    try:
        import pillow_heif
    except ImportError:
        raise UnreadableImageError(f"{name}: {HEIC_NEEDS}", "The extra brings pillow-heif.") from None
    try:
        heif = pillow_heif.open_heif(data)
        width, height = heif.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"{width} x {height} pixels are too many")
        picture = heif.to_pillow()
        if picture.mode.startswith("I;16"):  # grey of 10 or 12 bits, which Pillow would clip to 8
            return check_frame((np.asarray(picture) >> 8).astype(np.uint8))
        return np.array(picture.convert("RGB"))
    except (ValueError, RuntimeError, OSError, EOFError, SyntaxError) as error:
        raise UnreadableImageError(f"{name}: not a readable picture ({error})") from None


@contextmanager
def decoded(data: bytes, name: str = "image") -> Iterator[Image]:
    """`decode`, and the picture has its room among those of other threads until the block ends."""
    with room.for_pixels.taken(claimed_pixels(data)):
        yield decode(data, name)


def read(path: Path, then: Callable[[Image], Image] | None = None) -> Image:
    """Read a photograph from a file, and return what `then` makes of it; see `decode`.

    Raises UnreadableImageError naming the path.
    """
    with encoded.held(path), decoded(encoded.read_bytes(path), str(path)) as image:
        return then(image) if then else image
