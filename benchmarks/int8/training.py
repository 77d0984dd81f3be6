"""What training gives integers that are far from the float network: rate, epochs, and photographs that are mixed.

    edgetl export RUN && python benchmarks/int8/training.py RUN... --out benchmarks/results/int8-training.csv

Each row is a way of training, on one device, judged by validation photographs, also mirrored: mean divergence of
probabilities (nats), agreement with the float network, and the points of top-1 that its probabilities say are lost.
A `mixed` share of 1 leaves photographs alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from judging import COLUMNS as JUDGED
from judging import Judge, Row, record

from toolchain.export.int8 import qat
from toolchain.export.int8.quantisers import recipes
from toolchain.export.int8.search import COMPARED_ON
from toolchain.export.int8.torch_graph import Graph

WAYS = ((5e-6, 2, 1.0), (1e-5, 4, 1.0), (1e-5, 4, 0.5), (1e-5, 8, 0.5), (3e-5, 8, 0.5))
"""Learning rate, epochs, and the least share of a photograph that another one shows through."""
RECIPES = {
    "edgetl, for ONNX Runtime": "ort:cpu",
    "edgetl, hard-swish within layers, sensitive layers in float": "openvino:CPU",
}
"""What is trained, and the device that judges it."""
COLUMNS = ("network", "seed", "recipe", "device", "rate", "epochs", "mixed", "seconds", *JUDGED)


def trained(folder: Path) -> Iterator[Row]:
    """A row for each recipe as it is, and after each way of training."""
    judge = Judge(folder)
    photographs = judge.photographs
    numbers = photographs.for_training(COMPARED_ON)
    for recipe in recipes(judge.task):
        if recipe.label not in RECIPES:
            continue
        device = RECIPES[recipe.label]
        name = (judge.run.model.name, judge.run.settings["seed"], recipe.label, device)
        start = recipe.make()
        assert start.quantized is not None
        yield *name, "", "", "", "", *judge.judged(start, device)
        for rate, epochs, least_share in WAYS:
            qat.LEARNING_RATE, qat.LEAST_SHARE = rate, least_share
            plan = qat.plan_of(len(numbers), epochs, 0)
            batches = photographs.batches("train", [[numbers[one] for one in step.photographs] for step in plan])
            begun = time.monotonic()
            learnt = qat.train(Graph(judge.model), start.quantized, plan, batches, judge.console)
            seconds = f"{time.monotonic() - begun:.0f}"
            found = judge.judged(qat.trained(start, learnt, epochs), device)
            yield *name, rate, epochs, least_share, seconds, *found


if __name__ == "__main__":
    record(__doc__, COLUMNS, trained)
