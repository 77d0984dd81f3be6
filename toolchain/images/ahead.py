"""Pictures made ahead: threads read the next batches while a network works on one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from toolchain.images.preprocess import Image
from toolchain.system.processor import cores

AHEAD = 3
"""Batches that are prepared while the network works on one."""


def prefetched(groups: Sequence[Sequence[int]], load: Callable[[int], Image]) -> Iterator[NDArray[np.uint8]]:
    """Yield uint8 images [batch, height, width, 3] for each group of numbers; `load` makes the image of one.

    What `load` raises is raised here.
    """
    # OpenCV's own threads would fight with torch's; photographs are spread over threads here.
    cv2.setNumThreads(1)

    def submit(group: Sequence[int]) -> list[Future[Image]]:
        return [pool.submit(load, number) for number in group]

    with ThreadPoolExecutor(cores()) as pool:
        coming = iter(groups)
        waiting = [submit(group) for group in islice(coming, AHEAD)]
        try:
            while waiting:
                images = np.stack([future.result() for future in waiting.pop(0)])
                waiting += [submit(group) for group in islice(coming, 1)]
                yield images
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
