"""fastai's `vision_learner` and `fine_tune` with their defaults, as a peer of `edgetl finetune`.

    python benchmarks/finetune/fastai_peer.py pets --weights mobilenet_v2.safetensors --json fastai.json

`fine_tune(E)` trains the new head for one epoch and all layers for E more. Its pictures are cut to 256 by PIL and
augmented by `aug_transforms` to 224. The epoch that is best on validation is kept; the test photographs are looked
at once, at the end. Nothing is downloaded: the weights come from a file.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastai.vision.all import (
    Callback,
    CancelFitException,
    CategoryBlock,
    DataBlock,
    ImageBlock,
    IndexSplitter,
    Resize,
    accuracy,
    aug_transforms,
    imagenet_stats,
    noop,
    set_seed,
    vision_learner,
)
from fastai.vision.learner import default_split, model_meta
from peer import (
    BATCH,
    SIZE,
    WORKERS,
    Labelled,
    epochs_that_fit,
    load_weights,
    open_photographs,
    parser,
    result,
    seed_everything,
    tell_epoch,
    write_result,
)
from torch import nn
from torchvision.models import mobilenet_v2

LARGER = 256
"""Side of the squares that batches are made of, before they are augmented to 224."""

HEAD = -1
"""The child at which fastai cuts the network off, to put its own head there."""


class Course(Callback):
    """Tells the curve, keeps the best epoch, measures the rate of training, and ends in time."""

    order = 60  # after the Recorder

    def __init__(self, planned: int, max_minutes: float | None) -> None:
        self.planned, self.max_minutes = planned, max_minutes
        self.began = time.perf_counter()
        self.val_top1: list[float] = []
        self.rates: list[float] = []
        self.best_epoch, self.best_state = 0, dict[str, Any]()

    def before_epoch(self) -> None:
        done = len(self.val_top1)
        if done >= epochs_that_fit(self.planned, done, time.perf_counter() - self.began, self.max_minutes):
            raise CancelFitException

    def before_train(self) -> None:
        self.started = time.perf_counter()

    def after_train(self) -> None:
        # fastai leaves out a last batch that is not full.
        shown = len(self.learn.dls.train) * BATCH
        self.rates.append(shown / (time.perf_counter() - self.started))

    def after_epoch(self) -> None:
        _, _, top1 = self.learn.recorder.values[-1]
        self.val_top1.append(float(top1))
        if self.val_top1[-1] > max(self.val_top1[:-1], default=-1.0):
            self.best_epoch = len(self.val_top1)
            self.best_state = copy.deepcopy(self.learn.model.state_dict())
        tell_epoch(len(self.val_top1), self.val_top1[-1])


def paths_of(photos: Sequence[Labelled]) -> list[Path]:
    return [path for path, _ in photos]


def main() -> None:
    options = parser(__doc__).parse_args()
    seed_everything(options.seed)
    set_seed(options.seed)
    photographs = open_photographs(options.data, options.limit)
    train, val, test = (photographs.splits[split] for split in ("train", "val", "test"))

    # fastai would take a pair for two items.
    labels_by_path = {path: label for photos in (train, val, test) for path, label in photos}

    def class_of(path: Path) -> str:
        return photographs.classes[labels_by_path[path]]

    def pretrained_network(**_: Any) -> nn.Module:
        """What fastai calls to get torchvision's network with its weights."""
        network = mobilenet_v2(weights=None)
        load_weights(network, options.weights)
        return network

    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock(vocab=list(photographs.classes), sort=False)),
        get_y=class_of,
        splitter=IndexSplitter(range(len(train), len(train) + len(val))),
        item_tfms=Resize(LARGER),
        batch_tfms=aug_transforms(size=SIZE),
    )
    loaders = block.dataloaders(paths_of([*train, *val]), bs=BATCH, num_workers=WORKERS)
    # fastai's table of networks lacks MobileNetV2; with this line in it, pictures are normalised as for the others.
    model_meta[pretrained_network] = {"cut": HEAD, "split": default_split, "stats": imagenet_stats}
    learner = vision_learner(loaders, pretrained_network, metrics=accuracy)
    course = Course(1 + options.epochs, options.max_minutes)
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(options.epochs, cbs=course)
        learner.model.load_state_dict(course.best_state)
        logits, labels = learner.get_preds(dl=loaders.test_dl(paths_of(test), with_labels=True), act=noop)
    measured = result(
        f"fine_tune({options.epochs}), float32, batch {BATCH}",
        course.val_top1,
        course.best_epoch,
        logits.cpu().numpy(),
        labels.cpu().numpy(),
        # The first epoch trains the head alone.
        course.rates[1:] or course.rates,
    )
    write_result(measured, options.json)


if __name__ == "__main__":
    main()
