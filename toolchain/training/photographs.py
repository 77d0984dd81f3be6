"""The photographs of a run: those that can be decoded, and pictures of other things to reject."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from toolchain.datasets import SPLITS, Dataset, Photograph
from toolchain.datasets.catalogue import ENTRIES, data_root, open_dataset
from toolchain.datasets.decoded import Decoded, problem_of
from toolchain.datasets.finder import find
from toolchain.datasets.listing import LeftOut, told
from toolchain.errors import BadInputError
from toolchain.files import sha256_of
from toolchain.progress import Reporter
from toolchain.runtimes.devices import cores
from toolchain.training.settings import Settings
from toolchain.training.team import Team

FEW_VALIDATION = 50
"""With fewer validation photographs, one of them is more than two points of accuracy."""

NOT_PETS = "not-pets"
"""Beside the named data sets: pictures of anything but pets, by which rejection is chosen where it is there."""


def opened(settings: Settings, reporter: Reporter) -> Dataset:
    """Open the data set and pass on its warnings; nothing is decoded yet."""
    dataset = open_dataset(settings.data, reporter=reporter)
    for warning in dataset.warnings:
        reporter.warn(warning)
    return dataset


def readable(
    dataset: Dataset, settings: Settings, decoded: Decoded, team: Team, reporter: Reporter
) -> tuple[Dataset, int]:
    """Leave out photographs that cannot be decoded, naming each; return how many those are.

    Raises BadInputError when a class or a split that training needs has nothing left.
    """
    photos = [photo for split in SPLITS for photo in dataset.splits[split]]
    reasons = _problems(
        photos, set(dataset.splits["train"]) if not settings.probe_only else set(), decoded, team, reporter
    )
    for reason in reasons.values():
        reporter.warn(f"skipped: {reason}")
    if reasons:
        reporter.warn(f"{len(reasons)} of {len(photos)} photographs are unreadable and left out")
    splits = {
        split: tuple(photo for photo in dataset.splits[split] if photo.path not in reasons) for split in SPLITS
    }
    _check(dataset, splits, reporter)
    unreadable = [
        LeftOut(photo.name, reasons[photo.path].removeprefix(f"{photo.path}: "), True)
        for photo in photos
        if photo.path in reasons
    ]
    return replace(dataset, splits=splits, left_out=(*dataset.left_out, *unreadable)), len(reasons)


def find_outliers(
    settings: Settings, dataset: Dataset, decoded: Decoded, reporter: Reporter
) -> tuple[Photograph, ...]:
    """Pictures of other things: those of `settings.outliers`, or `not-pets` beside a named data set of pets.

    Unreadable ones are left out. Raises BadInputError when the folder holds none.
    """
    folder = Path(settings.outliers) if settings.outliers else data_root() / NOT_PETS
    wanted = settings.outliers is not None or (settings.data in ENTRIES and folder.is_dir())
    if not wanted:
        return ()
    searched = find(folder)
    for line in told(searched.left_out):
        reporter.warn(f"{folder}: {line}")
    own = {photo.sha256 for split in SPLITS for photo in dataset.splits[split]}
    found = []
    for path in sorted(searched.photographs):
        name = str(path.relative_to(folder))
        try:
            photo = Photograph(name, path, -1, sha256_of(path))
        except OSError as error:
            reporter.warn(f"left out of the pictures of other things: {name}: {error.strerror or error}")
            continue
        problem = "is one of the photographs of the classes" if photo.sha256 in own else problem_of(photo, decoded)
        if problem:
            reporter.warn(f"left out of the pictures of other things: {photo.name}: {problem}")
        else:
            found.append(photo)
    if len(found) < 2:
        raise BadInputError(
            f"{folder} holds {len(found)} usable pictures of other things",
            "Pass a folder with a few hundred pictures of what is not one of the classes, or leave --outliers out.",
        )
    return tuple(found)


def _problems(
    photos: list[Photograph], trained: set[Photograph], decoded: Decoded, team: Team, reporter: Reporter
) -> dict[Path, str]:
    """Why photographs cannot be used, by path; every process of the team tries its share."""

    def problem(photo: Photograph) -> str:
        return problem_of(photo, decoded, larger=photo in trained)

    mine = team.share(photos)
    reasons = []
    with ThreadPoolExecutor(cores()) as pool, reporter.task("reading photographs", len(mine)) as task:
        for reason in pool.map(problem, mine):
            task.advance()
            reasons.append(reason)
    both = zip(photos, team.gathered(reasons), strict=True)
    return {photo.path: reason for photo, reason in both if reason}


def _check(dataset: Dataset, splits: dict[str, tuple[Photograph, ...]], reporter: Reporter) -> None:
    left = {photo.label for photo in splits["train"]}
    empty = [name for index, name in enumerate(dataset.classes) if index not in left]
    if empty:
        names = ", ".join(empty[:5])
        raise BadInputError(f"no readable training photograph of: {names}", "Add photographs or remove the class.")
    for split in ("val", "test"):
        if not splits[split]:
            total = sum(len(photos) for photos in dataset.splits.values())
            raise BadInputError(
                f"too few photographs: none of {total} is left for {split}",
                f"Add photographs, or put some into {split}/CLASS/ beside train/CLASS/.",
            )
    if len(splits["val"]) < FEW_VALIDATION:
        reporter.warn(f"only {len(splits['val'])} validation photographs: the choice of the best epoch is rough")
