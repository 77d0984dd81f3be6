"""Frames that tell their own number: a row of black and white blocks along the upper edge."""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np

from toolchain.drawn.pets import draw_clip

WIDTH, HEIGHT, FPS = 640, 480, 30
BITS, BLOCK = 20, 32


def with_counter(bgr: np.ndarray, number: int) -> np.ndarray:
    """`bgr` with `number` written into it."""
    marked = bgr.copy()
    for bit in range(BITS):
        marked[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 if number >> bit & 1 else 0
    return marked


def counter_of(bgr: np.ndarray) -> int:
    """The number in a frame."""
    middles = bgr[BLOCK // 2, BLOCK // 2 : BITS * BLOCK : BLOCK].mean(axis=1)
    return sum(1 << bit for bit, light in enumerate(middles) if light > 127)


def scenes() -> list[np.ndarray]:
    """Twenty pictures of drawn pets, BGR."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenes.mp4"
        draw_clip(path, 20, 1, seed=0)
        capture = cv2.VideoCapture(str(path))
        found = []
        while (read := capture.read())[0]:
            found.append(cv2.resize(read[1], (WIDTH, HEIGHT)))
    return found


def picture(pictures: list[np.ndarray], number: int) -> np.ndarray:
    """The frame of a number: every two seconds another scene."""
    return with_counter(pictures[number // (2 * FPS) % len(pictures)], number)
