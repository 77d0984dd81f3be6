"""The drawn answer can be read over any picture, and nothing else is touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from toolchain.camera import drawing
from toolchain.camera.answering import Answered, ComparedAnswer, pretty
from toolchain.camera.drawing import MAX_SIZE, Drawn, draw, fit, size_for
from toolchain.camera.frames import BgrImage, Frame
from toolchain.classifier import Prediction


def answered(bgr: BgrImage, label: str = "american_bulldog", rejected: bool = False, number: int = 0) -> Answered:
    prediction = Prediction(label, 0.93, rejected, ((label, 0.93),), np.zeros(2, np.float32))
    return Answered(Frame(number, bgr, 0.0, number / 30), prediction, 23.4, 4.2, 29.97)


def _luminance(bgr: BgrImage) -> np.ndarray:
    return bgr[..., ::-1].astype(float) @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize(("height", "width"), [(480, 640), (256, 256), (160, 160), (1080, 1920), (160, 853)])
@pytest.mark.parametrize("background", [0, 128, 255, "noise"])
def test_text_stands_out_from_any_background(height: int, width: int, background: int | str) -> None:
    if background == "noise":
        bgr = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    else:
        bgr = np.full((height, width, 3), background, np.uint8)
    before = bgr.copy()
    draw(bgr, answered(bgr))
    # The bars of probabilities lie in the other half.
    bgr, before = bgr[:, : width // 2], before[:, : width // 2]
    changed = (bgr != before).any(axis=2)
    top = int(np.flatnonzero(changed.any(axis=1))[0])
    assert top > height * 0.55, "the picture itself stays visible"
    bar = _luminance(bgr[top:])
    text = bar > 180
    assert 0.01 < text.mean() < 0.5
    assert np.percentile(bar[~text], 90) < 120, "what lies behind the text is dark"


def test_long_labels_stay_inside_the_picture() -> None:
    """The last pixels at both sides hold no text, so nothing was cut off."""
    bgr = np.zeros((160, 160, 3), np.uint8)
    draw(bgr, answered(bgr, "a_very_long_name_" * 8, rejected=True))
    assert bgr.any()
    assert not bgr[:, :3].any()
    assert not bgr[:, -3:].any()


def test_another_label_and_a_rejection_look_different() -> None:
    pictures = []
    for label, rejected in (("Siamese", False), ("Bengal", False), ("Siamese", True)):
        bgr = np.zeros((240, 320, 3), np.uint8)
        draw(bgr, answered(bgr, label, rejected))
        pictures.append(bgr.tobytes())
    assert len(set(pictures)) == 3


def test_labels_are_written_as_people_write_them() -> None:
    assert pretty("american_bulldog") == "american bulldog"
    assert pretty("__a__b ") == "a b"


def test_opencv_without_unicode_gets_plain_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "DRAWS_UNICODE", False)
    assert drawing._drawable("Größe é ね") == "Grosse e ?"
    monkeypatch.setattr(drawing, "DRAWS_UNICODE", True)
    assert drawing._drawable("Größe") == "Größe"


def test_fit_keeps_the_shape_and_fills_with_black() -> None:
    white = np.full((100, 50, 3), 255, np.uint8)
    fitted = fit(white, 200, 100)
    assert fitted.shape == (100, 200, 3)
    assert fitted[:, 75:125].min() == 255
    assert fitted[:, :75].max() == fitted[:, 125:].max() == 0
    assert fit(white, 50, 100) is white, "nothing is copied when there is nothing to do"


@pytest.mark.parametrize(
    "shape", [(480, 640), (256, 256), (1, 1), (3000, 4000), (10, 5000), (481, 641), (4000, 30)]
)
def test_sizes_on_the_screen_are_even_and_fit(shape: tuple[int, int]) -> None:
    width, height = size_for(*shape)
    assert width % 2 == height % 2 == 0
    assert 2 <= width <= MAX_SIZE[0]
    assert 2 <= height <= MAX_SIZE[1]
    bgr = np.zeros((*shape, 3), np.uint8)
    draw(fit(bgr, width, height), answered(bgr))


def test_all_pictures_on_the_screen_have_the_size_of_the_first() -> None:
    drawn = Drawn()
    sizes = ((240, 320), (500, 100), (241, 321))
    shapes = [drawn(answered(np.zeros((height, width, 3), np.uint8))).shape for height, width in sizes]
    assert shapes == [(240, 320, 3)] * 3
    assert drawn.with_state("") is None, "nothing new is nothing to draw"
    over = drawn.with_state("camera 0 gives no frames any more (3 s)")
    assert over is not None
    assert over[:60].any(), "what is the matter is written over the last picture"


def test_an_answer_is_drawn_once_for_all_and_never_on_the_frame_itself() -> None:
    """The window, the recording, the page and the next comparison have the same frame."""
    bgr = np.zeros((480, 640, 3), np.uint8)
    drawn, one = Drawn(), answered(bgr)
    picture = drawn(one)
    assert not bgr.any()
    assert picture.any()
    assert drawn(one) is picture


def test_another_networks_answer_stands_at_the_upper_edge() -> None:
    bgr = np.zeros((480, 640, 3), np.uint8)
    one = answered(bgr)
    draw(bgr, one)
    assert not bgr[:100].any()
    draw(bgr, replace(one, compared=ComparedAnswer("float32 on ort:cpu", one.prediction, 3.1)))
    assert bgr[:100].any()


def test_bars_are_as_long_as_their_classes_are_probable() -> None:
    lengths = []
    for share in (0.3, 0.6, 0.9):
        bgr = np.zeros((480, 640, 3), np.uint8)
        one = answered(bgr)
        draw(bgr, replace(one, prediction=replace(one.prediction, top=(("pug", share), ("beagle", 1 - share)))))
        blue = (bgr == drawing.BLUE).all(axis=2)
        rows = np.flatnonzero(blue.any(axis=1))
        first = blue[rows[0] : rows[0] + 5].any(axis=0)
        lengths.append(int(np.flatnonzero(first).max() - np.flatnonzero(first).min()))
    assert lengths[1] == pytest.approx(2 * lengths[0], rel=0.03)
    assert lengths[2] == pytest.approx(3 * lengths[0], rel=0.03)
