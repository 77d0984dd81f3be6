"""What both peers of edgetl share: their options, the photographs, the clock of the process and the result."""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
import psutil
import torch
from torch import Tensor, nn

CLASSES = "classes"
SPLITS = ("train", "val", "test")
BATCH = 32
SIZE = 224
WORKERS = 2
"""Processes of a DataLoader that read photographs."""

T = TypeVar("T")
Labelled = tuple[Path, int]
"""A photograph's file and its label, an index into the classes."""


@dataclass(frozen=True)
class Photographs:
    """The classes, and the photographs of each split in the order of edgetl's."""

    classes: tuple[str, ...]
    splits: dict[str, tuple[Labelled, ...]]


@dataclass(frozen=True)
class Result:
    """What a peer measured. Accuracies are fractions; `train_images_per_s` is the median over epochs."""

    setting: str
    epochs: int
    best_epoch: int
    val_top1: float
    test_top1: float
    test_per_class_top1: float
    train_images_per_s: float


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that both peers have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("data", help="name or folder as for edgetl, or a list of photographs that compare.py wrote")
    made.add_argument("--weights", type=Path, required=True, help="state dict of mobilenet_v2, torchvision's names")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--epochs", type=int, default=6)
    made.add_argument("--max-minutes", type=float, help="begin no epoch that would probably end later than this")
    made.add_argument("--limit", type=int, default=0, help="photographs of each split, for a trial; 0 for all")
    made.add_argument("--json", type=Path, required=True, help="file for the result")
    return made


def open_photographs(data: str, limit: int = 0) -> Photographs:
    """The photographs of a data set by name, of a folder, or of a list that `write_list` wrote.

    With a list no time goes into edgetl's own way of splitting, which no user of the peers would pay for.
    """
    if data.endswith(".json"):
        document = json.loads(Path(data).read_text(encoding="utf-8"))
        classes = tuple(document.pop(CLASSES))
        splits = {split: tuple((Path(path), label) for path, label in document[split]) for split in SPLITS}
    else:
        from toolchain.datasets.catalogue import open_dataset

        dataset = open_dataset(data)
        classes = dataset.classes
        splits = {split: tuple((photo.path, photo.label) for photo in dataset.splits[split]) for split in SPLITS}
    if limit:
        splits = {split: limited(photos, limit) for split, photos in splits.items()}
    return Photographs(classes, splits)


def write_list(photographs: Photographs, path: Path) -> None:
    """Write `photographs` as a list that `open_photographs` reads."""
    splits = {split: [(str(file), label) for file, label in photos] for split, photos in photographs.splits.items()}
    path.write_text(json.dumps({CLASSES: photographs.classes, **splits}), encoding="utf-8")


def limited(photos: Sequence[Labelled], limit: int) -> tuple[Labelled, ...]:
    """The first `limit` photographs when all classes take turns."""
    by_class: dict[int, list[Labelled]] = {}
    for photo in photos:
        by_class.setdefault(photo[1], []).append(photo)
    turns = zip_longest(*by_class.values())
    return tuple(photo for turn in turns for photo in turn if photo is not None)[:limit]


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a state dict in torchvision's names into all of `network`, in place."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state: dict[str, Tensor] = load_file(path)
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
    missing, unknown = network.load_state_dict(state, strict=False)
    # A counter that only training reads; files made from other formats lack it.
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unknown:
        raise SystemExit(f"{path} does not fit mobilenet_v2: missing {missing[:3]}, unknown {unknown[:3]}")


def elapsed() -> float:
    """Seconds since this process began."""
    return time.time() - float(psutil.Process().create_time())


def tell_epoch(epoch: int, val_top1: float) -> None:
    """Print a point of the curve: one line of JSON."""
    print(json.dumps({"epoch": epoch, "elapsed_s": round(elapsed(), 2), "val_top1": val_top1}), flush=True)


def epochs_that_fit(planned: int, done: int, seconds: float, max_minutes: float | None) -> int:
    """How many epochs there will be, now that `done` of them took `seconds`."""
    if max_minutes is None or not done:
        return planned
    left = max_minutes * 60 - seconds
    return min(planned, done + max(0, int(left / (seconds / done))))


def result(
    setting: str,
    val_top1: Sequence[float],
    best_epoch: int,
    logits: np.ndarray,
    labels: np.ndarray,
    rates: Sequence[float],
) -> Result:
    """The result of a run from its curve on validation and the `logits` [n, classes] of the test photographs."""
    from toolchain.evaluation.metrics import measure

    metrics = measure(logits.astype(np.float32), labels.astype(np.int64), temperature=1.0)
    return Result(
        setting=setting,
        epochs=len(val_top1),
        best_epoch=best_epoch,
        val_top1=max(val_top1),
        test_top1=metrics.top1,
        test_per_class_top1=metrics.per_class_top1,
        train_images_per_s=median(rates),
    )


def write_result(measured: Result, path: Path) -> None:
    path.write_text(json.dumps(asdict(measured), indent=2) + "\n", encoding="utf-8")


def stamped(batches: Iterator[T], stamps: list[float]) -> Iterator[T]:
    """`batches`, noting in `stamps` when each was ready and, at the end, when the last had been used."""
    for batch in batches:
        stamps.append(time.perf_counter())
        yield batch
    stamps.append(time.perf_counter())
