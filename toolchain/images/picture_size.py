"""The size that a picture claims in its header: a file of a few bytes can claim gigabytes of pixels.

OpenCV has a limit of its own. But it reads that limit once in a process, from the environment, when it is first
imported, which may happen outside edgetl. Only the size is read here; the decoder finds out about the rest.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

MAX_PIXELS = 1 << 28
"""268 million: sixteen times 4096 x 4096, 805 MB as RGB."""

Size = tuple[int, int]
"""Width and height."""


def claimed_pixels(data: bytes) -> int:
    """Width times height, as the header says; of several pictures or sizes, the largest.

    0 where the format is unknown here, or the header is cut short.
    """
    for begins, sizes in _FORMATS:
        if begins(data):
            try:
                return max((width * height for width, height in sizes(data)), default=0)
            except (struct.error, OverflowError):  # the header is cut short, or points beyond all files
                return 0
    return 0


def _at(form: str, place: int) -> Callable[[bytes], Iterator[Size]]:
    """Width and height stand at `place`, packed as `form`."""

    def sizes(data: bytes) -> Iterator[Size]:
        yield struct.unpack_from(form, data, place)

    return sizes


def _bmp(data: bytes) -> Iterator[Size]:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH", data, 18) if header == 12 else struct.unpack_from("<ii", data, 18)
    # A negative height means that the picture begins at the top.
    yield abs(width), abs(height)


def _jpeg(data: bytes) -> Iterator[Size]:
    place = 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:  # bytes between markers are skipped, as decoders do
            place = data.find(b"\xff", place)
            if place < 0:
                return
            continue
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in {0x00, 0x01, 0xD8} or 0xD0 <= marker <= 0xD7:
            place += 2
        elif marker == 0xD9:
            return
        else:
            if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
                height, width = struct.unpack_from(">HH", data, place + 5)
                yield width, height
            if marker == 0xDA:
                return
            place += 2 + struct.unpack_from(">H", data, place + 2)[0]


def _webp(data: bytes) -> Iterator[Size]:
    place = 12
    while place + 8 <= len(data):
        kind = data[place : place + 4]
        (length,) = struct.unpack_from("<I", data, place + 4)
        body = place + 8
        if kind == b"VP8X":
            yield _24(data, body + 4) + 1, _24(data, body + 7) + 1
        elif kind == b"VP8 ":
            width, height = struct.unpack_from("<HH", data, body + 6)
            yield width & 0x3FFF, height & 0x3FFF
        elif kind == b"VP8L":
            (bits,) = struct.unpack_from("<I", data, body + 1)
            yield (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif kind == b"ANMF":
            yield _24(data, body + 6) + 1, _24(data, body + 9) + 1
        place = body + length + length % 2


def _24(data: bytes, place: int) -> int:
    low, high = struct.unpack_from("<HB", data, place)
    return int(low) | int(high) << 16


def _tiff(data: bytes) -> Iterator[Size]:
    """Sizes of the first picture, which is the one that is read, and of its tiles (TIFF 6.0, and BigTIFF)."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    place = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, place)
    place += 8 if big else 2
    sides = {256: 0, 257: 0, 322: 0, 323: 0}
    for _ in range(min(count, 4096)):
        tag, kind = struct.unpack_from(order + "HH", data, place)
        if tag in sides:
            form = {1: "B", 3: "H", 16: "Q"}.get(kind, "I")
            sides[tag] = struct.unpack_from(order + form, data, place + (12 if big else 8))[0]
        place += 20 if big else 12
    yield sides[256], sides[257]
    yield sides[322], sides[323]


def _boxes(data: bytes) -> Iterator[Size]:
    """AVIF and HEIC: the sizes of all parts (`ispe`), and of the whole of a grid. JPEG 2000: `ihdr`."""
    # Boxes are nested. The four letters and version 0 are found without walking through them.
    for match in re.finditer(rb"ispe\0\0\0\0", data):
        yield struct.unpack_from(">II", data, match.end())
    for match in re.finditer(rb"ihdr", data[:4096]):
        height, width = struct.unpack_from(">II", data, match.end())
        yield width, height
    if (place := data.find(b"\xff\x4f\xff\x51")) >= 0:
        yield from _codestream(data[place:])


_codestream = _at(">II", 8)


def _pnm(data: bytes) -> Iterator[Size]:
    words = re.sub(rb"#[^\n]*", b"", data[:4096])
    if data[:2] == b"P7":
        named = dict(re.findall(rb"(WIDTH|HEIGHT)\s+(\d{1,18})", words))
        yield int(named.get(b"WIDTH", 0)), int(named.get(b"HEIGHT", 0))
    elif match := re.match(rb"P[1-6fF]\s+(\d{1,18})\s+(\d{1,18})", words):
        yield int(match[1]), int(match[2])


def _radiance(data: bytes) -> Iterator[Size]:
    if match := re.search(rb"\n[+-]Y (\d{1,18}) [+-]X (\d{1,18})\n", data[:65536]):
        yield int(match[2]), int(match[1])


def _starts(*beginnings: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(beginnings)


_FORMATS: tuple[tuple[Callable[[bytes], bool], Callable[[bytes], Iterator[Size]]], ...] = (
    (_starts(b"\x89PNG\r\n\x1a\n"), _at(">II", 16)),
    (_starts(b"\xff\xd8"), _jpeg),
    (_starts(b"GIF8"), _at("<HH", 6)),
    (_starts(b"BM"), _bmp),
    (_starts(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _tiff),
    (lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", _webp),
    (lambda data: data[4:8] in {b"ftyp", b"jP  "}, _boxes),
    (_starts(b"\xff\x4f\xff\x51"), _codestream),
    (lambda data: re.match(rb"P[1-7fF]\s", data) is not None, _pnm),
    (_starts(b"#?RADIANCE", b"#?RGBE"), _radiance),
    (_starts(b"\x59\xa6\x6a\x95"), _at(">II", 4)),
)
