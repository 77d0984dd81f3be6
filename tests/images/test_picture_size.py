"""The size that a picture claims is looked at before it is decoded, whatever OpenCV was told."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from toolchain.errors import UnreadableImageError
from toolchain.images.picture_size import MAX_PIXELS, claimed_pixels
from toolchain.images.preprocess import decode

HEIGHT, WIDTH = 37, 53
PICTURE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
SIDE = 30_000
"""Of the bombs: 900 million pixels, which OpenCV's own limit lets pass."""


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(side: int) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


def tiff(side: int, order: str, tile: int = 0) -> bytes:
    tags = {256: side, 257: side} if not tile else {256: 64, 257: 64, 322: tile, 323: tile}
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags.items())
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "IH", 8, len(tags)) + entries + bytes(4)


def big_tiff(side: int) -> bytes:
    entries = b"".join(struct.pack("<HHQQ", tag, 16, 1, side) for tag in (256, 257))
    return b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 2) + entries + bytes(8)


def jpeg(side: int) -> bytes:
    comment = b"\xff\xfe" + struct.pack(">H", 6) + b"\xff\xc0\0\0"  # what looks like a marker, inside another
    return (
        b"\xff\xd8" + comment + b"\xff\xff\xc2" + struct.pack(">HBHHB", 11, 8, side, side, 1) + b"\1\x11\0\xff\xd9"
    )


def webp(kind: bytes, body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + 8 + len(body)) + b"WEBP" + kind + struct.pack("<I", len(body)) + body


def side24(side: int) -> bytes:
    return struct.pack("<I", side - 1)[:3]


def boxed(brand: bytes, side: int) -> bytes:
    return b"\0\0\0\x10ftyp" + brand + bytes(4) + b"\0\0\0\x14ispe" + bytes(4) + struct.pack(">II", side, side)


BOMBS = {
    "png": png(SIDE),
    "jpeg": jpeg(SIDE),
    "gif": b"GIF89a" + struct.pack("<HH", SIDE, SIDE),
    "bmp": b"BM" + bytes(12) + struct.pack("<Iii", 40, SIDE, -SIDE),
    "bmp of OS/2": b"BM" + bytes(12) + struct.pack("<IHH", 12, SIDE, SIDE),
    "tiff, little endian": tiff(SIDE, "<"),
    "tiff, big endian": tiff(SIDE, ">"),
    "tiff with large tiles": tiff(SIDE, "<", tile=SIDE),
    "big tiff": big_tiff(SIDE),
    "webp, extended": webp(b"VP8X", bytes(4) + side24(SIDE) + side24(SIDE)),
    "webp, a frame": webp(b"ANMF", bytes(6) + side24(SIDE) + side24(SIDE)),
    "avif": boxed(b"avif", SIDE),
    "heic": boxed(b"heic", SIDE),
    "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\x16ihdr" + struct.pack(">II", SIDE, SIDE),
    "jpeg 2000, bare": b"\xff\x4f\xff\x51" + struct.pack(">HHII", 41, 0, SIDE, SIDE),
    "pnm": b"P6\n# of a\n# camera\n30000 30000\n255\n",
    "pam": b"P7\nWIDTH 30000\nHEIGHT 30000\nDEPTH 3\nENDHDR\n",
    "radiance": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 30000 +X 30000\n",
    "sun": b"\x59\xa6\x6a\x95" + struct.pack(">II", SIDE, SIDE),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_picture_that_claims_too_much_is_refused_by_its_header(name: str) -> None:
    assert claimed_pixels(BOMBS[name]) == SIDE * SIDE > MAX_PIXELS
    # Some are cut short, which is told first.
    with pytest.raises(UnreadableImageError, match=r"900 million pixels|truncated"):
        decode(BOMBS[name], name)


@pytest.mark.parametrize("name", BOMBS)
def test_a_header_that_is_cut_short_is_no_error(name: str) -> None:
    for length in range(len(BOMBS[name])):
        assert claimed_pixels(BOMBS[name][:length]) in {0, SIDE * SIDE} or "pam" in name or "pnm" in name


@pytest.mark.parametrize(
    "suffix", [".png", ".jpg", ".bmp", ".tiff", ".webp", ".gif", ".avif", ".jp2", ".ppm", ".pam", ".hdr", ".ras"]
)
def test_the_size_is_that_of_the_picture_that_opencv_reads(suffix: str) -> None:
    try:
        done, data = cv2.imencode(suffix, PICTURE.astype(np.float32) if suffix == ".hdr" else PICTURE)
    except cv2.error:
        pytest.skip(f"this OpenCV writes no {suffix}")
    assert done
    assert claimed_pixels(data.tobytes()) == HEIGHT * WIDTH


def test_webp_without_loss() -> None:
    data = cv2.imencode(".webp", PICTURE, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    assert b"VP8L" in data
    assert claimed_pixels(data) == HEIGHT * WIDTH


def test_an_offset_beyond_all_files_is_no_error() -> None:
    """BigTIFF has 64 bits for it."""
    assert claimed_pixels(b"II+\0\x08\0\0\0" + b"\xff" * 8) == 0
    assert claimed_pixels(b"MM\0+\0\x08\0\0" + b"\xff" * 8) == 0


def test_what_is_no_picture_claims_nothing() -> None:
    assert claimed_pixels(b"") == claimed_pixels(b"hello") == claimed_pixels(bytes(100)) == 0


@pytest.mark.parametrize(
    "order", ["import cv2, toolchain.images.preprocess", "import toolchain.images.preprocess, cv2"]
)
def test_the_order_of_imports_does_not_matter(tmp_path: Path, order: str) -> None:
    (tmp_path / "bomb.png").write_bytes(png(SIDE))
    code = f"{order}\nfrom pathlib import Path\ntoolchain.images.preprocess.read(Path('bomb.png'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "UnreadableImageError: bomb.png: the picture has 900 million pixels" in done.stderr
