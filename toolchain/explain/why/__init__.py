"""Where a network looked when it named a photograph, and whether its answer depends on that. No torch in here.

Occlusion covers parts of the picture. It needs answers only, so it explains an int8 file as it is deployed, on its
own runtime. Zeiler and Fergus: *Visualizing and Understanding Convolutional Networks*, ECCV 2014. (Grad-CAM has a
module of its own, `toolchain.explain.why.grad_cam`.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from toolchain.classifier import Classifier
from toolchain.evaluation.metrics import Logits, log_odds, softmax
from toolchain.explain.pictures import framed
from toolchain.images.preprocess import MEAN, Image, Preprocess

Heat = NDArray[np.float32]
"""float32 [height, width], not negative. It sums to 1, or to 0 if nothing speaks for the class."""

Answer = Callable[[NDArray[np.uint8]], Logits]
"""Logits for pictures in the size of the network's input, uint8 RGB [batch, height, width, 3]."""

Method = Callable[[Image, int], Heat]
"""From a picture in the size of the network's input, and the index of a class, to a heat map."""

HOTTEST = 0.2
"""The fraction of the picture that is covered, or left uncovered, to test what the answer depends on."""
EMPHASIS = 2
FLOOR = 0.25
"""The brightness of the picture where there is no heat."""
PATCH = 48
STRIDE = 16
"""Pixels of a picture of 224; `benchmarks/explain/why.py` measured them."""
BATCH = 16


@dataclass(frozen=True)
class Explained:
    """A network that can be asked why: how it answers, and the ways to find out where it looks, by name."""

    labels: tuple[str, ...]
    preprocess: Preprocess
    temperature: float
    answer: Answer
    methods: Mapping[str, Method]


@dataclass(frozen=True)
class Saliency:
    """Where the network looked, according to one method.

    `area_of_half` is the fraction of the picture that holds half of the heat, `peak` its hottest pixel, (x, y).
    `without_hottest` is the probability of the class when the hottest fifth of the picture is covered,
    `only_hottest` when everything else is.
    """

    method: str
    heat: Heat
    area_of_half: float
    peak: tuple[int, int]
    without_hottest: float
    only_hottest: float


@dataclass(frozen=True)
class Why:
    """Why a photograph was named as it was. `picture` is what the network saw, uint8 RGB; `label` is its answer.

    `saliency` is for the class `asked`, one entry for each method. Probabilities are after the temperature.
    """

    picture: Image
    label: str
    probability: float
    asked: str
    asked_probability: float
    saliency: tuple[Saliency, ...]


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


def explained(classifier: Classifier) -> Explained:
    """A deployed network, of any precision on any runtime. It has no gradients, so occlusion is the only method."""
    answer = answer_of(classifier)
    card = classifier.card
    methods = {"occlusion": lambda picture, index: occlusion(answer, picture, index)}
    return Explained(card.labels, card.preprocess, card.temperature, answer, methods)


def why(network: Explained, photograph: Image, class_index: int | None = None) -> Why:
    """Ask why `photograph`, uint8 RGB of any size, was named as it was, or what in it speaks for another class."""
    picture = network.preprocess(photograph)
    probabilities = _probabilities(network, [picture])[0]
    top = int(probabilities.argmax())
    index = top if class_index is None else class_index
    saliency = tuple(_saliency(network, picture, index, name) for name in network.methods)
    return Why(
        picture,
        network.labels[top],
        float(probabilities[top]),
        network.labels[index],
        float(probabilities[index]),
        saliency,
    )


def _saliency(network: Explained, picture: Image, index: int, method: str) -> Saliency:
    heat = network.methods[method](picture, index)
    hot = hottest(heat, HOTTEST)
    colour = np.rint(MEAN).astype(np.uint8)
    pictures = [np.where(covered[..., None], colour, picture) for covered in (hot, ~hot)]
    without, only = _probabilities(network, pictures)[:, index]
    y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    return Saliency(method, heat, area_of_half(heat), (int(x), int(y)), float(without), float(only))


def _probabilities(network: Explained, pictures: Sequence[Image]) -> NDArray[np.float64]:
    logits = network.answer(np.stack(pictures)).astype(np.float64)
    result: NDArray[np.float64] = softmax(logits, network.temperature)
    return result


def as_heat(values: NDArray[np.floating]) -> Heat:
    """The positive part of `values` [height, width], which speaks for the class, as weights that sum to 1.

    Values are squared. Otherwise faint ones all over a large background would add up to as much as the animal.
    """
    positive = np.maximum(values, 0).astype(np.float64) ** EMPHASIS
    total = float(positive.sum())
    heat: Heat = (positive / total if total > 0 else positive).astype(np.float32)
    return heat


def as_sixteen_bits(heat: Heat) -> bytes:
    """The heat as a grey PNG of 16 bits: 65535 is the hottest pixel, 0 is no heat."""
    strength = heat / heat.max() if heat.max() > 0 else heat
    done, data = cv2.imencode(".png", np.rint(65535 * strength).astype(np.uint16))
    assert done
    return data.tobytes()


def overlay(picture: Image, heat: Heat) -> Image:
    """`picture`, brighter and coloured where the heat is; uint8 RGB of the same size."""
    strength = heat / heat.max() if heat.max() > 0 else heat
    levels = np.rint(255 * strength).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB).astype(np.float32)
    light = (FLOOR + (1 - FLOOR) * strength)[..., None]
    share = 0.5 * strength[..., None]
    return np.rint((1 - share) * light * picture + share * colours).astype(np.uint8)


def hottest(heat: Heat, share: float) -> NDArray[np.bool_]:
    """Which pixels [height, width] are the hottest `share` of all; among equals, the first."""
    count = round(share * heat.size)
    chosen = np.zeros(heat.size, bool)
    chosen[np.argsort(-heat, axis=None, kind="stable")[:count]] = True
    return chosen.reshape(heat.shape)


def area_of_half(heat: Heat) -> float:
    """The fraction of the picture, 0 to 1, that holds half of the heat. It is small if one detail decides."""
    total = heat.sum(dtype=np.float64)
    if total <= 0:
        return 1.0
    reached = np.cumsum(np.sort(heat, axis=None)[::-1], dtype=np.float64)
    return float((np.searchsorted(reached, total / 2) + 1) / heat.size)


def inside(heat: Heat, region: NDArray[np.floating]) -> float:
    """The fraction of the heat, 0 to 1, inside `region` [height, width], which has a fraction for each pixel."""
    total = heat.sum(dtype=np.float64)
    return float((heat * region).sum(dtype=np.float64) / total) if total > 0 else 0.0
