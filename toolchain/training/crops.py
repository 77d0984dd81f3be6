"""Augmentation: training sees a crop of a photograph, perhaps mirrored, in another light.

A view is drawn first and made afterwards, so that the same views can be made by OpenCV on the CPU and by
torch on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad
from torchvision.ops import roi_align

from toolchain.images.preprocess import Image, Resize


@dataclass(frozen=True)
class View:
    """A box in pixels of the photograph, whether it is mirrored, and gain [3] and shift of its light.

    A pixel value v becomes (v - 128) * gain + 128 + shift, within 0 to 255.
    """

    top: int
    left: int
    height: int
    width: int
    mirrored: bool
    gain: NDArray[np.float64]
    shift: float


def draw_view(
    height: int,
    width: int,
    rng: np.random.Generator,
    smallest: float,
    strength: float = 1.0,
    resize: Resize = "shortest-edge",
    shown: float = 1.0,
) -> View:
    """Draw a view of a photograph of `height` x `width` that shows at least the share `smallest` of its area.

    Gentle on purpose: with a few dozen photographs a class, strong crops teach the network that a breed is a nose.
    `strength` stretches all of it: at 2 a crop may show `smallest` squared, in light twice as different; 0 is what
    the network is judged on: the centre of the photograph, of which `shown` is the share of its shortest edge, or
    with `squash` all of it.
    """
    if strength == 0:
        return _plain_view(height, width, resize, shown)
    area = height * width * rng.uniform(smallest**strength, 1.0)
    ratio = np.exp(rng.uniform(np.log(3 / 4) * strength, np.log(4 / 3) * strength))
    crop_width = max(1, min(width, round(np.sqrt(area * ratio))))
    crop_height = max(1, min(height, round(np.sqrt(area / ratio))))
    return View(
        top=int(rng.integers(0, height - crop_height + 1)),
        left=int(rng.integers(0, width - crop_width + 1)),
        height=crop_height,
        width=crop_width,
        mirrored=bool(rng.random() < 0.5),
        gain=_around_one(rng, 0.75, 1.25, strength) * _around_one(rng, 0.93, 1.07, strength, 3),
        shift=float(rng.uniform(-25 * strength, 25 * strength)),
    )


def _around_one(
    rng: np.random.Generator, low: float, high: float, strength: float, count: int = 1
) -> NDArray[np.float64]:
    """float64 [count], uniform between `low` and `high` at strength 1 (to the last bit), 1 at strength 0."""
    return rng.uniform(max(1 + (low - 1) * strength, 0.0), 1 + (high - 1) * strength, count)


def _plain_view(height: int, width: int, resize: Resize, shown: float) -> View:
    side = max(1, round(min(height, width) * shown))
    high, wide = (height, width) if resize == "squash" else (side, side)
    return View((height - high) // 2, (width - wide) // 2, high, wide, False, np.ones(3), 0.0)


def make_view(image: Image, view: View, height: int, width: int) -> Image:
    """Cut `view` out of `image` and scale it to uint8 [height, width, 3]."""
    crop = image[view.top : view.top + view.height, view.left : view.left + view.width]
    interpolation = cv2.INTER_AREA if view.width > width else cv2.INTER_LINEAR
    scaled = cv2.resize(crop, (width, height), interpolation=interpolation)
    if view.mirrored:
        scaled = scaled[:, ::-1]
    # Brightness, contrast and colour balance in one look-up table for each channel.
    levels = np.arange(256)[:, None]
    table = np.clip((levels - 128) * view.gain + 128 + view.shift, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(cv2.LUT(np.ascontiguousarray(scaled), table[None]))


def make_views(images: Sequence[Tensor], views: Sequence[View], height: int, width: int) -> Tensor:
    """As `make_view` for each of `images` uint8 [3, height, width]: uint8 [batch, height, width, 3]."""
    device = images[0].device
    tallest = max(image.shape[1] for image in images)
    widest = max(image.shape[2] for image in images)
    # Beside a smaller picture its last pixels go on: zeros there would darken the edges of crops.
    canvas = torch.stack(
        [
            pad(image.float(), (0, widest - image.shape[2], 0, tallest - image.shape[1]), mode="replicate")
            for image in images
        ]
    )
    rows = [
        (i, v.left, v.top, v.left + v.width, v.top + v.height, v.mirrored, *v.gain, v.shift)
        for i, v in enumerate(views)
    ]
    numbers = to_device(np.array(rows, np.float32), device)
    # `aligned` puts pixel centres where OpenCV has them, which rounds to whole values before the light changes.
    made = roi_align(canvas, numbers[:, :5].contiguous(), (height, width), aligned=True).round()
    made = torch.where(numbers[:, 5, None, None, None] > 0, made.flip(3), made)
    gain, shift = numbers[:, 6:9], numbers[:, 9]
    lit = (made - 128) * gain[:, :, None, None] + 128 + shift[:, None, None, None]
    return lit.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def to_device(values: NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """`values` on `device`. A GPU fetches them from pinned memory, and nobody waits for what it does before."""
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(values)
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
