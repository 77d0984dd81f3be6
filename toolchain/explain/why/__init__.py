"""Where a network looked when it named a photograph, and whether its answer depends on that. No torch in here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolchain.classifier import Classifier
from toolchain.evaluation.metrics import softmax
from toolchain.explain.why.heat import Heat, area_of_half, hottest
from toolchain.explain.why.occlusion import Answer, answer_of, occlusion
from toolchain.images.preprocess import MEAN, Image, Preprocess

HOTTEST = 0.2
"""The fraction of the picture that is covered, or left uncovered, to test what the answer depends on."""

Method = Callable[[Image, int], Heat]
"""From a picture in the size of the network's input, and the index of a class, to a heat map."""


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
