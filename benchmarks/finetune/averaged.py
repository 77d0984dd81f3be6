"""Is the average of the weights of several seeds better than each of them?

    EDGETL_DATA=FOLDER python benchmarks/finetune/averaged.py RUN RUN RUN --out benchmarks/results/averaged.csv

The runs must have the same network and data. Validation says whether it pays; test is for the record.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from toolchain.backbones.networks import backbone_of, load_network
from toolchain.datasets.catalogue import open_dataset
from toolchain.evaluation.metrics import Top1, accuracy
from toolchain.images.cache import cache_folder
from toolchain.images.reader import Photograph, Reader
from toolchain.runs import read_run
from toolchain.system.progress import Silent

COLUMNS = ("model", "weights", "split", "photographs", "top1", "per_class_top1")
SPLITS = ("val", "test")
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    runs = [read_run(folder) for folder in options.runs]
    first = runs[0]
    networks = [load_network(folder, run) for folder, run in zip(options.runs, runs, strict=True)]
    named = {f"seed {run.settings['seed']}": one for run, one in zip(runs, networks, strict=True)}
    average = load_network(options.runs[0], first)
    average.load_state_dict(averaged([one.state_dict() for one in networks]))
    named[f"average of {len(networks)}"] = average
    data = open_dataset(first.data.name, reporter=Silent())
    reader = Reader(first.preprocess, cache_folder(), Silent())
    rows = []
    for split in SPLITS:
        photographs = data.splits[split]
        for name, network in named.items():
            found = judged(network, photographs, reader)
            figures = (f"{found.top1:.4f}", f"{found.per_class_top1:.4f}")
            rows.append((first.model.name, name, split, len(photographs), *figures))
            print(*rows[-1], flush=True)
    new = not options.out.exists()
    with options.out.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, *rows] if new else rows)


def averaged(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each tensor; counters are those of the first."""
    return {
        name: torch.stack([state[name] for state in states]).mean(0) if tensor.is_floating_point() else tensor
        for name, tensor in states[0].items()
    }


def judged(network: nn.Module, photographs: Sequence[Photograph], reader: Reader) -> Top1:
    """Accuracy on `photographs`, as the network sees them in evaluation."""
    backbone = backbone_of(network)
    mean, std = (torch.tensor(values)[:, None, None] for values in (backbone.mean, backbone.std))
    network.eval()
    answers = []
    with torch.no_grad():
        for start in range(0, len(photographs), BATCH):
            pixels = np.stack([reader.input(photo) for photo in photographs[start : start + BATCH]])
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
            answers.append(network((images - mean) / std).argmax(1).numpy())
    return accuracy(np.concatenate(answers), np.array([photo.label for photo in photographs]))


if __name__ == "__main__":
    main()
