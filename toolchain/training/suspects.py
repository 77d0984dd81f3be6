"""Photographs whose name is probably wrong: where a network that was not taught with them surely says otherwise.

Each photograph is answered by a linear probe on published features that was fitted on the others (out of fold).
How sure is sure depends on the class, as in confident learning (Northcutt et al., JAIR 2021): an answer counts
where its probability is at least the mean that photographs of the answered class give their own name. Classes that
resemble each other thus need no threshold of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toolchain.backbones import preprocess_of
from toolchain.backbones.networks import body_of, build, hidden_of
from toolchain.backbones.weights import load_pretrained
from toolchain.datasets import Photograph
from toolchain.datasets.catalogue import list_data
from toolchain.datasets.index import DatasetIndex, hash_all
from toolchain.errors import BadInputError
from toolchain.evaluation.calibration import HeldOut, fit_temperature
from toolchain.evaluation.metrics import accuracy, softmax
from toolchain.images.cache import cache_folder
from toolchain.images.perceptual_hash import near_groups, perceptual_hash
from toolchain.images.reader import Reader
from toolchain.system.processor import cores
from toolchain.system.progress import Reporter
from toolchain.training.context import choose_device
from toolchain.training.features import Floats, Frozen, features_of, labels_of
from toolchain.training.probe import folds_for, logits_out_of_fold


@dataclass(frozen=True)
class Suspect:
    """A photograph `name` of class `label` that the network calls `answer`; probabilities of both, 0 to 1."""

    name: str
    label: str
    answer: str
    probability: float
    label_probability: float


@dataclass(frozen=True)
class Suspects:
    """What was found in the data set `data`: suspects, the least probable names first.

    `photographs` were answered, `top1` of them by their own name; `sure` is the probability by class from which on
    an answer counts.
    """

    data: str
    root: str
    classes: tuple[str, ...]
    photographs: int
    top1: float
    temperature: float
    sure: dict[str, float]
    found: tuple[Suspect, ...]


@dataclass(frozen=True)
class Seen:
    """Photographs that can be decoded, and what a network's head sees of them: float32 [photographs, width].

    `head` is its published classifier, weight and bias, where it brought one that fits.
    """

    index: DatasetIndex
    photos: tuple[Photograph, ...]
    features: Floats
    head: tuple[Tensor, Tensor] | None


def find_suspects(data: str, model: str, weights: str, device: str, reporter: Reporter) -> Suspects:
    """Look for wrong names among all photographs of `data`, whatever their split.

    Features are those of `model` with `weights`, which must not have been taught with these photographs. Raises
    BadInputError for data or weights that cannot be used, or where no photograph can be answered out of fold.
    """
    return judged(look(data, model, weights, device, reporter))


def look(data: str, model: str, weights: str, device: str, reporter: Reporter) -> Seen:
    """The photographs of `data`, and their features. Raises as `find_suspects`."""
    index, hashes = hash_all(list_data(data, reporter=reporter), reporter)
    for warning in index.warnings:
        reporter.warn(warning)
    chosen = choose_device(device, reporter)
    torch.manual_seed(0)
    network = build(model, len(index.classes))
    head = load_pretrained(network, model, weights).head
    spec = preprocess_of(model)
    reader = Reader(spec, cache_folder(), reporter)
    listed = [Photograph(one.name, one.path, one.label, hashes[one.path]) for one in index.photographs]
    photos = _readable(listed, reader, reporter)
    reader.tidy()
    network.to(chosen, memory_format=torch.channels_last)  # type: ignore[call-overload]
    body = Frozen(body_of(network), (spec.height, spec.width), chosen, pooled=True, hidden=hidden_of(network))
    extract = body.extractor(many=len(photos), exact=False)
    return Seen(index, photos, features_of(photos, extract, reader, reporter, "features"), head)


def judged(seen: Seen) -> Suspects:
    """Which names are probably wrong. Raises BadInputError where no photograph can be answered out of fold."""
    index, photos = seen.index, seen.photos
    logits, answered = logits_out_of_fold(
        seen.features, photos, len(index.classes), seen.head, folds_for(len(photos))
    )
    if not answered.any():
        raise BadInputError(
            f"{index.name} has too few photographs to look for wrong names", "Each class needs two at least."
        )
    kept = [photo for photo, one in zip(photos, answered, strict=True) if one]
    labels = labels_of(kept)
    temperature = fit_temperature(HeldOut(logits[answered], labels)).value
    probabilities = softmax(logits[answered], temperature)
    sure = self_confidence(probabilities, labels)
    return Suspects(
        data=index.name,
        root=str(index.root),
        classes=index.classes,
        photographs=len(kept),
        top1=accuracy(probabilities.argmax(1), labels).top1,
        temperature=temperature,
        sure={name: float(share) for name, share in zip(index.classes, sure, strict=True)},
        found=tuple(_suspect(kept, probabilities, at, index.classes) for at in disagreeing(probabilities, labels)),
    )


def self_confidence(probabilities: Floats, labels: NDArray[np.int64]) -> Floats:
    """By class, the mean probability that its photographs give their own name, float32 [classes]; 1 without any."""
    classes = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels]
    return np.array([own[labels == label].mean() if (labels == label).any() else 1 for label in range(classes)],
                    np.float32)  # fmt: skip


def disagreeing(probabilities: Floats, labels: NDArray[np.int64]) -> list[int]:
    """Places of photographs that are surely answered by another name; those with the least probable name first."""
    rows = np.arange(len(labels))
    answers = probabilities.argmax(1)
    surely = probabilities[rows, answers] >= self_confidence(probabilities, labels)[answers]
    order = np.argsort(probabilities[rows, labels], kind="stable")
    return [int(place) for place in order if surely[place] and answers[place] != labels[place]]


def _suspect(photos: Sequence[Photograph], probabilities: Floats, place: int, classes: Sequence[str]) -> Suspect:
    row, photo = probabilities[place], photos[place]
    answer = int(row.argmax())
    return Suspect(photo.name, classes[photo.label], classes[answer], float(row[answer]), float(row[photo.label]))


def _readable(photos: Sequence[Photograph], reader: Reader, reporter: Reporter) -> tuple[Photograph, ...]:
    """Those that can be decoded. What looks alike is a group, and in one fold: a near-copy under the same wrong
    name would vouch for it.
    """

    def hashed(photo: Photograph) -> int | str:
        if problem := reader.problem_of(photo, thumbnail=True):
            return problem
        return perceptual_hash(reader.thumbnail(photo))

    kept, hashes = [], []
    with ThreadPoolExecutor(cores()) as pool, reporter.task("reading photographs", len(photos)) as task:
        for photo, found in zip(photos, pool.map(hashed, photos), strict=True):
            task.advance()
            if isinstance(found, str):
                reporter.warn(f"skipped: {found}")
            else:
                kept.append(photo)
                hashes.append(found)
    for number, group in enumerate(near_groups(np.array(hashes, np.uint64))):
        for place in group:
            kept[place] = replace(kept[place], group=f"alike {number}")
    return tuple(kept)
