"""Quantisers: each turns a float model and calibration photographs into int8 candidates, by one or more recipes.

A quantiser is one module with a `Quantiser` object. Other packages add theirs by the entry point
`edgetl.quantisers`.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from toolchain.plugins import Registry, instance_of

if TYPE_CHECKING:
    from toolchain.export.int8.quantize import QuantizedGraph


@dataclass(frozen=True)
class Task:
    """What is to be quantised: the float `model`, which stays as it is, and calibration `images`.

    `images` are uint8 [n, height, width, 3], classes taking turns, so that the first few are of all classes. With
    `symmetric`, only what TensorRT reads is wanted: int8 activations around 0 and float biases. With `portable`,
    weights stay within ±64 (`qdq.MAX_WEIGHT`), so that no CPU's sums saturate. With `per_tensor`, all weights of a
    layer share one scale.
    """

    model: onnx.ModelProto
    images: NDArray[np.uint8]
    symmetric: bool = False
    portable: bool = False
    per_tensor: bool = False

    @property
    def weights(self) -> str:
        """What the weights of a candidate are, for its settings."""
        return f"int8 {'per-tensor' if self.per_tensor else 'per-channel'}{', 7 bits' if self.portable else ''}"


@dataclass(frozen=True)
class Candidate:
    """An int8 model, and how it was made: `quantiser` and `settings` go into its card.

    `quantized` is there where quantisation-aware training can go on from it, else None. `runtime` is the one that
    it is spelt for, as devices begin (`ort`); None where all may run it.
    """

    quantiser: str
    label: str
    settings: dict[str, Any]
    model: onnx.ModelProto
    quantized: QuantizedGraph | None = None
    runtime: str | None = None


@dataclass(frozen=True)
class Recipe:
    """One way to quantise: `make` carries it out, and may raise anything where it cannot.

    `runtime` is that of its candidate. A `fallback` is tried only where no recipe before it could be carried out.
    """

    label: str
    make: Callable[[], Candidate]
    runtime: str | None = None
    fallback: bool = False


@dataclass(frozen=True)
class Quantiser:
    """A family of recipes.

    `recipes` gives what to try for a task, the most promising first, and nothing where the quantiser does not
    apply. The int8 models must keep the input and the outputs of the float model.
    """

    name: str
    recipes: Callable[[Task], Iterable[Recipe]]


QUANTISERS: Registry[Quantiser] = Registry(
    "quantisers",
    {
        "edgetl": "toolchain.export.int8.quantisers.edgetl:QUANTISER",
        "nncf": "toolchain.export.int8.quantisers.nncf:QUANTISER",
        "onnxruntime": "toolchain.export.int8.quantisers.onnxruntime:QUANTISER",
    },
    instance_of(Quantiser),
)
"""In the order in which `export --int8` tries their recipes."""


def recipes(task: Task) -> list[Recipe]:
    """The recipes of all quantisers for `task`."""
    return [recipe for quantiser in QUANTISERS.all().values() for recipe in quantiser.recipes(task)]


def from_library(
    quantiser: str,
    label: str,
    settings: dict[str, Any],
    quantize: Callable[[], onnx.ModelProto],
    *,
    fallback: bool = False,
) -> Recipe:
    """A recipe of another library. It is kept from printing, and leaves no trace of itself in the model."""

    def make() -> Candidate:
        with _silence():
            model = quantize()
        model.producer_name = "edgetl"
        del model.metadata_props[:]
        return Candidate(quantiser, label, settings, model)

    return Recipe(label, make, fallback=fallback)


@contextmanager
def _silence() -> Iterator[None]:
    """Libraries draw progress bars and print advice on stdout, which belongs to the command's result."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
