"""Photographs that are cut off, changed, or no photographs at all."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from tests.bad_inputs.entry import Entry, Make, Stock, camera, predict, writes

FORMATS = ("jpg", "png", "webp", "bmp", "tif", "gif")
CUTS = (0.02, 0.2, 0.5, 0.8, 0.97)
FLIPS = 6


def picture(height: int = 48, width: int = 64) -> np.ndarray:
    """Soft shapes with some noise, so that every format has something to store."""
    rng = np.random.default_rng(14)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def encoded(kind: str, bgr: np.ndarray | None = None) -> bytes:
    return bytes(cv2.imencode(f".{kind}", picture() if bgr is None else bgr)[1])


def drawn(name: str, draw: Callable[[], bytes]) -> Make:
    """As `writes`, of a content that is drawn only when it is needed."""

    def make(stock: Stock, place: Path) -> None:
        writes(name, draw())(stock, place)

    return make


def _changed(kind: str, seed: int) -> bytes:
    data = bytearray(encoded(kind))
    rng = np.random.default_rng(seed)
    for position in rng.integers(2, len(data), 1 + 8 * (seed % 2)):
        data[position] = rng.integers(0, 256)
    return bytes(data)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, depth: int = 8, colour: int = 2, *, rest: bytes | None = None) -> bytes:
    """A PNG that claims this size, with a single row of pixels in it."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = _chunk(b"IDAT", zlib.compress(bytes(1 + 3 * 64))) if rest is None else rest
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + body + _chunk(b"IEND", b"")


def _jpeg(height: int, width: int, *, precision: int = 8, components: int | None = None) -> bytes:
    """A JPEG whose header claims another size."""
    data = bytearray(encoded("jpg"))
    at = data.index(b"\xff\xc0")
    data[at + 4] = precision
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    if components is not None:
        data[at + 9] = components
    return bytes(data)


def _bmp(width: int, height: int, *, bits: int = 24, offset: int = 54, compression: int = 0) -> bytes:
    data = bytearray(encoded("bmp"))
    data[10:14] = struct.pack("<I", offset)
    data[18:26] = struct.pack("<ii", width, height)
    data[28:30] = struct.pack("<H", bits)
    data[30:34] = struct.pack("<I", compression)
    return bytes(data)


