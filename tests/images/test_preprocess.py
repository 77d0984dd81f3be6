"""Preprocessing is one definition: checked against an independent computation, and against files of all kinds."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from toolchain.errors import UnreadableImageError
from toolchain.images.preprocess import FramePreprocess, Preprocess, check_frame, decode, read

Picture = PIL.Image.Image


def _scene(height: int = 60, width: int = 80) -> np.ndarray:
    """Left red, right blue, the upper left corner white: every turn and swap of colours shows."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[:, : width // 2] = (230, 20, 20)
    rgb[:, width // 2 :] = (20, 20, 230)
    rgb[: height // 4, : width // 4] = 255
    return rgb


def _encoded(picture: Picture, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _near(found: np.ndarray, expected: np.ndarray, tolerance: float = 6) -> None:
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected.astype(int)).mean() < tolerance


def _expected(rgb: np.ndarray, spec: Preprocess) -> np.ndarray:
    """The spec of docs/reference/files.md, written down once more, with fractions instead of rounding tricks."""
    height, width = rgb.shape[:2]
    method = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR}[spec.interpolation]
    if spec.resize == "squash":
        return cv2.resize(rgb, (spec.width, spec.height), interpolation=method)
    if height <= width:
        size = (round(width * spec.shortest_edge / height), spec.shortest_edge)
    else:
        size = (spec.shortest_edge, round(height * spec.shortest_edge / width))
    scaled = cv2.resize(rgb, size, interpolation=method)
    top, left = (scaled.shape[0] - spec.height) // 2, (scaled.shape[1] - spec.width) // 2
    return scaled[top : top + spec.height, left : left + spec.width]


@pytest.mark.parametrize("resize", ["shortest-edge", "squash"])
@pytest.mark.parametrize("interpolation", ["area", "linear"])
@pytest.mark.parametrize(
    ("height", "width"), [(1, 500), (500, 1), (5, 5), (333, 500), (500, 333), (232, 232), (97, 101)]
)
def test_result_is_what_the_card_promises(resize: str, interpolation: str, height: int, width: int) -> None:
    spec = Preprocess(resize=resize, interpolation=interpolation)  # type: ignore[arg-type]
    rgb = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)
    untouched = rgb.copy()
    found = spec(rgb)
    assert found.shape == (224, 224, 3)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, _expected(rgb, spec))
    np.testing.assert_array_equal(rgb, untouched)


def test_crop_need_not_be_square() -> None:
    spec = Preprocess(height=60, width=100, shortest_edge=110)
    rgb = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    np.testing.assert_array_equal(spec(rgb), _expected(rgb, spec))


def test_crop_cannot_be_larger_than_the_shortest_edge() -> None:
    with pytest.raises(ValueError, match="shortest_edge"):
        Preprocess(height=224, width=224, shortest_edge=200)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_usual_formats(kind: str) -> None:
    _near(decode(_encoded(PIL.Image.fromarray(_scene()), kind)), _scene(), 8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture(orientation: int) -> None:
    """What a camera that was held askew stores comes out upright."""
    undo: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda rgb: rgb,
        2: lambda rgb: rgb[:, ::-1],
        3: lambda rgb: rgb[::-1, ::-1],
        4: lambda rgb: rgb[::-1],
        5: lambda rgb: rgb.swapaxes(0, 1),
        6: lambda rgb: np.rot90(rgb, 1),
        7: lambda rgb: rgb[::-1, ::-1].swapaxes(0, 1),
        8: lambda rgb: np.rot90(rgb, -1),
    }
    stored = PIL.Image.fromarray(np.ascontiguousarray(undo[orientation](_scene())))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    _near(decode(_encoded(stored, "JPEG", exif=exif, quality=95)), _scene(), 10)


def test_cmyk() -> None:
    picture = PIL.Image.fromarray(_scene()).convert("CMYK")
    _near(decode(_encoded(picture, "JPEG", quality=95)), _scene(), 12)


def test_grey_becomes_rgb() -> None:
    grey = PIL.Image.fromarray(_scene()).convert("L")
    expected = np.repeat(np.asarray(grey)[:, :, None], 3, axis=2)
    _near(decode(_encoded(grey, "PNG")), expected, 0.1)
    _near(decode(_encoded(grey, "JPEG", quality=95)), expected, 4)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_become_eight(channels: int) -> None:
    eight = np.random.default_rng(0).integers(0, 256, (40, 50, channels), np.uint8)
    data = cv2.imencode(".png", eight.astype(np.uint16) * 257)[1].tobytes()
    expected = np.repeat(eight, 3, axis=2) if channels == 1 else eight[..., ::-1]
    _near(decode(data), expected, 1)


def test_palette_with_transparency() -> None:
    picture = PIL.Image.fromarray(_scene()).quantize(8)
    _near(decode(_encoded(picture, "PNG", transparency=0)), _scene(), 8)


