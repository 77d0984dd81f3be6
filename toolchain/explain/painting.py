"""Pictures as numbers that can be trained: pixel by pixel, or as waves (Fourier)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

Parametrisation = Literal["fourier", "pixels"]

COLOURS = ((0.568, 0.180, 0.047), (0.581, -0.005, -0.099), (0.582, -0.170, 0.053))
"""Rows R, G, B; columns light, warm against cold, green against magenta. The square root of the covariance of
colours in 436 photographs of the pets, scaled: a step of the optimiser changes lightness most, as in them."""

START = 0.01


class Waves(nn.Module):
    """A picture as the strength of its waves, long ones counting more: broad shapes move first, as in photographs.

    Olah, Mordvintsev, Schubert: *Feature Visualization*, Distill 2017. The call gives float32 RGB
    [1, 3, height, width], 0 to 1. Waves count as their length to the power of `decay`; in photographs they are as
    strong as they are long, which is `decay` 1.
    """

    scale: Tensor
    window: Tensor

    def __init__(
        self, height: int, width: int, generator: torch.Generator, radius: float = 0.0, decay: float = 1.0
    ) -> None:
        super().__init__()
        self.register_buffer("window", window(height, width, radius))
        down, across = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
        frequency = (down**2 + across**2).sqrt().clamp(min=1 / max(height, width))
        self.size = (height, width)
        self.register_buffer("scale", 0.25 * frequency**-decay)
        start = START * torch.randn(1, 3, *frequency.shape, 2, generator=generator)
        self.strengths = nn.Parameter(start)

    def forward(self) -> Tensor:
        waves = torch.view_as_complex(self.strengths) * self.scale
        return as_colours(self.window * torch.fft.irfft2(waves, s=self.size, norm="ortho"))


class Pixels(nn.Module):
    """A picture as its pixels, in decorrelated colours. Called, it is float32 RGB [1, 3, height, width], 0 to 1."""

    window: Tensor

    def __init__(self, height: int, width: int, generator: torch.Generator, radius: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("window", window(height, width, radius))
        self.pixels = nn.Parameter(0.5 * torch.randn(1, 3, height, width, generator=generator))

    def forward(self) -> Tensor:
        return as_colours(self.window * self.pixels)

    @torch.no_grad()
    def blur(self, sigma: float) -> None:
        """Smooth the picture itself by `sigma` pixels: what is too fine to be seen does not grow."""
        radius = max(1, math.ceil(3 * sigma))
        distance = torch.arange(-radius, radius + 1, dtype=torch.float32)
        weights = torch.exp(-0.5 * (distance / sigma) ** 2)
        weights = (weights / weights.sum()).repeat(3, 1)
        padded = nn.functional.pad(self.pixels, (radius,) * 4, mode="replicate")
        rows = nn.functional.conv2d(padded, weights[:, None, None], groups=3)
        self.pixels.copy_(nn.functional.conv2d(rows, weights[:, None, :, None], groups=3))


def window(height: int, width: int, radius: float) -> Tensor:
    """Weights [height, width]: 1 in the middle, less than half beyond `radius` (in halves of a side), 0 in corners.

    A picture that fades to grey around the middle has one animal there; without, parts of several are spread all
    over it. `radius` 0 is no window: 1 everywhere.
    """
    if radius == 0:
        return torch.ones(height, width)
    down, across = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)[None]
    return torch.exp(-(((down**2 + across**2).sqrt() / radius) ** 4))


def as_colours(values: Tensor) -> Tensor:
    """Decorrelated values [batch, 3, height, width] to RGB, 0 to 1."""
    return torch.sigmoid(torch.einsum("bchw,dc->bdhw", values, torch.tensor(COLOURS)))