def _gif(width: int, height: int) -> bytes:
    data = bytearray(encoded("gif"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def tiff(*entries: tuple[int, int, int, int], following: int = 0, first: int = 8) -> bytes:
    """A TIFF with one directory of `entries` (tag, type, count, value)."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", first, len(entries)) + body + struct.pack("<I", following) + bytes(64)


def _size(width: int, height: int, *more: tuple[int, int, int, int]) -> bytes:
    usual = ((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1))
    return tiff(*usual, (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 16), *more)


def _webp(width: int, height: int) -> bytes:
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + sides
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _exif(orientation: int, *, count: int = 1, offset: int = 8) -> bytes:
    directory = struct.pack("<HHHIHHI", 1, 0x112, 3, count, orientation, 0, 0)
    body = b"Exif\0\0II*\0" + struct.pack("<I", offset) + directory
    data = encoded("jpg")
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as package:
        package.writestr("word/document.xml", "<w/>")
    return buffer.getvalue()


def _both(name: str, make: Make, entry_id: str, codes: tuple[int, ...] = (2,), says: str = "") -> Entry:
    return Entry(entry_id, (predict(name), camera(name)), make, codes, says)


CUT = tuple(
    _both(
        f"cut.{kind}",
        drawn(f"cut.{kind}", lambda kind=kind, share=share: encoded(kind)[: int(len(encoded(kind)) * share)]),
        f"{kind}-cut-at-{share:g}",
        says=f"cut.{kind}: ",
    )
    for kind in FORMATS
    for share in CUTS
)

CHANGED = tuple(
    _both(
        f"changed.{kind}",
        drawn(f"changed.{kind}", lambda kind=kind, seed=seed: _changed(kind, seed)),
        f"{kind}-changed-{seed}",
        (0, 2),
    )
    for kind in FORMATS
    for seed in range(FLIPS)
)

HEADERS: dict[str, tuple[str, Callable[[], bytes], tuple[int, ...]]] = {
    "png-of-2-billion-squared": ("png", lambda: png(2**31 - 1, 2**31 - 1), (2,)),
    "png-of-30000-squared": ("png", lambda: png(30_000, 30_000), (2,)),
    "png-of-no-width": ("png", lambda: png(0, 48), (2,)),
    "png-of-no-height": ("png", lambda: png(64, 0), (2,)),
    "png-of-7-bits": ("png", lambda: png(64, 48, depth=7), (2,)),
    "png-of-colour-type-5": ("png", lambda: png(64, 48, colour=5), (2,)),
    "png-palette-without-colours": ("png", lambda: png(64, 48, colour=3), (2,)),
    "png-without-pixels": ("png", lambda: png(64, 48, rest=b""), (2,)),
    "png-of-one-row-of-48": ("png", lambda: png(64, 48), (2,)),
    "png-with-a-broken-stream": ("png", lambda: png(64, 48, rest=_chunk(b"IDAT", b"\x78\x9c" + bytes(99))), (2,)),
    "png-with-a-wrong-checksum": ("png", lambda: encoded("png").replace(b"IHDR", b"IHDS", 1), (2,)),
    "png-with-a-chunk-of-half-a-gigabyte": (
        "png",
        lambda: png(64, 48, rest=struct.pack(">I", 2**29) + b"tEXtx"),
        (2,),
    ),
    "png-that-ends-in-its-signature": ("png", lambda: b"\x89PNG\r\n\x1a\nIEND", (2,)),
    "jpg-of-65535-squared": ("jpg", lambda: _jpeg(65535, 65535), (2,)),
    "jpg-of-no-height": ("jpg", lambda: _jpeg(0, 64), (2,)),
    "jpg-of-no-width": ("jpg", lambda: _jpeg(48, 0), (2,)),
    "jpg-of-12-bits": ("jpg", lambda: _jpeg(48, 64, precision=12), (2,)),
    "jpg-of-7-components": ("jpg", lambda: _jpeg(48, 64, components=7), (2,)),
    "jpg-of-two-markers": ("jpg", lambda: b"\xff\xd8\xff\xd9", (2,)),
    "jpg-twice-in-one-file": ("jpg", lambda: encoded("jpg") * 2, (0,)),
    "jpg-with-a-megabyte-behind-it": ("jpg", lambda: encoded("jpg") + bytes(1 << 20), (0,)),
    "jpg-turned-by-exif-9": ("jpg", lambda: _exif(9), (0,)),
    "jpg-with-exif-that-points-outside": ("jpg", lambda: _exif(6, offset=2**32 - 8), (0,)),
    "jpg-with-exif-of-a-billion-values": ("jpg", lambda: _exif(6, count=2**30), (0,)),
    "bmp-of-2-billion": ("bmp", lambda: _bmp(2**31 - 1, 2**31 - 1), (2,)),
    "bmp-of-the-most-negative-height": ("bmp", lambda: _bmp(64, -(2**31)), (2,)),
    "bmp-of-negative-width": ("bmp", lambda: _bmp(-64, 48), (2,)),
    "bmp-of-5-bits": ("bmp", lambda: _bmp(64, 48, bits=5), (2,)),
    "bmp-with-pixels-after-its-end": ("bmp", lambda: _bmp(64, 48, offset=2**31 - 1), (2,)),
    "bmp-of-unknown-compression": ("bmp", lambda: _bmp(64, 48, compression=99), (2,)),
    "gif-of-65535-squared": ("gif", lambda: _gif(65535, 65535), (2,)),
    "gif-of-no-size": ("gif", lambda: _gif(0, 0), (2,)),
    "tif-of-4-billion-squared": ("tif", lambda: _size(2**32 - 1, 2**32 - 1), (2,)),
    "tif-of-no-size": ("tif", lambda: _size(0, 0), (2,)),
    "tif-without-entries": ("tif", tiff, (2,)),
    "tif-whose-directory-is-outside": ("tif", lambda: tiff(first=2**32 - 2), (2,)),
    "tif-whose-pages-go-round": ("tif", lambda: tiff((256, 4, 1, 1), following=8), (2,)),
    "tif-with-65535-entries": ("tif", lambda: b"II*\0\x08\0\0\0\xff\xff", (2,)),
    "webp-of-16-million-squared": ("webp", lambda: _webp(1 << 24, 1 << 24), (2,)),
    "webp-without-a-picture": ("webp", lambda: _webp(64, 48), (2,)),
    "webp-that-claims-4-gigabytes": ("webp", lambda: b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(40), (2,)),
}
ABSURD = tuple(
    _both(f"odd.{kind}", drawn(f"odd.{kind}", draw), entry_id, codes)
    for entry_id, (kind, draw, codes) in HEADERS.items()
)

FOREIGN: dict[str, tuple[str, bytes | Callable[[], bytes]]] = {
    "empty": ("a.jpg", b""),
    "one-byte": ("a.jpg", b"\xff"),
    "zeros": ("a.jpg", bytes(5000)),
    "text": ("a.jpg", b"no photograph\n"),
    "html": ("a.png", b"<!DOCTYPE html><title>404 Not Found</title>"),
    "svg": ("a.png", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'),
    "pdf": ("a.jpg", b"%PDF-1.7\n%%EOF\n"),
    "zip": ("a.jpg", _zip),
    "heic": ("a.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)),
    "avif": ("a.webp", b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(64)),
    "wav": ("a.webp", b"RIFF\x24\0\0\0WAVEfmt " + bytes(28)),
    "mp4": ("a.gif", b"\0\0\0\x20ftypisom" + bytes(64)),
    "icon": ("a.png", b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0" + bytes(60)),
    "photoshop": ("a.tif", b"8BPS\0\1" + bytes(40)),
    "raw-of-a-camera": ("a.tiff", b"II*\0\x10\0\0\0CR\2\0" + bytes(40)),
    "lfs-pointer": ("a.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"),
    "resource-fork-of-macos": ("a.jpg", b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(100)),
    "portable-map-of-a-terabyte": ("a.png", b"P6 1000000 1000000 255\n" + bytes(9)),
    "openexr": ("a.png", b"v/1\1\2\0\0\0" + bytes(60)),
    "hdr": ("a.png", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 99999999 +X 99999999\n"),
    "jpeg2000": ("a.png", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60)),
    "sun-raster": ("a.png", b"\x59\xa6\x6a\x95" + b"\x7f\xff\xff\xff" * 6),
}
STRANGERS = tuple(
    _both(name, drawn(name, content if callable(content) else lambda content=content: content), entry_id, says=name)
    for entry_id, (name, content) in FOREIGN.items()
)

ODD: dict[str, tuple[str, Callable[[], bytes]]] = {
    "one-pixel": ("a.png", lambda: encoded("png", picture(1, 1))),
    "one-row": ("a.png", lambda: encoded("png", picture(1, 3000))),
    "one-column": ("a.png", lambda: encoded("png", picture(3000, 1))),
    "sixteen-bits": ("a.png", lambda: encoded("png", picture().astype(np.uint16) * 257)),
    "floating-point": ("a.tif", lambda: encoded("tif", picture().astype(np.float32) / 255)),
    "alpha": ("a.png", lambda: encoded("png", np.dstack([picture(), picture()[:, :, 0]]))),
    "grey": ("a.jpg", lambda: encoded("jpg", picture()[:, :, 0])),
    "another-format-than-its-name": ("a.png", lambda: encoded("jpg")),
}
USABLE = tuple(_both(name, drawn(name, draw), entry_id, (0, 2)) for entry_id, (name, draw) in ODD.items())

ENTRIES = (*CUT, *CHANGED, *ABSURD, *STRANGERS, *USABLE)
