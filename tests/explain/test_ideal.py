"""Ideal pictures of classes that are known: red on the left, red on the right, and blue."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import click
import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from toolchain.cli.explain.ideal import command
from toolchain.explain.gallery import Picture
from toolchain.explain.ideal import BatchNormDistance, Ideal, IdealSettings, ideal, robustness, shifted
from toolchain.explain.ideal.parametrisation import FourierImage, PixelImage
from toolchain.explain.ideal.report import ideal_page
from toolchain.explain.pictures import as_gif, as_jpeg
from toolchain.explain.torch_model import TorchModel
from toolchain.images.preprocess import Image, Preprocess

QUICK = IdealSettings(steps=80, octaves=(1.0,), natural=0, variation=1, window=0, jitter=0.02, turn=0, zoom=0)


def _redness(picture: Image) -> tuple[float, float]:
    """How much more red than green the left and the right half are."""
    red = picture[..., 0].astype(float) - picture[..., 1]
    return float(red[:, :32].mean()), float(red[:, 32:].mean())


@pytest.mark.parametrize("parametrisation", ["fourier", "pixels"])
def test_noise_becomes_what_the_class_is_known_by(spot: TorchModel, parametrisation: str) -> None:
    settings = replace(QUICK, parametrisation=parametrisation)  # type: ignore[arg-type]
    left, blue = ideal(spot, 0, settings), ideal(spot, 2, settings)
    on_left, on_right = _redness(left.picture)
    assert on_left > max(2 * abs(on_right), 25)
    assert float(blue.picture[..., 2].mean()) > float(blue.picture[..., 1].mean()) + 15
    assert left.picture.shape == (64, 64, 3)
    assert left.robustness.probability > 0.99
    assert left.logit[-1] > left.logit[0] + 5
    assert left.loss[-1] < left.loss[0] - 5
    assert len(left.loss) == len(left.logit) == settings.steps


def test_a_seed_repeats_a_picture_whichever_others_are_made(spot: TorchModel) -> None:
    first = ideal(spot, 1, QUICK)
    ideal(spot, 0, QUICK)
    torch.manual_seed(99)
    assert np.array_equal(ideal(spot, 1, QUICK).picture, first.picture)
    assert not np.array_equal(ideal(spot, 1, replace(QUICK, seed=1)).picture, first.picture)


def test_the_frames_go_from_noise_to_the_picture(spot: TorchModel) -> None:
    made: Ideal = ideal(spot, 0, replace(QUICK, steps=10))
    assert made.frame_steps == tuple(range(11))
    assert np.array_equal(made.frames[-1], made.picture)
    assert float(made.frames[0].std()) < float(made.picture.std())
    gif = as_gif(made.frames)
    with Pillow.open(io.BytesIO(gif)) as film:
        assert (film.n_frames, film.size) == (11, (64, 64))  # type: ignore[attr-defined]


def test_progress_is_told_step_by_step(spot: TorchModel) -> None:
    told: list[float] = []
    made = ideal(spot, 0, replace(QUICK, steps=5), told.append)
    assert tuple(told) == made.logit


def test_variation_smooths(spot: TorchModel) -> None:
    def roughness(picture: Image) -> float:
        return float(np.abs(np.diff(picture.astype(float), axis=0)).mean())

    rough = ideal(spot, 0, replace(QUICK, parametrisation="pixels", variation=0, blur=0)).picture
    smooth = ideal(spot, 0, replace(QUICK, parametrisation="pixels", variation=300, blur=0)).picture
    blurred = ideal(spot, 0, replace(QUICK, parametrisation="pixels", variation=0, blur=1)).picture
    assert roughness(smooth) < 0.7 * roughness(rough)
    assert roughness(blurred) < 0.5 * roughness(rough)


def test_the_saved_picture_is_judged_through_the_deployed_preprocessing(spot: TorchModel) -> None:
    # The border that preprocessing cuts off is added to the file, so that the network sees the picture itself.
    cut = replace(spot, preprocess=Preprocess(height=64, width=64, shortest_edge=80))
    found = ideal(cut, 0, QUICK)
    assert found.robustness == ideal(spot, 0, QUICK).robustness
    [drawn] = ideal_page("spot", [found], {}).sections[0].pictures
    assert isinstance(drawn, Picture)
    assert drawn.image.shape == (80, 80, 3)
    assert np.array_equal(cut.preprocess(drawn.image), found.picture)


def test_statistics_are_the_distance_to_what_batch_normalisation_remembers(spot: TorchModel) -> None:
    generator = torch.Generator().manual_seed(0)
    usual = torch.randn(1, 3, 64, 64, generator=generator)
    with BatchNormDistance(spot.network) as statistics:
        spot.network(usual)
        near = float(statistics.distance())
        spot.network(usual + 2)
        moved = float(statistics.distance())
        spot.network(3 * usual)
        spread = float(statistics.distance())
        assert float(statistics.distance()) == 0, "only what was seen since the last call"
    assert near < 0.01
    assert moved == pytest.approx(4, abs=0.3)
    assert spread == pytest.approx(4, abs=0.3)
    spot.network(usual)
    assert float(statistics.distance()) == 0, "hooks are taken off"


def test_waves_are_broad_at_first_and_pixels_are_blurred_as_a_gaussian() -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        waves = FourierImage(64, 48, generator)()
    assert waves.shape == (1, 3, 64, 48)
    neighbours = (waves[..., 1:] - waves[..., :-1]).std()
    far = (waves[..., 20:] - waves[..., :-20]).std()
    assert far > 1.4 * neighbours
    pixels = PixelImage(21, 21, generator)
    with torch.no_grad():
        pixels.pixels.zero_()
        pixels.pixels[0, 0, 10, 10] = 1
    pixels.blur(2)
    assert float(pixels.pixels.detach().sum()) == pytest.approx(1, abs=1e-4)
    offsets = torch.arange(21.0) - 10
    assert float((pixels.pixels.detach()[0, 0].sum(0) * offsets**2).sum()) == pytest.approx(4, rel=0.05)


def test_outside_of_the_window_the_picture_is_grey(spot: TorchModel) -> None:
    for parametrisation in ("fourier", "pixels"):
        settings = replace(QUICK, window=0.6, parametrisation=parametrisation)  # type: ignore[arg-type]
        picture = ideal(spot, 2, settings).picture.astype(int)
        assert np.abs(picture[:3, :3] - 128).max() <= 2, "a corner"
        assert picture[22:42, 22:42].std() > 10


def test_shifts_repeat_the_edge_and_the_least_probable_counts(spot: TorchModel) -> None:
    picture = np.arange(64 * 64 * 3, dtype=np.int64).reshape(64, 64, 3).astype(np.uint8)
    moved = shifted(picture, 5, -3)
    assert np.array_equal(moved[5:, :-3], picture[:-5, 3:])
    assert np.array_equal(moved[:5, 0], np.repeat(picture[:1, 3], 5, axis=0))
    assert np.abs(as_jpeg(np.full((64, 64, 3), 90, np.uint8), 90).astype(int) - 90).max() <= 2
    half = np.zeros((64, 64, 3), np.uint8)
    half[:, 27:32, 0] = 255
    found = robustness(spot, half, 0)
    assert found.probability > 0.9
    assert found.shifted < 0.1, "moved to the right, all red is in the other half"


def test_the_help_of_the_command_states_the_defaults() -> None:
    stated = {
        option.name: re.findall(r"Default: ([\w.,]*[\w])|0, the (default)", option.help or "")
        for option in command.params
        if isinstance(option, click.Option)
    }
    found = {name: "0" if words[0][1] else words[0][0] for name, words in stated.items() if words}
    found.pop("out")
    expected = {name: getattr(IdealSettings(), str(name)) for name in found}
    told = {
        name: ",".join(f"{one:g}" for one in value) if isinstance(value, tuple) else str(value).removesuffix(".0")
        for name, value in expected.items()
    }
    assert found == told
    assert len(found) >= 8
