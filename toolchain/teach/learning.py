"""From an album to a run: features once for each photograph, a new head each time, and what it is worth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from toolchain.artifact.card import Reject
from toolchain.backbones import preprocess_of, recipe_of
from toolchain.backbones.networks import body_of, build, head_of, hidden_of
from toolchain.backbones.weights import Pretrained, load_pretrained
from toolchain.datasets.folder import list_folder
from toolchain.datasets.groups import with_groups
from toolchain.datasets.index import hash_all
from toolchain.datasets.splits import SPLITS, Dataset, make_splits
from toolchain.errors import BadInputError, UnreadableImageError
from toolchain.evaluation.metrics import measure
from toolchain.export.exporting import write_unmeasured
from toolchain.images.preprocess import Preprocess
from toolchain.images.reader import Photograph, Reader
from toolchain.runs import RUN_FILE, CrossValidation, Metrics, Rejection
from toolchain.system import files
from toolchain.system.progress import Reporter
from toolchain.teach.album import NOTHING, Album, take_number, take_of
from toolchain.teach.judging import Judgement, Shown, fit, judge, order_of_takes
from toolchain.teach.learnt import LEARNT_FILE, Learnt
from toolchain.training.context import TrainContext, choose_device
from toolchain.training.evaluator import Evaluation
from toolchain.training.features import WORTH_COMPILING, Extractor, Floats, Frozen, features_of, labels_of
from toolchain.training.records import describe_run, write_splits, write_weights
from toolchain.training.settings import settings_for
from toolchain.training.team import Team

TEST_TAKES = 4
"""Once there are so many takes of everything, some never teach: they judge the very file that runs."""
GROUP_BY = r"regex:(take\d+)-\d+\.jpg"
"""What belongs together, in the words of `--group-by`: takes; each other photograph is on its own."""
COMPARED = 4
"""Photographs on which the written file is compared with the network."""
AHEAD = 8
"""Photographs whose features are computed at a time, while takes are recorded."""


@dataclass
class Learner:
    """Teaches a network `model` with pretrained `weights` again and again; features of photographs are kept."""

    album: Album
    reporter: Reporter
    model: str = "mobilenet_v2"
    weights: str = "ready-made"
    _features: dict[tuple[Path, int, int], Floats] = field(default_factory=dict)
    _seen: set[Path] = field(default_factory=set)
    """Photographs that have features. Those that change later get new ones when it is to teach."""
    _extract: Extractor | None = None

    def prepare(self) -> None:
        """Load and compile the network, which takes seconds; else the first `learn` does."""
        self._network(2)

    def look_ahead(self) -> bool:
        """Compute features of a few photographs that have none yet; False if there is nothing to do."""
        try:
            new = list(islice((path for path in self.album.paths() if path not in self._seen), AHEAD))
            photos = [Photograph(path.name, path, -1, files.sha256_of(path)) for path in new]
            if photos:
                self._features_of(photos, Reader(self._spec(), None, self.reporter))
        except (OSError, UnreadableImageError):
            return False  # its take was just removed; what stays unreadable is told when it is to teach
        return bool(photos)

    def judged_by_frame(self) -> float | None:
        """What accuracy would be claimed if frames were split, and not takes: flattery, to be compared with."""
        index = list_folder(self.album.photographs)
        photos = [Photograph(one.name, one.path, one.label, files.sha256_of(one.path)) for one in index.photographs]
        features, labels = self._features_of(photos, Reader(self._spec(), None, self.reporter)), labels_of(photos)
        rng = np.random.default_rng(0)
        takes = np.concatenate([rng.permutation(count) for count in np.bincount(labels)])
        nothing = index.classes.index(NOTHING) if NOTHING in index.classes else None
        _, pretrained = self._network(len(index.classes))
        return judge(Shown(features, labels, takes), len(index.classes), pretrained.head, nothing).top1

    def learn(self) -> Learnt:
        """Teach a new head with all photographs, and put its run into the album.

        Raises BadInputError where there are too few photographs, OSError where the run cannot be written.
        """
        started = time.perf_counter()
        self.album.check()
        pictures = len(self.album.paths())
        dataset = self._dataset()
        classes = len(dataset.classes)
        network, pretrained = self._network(classes)
        context = self._context(dataset)
        taught = dataset.splits["train"] + dataset.splits["calibration"] + dataset.splits["val"]
        takes = order_of_takes([(photo.label, take_of(photo.path)) for photo in taught])
        shown = Shown(self._features_of(taught, context.reader), labels_of(taught), takes)
        weight, bias = fit(shown, classes, pretrained.head)
        head = head_of(network)
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(weight))
            head.bias.copy_(torch.from_numpy(bias))
        nothing = dataset.classes.index(NOTHING) if NOTHING in dataset.classes else None
        judged = judge(shown, classes, pretrained.head, nothing)
        test = dataset.splits["test"]
        answers = self._features_of(test, context.reader) @ weight.T + bias if test else None
        metrics = _metrics(judged, dataset, answers)

        learnt = Learnt(
            str(self.album.run),
            dataset.classes,
            pictures,
            judged.top1,
            judged.top1_ci95 if judged.takes else None,
            judged.takes,
            dict(zip(dataset.classes, judged.by_class, strict=True)),
            judged.rejection.outliers_rejected if judged.rejection else None,
            metrics["test"].top1 if "test" in metrics else None,
            0.0,
        )
        made = self.album.new_run()
        made.mkdir(parents=True)
        self._write(made, replace(context, folder=made), network, pretrained, judged, metrics)
        learnt = replace(learnt, seconds=round(time.perf_counter() - started, 3))
        files.write_json(made / LEARNT_FILE, learnt)
        self.album.put_run(made)
        return learnt

    def _dataset(self) -> Dataset:
        """The photographs in splits that no take is on two sides of. Enough takes are split as everywhere."""
        index = list_folder(self.album.photographs, self.album.root.resolve().name)
        takes = {thing: self.album.count(thing).takes for thing in self.album.things}
        if min(count for count in takes.values() if count) >= TEST_TAKES:
            has_takes = any(take_number(photo.path) for photo in index.photographs)
            return make_splits(with_groups(index, GROUP_BY) if has_takes else index, self.reporter)
        index, hashes = hash_all(index, self.reporter)
        photos = [Photograph(one.name, one.path, one.label, hashes[one.path]) for one in index.photographs]
        splits = all_teaching(photos, len(index.classes))
        return Dataset(index.name, index.root, index.classes, splits, index.warnings, left_out=index.left_out)

    def _network(self, classes: int) -> tuple[torch.nn.Module, Pretrained]:
        torch.manual_seed(0)
        network = build(self.model, classes)
        pretrained = load_pretrained(network, self.model, self.weights)
        network.eval()
        if self._extract is None:
            spec, body = self._spec(), body_of(network)
            shape, hidden = (spec.height, spec.width), hidden_of(network)
            frozen = Frozen(body, shape, torch.device("cpu"), pooled=True, hidden=hidden)
            # As for many photographs: they come few at a time, but will be many, and wait for nobody now.
            self._extract = frozen.extractor(many=WORTH_COMPILING + 1, exact=True)
        return network, pretrained

    def _spec(self) -> Preprocess:
        return preprocess_of(self.model)

    def _context(self, dataset: Dataset) -> TrainContext:
        weights = str(Path(self.weights).absolute()) if Path(self.weights).is_file() else self.weights
        settings = settings_for(
            str(dataset.root),
            self.model,
            recipe_of(self.model),
            weights=weights,
            probe_only=True,
            refit=True,
            group_by=GROUP_BY,
        )
        reader = Reader(settings.preprocess, None, self.reporter)
        device = choose_device("cpu", self.reporter)
        return TrainContext(settings, dataset, (), reader, device, Team(), self.album.root, self.reporter)

    def _features_of(self, photos: Sequence[Photograph], reader: Reader) -> Floats:
        keys = [_key(photo.path) for photo in photos]
        new = [(key, photo) for key, photo in zip(keys, photos, strict=True) if key not in self._features]
        if new:
            if self._extract is None:
                self._network(2)
            assert self._extract is not None
            found = features_of([photo for _, photo in new], self._extract, reader, self.reporter, "features")
            if not np.isfinite(found).all():
                raise BadInputError(f"with the weights {self.weights} the network computes NaN", "Take others.")
            self._features |= {key: row for (key, _), row in zip(new, found, strict=True)}
        self._seen.update(photo.path for photo in photos)
        return np.stack([self._features[key] for key in keys])

    def _write(
        self,
        folder: Path,
        context: TrainContext,
        network: torch.nn.Module,
        pretrained: Pretrained,
        judged: Judgement,
        metrics: dict[str, Metrics],
    ) -> None:
        """Write the run: `run.json` comes last, so that a run that has it is whole."""
        rejection = judged.rejection or Rejection(Reject("energy", 0.0), {})
        kept = Evaluation(judged.temperature, judged.temperature_fit, rejection, metrics, {})
        crossed = None
        if judged.held is not None:
            answers = measure(judged.held.logits, judged.held.labels, judged.temperature)
            crossed = CrossValidation(judged.takes, answers, judged.top1_ci95)
        write_splits(folder, context.dataset)
        sha256 = write_weights(folder, network)
        run = describe_run(
            context,
            network,
            sha256,
            pretrained,
            0,
            kept,
            kept,
            crossed,
            0,
            "edgetl teach",
            before_refit=metrics,
            continuation=None,
        )
        run = replace(run, model=replace(run.model, refit=True), before_refit={})
        if judged.rejection is None:
            run = replace(run, reject=None, rejection=None)
        photos = context.dataset.splits["train"]
        some = [photos[place] for place in np.linspace(0, len(photos) - 1, COMPARED).astype(int)]
        write_unmeasured(folder, run, np.stack([context.reader.input(photo) for photo in some]))
        files.write_json(folder / RUN_FILE, run)


def all_teaching(photos: Sequence[Photograph], classes: int) -> dict[str, tuple[Photograph, ...]]:
    """Splits of too few takes to hold any back: all teach. `val` is the last take of each class with several."""
    by_class: list[dict[str, list[Photograph]]] = [{} for _ in range(classes)]
    for photo in sorted(photos, key=lambda one: (take_number(one.path), one.name)):
        by_class[photo.label].setdefault(take_of(photo.path), []).append(photo)
    splits: dict[str, list[Photograph]] = {split: [] for split in SPLITS}
    for takes in by_class:
        *first, last = takes.values()
        splits["val" if first else "train"] += last
        splits["train"] += [photo for take in first for photo in take]
    return {split: tuple(found) for split, found in splits.items()}


def _key(path: Path) -> tuple[Path, int, int]:
    """What changes when the photograph does."""
    found = path.stat()
    return path, found.st_mtime_ns, found.st_size


def _metrics(judged: Judgement, dataset: Dataset, test: NDArray[np.float32] | None) -> dict[str, Metrics]:
    """Metrics of val by heads that it had not taught, and of test by the one that runs."""
    found = {}
    if judged.held is not None:
        of_val = judged.places >= len(dataset.splits["train"] + dataset.splits["calibration"])
        if of_val.any():
            held = judged.held
            found["val"] = measure(held.logits[of_val], held.labels[of_val], judged.temperature)
    if test is not None:
        labels = labels_of(dataset.splits["test"])
        found["test"] = measure(np.asarray(test, np.float32), labels, judged.temperature)
    return found
