"""A plain PyTorch loop in the manner of torchvision's reference scripts, as a peer of `edgetl finetune`.

    python benchmarks/finetune/plain.py pets --weights mobilenet_v2.safetensors --json plain.json

PIL decodes, torchvision.transforms augments, a DataLoader batches, SGD with momentum and a cosine trains all layers
in float32. The epoch that is best on validation is kept; the test photographs are looked at once, at the end.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
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
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models import mobilenet_v2

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LEARNING_RATE = 0.002
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4
LABEL_SMOOTHING = 0.1

NORMALISED = (transforms.ToTensor(), transforms.Normalize(MEAN, STD))
FOR_TRAINING = transforms.Compose(
    [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(), *NORMALISED]
)
FOR_JUDGING = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(SIZE), *NORMALISED])

Batch = tuple[Tensor, Tensor]
"""Images float32 [batch, 3, height, width] and labels int64 [batch]."""


class Files(Dataset[tuple[Tensor, int]]):
    """Photographs decoded by PIL each time, as torchvision's ImageFolder does."""

    def __init__(self, photos: Sequence[Labelled], transform: transforms.Compose) -> None:
        self.photos = photos
        self.transform = transform

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.photos[index]
        with path.open("rb") as file:
            image = Image.open(file).convert("RGB")
        return self.transform(image), label


def training_loader(photos: Sequence[Labelled]) -> DataLoader[Batch]:
    return DataLoader(Files(photos, FOR_TRAINING), BATCH, shuffle=True, num_workers=WORKERS)


def judging_loader(photos: Sequence[Labelled]) -> DataLoader[Batch]:
    return DataLoader(Files(photos, FOR_JUDGING), BATCH, num_workers=WORKERS)


def build(weights: Path, classes: int) -> nn.Module:
    """torchvision's MobileNetV2 with the weights of a file and a new head, drawn at random."""
    network = mobilenet_v2(weights=None)
    load_weights(network, weights)
    network.classifier[1] = nn.Linear(network.last_channel, classes)
    return network


def device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


class Trainer:
    """The training of all layers, or of the head alone on frozen layers, step by step."""

    def __init__(self, network: nn.Module, rate: float, layers: str = "all", bfloat16: bool = False) -> None:
        self.network = network
        self.device = device_of(network)
        self.layers = layers
        self.bfloat16 = bfloat16
        if layers == "head":
            network.get_submodule("features").requires_grad_(False)
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.rate = rate
        self.optimizer = torch.optim.SGD(trained, rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        self.criterion = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)

    def epoch(self, batches: Iterable[Batch], steps: int, epoch: int, epochs: int) -> None:
        """Train on the `steps` batches of one epoch of `epochs`."""
        self.network.train()
        if self.layers == "head":
            self.network.get_submodule("features").eval()
        for number, (images, labels) in enumerate(batches):
            done = (epoch - 1 + number / steps) / epochs
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * 0.5 * (1 + math.cos(math.pi * done))
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
                logits = self.network(images.to(self.device))
                loss = self.criterion(logits, labels.to(self.device))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


@torch.inference_mode()
def logits_of(network: nn.Module, photos: Sequence[Labelled]) -> np.ndarray:
    """Logits float32 [photographs, classes], in the order of `photos`."""
    network.eval()
    device = device_of(network)
    return np.concatenate([network(images.to(device)).cpu().numpy() for images, _ in judging_loader(photos)])


def labels_of(photos: Sequence[Labelled]) -> np.ndarray:
    return np.array([label for _, label in photos], np.int64)


def main() -> None:
    options_parser = parser(__doc__)
    options_parser.add_argument("--layers", choices=("all", "head"), default="all")
    options_parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    options_parser.add_argument("--device", default="cpu", help="as torch calls it")
    options = options_parser.parse_args()
    seed_everything(options.seed)
    photographs = open_photographs(options.data, options.limit)
    train, val, test = (photographs.splits[split] for split in ("train", "val", "test"))
    network = build(options.weights, len(photographs.classes)).to(options.device)
    trainer = Trainer(network, options.learning_rate, options.layers)
    loader = training_loader(train)

    val_top1: list[float] = []
    rates: list[float] = []
    best_epoch, best_state = 0, {}
    began, planned, epoch = time.perf_counter(), options.epochs, 0
    while epoch < planned:
        epoch += 1
        started = time.perf_counter()
        trainer.epoch(loader, len(loader), epoch, planned)
        rates.append(len(train) / (time.perf_counter() - started))
        val_top1.append(float((logits_of(network, val).argmax(1) == labels_of(val)).mean()))
        if val_top1[-1] > max(val_top1[:-1], default=-1.0):
            best_epoch, best_state = epoch, copy.deepcopy(network.state_dict())
        tell_epoch(epoch, val_top1[-1])
        planned = epochs_that_fit(planned, epoch, time.perf_counter() - began, options.max_minutes)

    network.load_state_dict(best_state)
    setting = f"{options.layers} layers, float32, SGD {options.learning_rate:g}, batch {BATCH}"
    measured = result(setting, val_top1, best_epoch, logits_of(network, test), labels_of(test), rates)
    write_result(measured, options.json)


if __name__ == "__main__":
    main()
