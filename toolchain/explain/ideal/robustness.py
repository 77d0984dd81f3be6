"""Whether a network still recognises a picture after it was saved as JPEG or moved a little."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from toolchain.explain.pictures import as_jpeg
from toolchain.explain.torch_model import TorchModel
from toolchain.images.preprocess import Image

SHIFT_PIXELS = 5
SHIFTS = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0))


@dataclass(frozen=True)
class Robustness:
    """Probabilities of the class: for the picture itself, after JPEG of quality 90 and 75, after a move by 5
    pixels, and after both. Of the eight directions of a move, the one with the lowest probability counts.
    """

    probability: float
    jpeg90: float
    jpeg75: float
    shifted: float
    shifted_jpeg90: float
    shifted_jpeg75: float


@torch.inference_mode()
def robustness(model: TorchModel, picture: Image, class_index: int) -> Robustness:
    """Measure the robustness of `picture`, uint8 RGB in the size of the network's input."""
    moved = [shifted(picture, SHIFT_PIXELS * down, SHIFT_PIXELS * right) for down, right in SHIFTS]

    def least(pictures: list[Image]) -> float:
        return float(model.probabilities(torch.from_numpy(np.stack(pictures)))[:, class_index].min())

    return Robustness(
        probability=least([picture]),
        jpeg90=least([as_jpeg(picture, 90)]),
        jpeg75=least([as_jpeg(picture, 75)]),
        shifted=least(moved),
        shifted_jpeg90=least([as_jpeg(one, 90) for one in moved]),
        shifted_jpeg75=least([as_jpeg(one, 75) for one in moved]),
    )


def shifted(picture: Image, down: int, right: int) -> Image:
    """`picture` moved by so many pixels; the rows and columns at its edge are repeated."""
    height, width = picture.shape[:2]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return np.ascontiguousarray(picture[rows][:, columns])
