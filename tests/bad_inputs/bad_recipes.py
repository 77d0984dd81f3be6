"""TOML files that are no recipe, for `finetune --recipe`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.bad_inputs.entry import Entry, Make, Stock, nothing, writes

RECIPE = "mine.toml"
WORDS = ("finetune", "photos", "--recipe", RECIPE, "--weights", "none", "--out", "run", "--device", "cpu")


def _finetune(line: str) -> str:
    return f"[finetune]\n{line}\n"


TEXTS: dict[str, str | bytes] = {
    "no-toml": "epochs: 3\n",
    "json": '{"finetune": {"epochs": 3}}',
    "not-utf-8": b"[finetune]\nbalance = '\xe9'\n",
    "utf-16": "[finetune]\nepochs = 3\n".encode("utf-16"),
    "zeros": bytes(1000),
    "cut-off": "[finetune]\nepochs =",
    "no-end-of-text": '[finetune]\nbalance = "weights\n',
    "key-twice": _finetune("epochs = 3\nepochs = 4"),
    "section-twice": "[finetune]\n[finetune]\n",
    "unknown-section": "[training]\nepochs = 3\n",
    "unknown-key": _finetune("epoch = 3"),
    "key-outside-a-section": "epochs = 3\n",
    "section-is-a-number": "finetune = 3\n",
    "section-is-a-list": "[[finetune]]\nepochs = 3\n",
    "network-is-text": 'network = "mobilenet_v2"\n',
    "network-of-no-parameters": "[network]\nparameters = 0\nmacs = 1\nsize_mb = 1.0\nfeatures = 1\n",
    "network-incomplete": "[network]\nparameters = 5\n",
    "measured-above-1": "[measured]\npets_top1 = 90.5\n",
    "5000-deep": "a = " + "[" * 5000 + "]" * 5000,
    "dotted-100000-deep": ".".join(["a"] * 100_000) + " = 1\n",
    "a-date": _finetune("epochs = 2026-01-01"),
    "number-of-5000-digits": _finetune("epochs = " + "9" * 5000),
}
LINES: dict[str, str] = {
    "epochs-negative": "epochs = -1",
    "epochs-fraction": "epochs = 2.5",
    "epochs-text": 'epochs = "auto"',
    "epochs-true": "epochs = true",
    "epochs-list": "epochs = [3]",
    "batch-size-0": "batch_size = 0",
    "batch-size-text": 'batch_size = "32"',
    "learning-rate-0": "learning_rate = 0.0",
    "learning-rate-2": "learning_rate = 2.0",
    "learning-rate-nan": "learning_rate = nan",
    "learning-rate-infinite": "learning_rate = inf",
    "weight-decay-negative": "weight_decay = -0.1",
    "weight-decay-infinite": "weight_decay = inf",
    "weight-decay-nan": "weight_decay = nan",
    "blocks-negative": "trained_blocks = -1",
    "decay-1": "ema_decay = 1.0",
    "crop-0": "min_crop_area = 0.0",
    "crop-above-1": "min_crop_area = 1.5",
    "crop-size-5": "crop_size = 5",
    "crop-size-100000": "crop_size = 100000",
    "smoothing-1": "label_smoothing = 1.0",
    "balance-unknown": 'balance = "fair"',
    "optimizer-unknown": 'optimizer = "lion"',
    "schedule-unknown": 'schedule = "spiral"',
    "minutes-0": "max_minutes = 0.0",
    "minutes-infinite": "max_minutes = inf",
    "max-grad-norm-negative": "max_grad_norm = -1.0",
    "max-grad-norm-nan": "max_grad_norm = nan",
    "augmentation-3": "augmentation = 3.0",
    "dropout-1": "dropout = 1.0",
    "head-unknown": 'head_init = "best"',
    "batch-norm-unknown": 'batch_norm = "some"',
    "batch-norm-frozen-from-scratch": 'batch_norm = "frozen"',
    "patience-negative": "patience = -3",
}
CONTENTS = tuple(
    Entry(name, (WORDS,), writes(RECIPE, text), says=RECIPE, limit_s=3) for name, text in TEXTS.items()
)
VALUES = tuple(Entry(name, (WORDS,), writes(RECIPE, _finetune(line))) for name, line in LINES.items())


def _folder(stock: Stock, place: Path) -> None:
    (place / RECIPE).mkdir()


def _circle(stock: Stock, place: Path) -> None:
    (place / RECIPE).symlink_to(RECIPE)


PLACES: dict[str, Make | Callable[[Stock, Path], None]] = {
    "missing": nothing,
    "a-folder": _folder,
    "a-circle-of-links": _circle,
}
FILES = tuple(Entry(name, (WORDS,), make, says=RECIPE) for name, make in PLACES.items())

ENTRIES = (*CONTENTS, *VALUES, *FILES)
