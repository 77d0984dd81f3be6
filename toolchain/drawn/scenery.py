"""What surrounds a drawn animal: coats, backgrounds, things in front, and what a cheap camera does to it all.

Every animal draws from the same colours and backgrounds, so that only its shape tells what it is.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from toolchain.drawn.sprite import Colour
from toolchain.images.preprocess import Image

Random = np.random.Generator

COAT_COLOURS: tuple[Colour, ...] = (
    (226, 158, 84), (150, 100, 62), (96, 66, 46), (62, 56, 54), (236, 226, 208), (198, 180, 152),
    (140, 142, 148), (206, 128, 66), (178, 152, 116), (112, 120, 132), (216, 188, 126), (158, 80, 52),
    (122, 136, 104), (214, 202, 190),
)  # fmt: skip

BACKGROUND_COLOURS: tuple[Colour, ...] = (
    (118, 160, 92), (84, 124, 74), (150, 194, 226), (96, 140, 190), (212, 196, 162), (172, 132, 96),
    (198, 150, 148), (230, 222, 206), (128, 120, 150), (92, 92, 96), (190, 204, 170), (226, 180, 120),
    (70, 104, 120), (160, 170, 176),
)  # fmt: skip


def pick(rng: Random, colours: tuple[Colour, ...]) -> NDArray[np.float32]:
    """One of `colours`, a little changed, as float32 [3]."""
    colour = np.array(colours[int(rng.integers(len(colours)))], np.float64)
    return np.clip(colour + rng.normal(0, 22, 3) * 0.6 + rng.normal(0, 22), 12, 250).astype(np.float32)


def as_image(values: NDArray[np.floating]) -> Image:
    """Values in float as a picture: cut to 0 to 255, uint8."""
    clipped: Image = np.clip(values, 0, 255).astype(np.uint8)
    return clipped


def clouds(rng: Random, size: int, cells: int, octaves: int = 3) -> NDArray[np.float32]:
    """Smooth noise, float32 [size, size], about 0 to 1; `cells` bumps across."""
    total = np.zeros((size, size), np.float32)
    weight = 0.0
    for octave in range(octaves):
        count = min(cells * 2**octave + 1, size)
        grid = rng.random((count, count), np.float32)
        total += cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC) * np.float32(0.5**octave)
        weight += 0.5**octave
    total /= np.float32(weight)
    return total


def coat(rng: Random, size: int) -> Image:
    """A texture of fur, feathers or scales: plain, striped, spotted, patched or darker above."""
    # Noise is smooth, so half the resolution is enough for it.
    half = size // 2
    base, second = pick(rng, COAT_COLOURS), pick(rng, COAT_COLOURS)
    kind = rng.choice(["plain", "stripes", "spots", "patches", "above"], p=[0.28, 0.24, 0.16, 0.18, 0.14])
    across, down = np.meshgrid(np.linspace(0, 1, half, dtype=np.float32), np.linspace(0, 1, half, dtype=np.float32))
    warp = clouds(rng, half, 4, 2)
    share = np.zeros((half, half), np.float32)
    if kind == "stripes":
        angle, count = rng.uniform(-0.6, 0.6), rng.uniform(9, 20)
        wave = np.sin((across * np.cos(angle) + down * np.sin(angle) + warp * 0.16) * np.float32(count * 6.283))
        share = np.clip((wave - np.float32(rng.uniform(-0.1, 0.5))) * 3, 0, 1)
    elif kind == "spots":
        bumps = clouds(rng, half, int(rng.integers(14, 26)), 1)
        share = np.clip((bumps - np.float32(0.66)) * 14, 0, 1)
    elif kind == "patches":
        bumps = clouds(rng, half, int(rng.integers(3, 6)), 2)
        share = np.clip((bumps - np.float32(rng.uniform(0.45, 0.6))) * 18, 0, 1)
    elif kind == "above":
        share = np.clip((down + warp * 0.25 - np.float32(rng.uniform(0.5, 0.75))) * 6, 0, 1)
    texture = base + (second - base) * share[:, :, None]
    texture *= (0.86 + 0.28 * clouds(rng, half, 40, 2))[:, :, None]
    return cv2.resize(np.clip(texture, 0, 255).astype(np.uint8), (size, size), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def background(rng: Random, width: int, height: int) -> Image:
    """A place: sky and ground, a wall, tiles, planks, leaves or a blur of lights, with or without clutter."""
    size = max(width, height)
    places: tuple[Callable[[Random, int], NDArray[np.float32]], ...] = (_open_land, _wall, _tiles, _planks, _leaves)
    place = places[int(rng.integers(len(places)))](rng, size)
    scene = np.ascontiguousarray(as_image(place))
    if rng.random() < 0.6:
        _clutter(rng, scene)
    blur = rng.choice([0.0, rng.uniform(0.6, 1.5), rng.uniform(2, 5)], p=[0.3, 0.35, 0.35])
    if blur:
        scene = cv2.GaussianBlur(scene, (0, 0), float(blur) * size / 256)  # type: ignore[assignment]
    top, left = (size - height) // 2, (size - width) // 2
    cut: Image = scene[top : top + height, left : left + width].copy()
    return cut


def foreground(rng: Random, scene: Image) -> None:
    """Put something in front, into `scene` itself: blades of grass, a twig, or the edge of a thing close by."""
    size = scene.shape[0]
    colour = pick(rng, BACKGROUND_COLOURS).tolist()
    kind = rng.choice(["grass", "bar", "corner"])
    if kind == "grass":
        for _ in range(int(rng.integers(14, 40))):
            x, reach = rng.uniform(0, size), rng.uniform(0.06, 0.26) * size
            lean = rng.uniform(-0.08, 0.08) * size
            blade = [(x - 0.008 * size, size), (x + lean, size - reach), (x + 0.012 * size, size)]
            tone = [float(np.clip(value * rng.uniform(0.7, 1.2), 0, 255)) for value in colour]
            cv2.fillPoly(scene, [np.array(blade, np.int32)], tone, cv2.LINE_AA)
    elif kind == "bar":
        start, end = rng.uniform(0, size, 2)
        ends = [(start, -5.0), (end, size + 5.0)] if rng.random() < 0.6 else [(-5.0, start), (size + 5.0, end)]
        first, last = ([round(float(value)) for value in point] for point in ends)
        thickness = max(1, round(float(rng.uniform(0.016, 0.055) * size)))
        cv2.line(scene, first, last, colour, thickness, cv2.LINE_AA)
    else:
        x, y = rng.choice([-0.02, 1.02], 2) * size
        centre, reach = (round(float(x)), round(float(y))), round(float(rng.uniform(0.15, 0.32) * size))
        cv2.circle(scene, centre, reach, colour, -1, cv2.LINE_AA)


def light(rng: Random, scene: Image) -> Image:
    """Change exposure, contrast and white balance, and darken towards one side or the corners."""
    size = scene.shape[0]
    steps = np.linspace(-1, 1, size, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    slope = steps[None, :] * np.float32(np.cos(angle)) + steps[:, None] * np.float32(np.sin(angle))
    corners = steps[None, :] ** 2 + steps[:, None] ** 2
    falloff = 1 + slope * np.float32(rng.uniform(0, 0.3)) - corners * np.float32(rng.uniform(0, 0.22))
    gain = np.float32(rng.uniform(0.62, 1.22)) * rng.uniform(0.9, 1.1, 3).astype(np.float32)
    contrast = np.float32(rng.uniform(0.72, 1.1))
    lit = (scene.astype(np.float32) - 118) * contrast + 118
    return as_image(lit * falloff[:, :, None] * gain)


def camera_faults(rng: Random, scene: Image) -> Image:
    """Blur (out of focus or moved) and sensor noise."""
    size = scene.shape[0]
    kind = rng.choice(["sharp", "soft", "moved"], p=[0.5, 0.32, 0.18])
    if kind == "soft":
        scene = cv2.GaussianBlur(scene, (0, 0), float(rng.uniform(0.5, 1.9)) * size / 256)  # type: ignore[assignment]
    elif kind == "moved":
        reach = int(rng.integers(3, 9)) * size // 256
        if reach > 1:
            streak = np.zeros((reach, reach), np.float32)
            streak[reach // 2] = 1 / reach
            turn = cv2.getRotationMatrix2D((reach / 2 - 0.5, reach / 2 - 0.5), float(rng.uniform(0, 180)), 1.0)
            turned = np.asarray(cv2.warpAffine(streak, turn, (reach, reach)), np.float32)
            turned /= max(float(turned.sum()), 1e-3)
            scene = cv2.filter2D(scene, -1, turned)  # type: ignore[assignment]
    noise = rng.standard_normal(scene.shape, np.float32) * np.float32(rng.uniform(1, 11))
    return as_image(scene + noise)


def _mix(
    first: NDArray[np.float32], second: NDArray[np.float32], share: NDArray[np.float32]
) -> NDArray[np.float32]:
    mixed: NDArray[np.float32] = first + (second - first) * share[:, :, None]
    return mixed


def _open_land(rng: Random, size: int) -> NDArray[np.float32]:
    down = np.linspace(0, 1, size, dtype=np.float32)[:, None] + np.zeros((1, size), np.float32)
    sky = _mix(pick(rng, BACKGROUND_COLOURS), pick(rng, BACKGROUND_COLOURS), clouds(rng, size, 3))
    ground = pick(rng, BACKGROUND_COLOURS) * (0.7 + 0.6 * clouds(rng, size, 24))[:, :, None]
    hills = down + (clouds(rng, size, 3, 2) - 0.5) * np.float32(rng.uniform(0, 0.5))
    share = np.clip((hills - np.float32(rng.uniform(0.35, 0.75))) * 40, 0, 1)
    return _mix(sky, ground, share)


def _wall(rng: Random, size: int) -> NDArray[np.float32]:
    angle = rng.uniform(0, 2 * np.pi)
    steps = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    slope = steps[None, :] * np.float32(np.cos(angle)) + steps[:, None] * np.float32(np.sin(angle)) + 0.5
    wall = _mix(pick(rng, BACKGROUND_COLOURS), pick(rng, BACKGROUND_COLOURS), slope)
    grain = 1 + (clouds(rng, size, int(rng.integers(2, 40))) - 0.5) * np.float32(rng.uniform(0.1, 0.6))
    wall *= grain[:, :, None]
    return wall


def _tiles(rng: Random, size: int) -> NDArray[np.float32]:
    turn, count = rng.uniform(0, 1.6), rng.uniform(3, 9)
    steps = np.linspace(0, count, size, dtype=np.float32)
    along = steps[None, :] * np.float32(np.cos(turn)) + steps[:, None] * np.float32(np.sin(turn))
    across = steps[None, :] * np.float32(-np.sin(turn)) + steps[:, None] * np.float32(np.cos(turn))
    if rng.random() < 0.5:
        share = ((np.floor(along) + np.floor(across)) % 2).astype(np.float32)
    else:
        share = ((along % 1 < 0.06) | (across % 1 < 0.06)).astype(np.float32)
    share = share * np.float32(rng.uniform(0.3, 0.9)) + 0.2 * clouds(rng, size, 12)
    return _mix(pick(rng, BACKGROUND_COLOURS), pick(rng, BACKGROUND_COLOURS), share)


def _planks(rng: Random, size: int) -> NDArray[np.float32]:
    steps = np.linspace(0, 1, size, dtype=np.float32)
    count = rng.uniform(4, 10)
    grain = cv2.resize(rng.random((size // 4, 6), np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    tone = rng.uniform(0.75, 1.1, int(count) + 2).astype(np.float32)[(steps * count).astype(int)]
    gap = np.where(steps * count % 1 < 0.05, np.float32(0.55), np.float32(1))
    wood = pick(rng, BACKGROUND_COLOURS) * ((0.8 + 0.35 * grain) * (tone * gap)[:, None])[:, :, None]
    return np.ascontiguousarray(wood if rng.random() < 0.5 else wood.transpose(1, 0, 2)).astype(np.float32)


def _leaves(rng: Random, size: int) -> NDArray[np.float32]:
    scene = np.empty((size, size, 3), np.uint8)
    scene[:] = pick(rng, BACKGROUND_COLOURS) * 0.6
    colours = [pick(rng, BACKGROUND_COLOURS) for _ in range(3)]
    for _ in range(int(rng.integers(40, 130))):
        centre = tuple(round(float(value)) for value in rng.uniform(0, size, 2))
        axes = (round(float(rng.uniform(0.03, 0.12) * size)), round(float(rng.uniform(0.01, 0.06) * size)))
        colour = np.clip(colours[int(rng.integers(3))] * rng.uniform(0.6, 1.25), 0, 255).tolist()
        cv2.ellipse(scene, centre, axes, float(rng.uniform(0, 360)), 0, 360, colour, -1, cv2.LINE_AA)
    return scene.astype(np.float32)


def _clutter(rng: Random, scene: Image) -> None:
    """Balls, boxes, sticks and triangles, so that a round or pointed thing alone is no animal."""
    size = scene.shape[0]
    for _ in range(int(rng.integers(2, 9))):
        centre = rng.uniform(0, size, 2)
        reach = rng.uniform(0.03, 0.16) * size
        colours = COAT_COLOURS if rng.random() < 0.5 else BACKGROUND_COLOURS
        colour = pick(rng, colours).tolist()
        corners = int(rng.choice([2, 3, 4, 5, 24]))
        angles = rng.uniform(0, 6.283) + np.arange(corners) * (6.283 / corners)
        stretch = rng.uniform(0.4, 1.0)
        shape = centre + reach * np.stack([np.cos(angles), stretch * np.sin(angles)], axis=1)
        points = [np.round(shape).astype(np.int32)]
        if corners == 2:
            cv2.polylines(scene, points, False, colour, max(2, size // 60), cv2.LINE_AA)
        else:
            cv2.fillPoly(scene, points, colour, cv2.LINE_AA)
