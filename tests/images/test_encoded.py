"""What a file is, by its bytes, and where the picture in it ends."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from toolchain.errors import UnreadableImageError
from toolchain.images import preprocess
from toolchain.images.encoded import HEAD_BYTES, is_truncated, kind_of
from toolchain.images.preprocess import can_decode, decode
from toolchain.system.installation import install

RNG = np.random.default_rng(8)
PICTURE = cv2.GaussianBlur(RNG.integers(0, 256, (120, 160, 3), np.uint8), (5, 5), 0)


def saved(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(PICTURE).save(buffer, kind, **options)
    return buffer.getvalue()


def clip(seed: int) -> bytes:
    """As a phone's video: a box that says so, then bytes among which are all of JPEG's markers."""
    return b"\x00\x00\x00\x18ftypmp42" + bytes(12) + np.random.default_rng(seed).bytes(300_000)


def ftyp(*brands: bytes) -> bytes:
    return (16 + 4 * (len(brands) - 1)).to_bytes(4, "big") + b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])


JPEGS = {
    "baseline": saved("JPEG", quality=90),
    "progressive": saved("JPEG", quality=90, progressive=True),
    "restarts": cv2.imencode(".jpg", PICTURE, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[1].tobytes(),
    "two pictures": saved("JPEG", quality=90) + saved("JPEG", quality=30),
}


@pytest.mark.parametrize("kind", JPEGS)
def test_motion_photos_are_whole_and_their_first_picture_counts(kind: str) -> None:
    alone = decode(JPEGS[kind])
    for seed in range(12):
        assert (decode(JPEGS[kind] + clip(seed)) == alone).all()


@pytest.mark.parametrize("kind", ["baseline", "progressive", "restarts"])
def test_a_motion_photo_whose_picture_was_cut_is_refused(kind: str) -> None:
    """Whatever stands in the video behind it, which nearly always holds a marker that ends pictures."""
    whole = JPEGS[kind]
    for seed in range(12):
        cut = whole[: int(len(whole) * (0.3 + 0.05 * seed))]
        for behind in (b"", clip(seed), whole):
            with pytest.raises(UnreadableImageError, match="truncated"):
                decode(cut + behind, "cut.jpg")


def test_an_end_in_the_video_is_not_the_end_of_a_picture_that_was_cut() -> None:
    cut = JPEGS["baseline"][:-200]
    assert is_truncated(cut + ftyp(b"mp42") + b"\xff\xd9")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000"])
def test_what_follows_a_picture_is_ignored_and_what_it_lacks_is_not(kind: str) -> None:
    data = saved(kind)
    alone = decode(data)
    for behind in (bytes(8000), RNG.bytes(8000), clip(0)):
        assert (decode(data + behind) == alone).all()
    for kept in (0.3, 0.6, 0.95):
        with pytest.raises(UnreadableImageError):
            decode(data[: int(len(data) * kept)])


def test_a_png_that_only_speaks_of_its_end_is_truncated() -> None:
    data = saved("PNG", pnginfo=_comment("IEND"))
    assert not is_truncated(data)
    assert is_truncated(data[: data.index(b"IDAT") + 100])


def _comment(text: str) -> object:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", text)
    return info


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_as_it_asks(orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = saved("AVIF", exif=exif, quality=100, subsampling="4:4:4")
    expected = {
        1: PICTURE,
        2: PICTURE[:, ::-1],
        3: PICTURE[::-1, ::-1],
        4: PICTURE[::-1],
        5: PICTURE.swapaxes(0, 1),
        6: np.rot90(PICTURE, -1),
        7: PICTURE[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(PICTURE),
    }[orientation]
    found = decode(data)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected.astype(int)).mean() < 4


@pytest.mark.parametrize(
    ("head", "name", "kind"),
    [
        *((JPEGS[kind], "x", "JPEG") for kind in JPEGS),
        (saved("PNG"), "photo.jpg.1", "PNG"),
        (saved("GIF"), "", "GIF"),
        (saved("WEBP"), "", "WebP"),
        (saved("BMP"), "", "BMP"),
        (b"BM is how this letter begins, dear reader", "", "text"),
        (saved("TIFF"), "scan", "TIFF"),
        (saved("TIFF"), "DSC_0001.NEF", "camera raw"),
        (b"II*\x00\x10\x00\x00\x00CR\x02\x00", "IMG", "camera raw"),
        (ftyp(b"crx ", b"crx ", b"isom"), "IMG.CR3", "camera raw"),
        (saved("AVIF"), "", "AVIF"),
        (ftyp(b"mif1", b"avif", b"miaf"), "", "AVIF"),
        (ftyp(b"heic", b"mif1", b"heic"), "", "HEIC"),
        (ftyp(b"mif1", b"heic"), "", "HEIC"),
        (ftyp(b"qt  "), "IMG_0001.MOV", "video"),
        (ftyp(b"mp42", b"isom"), "", "video"),
        (saved("JPEG2000"), "", "JPEG 2000"),
        (b"P6\n64 64\n255\n", "", "PNM"),
        (b"P5 is not a picture", "", "text"),
        (b"\xff\x0a\xfa", "", "JPEG XL"),
        (b"%PDF-1.7\n", "", "PDF"),
        (b"PK\x03\x04\x14", "", "archive"),
        (b"cat,dog\r\n1,2\r\n", "labels.csv", "text"),
        ("кот и собака".encode(), "", "text"),
        (b"\x00\x01\x02\x03", "x.bin", "no picture"),
        (b"", "", "empty"),
    ],
)
def test_kinds(head: bytes, name: str, kind: str) -> None:
    assert kind_of(head[:HEAD_BYTES], name).name == kind


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_what_is_called_readable_is_read(kind: str) -> None:
    found = kind_of(saved(kind)[:HEAD_BYTES])
    assert can_decode(found)
    decode(saved(kind))


def test_what_this_opencv_lacks_is_called_so() -> None:
    assert not can_decode(kind_of(b"\xff\x0a\xfa"))
    with pytest.raises(UnreadableImageError, match="x: JPEG XL, which is not read here"):
        decode(b"\xff\x0a\xfa" + bytes(100), "x")


def test_without_the_extra_heic_is_told_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    preprocess.can_decode.cache_clear()
    try:
        head = ftyp(b"heic", b"mif1", b"heic")
        assert not can_decode(kind_of(head))
        with pytest.raises(UnreadableImageError, match=re.escape(f"HEIC, which needs {install('heic')}")):
            decode(head + bytes(200), "IMG_0001.HEIC")
    finally:
        preprocess.can_decode.cache_clear()


def test_heic_is_read_upright_in_rgb(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    scene = np.zeros((96, 128, 3), np.uint8)
    scene[:, :64], scene[:, 64:], scene[:24, :32] = (230, 20, 20), (20, 20, 230), 255
    for mode in ("RGB", "RGBA", "L"):
        for orientation, expected in ((1, scene), (6, np.rot90(scene, -1)), (3, scene[::-1, ::-1])):
            exif = PIL.Image.Exif()
            exif[0x0112] = orientation
            path = tmp_path / "x.heic"
            picture = PIL.Image.fromarray(scene).convert(mode)
            pillow_heif.from_pillow(picture).save(path, quality=90, exif=exif.tobytes())
            data = path.read_bytes()
            assert kind_of(data[:HEAD_BYTES]).name == "HEIC"
            found = decode(data)
            if mode == "L":
                expected = np.repeat(np.dot(expected, [0.299, 0.587, 0.114])[..., None], 3, 2)
            assert found.dtype == np.uint8
            assert found.shape == expected.shape
            assert np.abs(found.astype(int) - expected.astype(int)).mean() < 6
            for kept in (0.3, 0.6, 0.9):
                with pytest.raises(UnreadableImageError, match=r"x\.heic"):
                    decode(data[: int(len(data) * kept)], "x.heic")


@pytest.mark.parametrize("bits", [10, 12])
def test_grey_heic_of_more_than_8_bits_becomes_8(bits: int) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    grey = np.tile(np.arange(0, 256, 4, np.uint8), (64, 1))
    written = io.BytesIO()
    deep = (grey.astype("<u2") << 8).tobytes()
    pillow_heif.from_bytes("I;16", (64, 64), deep).save(written, quality=-1, bit_depth=bits)
    found = decode(written.getvalue())
    assert found.dtype == np.uint8
    assert found.shape == (64, 64, 3)
    assert np.abs(found.astype(int) - grey[..., None].astype(int)).max() <= 1


@pytest.mark.photographs
def test_real_photographs_are_whole_with_a_video_behind_them_and_cut_ones_are_not(real_data: Path) -> None:
    paths = sorted((real_data / "oxford-iiit-pet" / "images").glob("*.jpg"))[::100]
    assert paths
    for seed, path in enumerate(paths):
        data = path.read_bytes()
        assert not is_truncated(data), path
        assert not is_truncated(data + clip(seed)), path
        for kept in (0.4, 0.7, 0.97):
            cut = data[: int(len(data) * kept)]
            assert is_truncated(cut), path
            assert is_truncated(cut + clip(seed)), path
