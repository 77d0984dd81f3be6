"""Pictures as parameters that an optimiser can change: as pixels, or as a Fourier spectrum."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

Parametrisation = Literal["fourier", "pixels"]

COLOURS = ((0.568, 0.180, 0.047), (0.581, -0.005, -0.099), (0.582, -0.170, 0.053))
"""Rows R, G, B; columns lightness, warm against cold, green against magenta. It is the scaled square root of the
covariance of colours in 436 photographs of the pets: a step of the optimiser changes lightness most, as they
vary."""

START = 0.01


class FourierImage(nn.Module):
    """A picture as its Fourier spectrum, with low frequencies scaled up: broad shapes move first.

    Olah, Mordvintsev, Schubert: *Feature Visualization*, Distill 2017. Calling it gives float32 RGB
    [1, 3, height, width], 0 to 1. Amplitudes are scaled by 1 / frequency, as those of photographs are.
    """

    scale: Tensor
    window: Tensor

    def __init__(self, height: int, width: int, generator: torch.Generator, radius: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("window", window(height, width, radius))
        down, across = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
        frequency = (down**2 + across**2).sqrt().clamp(min=1 / max(height, width))
        self.size: tuple[int, int] = (height, width)
        self.register_buffer("scale", 0.25 / frequency)
        start = START * torch.randn(1, 3, *frequency.shape, 2, generator=generator)
        self.spectrum: nn.Parameter = nn.Parameter(start)

    def forward(self) -> Tensor:
        spectrum = torch.view_as_complex(self.spectrum) * self.scale
        return to_rgb(self.window * torch.fft.irfft2(spectrum, s=self.size, norm="ortho"))


class PixelImage(nn.Module):
    """A picture as its pixels, in decorrelated colours. Calling it gives the same as calling a FourierImage."""

    window: Tensor

    def __init__(self, height: int, width: int, generator: torch.Generator, radius: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("window", window(height, width, radius))
        self.pixels: nn.Parameter = nn.Parameter(0.5 * torch.randn(1, 3, height, width, generator=generator))

    def forward(self) -> Tensor:
        return to_rgb(self.window * self.pixels)

    @torch.no_grad()
    def blur(self, sigma: float) -> None:
        """Smooth the picture by a Gaussian of `sigma` pixels, so that no invisibly fine pattern grows."""
        radius = max(1, math.ceil(3 * sigma))
        distance = torch.arange(-radius, radius + 1, dtype=torch.float32)
        weights = torch.exp(-0.5 * (distance / sigma) ** 2)
        weights = (weights / weights.sum()).repeat(3, 1)
        padded = nn.functional.pad(self.pixels, (radius,) * 4, mode="replicate")
        rows = nn.functional.conv2d(padded, weights[:, None, None], groups=3)
        self.pixels.copy_(nn.functional.conv2d(rows, weights[:, None, :, None], groups=3))


def window(height: int, width: int, radius: float) -> Tensor:
    """Weights [height, width]: 1 in the middle, less than half beyond `radius` (in halves of a side), 0 in corners.

    A picture that fades to grey towards its edges shows one animal in the middle; otherwise, parts of several may
    be spread all over it. With `radius` 0 all weights are 1.
    """
    if radius == 0:
        return torch.ones(height, width)
    down, across = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)[None]
    return torch.exp(-(((down**2 + across**2).sqrt() / radius) ** 4))


def to_rgb(values: Tensor) -> Tensor:
    """Convert decorrelated values [batch, 3, height, width] to RGB, 0 to 1."""
    return torch.sigmoid(torch.einsum("bchw,dc->bdhw", values, torch.tensor(COLOURS)))
