"""Cats, dogs and rabbits: they share their bodies and poses, and differ where real ones do.

Ears, muzzle, eyes, tail and proportions tell them apart; coat and colour do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from toolchain.drawn.sprite import Colour, Sprite, limb, oval, smooth

Random = np.random.Generator

DARK: Colour = (34, 28, 28)
WHITE: Colour = (246, 244, 240)
PINK: Colour = (222, 150, 146)
IRISES: tuple[Colour, ...] = ((120, 150, 60), (206, 170, 60), (90, 140, 190), (160, 110, 50))
COLLARS: tuple[Colour, ...] = ((190, 50, 50), (50, 80, 170), (40, 130, 80), (60, 50, 60))


@dataclass(frozen=True)
class Build:
    """Proportions of a four-legged animal."""

    head: Callable[[Sprite, Random], None]
    head_size: float
    chest: float
    leg: float
    leg_width: float
    tail: Callable[[Random], tuple[list[tuple[float, float]], list[float]]]


def _mirrored(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(-x, y) for x, y in points]


def _cat_head(sprite: Sprite, rng: Random) -> None:
    height, spread = rng.uniform(1.25, 1.55), rng.uniform(0.8, 0.98)
    ear = [(-0.96, -0.2), (-spread, -height), (-0.2, -0.72)]
    inner = [(-0.82, -0.45), (-spread + 0.07, -height + 0.27), (-0.38, -0.74)]
    for side in (1, -1):
        sprite.fur(np.array([(side * x, y) for x, y in ear]), 0.92)
        sprite.flat(np.array([(side * x, y) for x, y in inner]), PINK)
    half = [(0.0, -0.82), (0.58, -0.72), (0.95, -0.2), (1.06, 0.28), (0.62, 0.7), (0.0, 0.82)]
    sprite.fur(smooth(half + _mirrored(half[-2:0:-1])))
    iris = IRISES[int(rng.integers(len(IRISES)))]
    slit = rng.uniform(0.05, 0.11)
    for side in (1, -1):
        eye = [(0.18, 0.02), (0.42, -0.26), (0.68, -0.14), (0.46, 0.08)]
        sprite.flat(smooth([(side * x, y) for x, y in eye]), DARK)
        sprite.flat(smooth([(side * (0.43 + (x - 0.43) * 0.82), y * 0.82 - 0.015) for x, y in eye]), iris)
        sprite.flat(oval(side * 0.44, -0.09, slit, 0.16), DARK)
        sprite.flat(oval(side * 0.44 + 0.06, -0.15, 0.045, 0.045), WHITE)
    for side in (1, -1):
        sprite.fur(oval(side * 0.2, 0.42, 0.27, 0.2), 1.28, edge=False)
    sprite.flat(np.array([(-0.13, 0.2), (0.13, 0.2), (0.0, 0.34)]), PINK)
    for side in (1, -1):
        sprite.line(smooth([(0, 0.34), (side * 0.08, 0.5), (side * 0.26, 0.5)], closed=False), 0.035, DARK)
        for rise in (-0.16, 0.02, 0.2):
            whisker = [(side * 0.3, 0.4), (side * 0.85, 0.36 + rise), (side * 1.4, 0.34 + 2 * rise)]
            sprite.line(smooth(whisker, closed=False), 0.018, WHITE)


def _dog_head(sprite: Sprite, rng: Random) -> None:
    ears = rng.choice(["hanging", "folded", "pricked"], p=[0.62, 0.22, 0.16])
    pricked = ears == "pricked"
    tone = rng.uniform(0.6, 0.95)
    if pricked:
        for side in (1, -1):
            sprite.fur(smooth([(side * 0.85, -0.3), (side * 0.82, -1.2), (side * 0.3, -0.8)]), tone)
    half = [(0.0, -0.88), (0.52, -0.76), (0.82, -0.25), (0.66, 0.35), (0.45, 0.85), (0.0, 1.02)]
    sprite.fur(smooth(half + _mirrored(half[-2:0:-1])))
    length = rng.uniform(0.5, 0.95)
    for side in (1, -1):
        if ears == "hanging":
            ear = [(side * 0.55, -0.68), (side * 0.98, -0.25), (side * 0.98, -0.2 + length)]
            sprite.fur(limb(ear, [0.16, 0.24, 0.26, 0.14]), tone)
        elif ears == "folded":
            ear = [(side * 0.25, -0.86), (side * 0.78, -1.02), (side * 1.2, -0.3), (side * 0.78, -0.4)]
            sprite.fur(smooth(ear), tone)
    if rng.random() < 0.4:
        side = rng.choice([-1, 1])
        sprite.fur(oval(side * 0.36, -0.16, 0.3, 0.34), rng.choice([0.55, 1.4]), edge=False)
    if rng.random() < 0.55:
        reach = rng.uniform(1.05, 1.35)
        sprite.flat(limb([(0.06, 0.75), (0.1, reach)], [0.19, 0.17]), (216, 104, 110))
        sprite.line([(0.07, 0.8), (0.1, reach)], 0.03, (170, 70, 80))
    sprite.fur(smooth([(0, 0.0), (0.4, 0.3), (0.5, 0.66), (0, 0.92), (-0.5, 0.66), (-0.4, 0.3)]), 1.3, edge=False)
    sprite.flat(smooth([(0, 0.12), (0.26, 0.16), (0.22, 0.34), (0, 0.46), (-0.22, 0.34), (-0.26, 0.16)]), DARK)
    sprite.flat(oval(-0.08, 0.2, 0.07, 0.035), (120, 116, 120))
    sprite.line([(0, 0.44), (0, 0.64)], 0.04, DARK)
    for side in (1, -1):
        sprite.line(smooth([(0, 0.64), (side * 0.2, 0.74), (side * 0.42, 0.6)], closed=False), 0.04, DARK)
        sprite.flat(oval(side * 0.36, -0.16, 0.155, 0.165), WHITE if rng.random() < 0.25 else (70, 50, 40))
        sprite.flat(oval(side * 0.36, -0.14, 0.12, 0.13), DARK)
        sprite.flat(oval(side * 0.36 + 0.05, -0.2, 0.042, 0.042), WHITE)
        brow = [(side * 0.2, -0.42), (side * 0.36, -0.5), (side * 0.52, -0.4)]
        sprite.line(smooth(brow, closed=False), 0.05, DARK)


def _rabbit_head(sprite: Sprite, rng: Random) -> None:
    height, lean = rng.uniform(1.7, 2.3), rng.uniform(0.05, 0.4)
    bent = rng.integers(5)
    for number, side in enumerate((1, -1)):
        tip = (side * (0.3 + lean), -height)
        spine = [(side * 0.32, -0.55), (side * (0.3 + lean / 2), -(0.55 + height) / 2), tip]
        if bent == number:
            spine = [(side * 0.32, -0.55), (side * 0.45, -1.35), (side * 1.05, -1.0)]
        sprite.fur(limb(spine, [0.2, 0.29, 0.24, 0.1]))
        inner = [(0.85 * x + 0.15 * side * 0.4, 0.88 * y - 0.1) for x, y in spine]
        sprite.flat(limb(inner, [0.08, 0.15, 0.12, 0.04]), PINK)
    half = [(0.0, -0.78), (0.46, -0.62), (0.7, -0.1), (0.8, 0.36), (0.45, 0.74), (0.0, 0.82)]
    sprite.fur(smooth(half + _mirrored(half[-2:0:-1])))
    for side in (1, -1):
        sprite.flat(oval(side * 0.5, -0.1, 0.13, 0.18), DARK)
        sprite.flat(oval(side * 0.5 + 0.04, -0.17, 0.045, 0.05), WHITE)
        sprite.fur(oval(side * 0.2, 0.42, 0.26, 0.22), 1.28, edge=False)
    sprite.flat(np.array([(-0.05, 0.56), (0.05, 0.56), (0.05, 0.76), (-0.05, 0.76)]) * [1.7, 1], WHITE)
    sprite.line([(0, 0.56), (0, 0.76)], 0.02, DARK)
    sprite.flat(smooth([(-0.12, 0.2), (0.12, 0.2), (0.0, 0.34)]), PINK)
    sprite.line([(0, 0.32), (0, 0.46)], 0.03, DARK)
    for side in (1, -1):
        sprite.line(smooth([(0, 0.46), (side * 0.1, 0.54), (side * 0.22, 0.5)], closed=False), 0.03, DARK)
        for rise in (-0.08, 0.12):
            sprite.line([(side * 0.3, 0.42), (side * 1.05, 0.4 + rise)], 0.016, WHITE)


def _cat_tail(rng: Random) -> tuple[list[tuple[float, float]], list[float]]:
    sway = rng.uniform(-0.25, 0.25)
    spine = [(0.0, 0.0), (0.4, 0.05), (0.6 + sway, -0.5), (0.42 + sway, -1.0), (0.75 + sway, -1.2)]
    return spine, [0.11, 0.09, 0.07]


def _dog_tail(rng: Random) -> tuple[list[tuple[float, float]], list[float]]:
    rise = rng.uniform(-0.6, 0.15)
    return [(0.0, 0.0), (0.25, rise * 0.4 - 0.05), (0.42, rise)], [0.12, 0.1, 0.05]


def _rabbit_tail(rng: Random) -> tuple[list[tuple[float, float]], list[float]]:
    return [(0.0, 0.0), (0.08, -0.02)], [0.19, 0.19]


CAT = Build(_cat_head, 0.40, 0.34, 0.52, 0.085, _cat_tail)
DOG = Build(_dog_head, 0.42, 0.42, 0.62, 0.11, _dog_tail)
RABBIT = Build(_rabbit_head, 0.38, 0.42, 0.2, 0.11, _rabbit_tail)


def _collar(sprite: Sprite, rng: Random, x: float, y: float, width: float) -> None:
    if rng.random() < 0.3:
        colour = COLLARS[int(rng.integers(len(COLLARS)))]
        arc = [(x - width, y - 0.04), (x, y + 0.05), (x + width, y - 0.04)]
        sprite.line(smooth(arc, closed=False), 0.09, colour)


def _portrait(sprite: Sprite, rng: Random, build: Build) -> None:
    """Head and shoulders."""
    sprite.fur(smooth([(0, 0.1), (0.5, 0.45), (0.78, 1.5), (-0.78, 1.5), (-0.5, 0.45)]), 0.85)
    _collar(sprite, rng, 0, 0.62, 0.5)
    low = build is RABBIT
    with sprite.placed(rng.uniform(-0.06, 0.06), 0.15 if low else -0.08, 0.56 if low else 0.68, rng.normal(0, 7)):
        build.head(sprite, rng)


def _sitting(sprite: Sprite, rng: Random, build: Build) -> None:
    """The whole animal from the front, on its haunches."""
    wide = build.chest * rng.uniform(0.9, 1.15)
    tail, widths = build.tail(rng)
    with sprite.placed(wide * 0.9, 0.72):
        sprite.fur(limb(tail, widths), 0.85)
    for side in (1, -1):
        sprite.fur(oval(side * wide * 0.95, 0.62, wide * 0.55, 0.3, -side * 20), 0.8)
        sprite.fur(oval(side * wide * 1.12, 0.88, 0.2, 0.09), 0.95)
    half = [(wide * 0.75, -0.1), (wide, 0.5), (wide * 0.6, 0.9)]
    sprite.fur(smooth([(0, -0.35), *half, *_mirrored(half[::-1])]))
    if rng.random() < 0.5:
        sprite.fur(oval(0, 0.2, wide * 0.45, 0.4), 1.3, edge=False)
    for side in (1, -1):
        foot = side * wide * rng.uniform(0.32, 0.45)
        leg = [(side * wide * 0.42, 0.15), (foot, 0.5), (foot, 0.85)]
        sprite.fur(limb(leg, [build.leg_width * 1.2, build.leg_width]), 1.04)
        sprite.fur(oval(foot, 0.9, build.leg_width * 1.45, 0.08), 1.1)
    _collar(sprite, rng, 0, -0.06, wide * 0.62)
    x, size = rng.uniform(-0.05, 0.05), build.head_size * rng.uniform(0.95, 1.15)
    with sprite.placed(x, -0.38, size, rng.normal(0, 8)):
        build.head(sprite, rng)


def _standing(sprite: Sprite, rng: Random, build: Build) -> None:
    """The whole animal from the side, its face turned to the viewer."""
    if build is RABBIT:
        _crouching(sprite, rng)
        return
    belly, stride = build.chest * rng.uniform(0.62, 0.8), rng.uniform(-0.14, 0.14)
    ground = 0.2 + build.leg
    tail, widths = build.tail(rng)
    with sprite.placed(0.66, -0.06):
        sprite.fur(limb(tail, widths), 0.92)
    for x, sway, tone in ((-0.42, -stride, 0.68), (0.52, stride, 0.68), (-0.52, stride, 1.0), (0.6, -stride, 1.0)):
        foot = x + sway
        leg = [(x, 0.1), (x + sway * 0.3 + 0.02, 0.1 + build.leg / 2), (foot, ground)]
        sprite.fur(limb(leg, [build.leg_width * 1.6, build.leg_width, build.leg_width * 0.85]), tone)
        sprite.fur(oval(foot - 0.04, ground + 0.03, build.leg_width * 1.35, 0.065), tone)
    back = [(-0.66, 0.0), (-0.45, -belly * 0.85), (0.2, -belly * 0.72), (0.66, -belly * 0.7), (0.78, 0.06)]
    sprite.fur(smooth([*back, (0.5, belly * 0.75), (-0.1, belly * 0.66), (-0.52, belly)]))
    sprite.fur(limb([(-0.45, -0.05), (-0.68, -0.34)], [belly * 0.8, 0.2]), edge=False)
    _collar(sprite, rng, -0.64, -0.14, 0.2)
    with sprite.placed(-0.72, -0.46, build.head_size * rng.uniform(0.88, 1.05), rng.normal(0, 9)):
        build.head(sprite, rng)


def _crouching(sprite: Sprite, rng: Random) -> None:
    hump = rng.uniform(0.42, 0.58)
    with sprite.placed(0.78, 0.3):
        sprite.fur(oval(0, 0, 0.17, 0.16), 1.25)
    sprite.fur(oval(-0.4, 0.68, 0.2, 0.08), 0.75)
    back = [(-0.6, 0.1), (-0.2, -hump * 0.6), (0.35, -hump * 0.7), (0.75, 0.0)]
    sprite.fur(smooth([*back, (0.76, 0.5), (0.3, 0.68), (-0.4, 0.62)]))
    sprite.fur(oval(0.42, 0.36, 0.32, 0.29), 1.06)
    sprite.fur(oval(0.3, 0.66, 0.34, 0.09), 1.06)
    sprite.fur(limb([(-0.45, 0.35), (-0.5, 0.64)], [0.12, 0.08]), 1.04)
    with sprite.placed(-0.58, -0.08, rng.uniform(0.36, 0.42), rng.normal(0, 8)):
        _rabbit_head(sprite, rng)


def four_legged(build: Build) -> Callable[[Sprite, Random], None]:
    """A painter of one kind of animal: head and shoulders, sitting from the front, or standing from the side."""

    def paint(sprite: Sprite, rng: Random) -> None:
        pose = (_portrait, _sitting, _standing)[int(rng.integers(3))]
        pose(sprite, rng, build)

    return paint
