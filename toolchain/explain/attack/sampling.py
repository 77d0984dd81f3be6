"""Which photographs of a data set are attacked."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

from toolchain.datasets import SPLITS, Dataset, Photograph
from toolchain.errors import BadInputError
from toolchain.evaluation.overlap import seen_photographs
from toolchain.explain.torch_model import TorchModel
from toolchain.system.progress import Reporter


def sample(
    dataset: Dataset,
    split: str,
    limit: int,
    subject: TorchModel,
    run: Path | None,
    target: int | None,
    reporter: Reporter,
) -> list[tuple[Photograph, int]]:
    """At most `limit` photographs of `split` (0: all), each with its class in `subject.labels`.

    Classes take turns, so that any number of the first is balanced as far as there are photographs. Those of the
    class `target` are left out, and so are those that the run has trained on or was chosen by. Raises BadInputError
    where nothing is left, or the data set has classes that the network has not.
    """
    if split not in SPLITS:
        raise BadInputError(f"unknown split {split!r}", f"Choose one of: {', '.join(SPLITS)}.")
    unknown = [name for name in dataset.classes if name not in subject.labels]
    if unknown:
        raise BadInputError(
            f"{dataset.name} has classes that {subject.name} does not know: {', '.join(unknown[:5])}",
            "Pass photographs of the classes that the run knows.",
        )
    seen = set() if run is None else seen_photographs(run)
    photographs = dataset.splits.get(split, ())
    labels = {place: subject.labels.index(name) for place, name in enumerate(dataset.classes)}
    fresh = [photo for photo in photographs if photo.sha256 not in seen and labels[photo.label] != target]
    known = sum(photo.sha256 in seen for photo in photographs)
    if known:
        reporter.warn(f"left out: {known} of the {len(photographs)} photographs in {split}, which the run has seen")
    if not fresh:
        raise BadInputError(
            f"{dataset.name} has no photograph in {split} to attack", "Choose another --split, or other --data."
        )
    by_class: dict[int, list[Photograph]] = {}
    # By content: neighbours in a data set are often of the same animal.
    for photo in sorted(fresh, key=lambda photo: photo.sha256):
        by_class.setdefault(labels[photo.label], []).append(photo)
    turns = zip_longest(*(by_class[label] for label in sorted(by_class)))
    mixed = [(photo, labels[photo.label]) for turn in turns for photo in turn if photo is not None]
    return mixed[:limit] if limit else mixed
