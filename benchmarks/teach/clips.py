"""Clips as a hand before a webcam makes them: one photograph a take, moved, turned, and lit in changing ways.

Photographs are those of the Oxford-IIIT pets (`EDGETL_DATA`): five breeds are the things that are taught, five
others the things that were never shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

THINGS = ("Siamese", "Bombay", "samoyed", "pug", "beagle")
OTHERS = ("Egyptian_Mau", "Sphynx", "great_pyrenees", "yorkshire_terrier", "german_shorthaired")
WIDTH, HEIGHT, FPS, SECONDS = 480, 360, 15, 6.0


def all_photographs(data: Path) -> list[Path]:
    """All photographs of breeds that may be taught, in order of their names."""
    folder = data / "oxford-iiit-pet" / "images"
    return sorted(path for path in folder.glob("*.jpg") if _breed(path) not in OTHERS)


def photographs(data: Path, thing: str) -> list[Path]:
    """All photographs of a breed, in order of their names."""
    folder = data / "oxford-iiit-pet" / "images"
    return sorted(path for path in folder.glob("*.jpg") if _breed(path) == thing)


def _breed(path: Path) -> str:
    return path.stem.rpartition("_")[0]


def frames(photograph: Picture, seed: int, seconds: float = SECONDS, *, covered: bool = True) -> Iterator[Picture]:
    """The frames of one take, uint8 BGR [HEIGHT, WIDTH, 3], some of them blurred.

    The first and last ones are dark if the lens is `covered` then.
    """
    rng = np.random.default_rng(seed)
    high, wide = photograph.shape[:2]
    cover = max(WIDTH / wide, HEIGHT / high)
    waves = rng.uniform(0, 2 * math.pi, 6)
    light, warmth = rng.uniform(0.65, 1.25), rng.uniform(-0.12, 0.12)
    noise = rng.normal(0, 3, (HEIGHT, WIDTH, 3)).astype(np.float32)
    count = round(seconds * FPS)
    for number in range(count):
        turn = 2 * math.pi * number / count
        # Out and back, so that near-copies come: a hand does not go through all places once.
        zoom = cover * (1.25 + 0.2 * math.sin(turn + waves[0]))
        angle = 8 * math.sin(2 * turn + waves[1])
        x = wide / 2 + 0.08 * wide * math.sin(turn + waves[2])
        y = high / 2 + 0.08 * high * math.sin(2 * turn + waves[3])
        move = cv2.getRotationMatrix2D((x, y), angle, zoom)
        move[:, 2] += (WIDTH / 2 - x, HEIGHT / 2 - y)
        seen = cv2.warpAffine(photograph, move, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
        frame = np.asarray(seen, np.float32)
        gain = light * (1 + 0.2 * math.sin(turn + waves[4]))
        shade = 1 + 0.25 * np.linspace(-1, 1, WIDTH, dtype=np.float32)[None, :, None] * math.sin(turn + waves[5])
        frame *= gain * shade * np.array((1 - warmth, 1, 1 + warmth), np.float32)
        if math.sin(5 * turn + waves[0]) > 0.85:  # a quick movement
            frame = np.asarray(cv2.blur(frame, (15, 3)), np.float32)
        if covered and (number < 3 or number >= count - 3):  # a hand over the lens
            frame *= 0.01
        frame += np.roll(noise, (int(rng.integers(HEIGHT)), int(rng.integers(WIDTH))), (0, 1))
        yield np.asarray(np.clip(frame, 0, 255), np.uint8)


def write(path: Path, photograph: Path, seed: int, *, covered: bool) -> Path:
    """Write the clip of one take (MPEG-4)."""
    picture = np.asarray(cv2.imread(str(photograph)), np.uint8)
    return write_frames(path, frames(picture, seed, covered=covered))


def write_frames(path: Path, pictures: Iterator[Picture]) -> Path:
    """Write frames of WIDTH x HEIGHT as a clip."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), FPS, (WIDTH, HEIGHT))
    if not writer.isOpened():
        raise OSError(f"{path} cannot be written")
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return path
