"""Photographs to batches: decoded and augmented by threads ahead of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import cv2
import numpy as np
import torch
from torch import Tensor

from toolchain.datasets import Photograph
from toolchain.preprocess import Image, Preprocess, read
from toolchain.runtimes.devices import cores

AHEAD = 3
"""Batches that are prepared while the network works on one."""


def batches(
    photos: Sequence[Photograph], size: int, prepare: Callable[[Image, int], Image]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield uint8 images [batch, height, width, 3] and int64 labels [batch], in the order of `photos`.

    `prepare` turns a decoded photograph, given with its place in `photos`, into the network's input.
    """
    # OpenCV's own threads would fight with torch's; photographs are spread over threads here.
    cv2.setNumThreads(1)

    def one(index: int) -> Image:
        return prepare(read(photos[index].path), index)

    def group(start: int) -> list[Future[Image]]:
        return [pool.submit(one, index) for index in range(start, min(start + size, len(photos)))]

    with ThreadPoolExecutor(cores()) as pool:
        starts = iter(range(0, len(photos), size))
        waiting = [(start, group(start)) for start in islice(starts, AHEAD)]
        try:
            while waiting:
                start, futures = waiting.pop(0)
                images = torch.from_numpy(np.stack([future.result() for future in futures]))
                waiting += [(next_start, group(next_start)) for next_start in islice(starts, 1)]
                labels = torch.tensor([photo.label for photo in photos[start : start + len(futures)]])
                yield images, labels
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def augment(image: Image, spec: Preprocess, rng: np.random.Generator, smallest: float) -> Image:
    """Crop at random to at least `smallest` of the photograph's area, flip half of them, change the light.

    Gentle on purpose: with a few dozen photographs a class, strong crops teach the network that a breed is a nose.
    """
    height, width = image.shape[:2]
    area = height * width * rng.uniform(smallest, 1.0)
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    crop_width = min(width, round(np.sqrt(area * ratio)))
    crop_height = min(height, round(np.sqrt(area / ratio)))
    top = rng.integers(0, height - crop_height + 1)
    left = rng.integers(0, width - crop_width + 1)
    crop = image[top : top + crop_height, left : left + crop_width]
    interpolation = cv2.INTER_AREA if crop_width > spec.width else cv2.INTER_LINEAR
    scaled = cv2.resize(crop, (spec.width, spec.height), interpolation=interpolation)
    if rng.random() < 0.5:
        scaled = scaled[:, ::-1]
    # Brightness, contrast and colour balance in one look-up table for each channel.
    gain = rng.uniform(0.75, 1.25) * rng.uniform(0.93, 1.07, 3)
    levels = np.arange(256)[:, None]
    table = np.clip((levels - 128) * gain + 128 + rng.uniform(-25, 25), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(cv2.LUT(np.ascontiguousarray(scaled), table[None]))
