"""Where a network looked when it named a photograph, and whether its answer hangs on that. No torch in here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolchain.classifier import Classifier
from toolchain.evaluation.metrics import softmax
from toolchain.explain.heat import Heat, area_of_half, hottest
from toolchain.explain.occlusion import Answer, answer_of, occlusion
from toolchain.images.preprocess import MEAN, Image, Preprocess

HOTTEST = 0.2
"""The share of the picture that is covered, or left, to see what the answer hangs on."""

Method = Callable[[Image, int], Heat]
"""From a picture of the network's size and the number of a class to where the class is seen."""


@dataclass(frozen=True)
class Explained:
    """A network to be asked why: how it answers, and the ways to find out where it looks, by name."""

    labels: tuple[str, ...]
    preprocess: Preprocess
    temperature: float
    answer: Answer
    methods: Mapping[str, Method]


@dataclass(frozen=True)
class Look:
    """Where one method says that the network looked.

    `area_of_half` is the share of the picture that holds half of the heat; `peak` its hottest pixel, (x, y).
    `without_hottest` is the probability of the class once the hottest fifth of the picture is covered,
    `only_hottest` once all else is.
    """

    method: str
    heat: Heat
    area_of_half: float
    peak: tuple[int, int]
    without_hottest: float
    only_hottest: float


@dataclass(frozen=True)
class Why:
    """`picture` is what the network saw, uint8 RGB; it named it `label`. The looks are for `asked`, the class asked
    about; probabilities are after the temperature.
    """

    picture: Image
    label: str
    probability: float
    asked: str
    asked_probability: float
    looks: tuple[Look, ...]


def explained(classifier: Classifier) -> Explained:
    """A deployed network, of any precision on any runtime: only covering parts of the picture is left to do."""
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
    looks = tuple(_look(network, picture, index, name) for name in network.methods)
    return Why(
        picture,
        network.labels[top],
        float(probabilities[top]),
        network.labels[index],
        float(probabilities[index]),
        looks,
    )


def _look(network: Explained, picture: Image, index: int, method: str) -> Look:
    heat = network.methods[method](picture, index)
    hot = hottest(heat, HOTTEST)
    colour = np.rint(MEAN).astype(np.uint8)
    pictures = [np.where(covered[..., None], colour, picture) for covered in (hot, ~hot)]
    without, only = _probabilities(network, pictures)[:, index]
    y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    return Look(method, heat, area_of_half(heat), (int(x), int(y)), float(without), float(only))


def _probabilities(network: Explained, pictures: Sequence[Image]) -> NDArray[np.float64]:
    logits = network.answer(np.stack(pictures)).astype(np.float64)
    result: NDArray[np.float64] = softmax(logits, network.temperature)
    return result
