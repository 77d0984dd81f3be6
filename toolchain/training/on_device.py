"""Training pictures made on a GPU: photographs are copied there once, crops and light are computed there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import roi_align

from toolchain.datasets import Photograph
from toolchain.images.reader import Reader
from toolchain.runtimes.devices import cores
from toolchain.training.crops import View
from toolchain.training.settings import TrainSettings
from toolchain.training.shown import Show, Step, view_of

SHARE_OF_MEMORY = 0.4
"""Of a GPU's free memory, what photographs may take."""


def fits(photos: Sequence[Photograph], settings: TrainSettings, device: torch.device) -> bool:
    """Whether the photographs fit into the free memory of `device`, were all of them 2:1."""
    free, _ = torch.cuda.mem_get_info(device)
    edge = max(settings.preprocess.height, settings.preprocess.width) * 8 / 7
    return len(photos) * edge * 2 * edge * 3 < SHARE_OF_MEMORY * free


def from_device(
    photos: Sequence[Photograph], decoded: Reader, settings: TrainSettings, device: torch.device
) -> Show:
    """Pictures of `photos`, which are put on `device` now and stay there as uint8 [3, height, width]."""
    with ThreadPoolExecutor(cores()) as pool:
        images = [
            torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1)
            for image in pool.map(decoded.larger, photos)
        ]

    def show(steps: Sequence[Step], epoch: int) -> Iterator[Tensor]:
        for step in steps:
            mine = [images[place] for place in step.mine]
            views = [
                view_of(int(place), image.shape[1], image.shape[2], settings, epoch)
                for place, image in zip(step.mine, mine, strict=True)
            ]
            yield make_views(mine, views, *settings.crop_shape)

    return show


def make_views(images: Sequence[Tensor], views: Sequence[View], height: int, width: int) -> Tensor:
    """As `crops.make_view` for each of `images` uint8 [3, height, width]: uint8 [batch, height, width, 3]."""
    device = images[0].device
    tallest = max(image.shape[1] for image in images)
    widest = max(image.shape[2] for image in images)
    canvas = torch.zeros(len(images), 3, tallest, widest, device=device)
    for place, image in zip(canvas, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    boxes = torch.tensor(
        [[i, v.left, v.top, v.left + v.width, v.top + v.height] for i, v in enumerate(views)],
        dtype=torch.float32,
        device=device,
    )
    # `aligned` puts pixel centres where OpenCV has them.
    made = roi_align(canvas, boxes, (height, width), aligned=True)
    mirrored = torch.tensor([view.mirrored for view in views], device=device)
    made = torch.where(mirrored[:, None, None, None], made.flip(3), made)
    gain = torch.tensor(np.stack([view.gain for view in views]), dtype=torch.float32, device=device)
    shift = torch.tensor([view.shift for view in views], dtype=torch.float32, device=device)
    lit = (made - 128) * gain[:, :, None, None] + 128 + shift[:, None, None, None]
    return lit.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
