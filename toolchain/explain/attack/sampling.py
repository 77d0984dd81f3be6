"""Which photographs of a data set are attacked."""

from __future__ import annotations

from pathlib import Path

from toolchain.datasets import SPLITS, Dataset, Photograph
from toolchain.datasets.sampling import stratified
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
    order = stratified([labels[photo.label] for photo in fresh], [photo.sha256 for photo in fresh])
    return [(fresh[place], labels[fresh[place].label]) for place in order[: limit or None]]
