"""Going on from a finished run: what is taken over from it, and which of the two networks is better.

A network that goes on from another is easily flattered: a photograph that taught the old one may be drawn into the
new test. So what the old run knew stays in the splits that it was in, also over several runs.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolchain.backbones import find
from toolchain.datasets import SPLITS, Dataset
from toolchain.datasets.index import first_few
from toolchain.datasets.known import TAUGHT
from toolchain.errors import BadInputError, EdgetlError
from toolchain.evaluation.metrics import accuracy
from toolchain.evaluation.statistics import paired_drop_ci95
from toolchain.images.preprocess import Resize
from toolchain.runs import EARLIER_FILE, WEIGHTS_FILE, Continuation, Run, read_earlier, read_run, read_splits
from toolchain.system import files
from toolchain.system.progress import Reporter


@dataclass(frozen=True)
class Previous:
    """The run in `folder` that training goes on from."""

    folder: Path
    run: Run

    @classmethod
    def read(cls, folder: Path) -> Previous:
        """Raises BadInputError where `folder` holds no finished run that was trained."""
        run = read_run(folder)
        if not run.model.taught:
            weights = folder / WEIGHTS_FILE
            train = f"Start from its features: edgetl finetune PHOTOS --weights {shlex.quote(str(weights))}"
            hint = train if weights.exists() else "An ONNX file cannot be trained further."
            raise BadInputError(f"{folder} was adopted, not trained: there is nothing to go on from", hint)
        return cls(folder, run)

    @cached_property
    def known(self) -> dict[str, str]:
        """The split of each photograph that this run or one before it knew, by SHA-256.

        What a refit has taught with, validation, is training from now on. Raises BadInputError where the records
        are missing or damaged.
        """
        found = read_earlier(self.folder)
        taught = self.run.model.taught
        # What has taught is remembered as such, wherever else a record may name it.
        for split, listed in sorted(read_splits(self.folder).items(), key=lambda item: item[0] in taught):
            now = "train" if split in taught and split not in TAUGHT else split
            found |= {photo.sha256: now for photo in listed}
        return found

    @cached_property
    def taught(self) -> frozenset[str]:
        """SHA-256 of the photographs that have taught its network, or the weights that it began with."""
        began = taught_before(str(self.run.settings.get("weights")), self.run.model.weights_sha256)
        return self._taught_itself | began

    @property
    def _taught_itself(self) -> frozenset[str]:
        return frozenset(sha256 for sha256, split in self.known.items() if split in TAUGHT)

    @property
    def licence(self) -> str:
        """Terms of all that its weights were made of."""
        terms = [self.run.model.weights_licence, *(f"{one}: {its}" for one, its in self.run.data.licences.items())]
        return "; ".join(one for one in terms if one)

    def settings(
        self,
        model: str | None,
        weights: str | None,
        size: int | None,
        resize: Resize | None,
        given: dict[str, Any],
    ) -> dict[str, Any]:
        """What settings of the new run follow from this one, over those that are `given`.

        Network and input are this run's; a linear probe stays one unless epochs are asked for. Raises
        BadInputError where a `model`, `weights`, a `size` or a way to `resize` were asked for that are others.
        """
        spec, name = self.run.preprocess, self.run.model.name
        body = shlex.quote(str(self.folder / WEIGHTS_FILE))
        if model not in (None, name) and not _is_called(model, name):
            raise BadInputError(
                f"{self.folder} is a {name}, and cannot go on as a {model}", "Leave --model out, or --from."
            )
        if weights is not None:
            raise BadInputError(
                f"--from goes on with the weights of {self.folder}; --weights {weights} cannot be given beside it",
                "Leave one of them out.",
            )
        wanted = given.get("preprocess") or spec.with_size(size or spec.height, resize or spec.resize)
        if wanted != spec:
            raise BadInputError(
                f"{self.folder} sees {spec.width} x {spec.height} pixels ({spec.resize}), and cannot go on with "
                "others",
                f"Leave --size and --resize out, or start from its features: --weights {body}",
            )
        stays_probe = bool(self.run.settings.get("probe_only")) and given.get("epochs") is None
        return given | {
            "from_run": str(self.folder),
            "weights": str(self.folder / WEIGHTS_FILE),
            "preprocess": spec,
            "probe_only": bool(given.get("probe_only")) or stays_probe,
        }

    def same(self, classes: Sequence[str]) -> dict[int, int]:
        """The row of the old head, by the label in `classes`, of each class that stays."""
        places = {name: place for place, name in enumerate(self.run.data.classes)}
        return {label: places[name] for label, name in enumerate(classes) if name in places}

    def check(self, dataset: Dataset, reporter: Reporter) -> None:
        """Say what changes from the old photographs to `dataset`. Raises BadInputError where no class stays."""
        same = self.same(dataset.classes)
        if not same:
            raise BadInputError(
                f"{dataset.name} has none of the classes of {self.folder}: {first_few(self.run.data.classes)}",
                "Are these its photographs? To start with its features alone: edgetl finetune PHOTOS --weights "
                f"{shlex.quote(str(self.folder / WEIGHTS_FILE))}",
            )
        dropped = [name for name in self.run.data.classes if name not in dataset.classes]
        if dropped:
            reporter.warn(
                f"{dataset.name} has no photographs of {first_few(dropped)}: the new network forgets them"
            )
        here = {photo.sha256 for split in SPLITS for photo in dataset.splits[split]}
        taught = self._taught_itself
        gone = len(taught - here)
        if gone > len(taught) / 2:
            reporter.warn(
                f"{gone} of the {len(taught)} photographs that taught {self.folder} are not in {dataset.name}: "
                "what only they showed may be forgotten. Teach with the old and the new ones together"
            )

    def write_earlier(self, out: Path, dataset: Dataset) -> None:
        """Keep the splits of photographs that are not in `dataset`, for the run after the new one, in `out`."""
        here = {photo.sha256 for split in SPLITS for photo in dataset.splits[split]}
        files.write_json(out / EARLIER_FILE, {one: split for one, split in self.known.items() if one not in here})

    def compared(
        self,
        dataset: Dataset,
        old_logits: NDArray[np.float32],
        new_logits: NDArray[np.float32],
        labels: NDArray[np.int64],
    ) -> Continuation:
        """Both networks on the same photographs, of test: logits [n, old classes] and [n, new ones], `labels` [n].

        The old one is asked about its own classes only.
        """
        same = self.same(dataset.classes)
        rows = np.array([same.get(label, -1) for label in range(len(dataset.classes))])[labels]
        shared = rows >= 0
        old = old_logits[shared].argmax(1) == rows[shared]
        answers = new_logits.argmax(1)
        new = answers[shared] == labels[shared]
        drop, (low, high) = paired_drop_ci95(old.tolist(), new.tolist()) if len(old) else (0.0, (0.0, 0.0))
        return Continuation(
            run=str(self.folder),
            sha256=self.run.model.sha256,
            kept=tuple(dataset.classes[label] for label in same),
            added=tuple(name for label, name in enumerate(dataset.classes) if label not in same),
            dropped=tuple(name for name in self.run.data.classes if name not in dataset.classes),
            n=len(old),
            old_top1=accuracy(old_logits[shared].argmax(1), rows[shared]).top1 if len(old) else None,
            new_top1=accuracy(answers[shared], labels[shared]).top1 if len(old) else None,
            gain=0.0 - drop,
            gain_ci95=(0.0 - high, 0.0 - low),
            added_n=int((~shared).sum()),
            added_top1=accuracy(answers[~shared], labels[~shared]).top1 if not shared.all() else None,
        )


def _is_called(model: str, name: str) -> bool:
    """Whether `model` is a shorter name of the network called `name`, as timm's are without their tag."""
    with suppress(EdgetlError):
        return find(model).name == name
    return False


def taught_before(weights: str, sha256: str | None) -> frozenset[str]:
    """SHA-256 of the photographs that have taught `weights`, if these are a run's own file; else none is known."""
    with suppress(BadInputError):
        previous = Previous.read(Path(weights).parent)
        if sha256 is not None and previous.run.model.sha256 == sha256:
            return previous.taught
    return frozenset()


def warn_of_seen(dataset: Dataset, seen: frozenset[str], taught: str, reporter: Reporter) -> None:
    """Warn where photographs that judge are among those that have `taught` something that training takes over."""
    for split in ("val", "test"):
        known = sum(photo.sha256 in seen for photo in dataset.splits[split])
        if known:
            reporter.warn(
                f"{known} of {len(dataset.splits[split])} {split} photographs have taught {taught}: figures on "
                f"{split} flatter the new network"
            )
