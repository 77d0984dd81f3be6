"""The photographs of a run: found again where they lie now, checked by their content, decoded in splits."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from toolchain.datasets.catalogue import data_root, named, photographs_of
from toolchain.datasets.index import describe_left_out
from toolchain.datasets.naming import photographs_named
from toolchain.datasets.splits import sha256_of_labelled, stratified
from toolchain.errors import BadInputError, MissingError, UnreadableImageError
from toolchain.images.cache import cache_folder
from toolchain.images.reader import Photograph, Reader, prefetched
from toolchain.runs import RUN_FILE, SPLITS_FILE, Run, SplitFile, read_splits
from toolchain.runtimes.devices import cores
from toolchain.system import files
from toolchain.system.progress import Reporter
from toolchain.system.text import folded

UNLABELLED = "unlabelled"
"""The split of photographs of which nobody said what is on them."""

MAX_JUDGED = 400
"""Photographs that a network without splits of its own is measured on."""

MAX_ADOPTED = 4000
"""Photographs that an adopted network is given: they judge, calibrate, are compared on and teach int8."""
MAX_CALIBRATION = 96
"""Photographs that int8 is calibrated on; where the calibration split holds fewer, training photographs help."""

SHIFT = 6
MOVES = (0, -SHIFT, SHIFT)
"""Pixels by which a view is moved: down and to the right, or up and to the left."""


@dataclass(frozen=True)
class Views:
    """The photographs, their mirror images, and both moved a little: as uint8 [6 n, height, width, 3].

    Rounding changes the answer to each view almost independently, so views tell more about a small split. They are
    made when they are sliced: six copies of a large split do not fit into memory.
    """

    pixels: NDArray[np.uint8]

    def __len__(self) -> int:
        return 2 * len(MOVES) * len(self.pixels)

    def __getitem__(self, part: slice) -> NDArray[np.uint8]:
        """The views `part`, uint8 [n, height, width, 3]: all photographs in one view, then in the next one."""
        numbers = range(len(self))[part]
        if not numbers:
            return self.pixels[:0]
        return np.stack([self.view(*divmod(number, len(self.pixels))) for number in numbers])

    def view(self, view: int, place: int) -> NDArray[np.uint8]:
        """One of the views of the photograph at `place`, uint8 [height, width, 3]."""
        image, (top, mirrored) = self.pixels[place], divmod(view, 2)
        if shift := MOVES[top]:
            height, width = image.shape[:2]
            edged = np.pad(image, ((SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), "edge")
            image = edged[SHIFT + shift :, SHIFT + shift :][:height, :width]
        return np.asarray(image[:, ::-1] if mirrored else image)


@dataclass(frozen=True)
class Sample:
    """A split of a run, decoded: pixels uint8 [n, height, width, 3], labels int64 [n], -1 where there are none."""

    split: str
    split_sha256: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    @property
    def views(self) -> Views:
        """Several views of each photograph."""
        return Views(self.pixels)

    def first(self, n: int) -> NDArray[np.uint8]:
        """At most `n` photographs, of all classes as far as they go: uint8 [n, height, width, 3]."""
        return self.pixels[stratified(self.labels.tolist())[:n]]


class RunPhotographs:
    """The photographs of the run in `folder`, below `data` or where they were at training.

    A network that was adopted has no splits: any photographs serve it, and are divided here. `judged_on` is the
    split that files are measured on.

    Raises BadInputError where the list of photographs does not belong to the run, or `data` holds none.
    """

    def __init__(self, folder: Path, run: Run, data: Path | None, reporter: Reporter) -> None:
        self._run = run
        self.judged_on: str = run.model.judged_on
        self._position = {name: place for place, name in enumerate(run.data.classes)} | {"": -1}
        self._reader = Reader(run.preprocess, cache_folder(), reporter, keep=False)
        if not run.data.counts:
            self._root = _any_folder(folder, run, data)
            # Splits of a training name what could be read; here nobody has looked yet.
            found = _by_content(self._root, reporter, self._reader, MAX_ADOPTED)
            self._splits = _divided(found, run.data.classes, reporter)
            self.judged_on = next(iter(self._splits))
        else:
            self._find(folder, run, data, reporter)
        self._splits["calibration"] = calibration_of(self._splits)

    def _find(self, folder: Path, run: Run, data: Path | None, reporter: Reporter) -> None:
        """Find the photographs of the run's own splits."""
        self._splits = _usable_splits(folder, run)
        if data is None:
            self._root = photographs_of(run.data.name, run.data.path)
        else:
            self._root = folder_of(data)
            found = _by_content(self._root, reporter)
            self._splits = {split: _renamed(listed, found) for split, listed in self._splits.items()}

    def paths(self, split: str) -> tuple[Path, ...]:
        """The files of a split, in the order of `read`."""
        return tuple(self._root / file.name for file in self._splits[split])

    def read(self, split: str) -> Sample:
        """Decode a split. Raises MissingError when a photograph is gone or has changed since training."""
        listed, spec = self._splits[split], self._run.preprocess
        pixels = np.empty((len(listed), spec.height, spec.width, 3), np.uint8)

        def decode(place: int) -> None:
            pixels[place] = self._picture(split, place)

        with ThreadPoolExecutor(cores()) as pool:
            deque(pool.map(decode, range(len(listed))), 0)
        sha256 = sha256_of_labelled((file.sha256, file.label) for file in listed)
        return Sample(split, sha256, pixels, np.array([self._position[file.label] for file in listed], np.int64))

    def count(self, split: str) -> int:
        """How many photographs a split has."""
        return len(self._splits[split])

    def batches(self, split: str, groups: Sequence[Sequence[int]]) -> Iterator[NDArray[np.uint8]]:
        """Photographs of a split by their numbers, uint8 [batch, height, width, 3] for each of `groups`.

        They are read while they are used, each time anew: a training split may be larger than the memory. Raises
        MissingError as `read` does.
        """
        return prefetched(groups, lambda place: self._picture(split, place))

    def unlabelled(self, n: int) -> NDArray[np.uint8]:
        """At most `n` views of training photographs, uint8 [n, height, width, 3], to compare networks on.

        Classes take turns. Photographs come in one view each; where there are fewer than `n`, in several. Those
        that int8 is calibrated on are left out where there are others. Raises MissingError as `read` does.
        """
        (pixels,) = self.batches("train", [self.compared(n)])
        views = Views(pixels)
        each = len(views) // len(pixels)
        order = [((place + turn) % each, place) for turn in range(each) for place in range(len(pixels))]
        return np.stack([views.view(*one) for one in order[:n]])

    def compared(self, n: int) -> list[int]:
        """The numbers of the training photographs that `unlabelled(n)` shows."""
        return self._order()[:n]

    def for_training(self, compared: int) -> list[int]:
        """The numbers of the training photographs that `unlabelled(compared)` leaves, if half; or of all."""
        order = self._order()
        chosen = set(order[:compared]) if len(order) >= 2 * compared else set()
        return [place for place in range(self.count("train")) if place not in chosen]

    def _order(self) -> list[int]:
        """The training photographs to compare networks on: classes take turns."""
        listed = self._splits["train"]
        calibrating = {file.sha256 for file in self._splits["calibration"]}
        places = _turns(listed)
        return [place for place in places if listed[place].sha256 not in calibrating] or places

    def _picture(self, split: str, place: int) -> NDArray[np.uint8]:
        file = self._splits[split][place]
        photograph = Photograph(file.name, self._root / file.name, self._position[file.label], file.sha256)
        try:
            return self._reader.verified(photograph)
        except MissingError:
            state = "has changed" if os.path.lexists(photograph.path) else "is not there"
            raise MissingError(
                f"{photograph.path}, a {split} photograph of the run, {state}",
                "Say where the run's photographs are now with --data FOLDER: they are known by their content.",
            ) from None


