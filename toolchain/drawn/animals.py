"""The six animals by name, each painted on a `Sprite` in one of several poses. Birds, fish and turtles are here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from toolchain.drawn.four_legged import CAT, DARK, DOG, RABBIT, WHITE, four_legged
from toolchain.drawn.sprite import Colour, Sprite, limb, oval, smooth

Random = np.random.Generator

BEAKS: tuple[Colour, ...] = ((226, 150, 50), (90, 84, 80), (214, 190, 110), (190, 90, 60))


def _bird(sprite: Sprite, rng: Random) -> None:
    beak = BEAKS[int(rng.integers(len(BEAKS)))]
    flying = rng.random() < 0.3
    if flying:
        sprite.fur(smooth([(0.1, -0.1), (-0.05, -0.75), (0.35, -1.1), (0.55, -0.75), (0.5, -0.1)]), 0.7)
    fan = rng.uniform(0.1, 0.24)
    for rise in (-fan, 0.0, fan):
        sprite.fur(limb([(0.45, 0.15), (1.15, 0.34 + rise)], [0.13, 0.07]), 0.72)
    if not flying:
        for x in (-0.06, 0.14):
            sprite.line([(x, 0.4), (x + 0.03, 0.66), (x - 0.02, 0.92)], 0.045, beak)
            for toe in (-0.16, -0.04, 0.1):
                sprite.line([(x - 0.02, 0.9), (x + toe, 0.97)], 0.035, beak)
    chest = rng.uniform(0.46, 0.6)
    back = [(-0.62, -0.35), (-0.3, -0.52), (0.2, -0.28), (0.66, 0.16)]
    sprite.fur(smooth([*back, (0.3, 0.42), (-0.2, chest), (-0.6, 0.22)]))
    sprite.fur(oval(-0.32, 0.2, 0.26, 0.26, 30), 1.3, edge=False)
    size = rng.uniform(0.27, 0.36)
    x, y = -0.56, -0.5
    if rng.random() < 0.3:
        for lean in (0.0, 0.14, 0.28):
            sprite.fur(limb([(x, y - size * 0.7), (x + lean, y - size * 1.7)], [0.06, 0.02]), 0.8)
    reach = rng.uniform(0.24, 0.46)
    upper = np.array([(x - size * 0.8, y - 0.1), (x - size - reach, y + 0.06), (x - size * 0.8, y + 0.05)])
    sprite.flat(upper, beak)
    sprite.flat(upper * [1, -1] + [0.04, 2 * y + 0.1], (beak[0] * 3 // 4, beak[1] * 3 // 4, beak[2] * 3 // 4))
    sprite.fur(oval(x, y, size, size * 0.95))
    sprite.flat(oval(x - size * 0.35, y - 0.05, 0.075, 0.075), WHITE)
    sprite.flat(oval(x - size * 0.37, y - 0.05, 0.052, 0.055), DARK)
    if flying:
        wing = [(-0.3, -0.1), (-0.1, -0.8), (0.3, -1.25), (0.62, -1.05), (0.7, -0.5), (0.45, 0.1)]
    else:
        wing = [(-0.32, -0.16), (0.1, -0.26), (0.6, 0.08), (0.86, 0.3), (0.3, 0.3), (-0.16, 0.2)]
    sprite.fur(smooth(wing), rng.choice([0.66, 0.8, 1.25]))
    ends = wing[2:5] if flying else [(0.78, 0.27), (0.62, 0.28), (0.42, 0.29)]
    for end in ends:
        root = (0.05, -0.1) if flying else (-0.02, 0.02)
        middle = ((root[0] + end[0]) / 2 + 0.06, (root[1] + end[1]) / 2 + 0.03)
        quill = [middle, ((middle[0] + end[0]) / 2, (middle[1] + end[1]) / 2), end]
        sprite.line(smooth(quill, closed=False), 0.022, DARK)


def _fish(sprite: Sprite, rng: Random) -> None:
    tall, fork = rng.uniform(0.36, 0.62), rng.uniform(0.3, 0.5)
    fin = rng.choice([0.65, 0.8, 1.3])
    tail = [(0.55, 0.0), (0.85, -fork), (1.12, -fork - 0.08), (0.95, 0.0), (1.12, fork + 0.08), (0.85, fork)]
    sprite.fur(smooth(tail), fin)
    peak = tall + rng.uniform(0.12, 0.38)
    sprite.fur(smooth([(-0.3, -tall * 0.8), (-0.02, -peak), (0.42, -peak * 0.8), (0.46, -tall * 0.35)]), fin)
    sprite.fur(smooth([(0.0, tall * 0.8), (0.2, peak), (0.44, peak * 0.85), (0.4, tall * 0.4)]), fin)
    back = [(-0.9, 0.04), (-0.62, -tall * 0.62), (-0.1, -tall), (0.4, -tall * 0.55), (0.72, -0.12)]
    sprite.fur(smooth([*back, (0.72, 0.12), (0.4, tall * 0.55), (-0.1, tall), (-0.62, tall * 0.62)]))
    belly = [(-0.8, 0.14), (-0.2, tall * 0.55), (0.5, tall * 0.3), (0.0, tall * 0.92), (-0.5, tall * 0.7)]
    sprite.fur(smooth(belly), 1.25, edge=False)
    for ring in range(4):
        x = -0.2 + ring * 0.18
        for row in (-0.4, -0.13, 0.14):
            y = tall * (row + 0.12 * (ring % 2)) * (1 - ring * 0.12)
            arc = [(x, y - 0.07), (x + 0.07, y), (x, y + 0.07)]
            sprite.line(smooth(arc, closed=False), 0.018, DARK)
    sprite.line(smooth([(-0.44, -tall * 0.6), (-0.33, 0), (-0.44, tall * 0.6)], closed=False), 0.03, DARK)
    flap = rng.uniform(-0.1, 0.25)
    sprite.fur(smooth([(-0.26, 0.1), (0.05, 0.06 + flap), (0.1, 0.24 + flap), (-0.16, 0.24)]), fin)
    eye = rng.uniform(0.085, 0.13)
    sprite.flat(oval(-0.62, -tall * 0.22, eye, eye), WHITE)
    sprite.flat(oval(-0.64, -tall * 0.22, eye * 0.58, eye * 0.58), DARK)
    sprite.line(smooth([(-0.89, 0.06), (-0.8, 0.12), (-0.7, 0.1)], closed=False), 0.03, DARK)


def _turtle(sprite: Sprite, rng: Random) -> None:
    (_turtle_above if rng.random() < 0.3 else _turtle_side)(sprite, rng)


def _turtle_side(sprite: Sprite, rng: Random) -> None:
    dome, stride = rng.uniform(0.62, 0.85), rng.uniform(-0.08, 0.08)
    skin = rng.choice([0.72, 1.3])
    sprite.fur(limb([(0.72, 0.34), (1.0, 0.46)], [0.09, 0.03]), skin)
    for x, sway, tone in ((-0.3, -stride, 0.8), (0.36, stride, 0.8), (-0.5, stride, 1), (0.54, -stride, 1)):
        sprite.fur(limb([(x, 0.3), (x + sway - 0.03, 0.66)], [0.17, 0.13]), skin * tone)
    rise, reach = rng.uniform(-0.22, 0.12), rng.uniform(0.95, 1.15)
    sprite.fur(limb([(-0.5, 0.28), (-0.8, 0.2), (-reach, rise)], [0.17, 0.13, 0.13]), skin)
    sprite.fur(oval(-reach - 0.06, rise - 0.02, 0.23, 0.18, -8), skin)
    sprite.flat(oval(-reach - 0.12, rise - 0.06, 0.05, 0.055), DARK)
    sprite.flat(oval(-reach - 0.105, rise - 0.08, 0.018, 0.018), WHITE)
    mouth = [(-reach - 0.28, rise + 0.02), (-reach - 0.16, rise + 0.08), (-reach - 0.03, rise + 0.05)]
    sprite.line(smooth(mouth, closed=False), 0.024, DARK)
    base = 0.36
    shell = [(-0.6, base - dome * 0.62), (0.0, base - dome), (0.6, base - dome * 0.62)]
    sprite.fur(smooth([(-0.82, base), *shell, (0.82, base), (0.0, base + 0.06)]))
    for x in (-0.28, 0.28):
        sprite.line([(x, base + 0.02), (x * 0.9, base - dome * 0.42), (x * 1.5, base - dome * 0.78)], 0.036, DARK)
    top, low = base - dome * 0.78, base - dome * 0.38
    plates = [(-0.74, low + 0.06), (-0.26, low), (-0.22, top), (0.22, top), (0.26, low), (0.74, low + 0.06)]
    sprite.line(plates, 0.036, DARK)
    sprite.line([(-0.26, low), (0.26, low)], 0.036, DARK)
    sprite.line([(-0.06, base - dome * 0.99), (-0.22, top)], 0.036, DARK)
    sprite.line([(0.06, base - dome * 0.99), (0.22, top)], 0.036, DARK)
    sprite.fur(limb([(-0.84, base + 0.02), (0.0, base + 0.1), (0.84, base + 0.02)], [0.06, 0.085, 0.06]), 0.8)


def _turtle_above(sprite: Sprite, rng: Random) -> None:
    skin, long = rng.choice([0.72, 1.3]), rng.uniform(0.68, 0.8)
    for side in (1, -1):
        sprite.fur(limb([(side * 0.4, -0.4), (side * 0.8, -0.62), (side * 0.95, -0.4)], [0.15, 0.15, 0.08]), skin)
        sprite.fur(limb([(side * 0.4, 0.45), (side * 0.7, 0.72)], [0.14, 0.11]), skin)
    sprite.fur(limb([(0, 0.6), (0.03, 0.95)], [0.09, 0.02]), skin)
    sprite.fur(limb([(0, -0.5), (0, -0.88)], [0.15, 0.14]), skin)
    sprite.fur(oval(0, -0.95, 0.19, 0.22), skin)
    for side in (1, -1):
        sprite.flat(oval(side * 0.12, -1.02, 0.04, 0.045), DARK)
    sprite.fur(oval(0, 0, 0.64, long), 0.8)
    sprite.fur(oval(0, 0, 0.55, long - 0.1))
    for y in (-0.52, -0.16, 0.2):
        top, low = (0.0, y - 0.02), (0.0, y + 0.34)
        plate = [top, (0.2, y + 0.07), (0.2, y + 0.25), low, (-0.2, y + 0.25), (-0.2, y + 0.07), top]
        sprite.line(plate, 0.03, DARK)
        for side in (1, -1):
            sprite.line([(side * 0.2, y + 0.16), (side * 0.52, y + 0.2)], 0.03, DARK)


ANIMALS: dict[str, Callable[[Sprite, Random], None]] = {
    "bird": _bird,
    "cat": four_legged(CAT),
    "dog": four_legged(DOG),
    "fish": _fish,
    "rabbit": four_legged(RABBIT),
    "turtle": _turtle,
}
"""Paints one animal in a random pose. The names are the classes of the drawn pets, sorted."""
