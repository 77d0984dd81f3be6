"""The pictures of an epoch: which photographs in which order, and which view of each.

Everything is drawn from (seed, epoch, photograph), so a resumed run and one on several processes see the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from toolchain.datasets import Photograph
from toolchain.images.preprocess import Image
from toolchain.images.reader import Reader
from toolchain.training.batches import batches
from toolchain.training.crops import View, draw_view, make_view
from toolchain.training.settings import TrainSettings
from toolchain.training.team import Team


@dataclass(frozen=True)
class Step:
    """One optimiser step on `size` photographs, of which this process shows those at `rows`: numbers `mine`.

    `weight` is 0 where nothing was left for this process, which then shows one for nothing.
    """

    mine: NDArray[np.int64]
    rows: slice
    size: int
    weight: float = 1.0


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


Show = Callable[[Sequence[Step], int], Iterator[Tensor]]
"""Makes the pictures of the steps of an epoch: uint8 [batch, height, width, 3] each."""


def from_cache(photos: Sequence[Photograph], decoded: Reader, settings: TrainSettings) -> Show:
    """Pictures made by OpenCV in threads, from the decoded photographs on disk."""

    def show(steps: Sequence[Step], epoch: int) -> Iterator[Tensor]:
        def load(place: int) -> Image:
            image = decoded.larger(photos[place])
            view = view_of(place, image.shape[0], image.shape[1], settings, epoch)
            return make_view(image, view, *settings.crop_shape)

        return batches([step.mine.tolist() for step in steps], load)

    return show


def view_of(place: int, height: int, width: int, settings: TrainSettings, epoch: int) -> View:
    """The view of photograph number `place`, of `height` x `width` pixels, in an epoch."""
    rng = np.random.default_rng([settings.seed, epoch, place])
    strength, resize = settings.augmentation, settings.preprocess.resize
    return draw_view(height, width, rng, settings.smallest_crop, strength, resize)