def calibration_of(splits: Mapping[str, Sequence[SplitFile]]) -> tuple[SplitFile, ...]:
    """What int8 is calibrated on: the calibration split, filled up from train, classes taking turns.

    Ranges from a few photographs cut off what others need. Training photographs serve as well: no labels are used,
    and accuracy is measured on val.
    """
    own = _in_turns(splits.get("calibration", ()))[:MAX_CALIBRATION]
    return own + _in_turns(splits["train"])[: MAX_CALIBRATION - len(own)]


def _in_turns(listed: Sequence[SplitFile]) -> tuple[SplitFile, ...]:
    return tuple(listed[place] for place in _turns(listed))


def _turns(listed: Sequence[SplitFile]) -> list[int]:
    """The numbers of photographs, in an order in which classes take turns."""
    return stratified([file.label for file in listed], [file.sha256 for file in listed])


def _usable_splits(folder: Path, run: Run) -> dict[str, tuple[SplitFile, ...]]:
    """The splits that the run was trained on. Raises BadInputError where they cannot be this run's."""
    splits = read_splits(folder)
    if run.model.refit and not splits.get("test"):
        raise BadInputError(
            f"all photographs of {folder} have taught it: none is left to judge its files on",
            "Show a fourth take of each thing with `edgetl teach`, and train again.",
        )
    unknown = {file.label for listed in splits.values() for file in listed} - set(run.data.classes)
    missing = [split for split in ("train", "val") if not splits.get(split)]
    if unknown or missing:
        wrong = f"it names the class {min(unknown)!r}" if unknown else f"it has no {missing[0]} photographs"
        raise BadInputError(
            f"{folder / SPLITS_FILE} does not belong to {folder / RUN_FILE}: {wrong}",
            "Run `edgetl finetune` again.",
        )
    return splits


