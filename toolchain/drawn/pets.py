"""Drawn pets: small pictures of six animals, made by code, so that everything can be tried offline.

The same seed gives the same composition on every machine, and the same pixels with the same OpenCV. Colours, coats,
backgrounds, light and camera faults are drawn from the same distributions for every class.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from toolchain.drawn import scenery
from toolchain.drawn.animals import ANIMALS
from toolchain.drawn.scenery import Random
from toolchain.drawn.sprite import Sprite
from toolchain.errors import BadInputError
from toolchain.images.preprocess import Image
from toolchain.system.processor import cores
from toolchain.system.progress import Reporter, Silent

CLASSES = tuple(ANIMALS)
COUNTS = {"train": 60, "test": 20}
"""Pictures for each class."""

SIZE = 256
JPEG_QUALITY = 90
SUPERSAMPLING = 2
FOLDER = "drawn-pets-v1"
"""Changes whenever the pictures do, so that accuracies on different pictures are never compared."""


def draw(label: str, index: int, seed: int = 0, size: int = SIZE) -> Image:
    """Draw picture number `index` of a class, uint8 RGB [size, size, 3].

    Raises BadInputError for another label, a negative number, or a size below 32 pixels.
    """
    if size < 32:
        raise BadInputError(f"{size} pixels are too few for an animal", "Draw at least 32.")
    rng = generator(label, index, seed)
    scene = scenery.background(rng, size, size)
    colour, alpha = animal(label, rng, size)
    scene = put(scene, colour, alpha, shadow=rng.uniform(0, 0.5))
    if rng.random() < 0.35:
        scenery.foreground(rng, scene)
    return scenery.camera_faults(rng, scenery.light(rng, scene))


def generator(label: str, index: int, seed: int) -> Random:
    """The source of chance for one picture. Raises BadInputError for an unknown label or a negative number."""
    if label not in ANIMALS:
        raise BadInputError(f"no animal called {label!r} can be drawn", f"Choose one of: {', '.join(CLASSES)}.")
    if index < 0 or seed < 0:
        raise BadInputError(f"seed and index must not be negative, as {min(index, seed)} is")
    return np.random.default_rng([seed, CLASSES.index(label), index])


def animal(
    label: str, rng: Random, size: int, reach: tuple[float, float] = (0.26, 0.41), drift: float = 0.09
) -> tuple[Image, NDArray[np.float32]]:
    """One animal in a random pose: colour uint8 [size, size, 3] and coverage float32 [size, size], 0 to 1.

    Half its length is between the two shares `reach` of `size`, and it is off the centre by up to `drift`.
    """
    canvas = size * SUPERSAMPLING
    scale = canvas * rng.uniform(*reach)
    stretch = rng.uniform(0.88, 1.12)
    turn = np.deg2rad(rng.normal(0, 9))
    flip = rng.choice([-1.0, 1.0])
    shear = rng.uniform(-0.08, 0.08)
    pose = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    pose = pose @ np.array([[flip * stretch, shear], [0, 1 / stretch]]) * scale
    transform = np.eye(3)
    transform[:2, :2] = pose
    transform[:2, 2] = canvas * (0.5 + rng.uniform(-drift, drift, 2))
    angle = rng.uniform(np.pi, 2 * np.pi)
    outline = canvas / 256 * rng.uniform(0.5, 1.6) if rng.random() < 0.6 else 0.0
    sprite = Sprite(scenery.coat(rng, canvas), transform, (float(np.cos(angle)), float(np.sin(angle))), outline)
    ANIMALS[label](sprite, rng)
    colour = cv2.resize(sprite.colour, (size, size), interpolation=cv2.INTER_AREA)
    alpha = cv2.resize(sprite.alpha, (size, size), interpolation=cv2.INTER_AREA)
    return colour, alpha.astype(np.float32) / np.float32(255)  # type: ignore[return-value]


def put(scene: Image, colour: Image, alpha: NDArray[np.float32], shadow: float) -> Image:
    """`scene` with the animal before it, and its shadow on what is behind."""
    size = scene.shape[0]
    shift = np.array([[1, 0, size * 0.03], [0, 1, size * 0.04]], np.float64)
    soft = cv2.warpAffine(alpha, shift, alpha.shape[::-1])
    soft = cv2.blur(soft, (size // 12 | 1, size // 12 | 1))
    behind = scene * (1 - np.float32(shadow) * soft)[:, :, None]
    return scenery.as_image(behind + (colour - behind) * alpha[:, :, None] + 0.5)


def write_pictures(
    folder: Path, numbers: Sequence[tuple[Path, str, int]], reporter: Reporter | None = None
) -> None:
    """Draw pictures into files below `folder`; `numbers` holds (relative path, label, index) for each."""
    reporter = reporter or Silent()

    def one(number: tuple[Path, str, int]) -> None:
        path, label, index = number
        bgr = cv2.cvtColor(draw(label, index), cv2.COLOR_RGB2BGR)
        whole, data = cv2.imencode(path.suffix, bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not whole:
            raise BadInputError(f"OpenCV cannot write {path.suffix} files")
        (folder / path).write_bytes(data.tobytes())

    for parent in {folder / path.parent for path, _, _ in numbers}:
        parent.mkdir(parents=True, exist_ok=True)
    workers = min(4, cores())
    with ThreadPoolExecutor(workers) as pool, reporter.task("drawing pets", len(numbers)) as task:
        try:
            for _ in pool.map(one, numbers):
                task.advance()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def find(place: Path) -> Path | None:
    """The folder with the drawn pets below `place`, or None when it is not there or not complete."""
    folder = place / FOLDER
    found = sum(path.stat().st_size > 0 for path in folder.glob("*/*/*.jpg") if path.name[0] != ".")
    return folder if found == len(CLASSES) * sum(COUNTS.values()) else None


def materialise(places: Sequence[Path], reporter: Reporter | None = None) -> Path:
    """The folder with the drawn pets, below the first of `places` that has them or can be written to.

    They are drawn beside their place and renamed into it; what was left incomplete is drawn again. Raises OSError
    when none of the places can be written to.
    """
    numbers = [
        (Path(side, label, f"{label}-{index:03}.jpg"), label, index)
        for label in CLASSES
        for side, start, count in _ranges()
        for index in range(start, start + count)
    ]
    failure: OSError | None = None
    for place in places:
        found = find(place)
        if found is not None:
            return found
        try:
            place.mkdir(parents=True, exist_ok=True)
            beside = Path(tempfile.mkdtemp(prefix=f".{FOLDER}.", dir=place))
        except OSError as error:
            failure = error
            continue
        try:
            write_pictures(beside, numbers, reporter=reporter)
            beside.chmod(0o755)
            return _put_in_place(beside, place)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    raise failure or OSError("no place to draw into")


def _ranges() -> list[tuple[str, int, int]]:
    starts = {side: sum(list(COUNTS.values())[:position]) for position, side in enumerate(COUNTS)}
    return [(side, starts[side], count) for side, count in COUNTS.items()]


def _put_in_place(beside: Path, place: Path) -> Path:
    folder, old = place / FOLDER, beside.with_name(f"{beside.name}.old")
    try:
        if folder.exists():
            folder.rename(old)
        beside.rename(folder)
    except OSError:
        # Another process may have finished first; its pictures are the same.
        if find(place) is None:
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def draw_clip(
    path: Path, seconds: float = 12.0, fps: float = 15.0, seed: int = 0, width: int = 480, height: int = 360
) -> list[tuple[float, str]]:
    """Draw a video of animals that come in from the side, one after another; return (start in s, label) of each.

    `path` ends in .mp4. Raises BadInputError when OpenCV on this machine cannot write it.
    """
    if seconds <= 0 or fps <= 0:
        raise BadInputError("a clip needs a positive length and frame rate")
    rng = np.random.default_rng([seed, len(CLASSES)])
    frames = max(1, round(seconds * fps))
    turns = max(1, round(seconds / 2))
    labels: list[str] = []
    while len(labels) < turns:
        labels += [CLASSES[number] for number in rng.permutation(len(CLASSES))]
    scene = scenery.background(rng, width, height)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    if not writer.isOpened():
        raise BadInputError(
            f"OpenCV cannot write a video to {path}", "Check the folder; the name must end in .mp4."
        )
    starts: list[tuple[float, str]] = []
    try:
        for turn in range(turns):
            first, last = frames * turn // turns, frames * (turn + 1) // turns
            starts.append((first / fps, labels[turn]))
            # Small enough that no ear or tail is cut off where the sprite ends.
            sprite = animal(labels[turn], rng, height, reach=(0.24, 0.29), drift=0.02)
            for number in range(first, last):
                frame = _clip_frame(scene, sprite, (number - first) / fps, turn)
                noise = rng.standard_normal(frame.shape, np.float32) * 4
                writer.write(cv2.cvtColor(scenery.as_image(frame + noise), cv2.COLOR_RGB2BGR))
    finally:
        writer.release()
    return starts


def _clip_frame(scene: Image, sprite: tuple[Image, NDArray[np.float32]], time_s: float, turn: int) -> Image:
    """The animal slides in within 0.4 s, alternately from either side, then breathes and sways a little."""
    height, width = scene.shape[:2]
    colour, alpha = sprite
    away = max(0.0, 1 - time_s / 0.4) ** 2 * width * (1 if turn % 2 else -1)
    degrees, scale = 4 * math.sin(2.1 * time_s), 1 + 0.03 * math.sin(3.3 * time_s)
    move = cv2.getRotationMatrix2D((height / 2, height / 2), degrees, scale)
    move[0, 2] += (width - height) / 2 + away
    move[1, 2] += 3 * math.sin(5 * time_s)
    moved = cv2.warpAffine(colour, move, (width, height), borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpAffine(alpha, move, (width, height))
    return put(scene, moved, cover, shadow=0.3)  # type: ignore[arg-type]
