"""Encoded pictures as bytes: reading them, their kind, whether the picture is whole, how it is turned.

Bytes after the end of the picture are ignored: the video of a motion photo, a maker's trailer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

from toolchain.errors import UnreadableImageError
from toolchain.images import room
from toolchain.system import files

MAX_BYTES = 1 << 30
"""Size of the largest file that is read: more than the most pixels take that are read, in a BMP."""

MAX_PIPE_BYTES = 1 << 28
"""The most that is read from a pipe, whose size is unknown."""

_HANDED_OVER = re.compile(r"/dev/stdin|(/dev|/proc/self)/fd/\d+")
"""What a shell hands over may be a pipe, as in `predict model.onnx <(decrypt cat.jpg)`."""

HEAD_BYTES = 64
"""The first bytes of a file that `kind_of` needs."""

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""A file with such a name is meant to be a photograph. It is not opened to find out; otherwise it is broken."""

EMPTY = "empty"
OTHER = "no picture"
RAW = "camera raw"
HEIC = "HEIC"
AVIF = "AVIF"


@dataclass(frozen=True)
class Kind:
    """The kind of a file. `suffix` is that of the OpenCV codec that may read it.

    `is_picture` tells whether the file holds a photograph, even if nothing on this machine can read it.
    """

    name: str
    suffix: str = ""
    is_picture: bool = False


_TIFF = Kind("TIFF", ".tif", True)
_RAW = Kind(RAW, "", True)

_BEGINNINGS: tuple[tuple[re.Pattern[bytes], Kind], ...] = tuple(
    (re.compile(pattern, re.DOTALL), kind)
    for pattern, kind in (
        (rb"\xff\xd8\xff", Kind("JPEG", ".jpg", True)),
        (rb"\x89PNG\r\n\x1a\n", Kind("PNG", ".png", True)),
        (rb"GIF8[79]a", Kind("GIF", ".gif", True)),
        (rb"RIFF....WEBP", Kind("WebP", ".webp", True)),
        (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\x00\x00\x00", Kind("BMP", ".bmp", True)),
        (rb"(II\*\x00.{4}CR|IIU\x00|IIR[OS]|MMOR|FUJIFILMCCD-RAW|\x00MRM|FOVb)", _RAW),
        (rb"(II[*+]\x00|MM\x00[*+])", _TIFF),
        (rb"(\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51)", Kind("JPEG 2000", ".jp2", True)),
        (rb"(\xff\x0a|\x00\x00\x00\x0cJXL )", Kind("JPEG XL", ".jxl", True)),
        (rb"P[1-6][\s#]+\d+[\s#]", Kind("PNM", ".ppm", True)),
        (rb"P7\nWIDTH ", Kind("PAM", ".pam", True)),
        (rb"P[Ff]\n\d", Kind("PFM", ".pfm", True)),
        (rb"#\?R(ADIANCE|GBE)", Kind("Radiance HDR", ".hdr", True)),
        (rb"\x59\xa6\x6a\x95", Kind("Sun raster", ".sr", True)),
        (rb"\x76\x2f\x31\x01", Kind("OpenEXR", ".exr", True)),
        (rb"8BPS", Kind("Photoshop")),
        (rb"%PDF-", Kind("PDF")),
        (
            rb"(\x1aE\xdf\xa3|RIFF....AVI |OggS|FLV\x01|\x00\x00\x01[\xba\xb3]|0&\xb2\x75|G.{3}.*G|"
            rb"\x00\x00\x00.(moov|mdat|wide|free|skip))",
            Kind("video"),
        ),
        (rb"(ID3|fLaC|RIFF....WAVE|\xff[\xfb\xf3\xf2])", Kind("sound")),
        (rb"(PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!|\xfd7zXZ|BZh|\x28\xb5\x2f\xfd)", Kind("archive")),
    )
)

_CODED = {b"avif": AVIF, b"avis": AVIF} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"), HEIC
)
"""Brands of MP4-like files that hold still pictures. The general brand `mif1` may have another beside it."""

_RAW_SUFFIXES = re.compile(
    r"\.(3fr|arw|cr[23]|dcr|dng|erf|iiq|k25|kdc|mef|mos|mrw|nef|nrw|orf|pef|ra[fw]|rw[2l]|sr[2fw]|x3f)", re.I
)
"""Raw files of most makers look like TIFF, but a TIFF reader finds only a small preview in them."""


def read_bytes(path: Path) -> bytes:
    """The content of a photograph's file. Raises UnreadableImageError, also where it is too large."""
    try:
        if not _HANDED_OVER.fullmatch(str(path)):
            return files.read_regular(path, MAX_BYTES)
        with path.open("rb") as file:
            data = file.read(MAX_PIPE_BYTES + 1)
    except OSError as error:
        raise UnreadableImageError(f"{path}: {error.strerror or error}") from None
    if len(data) > MAX_PIPE_BYTES:
        raise UnreadableImageError(f"{path}: it has more than the {MAX_PIPE_BYTES / 1e9:.1f} GB that are read")
    return data