def _any_folder(folder: Path, run: Run, data: Path | None) -> Path:
    """The folder that an adopted network's photographs are in. Raises BadInputError where none was named."""
    if data is None and not run.data.path:
        raise BadInputError(
            f"{folder} was adopted, and brings no photographs to measure on",
            "Name a folder of photographs such as it will see: --data FOLDER. They need no labels.",
        )
    return folder_of(data or Path(run.data.path))


def _divided(
    found: Mapping[str, Path], classes: Sequence[str], reporter: Reporter
) -> dict[str, tuple[SplitFile, ...]]:
    """Photographs by their SHA-256, divided: the first split judges, from `train` comes the calibration.

    A photograph has a label where its folder is called after a class. Labels count where all have one.
    """
    if len(found) < 2:
        raise BadInputError("there is one photograph only", "One calibrates, and another one judges: give more.")
    by_name = {folded(name): name for name in classes}
    labels = [by_name.get(folded(path.parent.name)) for path in found.values()]
    labelled = None not in labels
    if not labelled:
        known = len(labels) - labels.count(None)
        reporter.say(
            f"{known} of {len(labels)} photographs lie in folders called after a class, so labels are not used: "
            "top-1 is agreement with the network's own answer to a photograph and its mirror image together"
        )
    listed = [
        SplitFile(str(path), sha256, (label if labelled else None) or "")
        for (sha256, path), label in zip(found.items(), labels, strict=True)
    ]
    turns = [listed[place] for place in stratified([one.label for one in listed], [one.sha256 for one in listed])]
    halves = _halves(turns)
    judged, rest = halves[0][:MAX_JUDGED], halves[1] + halves[0][MAX_JUDGED:]
    return {"val" if labelled else UNLABELLED: tuple(judged), "train": tuple(rest)}


def _halves(photographs: Sequence[SplitFile]) -> tuple[list[SplitFile], list[SplitFile]]:
    """Every second photograph of each class, and the others. Classes of one photograph are shared out in turns."""
    halves: tuple[list[SplitFile], list[SplitFile]] = ([], [])
    side = {label: place for place, label in enumerate(sorted({one.label for one in photographs}))}
    for one in photographs:
        halves[side[one.label] % 2].append(one)
        side[one.label] += 1
    return halves


def folder_of(data: Path) -> Path:
    """The folder that `data` is, or that the data set of this name lies in."""
    entry = named(str(data))
    folder = (entry.find(data_root()) if entry else None) or data
    if not folder.is_dir():
        raise BadInputError(f"{folder} is not a folder", "Name the one that holds the run's photographs.")
    return folder


def _by_content(
    folder: Path, reporter: Reporter, reader: Reader | None = None, most: int | None = None
) -> dict[str, Path]:
    """All photographs below `folder` by their SHA-256; with a `reader`, those that it can decode.

    Of more than `most`, as many are taken, from all folders in turns. What may be a photograph and is left out is
    told. Raises BadInputError where there is none.
    """
    named = photographs_named([str(folder)])
    for line in describe_left_out(one for one in named.left_out if one.lost):
        reporter.warn(f"{folder}: {line}")
    if not named.paths:
        raise BadInputError(f"{folder} holds no photographs", "Name the folder where they are now with --data.")
    paths = named.paths
    if most is not None and len(paths) > most:
        reporter.say(f"{most} of the {len(paths)} photographs are used, from all folders in turns")
        chosen = stratified([str(path.parent) for path in paths])[:most]
        paths = tuple(paths[place] for place in sorted(chosen))

    def content(path: Path) -> str | UnreadableImageError:
        try:
            return files.sha256_of(path) if reader is None else reader.load(path.name, path).sha256
        except OSError as error:
            return UnreadableImageError(f"{path}: {error.strerror or error}")
        except UnreadableImageError as error:
            return error

    found: dict[str, Path] = {}
    with ThreadPoolExecutor(cores()) as pool, reporter.task(f"reading {folder.name}", len(paths)) as task:
        for path, sha256 in zip(paths, pool.map(content, paths), strict=True):
            if isinstance(sha256, UnreadableImageError):
                reporter.warn(f"skipped: {sha256.message}")
            else:
                found.setdefault(sha256, path.absolute())
            task.advance()
    if not found:
        raise BadInputError("none of the photographs can be read", "Look at them with `edgetl data check`.")
    return found


def _renamed(listed: Iterable[SplitFile], found: Mapping[str, Path]) -> tuple[SplitFile, ...]:
    """`listed` with the names that the photographs have now; those that were not found keep theirs."""
    return tuple(structs.replace(file, name=str(found.get(file.sha256, file.name))) for file in listed)
