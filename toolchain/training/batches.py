"""The batches of an epoch: which photographs in which order, which crop of each, made ahead of the network.

Everything is drawn from (seed, epoch, photograph), so a resumed run and one on several processes see the same. On a
CPU threads cut the crops with OpenCV; on a GPU that has room for all photographs, torch cuts them there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toolchain.datasets import Photograph
from toolchain.images import reader as readers
from toolchain.images.preprocess import Image
from toolchain.images.reader import LARGER, Reader
from toolchain.runtimes.devices import cores
from toolchain.training.context import TrainContext
from toolchain.training.crops import View, draw_view, make_view, make_views
from toolchain.training.settings import TrainSettings
from toolchain.training.team import Team

SHARE_OF_MEMORY = 0.4
"""Of a GPU's free memory, what photographs may take."""


@dataclass(frozen=True)
class Step:
    """One optimiser step on `size` photographs, of which this process takes those at `rows`: numbers `mine`.

    `weight` is 0 where no photograph is left for this process; it then computes one whose loss does not count.
    """

    mine: NDArray[np.int64]
    rows: slice
    size: int
    weight: float = 1.0


Batches = Callable[[Sequence[Step], int], Iterator[Tensor]]
"""Makes the batches of an epoch's steps: uint8 [batch, height, width, 3] each."""


def steps_of(photos: int, settings: TrainSettings, epoch: int, team: Team) -> list[Step]:
    """The steps of an epoch over `photos` photographs, in an order that depends on the seed and the epoch."""
    order = np.random.default_rng([settings.seed, epoch]).permutation(photos)
    steps = []
    for start in range(0, photos, settings.batch_size):
        batch = order[start : start + settings.batch_size]
        rows = slice(team.rank, None, team.size)
        if len(batch[rows]):
            steps.append(Step(batch[rows], rows, len(batch)))
        else:
            steps.append(Step(batch[:1], slice(0, 1), len(batch), weight=0.0))
    return steps


def training_batches(context: TrainContext) -> Batches:
    """The batches of `context`, made where that is fastest."""
    photos, settings, device = context.photos, context.settings, context.device
    if device.type == "cuda" and _fits(photos, settings, device):
        return gpu_batches(photos, context.reader, settings, device)
    return cpu_batches(photos, context.reader, settings)


def cpu_batches(photos: Sequence[Photograph], reader: Reader, settings: TrainSettings) -> Batches:
    """Crops that OpenCV cuts in threads, from the decoded photographs on disk."""

    def make(steps: Sequence[Step], epoch: int) -> Iterator[Tensor]:
        def load(place: int) -> Image:
            image = reader.larger(photos[place])
            view = _view_of(place, image.shape[0], image.shape[1], settings, epoch)
            return make_view(image, view, *settings.crop_shape)

        return prefetched([step.mine.tolist() for step in steps], load)

    return make


def gpu_batches(
    photos: Sequence[Photograph], reader: Reader, settings: TrainSettings, device: torch.device
) -> Batches:
    """Crops that `device` cuts from photographs that are put there now and stay there."""
    with ThreadPoolExecutor(cores()) as pool:
        images = [
            torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1)
            for image in pool.map(reader.larger, photos)
        ]

    def make(steps: Sequence[Step], epoch: int) -> Iterator[Tensor]:
        for step in steps:
            mine = [images[place] for place in step.mine]
            views = [
                _view_of(int(place), image.shape[1], image.shape[2], settings, epoch)
                for place, image in zip(step.mine, mine, strict=True)
            ]
            yield make_views(mine, views, *settings.crop_shape)

    return make


def prefetched(groups: Sequence[Sequence[int]], load: Callable[[int], Image]) -> Iterator[Tensor]:
    """Yield uint8 images [batch, height, width, 3] for each group of numbers; `load` makes the image of one."""
    return map(torch.from_numpy, readers.prefetched(groups, load))


def _fits(photos: Sequence[Photograph], settings: TrainSettings, device: torch.device) -> bool:
    """Whether the photographs fit into the free memory of `device`, were all of them 2:1."""
    free, _ = torch.cuda.mem_get_info(device)
    edge = max(settings.preprocess.height, settings.preprocess.width) * LARGER
    return len(photos) * edge * 2 * edge * 3 < SHARE_OF_MEMORY * free


def _view_of(place: int, height: int, width: int, settings: TrainSettings, epoch: int) -> View:
    """The view of photograph number `place`, of `height` x `width` pixels, in an epoch."""
    rng = np.random.default_rng([settings.seed, epoch, place])
    strength, spec = settings.augmentation, settings.preprocess
    shown = min(spec.height, spec.width) / spec.shortest_edge
    return draw_view(height, width, rng, settings.min_crop_area, strength, spec.resize, shown)
