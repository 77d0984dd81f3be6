"""Where a network looked, found by covering parts of the picture (occlusion). No torch in here.

Zeiler and Fergus: *Visualizing and Understanding Convolutional Networks*, ECCV 2014. The method needs answers only,
so it explains an int8 file as it is deployed, on its own runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from toolchain.classifier import Classifier
from toolchain.evaluation.metrics import Logits, log_odds
from toolchain.explain.pictures import framed
from toolchain.explain.why.heat import Heat, as_heat
from toolchain.images.preprocess import MEAN, Image

Answer = Callable[[NDArray[np.uint8]], Logits]
"""Logits for pictures in the size of the network's input, uint8 RGB [batch, height, width, 3]."""

PATCH = 48
STRIDE = 16
"""Pixels of a picture of 224; `benchmarks/explain/why.py` measured them."""
BATCH = 16


def answer_of(classifier: Classifier) -> Answer:
    """A function that gives the logits of a deployed network, whether its graph resizes pictures or not."""
    preprocess, resizes = classifier.card.preprocess, classifier.card.input == "frame"

    def answer(pictures: NDArray[np.uint8]) -> Logits:
        given = [framed(picture, preprocess) for picture in pictures] if resizes else list(pictures)
        return classifier.infer(given).logits

    return answer


def occlusion(
    answer: Answer, picture: Image, class_index: int, *, patch: int | None = None, stride: int | None = None
) -> Heat:
    """How much the log-odds of a class fall when a square is covered, averaged over the squares that cover a pixel.

    `picture` is uint8 RGB in the size of the network's input. Squares of `patch` pixels, `stride` apart, are filled
    with ImageNet's mean colour, which the network sees as 0. By default their size is proportional to the
    picture's.
    """
    height, width = picture.shape[:2]
    scale = min(height, width) / 224
    patch = patch or max(1, round(PATCH * scale))
    stride = stride or max(1, round(STRIDE * scale))
    squares = [
        (slice(max(top, 0), top + patch), slice(max(left, 0), left + patch))
        for top in _starts(height, patch, stride)
        for left in _starts(width, patch, stride)
    ]
    whole = log_odds(answer(picture[None]), class_index)[0]
    covered = np.concatenate([log_odds(answer(batch), class_index) for batch in _batches(picture, squares)])
    falls, counts = np.zeros((height, width)), np.zeros((height, width))
    for square, value in zip(squares, covered, strict=True):
        falls[square] += whole - value
        counts[square] += 1
    smooth = cv2.GaussianBlur(falls / np.maximum(counts, 1), (0, 0), stride / 2)  # squares leave stairs
    return as_heat(np.asarray(smooth, np.float64))


def _starts(length: int, patch: int, stride: int) -> range:
    """Where squares begin. The first begin outside, so that pixels at the edge are covered as often as others."""
    return range(-(patch // 2), length - patch // 2 + 1, stride)


def _batches(picture: Image, squares: list[tuple[slice, slice]]) -> Iterator[NDArray[np.uint8]]:
    colour = np.rint(MEAN).astype(np.uint8)
    for start in range(0, len(squares), BATCH):
        chosen = squares[start : start + BATCH]
        pictures = np.repeat(picture[None], len(chosen), axis=0)
        for covered, square in zip(pictures, chosen, strict=True):
            covered[square] = colour
        yield pictures
