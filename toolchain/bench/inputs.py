"""What is fed to the arms: photographs of a data set where there is one, drawn ones where there is none.

They are decoded and preprocessed once, as the card says, into a file that all workers read: every arm sees the
same pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolchain.artifact import Artifact
from toolchain.datasets import SPLITS, Dataset
from toolchain.datasets.catalogue import DATASETS, photographs_of
from toolchain.datasets.index import describe_left_out
from toolchain.datasets.known import keep_known
from toolchain.errors import BadInputError, EdgetlError, UnreadableImageError
from toolchain.evaluation.overlap import known_splits, seen_photographs
from toolchain.images.cache import cache_folder
from toolchain.images.preprocess import Image, Preprocess
from toolchain.images.reader import Photograph, Reader
from toolchain.runs import read_run
from toolchain.runs.grouping import open_as_trained
from toolchain.runtimes.devices import cores
from toolchain.system.progress import Reporter
from toolchain.timing.protocol import Prepared

DRAWN = 24
DRAWN_SIZE = 384
_CHUNK = 64


@dataclass(frozen=True)
class Chosen:
    """Photographs to measure with. `labels` are indices into `classes`, one for each; empty for drawn pictures.

    `data`, `split` and `split_sha256` name the whole split that they were taken from; `sha256` are the files'.
    """

    photographs: tuple[Path, ...]
    labels: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    data: str = ""
    split: str = ""
    split_sha256: str = ""
    sha256: tuple[str, ...] = ()


def choose(
    artifacts: Sequence[Artifact], data: str | None, split: str, limit: int, reporter: Reporter
) -> Chosen | None:
    """The photographs of `split`, at most `limit` of them (0: all), evenly spread.

    Without `data`, the data set that the artifacts' cards name, and None, with a warning, when it is not here.
    Raises BadInputError when `data` cannot be used, or its classes are not those of the artifacts.
    """
    if data is not None:
        dataset = open_as_trained(data, _folders(artifacts), reporter)
        for line in describe_left_out(one for one in dataset.left_out if one.lost):
            reporter.warn(f"{data}: {line}")
        return _take(dataset, artifacts, split, limit)
    named = {_data_of(artifact) for artifact in artifacts}
    if len(named) > 1:
        reporter.warn(f"the artifacts were trained on different data ({', '.join(sorted(named))}): no accuracy")
        return None
    (name,) = named
    if not name:
        reporter.warn("no accuracy: the network was adopted, and brings no photographs. Pass some with --data")
        return None
    try:
        known = known_splits(artifacts[0].path.parent, artifacts[0].card.source.run_sha256)
        dataset = open_as_trained(name, _folders(artifacts), reporter)
        return _take(keep_known(dataset, known), artifacts, split, limit)
    except EdgetlError as error:
        reporter.warn(f"no accuracy: {error.message}. Pass photographs with --data")
        return None


def check_labels(dataset: Dataset, artifact: Artifact) -> None:
    """Raise BadInputError, saying what differs, unless data and artifact have the same classes. Data for a network
    that was adopted may have some of its classes."""
    known, given = set(artifact.card.labels), set(dataset.classes)
    # Whoever adopts a network of 1000 classes may have photographs of ten.
    if known == given or (given < known and not artifact.card.splits):
        return
    parts = [
        f"{who}: {', '.join(sorted(names)[:5])}" + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        for who, names in ((f"only in {dataset.name}", given - known), ("only in the model", known - given))
        if names
    ]
    raise BadInputError(
        f"{dataset.name} has other classes than {artifact.path}: {'; '.join(parts)}",
        "Pass photographs of the classes that the model knows.",
    )


def compare_split(chosen: Chosen, artifact: Artifact) -> str:
    """What a reader must know about this split and this model; empty when it is the test split of the card."""
    names = [name for name, sha256 in artifact.card.splits.items() if sha256 == chosen.split_sha256]
    seen = [name for name in names if name != "test"]
    if seen:
        return f"{artifact.path.name} has seen these photographs: they are its {seen[0]} split"
    if names:
        return ""
    if not artifact.card.splits:
        return f"{artifact.path.name} was adopted: whether it has seen these photographs is not known"
    if known := seen_photographs(artifact.path.parent, artifact.card.source.run_sha256) & set(chosen.sha256):
        return (
            f"{artifact.path.name} has seen {len(known)} of the {len(chosen.sha256)} photographs, in training or "
            "in choosing what to keep: its accuracy here is not that on new ones"
        )
    return f"{chosen.data} {chosen.split} is none of the splits that the card of {artifact.path.name} names"


def draw_photographs(folder: Path) -> Chosen:
    """Draw pictures with a fixed seed and store them in `folder` as JPEG."""
    import cv2

    from toolchain.drawn.pets import CLASSES, draw

    def one(index: int) -> Path:
        bgr = cv2.cvtColor(draw(CLASSES[index % len(CLASSES)], index, size=DRAWN_SIZE), cv2.COLOR_RGB2BGR)
        path = folder / f"{index:03}.jpg"
        path.write_bytes(cv2.imencode(".jpg", bgr)[1].tobytes())
        return path

    with ThreadPoolExecutor(cores()) as pool:
        return Chosen(tuple(pool.map(one, range(DRAWN))))


def prepare(chosen: Chosen, specs: Sequence[Preprocess], folder: Path, reporter: Reporter) -> Prepared:
    """Decode and preprocess into files in `folder`. Raises BadInputError when no photograph can be read."""
    reader = Reader(specs[0], cache_folder(), reporter, keep=False)

    def one(photo: Photograph) -> list[Image] | UnreadableImageError:
        try:
            return reader.inputs(photo, specs)
        except UnreadableImageError as error:
            return error

    hashes = chosen.sha256 or ("",) * len(chosen.photographs)
    photographs = [
        Photograph(path.name, path, -1, sha256) for path, sha256 in zip(chosen.photographs, hashes, strict=True)
    ]
    pictures = {spec: folder / f"pictures-{number}.raw" for number, spec in enumerate(specs)}
    readable: list[int] = []
    handles = [path.open("wb") for path in pictures.values()]
    try:
        with ThreadPoolExecutor(cores()) as pool, reporter.task("photographs", len(photographs)) as task:
            for start in range(0, len(photographs), _CHUNK):
                chunk = photographs[start : start + _CHUNK]
                for index, versions in enumerate(pool.map(one, chunk), start):
                    if isinstance(versions, UnreadableImageError):
                        reporter.warn(f"skipped: {versions.message}")
                        continue
                    readable.append(index)
                    for handle, version in zip(handles, versions, strict=True):
                        handle.write(version.tobytes())
                task.advance(len(chunk))
    finally:
        for handle in handles:
            handle.close()
    if not readable:
        raise BadInputError("none of the photographs can be read", "Look at them with `edgetl data check`.")
    return Prepared(pictures, tuple(readable))


def _take(dataset: Dataset, artifacts: Sequence[Artifact], split: str, limit: int) -> Chosen:
    for artifact in artifacts:
        check_labels(dataset, artifact)
    photos = dataset.splits.get(split, ())
    if not photos:
        full = [name for name in SPLITS if dataset.splits.get(name)]
        raise BadInputError(
            f"{dataset.name} has no photographs in {split}", f"Choose --split from: {', '.join(full)}."
        )
    wanted = min(len(photos), limit) if limit else len(photos)
    taken = [photos[int(index)] for index in np.linspace(0, len(photos) - 1, wanted).round()]
    return Chosen(
        photographs=tuple(photo.path for photo in taken),
        labels=tuple(photo.label for photo in taken),
        classes=dataset.classes,
        data=dataset.name,
        split=split,
        split_sha256=dataset.split_sha256(split),
        sha256=tuple(photo.sha256 for photo in taken),
    )


def _folders(artifacts: Sequence[Artifact]) -> list[Path]:
    return [artifact.path.parent for artifact in artifacts]


def _data_of(artifact: Artifact) -> str:
    """The data that a card names, by the path that its run knows where a bare name is not enough; empty for a
    network that was adopted without any."""
    name = artifact.card.source.data
    if name in DATASETS:
        return name
    try:
        run = read_run(artifact.path.parent)
    except BadInputError:
        return name if artifact.card.splits else ""
    own = run.model.sha256 == artifact.card.source.run_sha256
    if own and not run.data.counts:
        return run.data.path
    return str(photographs_of(run.data.name, run.data.path)) if own else name
