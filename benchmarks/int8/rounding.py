"""What it gives to round the weights of a layer together, and how much the moments of its inputs are to be damped.

    edgetl export RUN && python benchmarks/int8/rounding.py RUN... --out benchmarks/results/int8-rounding.csv

Each row is a recipe on one device, judged by validation photographs, also mirrored (`judging.py`). `damping` is
`rounding.DAMPING`; without one each weight is rounded alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from judging import COLUMNS as JUDGED
from judging import DEVICES, Judge, Row, record

from toolchain.export.int8 import rounding
from toolchain.export.int8.quantisers import recipes
from toolchain.runtimes.devices import cpu_name

DAMPINGS = (None, 0.01, 0.1, 1.0)
ALONE = 1e12
"""A damping of which nothing is left for the other weights to make up for."""
RECIPES = (
    "edgetl",
    "edgetl, for ONNX Runtime",
    "edgetl, hard-swish within layers, sensitive layers in float",
)
COLUMNS = ("network", "seed", "recipe", "device", "damping", *JUDGED, "cpu")


def rounded(folder: Path) -> Iterator[Row]:
    """A row for each way of rounding, recipe and device."""
    judge = Judge(folder)
    for damping in DAMPINGS:
        rounding.DAMPING = ALONE if damping is None else damping
        for recipe in recipes(judge.task):
            if recipe.label not in RECIPES:
                continue
            candidate = recipe.make()
            for device in DEVICES:
                if recipe.runtime in {None, device.partition(":")[0]}:
                    name = (judge.run.model.name, judge.run.settings["seed"], recipe.label, device)
                    yield *name, "" if damping is None else damping, *judge.judged(candidate, device), cpu_name()


if __name__ == "__main__":
    record(__doc__, COLUMNS, rounded)
