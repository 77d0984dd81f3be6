"""A transparent picture that shapes are painted on: coat texture, soft shading, antialiased edges.

Coordinates are the animal's own: x to the right, y down, the body within about -1 to 1, whatever the pose.
Colours are RGB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import cv2
import numpy as np
from numpy.typing import NDArray

from toolchain.images.preprocess import Image

Colour = tuple[int, int, int]
Point = tuple[float, float]

_SHIFT = 4
"""Bits of a pixel's fraction that OpenCV's drawing functions take."""


def smooth(points: Sequence[Point], closed: bool = True, steps: int = 8) -> NDArray[np.float64]:
    """A Catmull-Rom curve through `points`, as a polygon or polyline [n, 2]."""
    knots = np.asarray(points, np.float64)
    if closed:
        before, start, end, after = (np.roll(knots, shift, axis=0) for shift in (1, 0, -1, -2))
    else:
        padded = np.vstack([2 * knots[0] - knots[1], knots, 2 * knots[-1] - knots[-2]])
        before, start, end, after = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = np.arange(steps)[:, None, None] / steps
    curve = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    polygon = curve.transpose(1, 0, 2).reshape(-1, 2)
    return polygon if closed else np.vstack([polygon, knots[-1]])


def oval(x: float, y: float, rx: float, ry: float, degrees: float = 0.0) -> NDArray[np.float64]:
    """An ellipse as a polygon [n, 2]."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    turn = np.deg2rad(degrees)
    along, across = rx * np.cos(angle), ry * np.sin(angle)
    return np.stack(
        [x + along * np.cos(turn) - across * np.sin(turn), y + along * np.sin(turn) + across * np.cos(turn)], axis=1
    )


def limb(points: Sequence[Point], widths: Sequence[float]) -> NDArray[np.float64]:
    """A bent tube with round ends (leg, tail, ear) as a polygon [n, 2]; `widths` are radii, one for each point."""
    spine = smooth(points, closed=False)
    radius = np.interp(np.linspace(0, 1, len(spine)), np.linspace(0, 1, len(widths)), widths)[:, None]
    along = np.gradient(spine, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    turn = np.linspace(np.pi / 2, -np.pi / 2, 9)[1:-1, None]
    end = spine[-1] + radius[-1] * (np.cos(turn) * along[-1] + np.sin(turn) * across[-1])
    start = spine[0] - radius[0] * (np.cos(turn) * along[0] + np.sin(turn) * across[0])
    return np.vstack([spine + radius * across, end, (spine - radius * across)[::-1], start])


class Sprite:
    """`size` x `size` pixels of colour and coverage, painted part after part, the farthest first.

    `coat` is the animal's texture, uint8 [size, size, 3]; `light` the direction (x, y) that light comes from;
    `outline` the thickness of a dark line round each part, 0 for none.
    """

    def __init__(self, coat: Image, transform: NDArray[np.float64], light: Point, outline: float) -> None:
        self.size: int = coat.shape[0]
        self.coat = coat
        # Edges are blended with what is below, so the empty picture must have a colour that suits the animal.
        self.colour: Image = np.empty_like(coat)
        self.colour[:] = cv2.mean(coat)[:3]
        self.alpha: NDArray[np.uint8] = np.zeros(coat.shape[:2], np.uint8)
        self._transform = transform
        self._light = light
        self._outline = outline
        steps = np.arange(self.size, dtype=np.float32)
        self._ramp = steps[None, :] * np.float32(light[0]) + steps[:, None] * np.float32(light[1])

    @contextmanager
    def placed(self, x: float, y: float, scale: float = 1.0, degrees: float = 0.0) -> Iterator[None]:
        """Within this block, coordinates are those of a part (a head) that sits at (x, y), turned and scaled."""
        outer = self._transform
        turn = np.deg2rad(degrees)
        cos, sin = scale * np.cos(turn), scale * np.sin(turn)
        self._transform = outer @ np.array([[cos, -sin, x], [sin, cos, y], [0, 0, 1.0]])
        try:
            yield
        finally:
            self._transform = outer

    def fur(self, shape: NDArray[np.float64], tone: float = 1.0, edge: bool = True) -> None:
        """Fill `shape` with the coat, `tone` times as light, shaded as if it were round."""
        pixels = self._pixels(shape)
        region, mask = self._mask(pixels)
        if mask is None:
            return
        height, width = mask.shape
        spread = max(3, min(height, width) // 3) | 1
        depth = cv2.blur(mask, (spread, spread)).astype(np.float32) * np.float32(0.30 / 255)
        centre = pixels.mean(axis=0) @ np.asarray(self._light)
        radius = max(height, width) / 2
        slope = np.clip((self._ramp[region] - np.float32(centre)) * np.float32(-0.16 / radius), -0.2, 0.2)
        shade = (depth + slope + np.float32(0.78)) * np.float32(tone)
        painted = np.clip(self.coat[region] * shade[:, :, None], 0, 255).astype(np.uint8)
        self._blend(region, mask, painted)
        if edge and self._outline:
            dark = tuple(int(value * 0.35) for value in cv2.mean(self.coat[region])[:3])
            self._polyline(pixels, self._outline, dark, closed=True)

    def flat(self, shape: NDArray[np.float64], colour: Colour) -> None:
        """Fill `shape` with one colour."""
        region, mask = self._mask(self._pixels(shape))
        if mask is not None:
            self._blend(region, mask, np.full((*mask.shape, 3), colour, np.uint8))

    def line(self, points: NDArray[np.float64] | Sequence[Point], width: float, colour: Colour) -> None:
        """Draw a line, `width` in the animal's coordinates."""
        scale = float(np.sqrt(abs(np.linalg.det(self._transform[:2, :2]))))
        self._polyline(self._pixels(np.asarray(points, np.float64)), max(1.0, width * scale), colour, closed=False)

    def _pixels(self, shape: NDArray[np.float64]) -> NDArray[np.float64]:
        pixels: NDArray[np.float64] = shape @ self._transform[:2, :2].T + self._transform[:2, 2]
        return pixels

    def _mask(self, pixels: NDArray[np.float64]) -> tuple[tuple[slice, slice], NDArray[np.uint8] | None]:
        low = np.clip(np.floor(pixels.min(axis=0)) - 2, 0, self.size).astype(int)
        high = np.clip(np.ceil(pixels.max(axis=0)) + 3, 0, self.size).astype(int)
        region = (slice(low[1], high[1]), slice(low[0], high[0]))
        if (high - low).min() < 1:
            return region, None
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        fixed = np.round((pixels - low) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, _SHIFT)
        return region, mask

    def _blend(self, region: tuple[slice, slice], mask: NDArray[np.uint8], painted: Image) -> None:
        share = mask[:, :, None].astype(np.uint16)
        below = self.colour[region].astype(np.uint16)
        self.colour[region] = (below * (255 - share) + painted * share + 127) // 255
        self.alpha[region] = np.maximum(self.alpha[region], mask)

    def _polyline(
        self, pixels: NDArray[np.float64], width: float, colour: Colour | tuple[int, ...], closed: bool
    ) -> None:
        fixed = [np.round(pixels * (1 << _SHIFT)).astype(np.int32)]
        thickness = max(1, round(width))
        cv2.polylines(self.colour, fixed, closed, colour, thickness, cv2.LINE_AA, _SHIFT)
        cv2.polylines(self.alpha, fixed, closed, (255,), thickness, cv2.LINE_AA, _SHIFT)