def test_alpha_is_dropped() -> None:
    rgba = np.dstack([_scene(), np.full((60, 80), 128, np.uint8)])
    _near(decode(_encoded(PIL.Image.fromarray(rgba), "PNG")), _scene(), 0.1)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    first, second = PIL.Image.fromarray(_scene()), PIL.Image.new("RGB", (80, 60), (0, 255, 0))
    data = _encoded(first, kind, save_all=True, append_images=[second], duration=100)
    _near(decode(data), _scene(), 8)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_truncated_files_are_refused(kind: str, kept: float) -> None:
    """OpenCV itself would fill the rest with grey and say nothing."""
    noisy = np.random.default_rng(1).integers(0, 256, (200, 300, 3), np.uint8)
    data = _encoded(PIL.Image.fromarray(noisy), kind)
    decode(data)
    with pytest.raises(UnreadableImageError, match=r"cut\.x"):
        decode(data[: int(len(data) * kept)], "cut.x")


def test_truncated_jpeg_with_a_whole_thumbnail_is_refused() -> None:
    exif = PIL.Image.Exif()
    thumbnail = _encoded(PIL.Image.new("RGB", (16, 16)), "JPEG")
    exif[0x927C] = thumbnail
    data = _encoded(PIL.Image.fromarray(_scene(300, 300)), "JPEG", exif=exif)
    assert data.count(b"\xff\xd9") == 2
    with pytest.raises(UnreadableImageError, match="truncated"):
        decode(data[:-200])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"these are words, not a picture\n" * 20, "not a readable picture"),
        (b"\xff\xd8\xff", "not a readable picture"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"GIF89a", "not a readable picture"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "file.jpg"
    path.write_bytes(data)
    with pytest.raises(UnreadableImageError, match=said) as raised:
        read(path)
    assert str(path) in raised.value.message


def test_a_few_bytes_that_claim_a_giant_picture_are_refused() -> None:
    data = bytearray(_encoded(PIL.Image.new("L", (8, 8)), "BMP"))
    data[18:26] = (60_000).to_bytes(4, "little") * 2
    with pytest.raises(UnreadableImageError):
        decode(bytes(data))


def test_folder_and_missing_file_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nope.jpg"):
        with pytest.raises(UnreadableImageError) as raised:
            read(path)
        assert str(path) in raised.value.message


def test_frames_are_checked() -> None:
    rgb = _scene()
    assert check_frame(rgb) is rgb
    assert check_frame(rgb[:, :, 0]).shape == rgb.shape
    for wrong in (rgb.astype(np.float32), rgb[:, :, :2], np.dstack([rgb, rgb]), rgb[None], rgb[:0], [1, 2], None):
        with pytest.raises(UnreadableImageError):
            check_frame(wrong)


@pytest.mark.photographs
def test_real_photographs_agree_with_an_independent_computation(real_data: Path) -> None:
    spec = Preprocess()
    paths = sorted((real_data / "oxford-iiit-pet" / "images").glob("*.jpg"))[::100]
    assert paths
    for path in paths:
        rgb = cv2.imread(str(path))[..., ::-1]
        np.testing.assert_array_equal(spec(read(path)), _expected(np.ascontiguousarray(rgb), spec))


def test_a_line_of_pixels_does_not_become_gigabytes() -> None:
    """Scaled to 232 rows, 1 x 60,000 pixels would be 9.7 GB."""
    spec = Preprocess(shortest_edge=232)
    line = np.zeros((1, 60_000, 3), np.uint8)
    line[:, 29_990:30_010] = 255
    assert spec.scale(line).nbytes < 10_000_000
    assert spec(line).min() == 255, "the centre is all that is seen of it"
    assert FramePreprocess(spec)(line)[0].min() == 255


@pytest.mark.parametrize("shape", [(480, 640), (100, 90), (224, 224), (720, 1280), (50, 1500)])
@pytest.mark.parametrize("spec", [Preprocess(), Preprocess(shortest_edge=232), Preprocess(resize="squash")])
def test_frames_become_the_same_pixels_as_photographs(spec: Preprocess, shape: tuple[int, int]) -> None:
    preprocess = FramePreprocess(spec)
    for seed in range(2):  # the second time into buffers that are there
        bgr = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
        before = bgr.copy()
        assert (preprocess(bgr)[0] == spec(bgr[..., ::-1].copy())).all()
        assert (bgr == before).all()


def test_another_size_keeps_the_share_of_the_crop_and_the_interpolation() -> None:
    usual = Preprocess(shortest_edge=256, interpolation="cubic")
    assert usual.with_size(112, "shortest-edge") == Preprocess(112, 112, "shortest-edge", 128, "cubic")
    assert usual.with_size(224, "squash").interpolation == "cubic"
    assert Preprocess().with_size(64) == Preprocess(64, 64, "shortest-edge", 64)