@contextmanager
def held(path: Path) -> Iterator[None]:
    """The content of `path` is in memory during this block, as soon as there is room for it."""
    try:
        size = min(path.stat().st_size, MAX_BYTES)
    except OSError:
        size = 0
    with room.for_files.taken(size):
        yield


def is_called_picture(name: str) -> bool:
    """Whether a file or address is named like a photograph."""
    return name.lower().endswith(SUFFIXES)


def kind_of(head: bytes, name: str = "") -> Kind:
    """The kind of a file by its first `HEAD_BYTES`; the name decides only where these are ambiguous."""
    if not head:
        return Kind(EMPTY)
    if head[4:8] == b"ftyp":
        return _kind_of_container(head)
    kind = next((kind for beginning, kind in _BEGINNINGS if beginning.match(head)), None)
    if kind is _TIFF and _RAW_SUFFIXES.fullmatch(PurePath(name).suffix):
        return _RAW
    if kind is None:
        # Text has no control characters except line ends, tabs and form feeds.
        return Kind(OTHER if re.search(rb"[\x00-\x08\x0e-\x1f]", head) else "text")
    return kind


def _kind_of_container(head: bytes) -> Kind:
    size = min(len(head), int.from_bytes(head[:4], "big"))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]
    if brands[0] == b"crx ":
        return _RAW
    if brands[0] not in _CODED:
        return Kind("sound" if brands[0].startswith(b"M4A") else "video")
    names = [_CODED[brand] for brand in brands if brand in _CODED and brand not in (b"mif1", b"msf1")]
    return Kind(AVIF, ".avif", True) if names[:1] == [AVIF] else Kind(HEIC, "", True)


def is_truncated(data: bytes) -> bool:
    """Whether a JPEG, PNG or WebP file ends before its picture does: decoders fill the rest without an error.

    A picture so damaged that its end cannot be found counts too. False for other kinds, whose decoders do notice.
    """
    if data.startswith(b"\xff\xd8"):
        return _is_jpeg_truncated(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _is_png_truncated(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return False


_MARKER = re.compile(rb"\xff([\x01-\xfe])")
_MARKER_AFTER_SCAN = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
"""In entropy-coded data, FF is followed by 00, or by one of the eight restart markers."""

_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD8)))
_BETWEEN_SCANS = frozenset((0xC4, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)))
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_START_OF_VIDEO = re.compile(rb"\x00\x00\x00[\x08-\x60]ftyp")


def _is_jpeg_truncated(data: bytes) -> bool:
    """A file without a scan is left to the decoder, which does notice."""
    first_scan, ended = 0, 0
    for marker, end in _jpeg_markers(data):
        if marker == _SOS:
            first_scan = first_scan or end
        ended = end if marker == _EOI else 0
    # The last marker may be one in a video that follows a picture without an end.
    return first_scan > 0 and (not ended or _START_OF_VIDEO.search(data, first_scan, ended) is not None)


def scans_of(data: bytes) -> int:
    """In how many scans the picture is stored; 0 for all that is no JPEG. A decoder goes over the whole picture for
    each, and a scan may have a few bytes."""
    if not data.startswith(b"\xff\xd8"):
        return 0
    return sum(marker == _SOS for marker, _ in _jpeg_markers(data))


def _jpeg_markers(data: bytes) -> Iterator[tuple[int, int]]:
    """Markers of segments and scans with the place where each segment ends, up to the end of the picture."""
    at, scans = 2, False
    while found := (_MARKER_AFTER_SCAN if scans else _MARKER).search(data, at):
        marker, at = found[1][0], found.end()
        if marker == _EOI:
            yield marker, at
            return
        if marker in _WITHOUT_LENGTH and not scans:
            continue
        if marker == _SOI or (scans and marker not in _BETWEEN_SCANS):
            return
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2 or at + length > len(data):
            return
        at += length
        scans = scans or marker == _SOS
        yield marker, at


def _is_png_truncated(data: bytes) -> bool:
    at = 8
    while at + 12 <= len(data):
        kind = data[at + 4 : at + 8]
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        if kind == b"IEND":
            return at > len(data)
    return True


def turns_of(data: bytes) -> tuple[int, int | None]:
    """How the picture of an AVIF file is to be turned: quarter turns anticlockwise, then mirrored along an axis of
    the array (0 top to bottom, 1 left to right) or not (None).

    Readers must follow these properties and ignore Exif's orientation (ISO/IEC 23008-12); OpenCV does neither.
    """
    quarters, axis = 0, None
    for name, content in _boxes(_inner(data, b"meta", b"iprp", b"ipco")):
        if name == b"irot" and content:
            quarters = content[0] & 3
        elif name == b"imir" and content:
            axis = content[0] & 1
    return quarters, axis


def _inner(data: bytes, *names: bytes) -> bytes:
    """The content of the box that is reached by `names`, from the outside in; empty where there is none."""
    for name in names:
        data = next((content for found, content in _boxes(data) if found == name), b"")
        if name == b"meta":
            data = data[4:]
    return data


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size, start = int.from_bytes(data[at : at + 4], "big"), at + 8
        if size == 1:
            size, start = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        end = at + size if size else len(data)
        if end < start:
            return
        yield data[at + 4 : at + 8], data[start:end]
        at = end
