"""The photographs of a run: those that can be decoded, and pictures of other things to reject."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from toolchain.datasets import SPLITS, Dataset, Photograph
from toolchain.datasets.catalogue import DATASETS, data_root, open_dataset
from toolchain.datasets.index import describe_left_out
from toolchain.datasets.known import keep_known
from toolchain.datasets.scan import find_photographs
from toolchain.datasets.splits import resplit
from toolchain.errors import BadInputError, UnreadableImageError
from toolchain.images.reader import Reader
from toolchain.runtimes.devices import cores
from toolchain.system.progress import Reporter
from toolchain.training.previous import Previous
from toolchain.training.settings import TrainSettings
from toolchain.training.team import Team

FEW_VALIDATION = 50
"""With fewer validation photographs, one of them is more than two points of accuracy."""

NOT_PETS = "not-pets"
"""Beside the named data sets: pictures of anything but pets, by which rejection is chosen where it is there."""


def opened(settings: TrainSettings, reporter: Reporter, previous: Previous | None = None) -> Dataset:
    """Open the data set and pass on its warnings; nothing is decoded yet."""
    dataset = open_dataset(settings.data, group_by=settings.group_by, reporter=reporter)
    dataset = keep_known(dataset, previous.known if previous else {})
    for warning in dataset.warnings:
        reporter.warn(warning)
    return dataset


def readable(
    dataset: Dataset,
    settings: TrainSettings,
    reader: Reader,
    team: Team,
    reporter: Reporter,
    previous: Previous | None = None,
) -> tuple[Dataset, int]:
    """Leave out photographs that cannot be decoded, with a warning each; return how many there were.

    The splits are drawn anew without them, so that moving such files away changes nothing.
    Raises BadInputError when a class or a split that training needs has nothing left.
    """
    photos = [photo for split in SPLITS for photo in dataset.splits[split]]
    trained = set() if settings.probe_only else set(dataset.splits["train"])
    reasons = _problems(photos, trained, set(dataset.splits["test"]), reader, team, reporter)
    for reason in reasons.values():
        reporter.warn(f"skipped: {reason}")
    if reasons:
        reporter.warn(f"{len(reasons)} of {len(photos)} photographs are unreadable and left out")
        known = set(dataset.warnings)
        without = {path: reason.removeprefix(f"{path}: ") for path, reason in reasons.items()}
        dataset = keep_known(resplit(dataset, without), previous.known if previous else {})
        for warning in dataset.warnings:
            if warning not in known:
                reporter.warn(warning)
    _check(dataset, reporter)
    return dataset, len(reasons)


def find_outliers(
    settings: TrainSettings, dataset: Dataset, reader: Reader, reporter: Reporter
) -> tuple[Photograph, ...]:
    """Pictures of other things: those of `settings.outliers`, or `not-pets` beside a named data set of pets.

    Unreadable ones are left out. Raises BadInputError when the folder holds none.
    """
    folder = Path(settings.outliers) if settings.outliers else data_root() / NOT_PETS
    wanted = settings.outliers is not None or (settings.data in DATASETS and folder.is_dir())
    if not wanted:
        return ()
    searched = find_photographs(folder)
    for line in describe_left_out(searched.left_out):
        reporter.warn(f"{folder}: {line}")
    own = {photo.sha256 for split in SPLITS for photo in dataset.splits[split]}
    found = []
    for path in sorted(searched.photographs):
        name = str(path.relative_to(folder))
        try:
            photo = reader.load(name, path)
            if photo.sha256 in own:
                raise UnreadableImageError("is one of the photographs of the classes")
        except UnreadableImageError as error:
            reporter.warn(
                f"left out of the pictures of other things: {name}: {error.message.removeprefix(f'{path}: ')}"
            )
        else:
            found.append(photo)
    if len(found) < 2:
        raise BadInputError(
            f"{folder} holds {len(found)} usable pictures of other things",
            "Pass a folder with a few hundred pictures of what is not one of the classes, or leave --outliers out.",
        )
    return tuple(found)


def _problems(
    photos: list[Photograph],
    trained: set[Photograph],
    shown: set[Photograph],
    reader: Reader,
    team: Team,
    reporter: Reporter,
) -> dict[Path, str]:
    """Why photographs cannot be used, by path; each process of the team tries its share.

    Those of `trained` will be cropped, those of `shown` may stand in the report.
    """

    def problem(photo: Photograph) -> str:
        return reader.problem_of(photo, larger=photo in trained, thumbnail=photo in shown)

    mine = team.share(photos)
    reasons = []
    with ThreadPoolExecutor(cores()) as pool, reporter.task("reading photographs", len(mine)) as task:
        for reason in pool.map(problem, mine):
            task.advance()
            reasons.append(reason)
    both = zip(photos, team.all_gather(reasons), strict=True)
    return {photo.path: reason for photo, reason in both if reason}


def _check(dataset: Dataset, reporter: Reporter) -> None:
    for split in ("val", "test"):
        if not dataset.splits[split]:
            total = sum(len(photos) for photos in dataset.splits.values())
            raise BadInputError(
                f"too few photographs: none of {total} is left for {split}",
                f"Add photographs, or put some into {split}/CLASS/ beside train/CLASS/.",
            )
    few = len(dataset.splits["val"])
    if few < FEW_VALIDATION:
        reporter.warn(f"only {few} validation photographs: the best epoch can only be chosen roughly")
