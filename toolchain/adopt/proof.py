"""Which preprocessing a foreign network wants: what each plausible one gets right on labelled photographs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolchain.adopt.normalisation import Normalisation
from toolchain.adopt.onnx_file import ForeignModel
from toolchain.errors import BadInputError
from toolchain.system import telemetry
from toolchain.system.progress import Reporter

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


class Original:
    """The file itself on ONNX Runtime, as its publisher runs it. Raises BadInputError where it does not run."""

    def __init__(self, foreign: ForeignModel) -> None:
        with telemetry.off():
            import onnxruntime

        self._foreign = foreign
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(
                foreign.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no common public base
            raise BadInputError(
                f"ONNX Runtime does not load {foreign.path}: {str(error).strip().partition(chr(10))[0]}",
                "Export it again.",
            ) from None
        size = foreign.model.graph.input
        first = next(value for value in size if value.name == foreign.input).type.tensor_type.shape.dim[0]
        self._batch = 1 if first.dim_value == 1 or foreign.ranges_of_batch else 16

    def answers(self, pixels: Pixels, normalisation: Normalisation) -> Floats:
        """What it gives, float32 [n, classes], for uint8 RGB pixels [n, height, width, 3]."""
        found = []
        for at in range(0, len(pixels), self._batch):
            part = pixels[at : at + self._batch]
            if self._foreign.dtype == "uint8":
                values = part if normalisation.colour == "RGB" else part[..., ::-1]
            else:
                values = normalisation(part)  # type: ignore[assignment]
            if self._foreign.layout == "NCHW":
                values = values.transpose(0, 3, 1, 2)
            try:
                (output,) = self._session.run(None, {self._foreign.input: np.ascontiguousarray(values)})
            except Exception as error:  # its exceptions have no common public base
                reason = str(error).strip().partition("\n")[0]
                raise BadInputError(f"{self._foreign.path} does not run: {reason}", "Export it again.") from None
            found.append(output.reshape(len(part), -1))
        return np.concatenate(found)


@dataclass(frozen=True)
class Tried:
    """A preprocessing and which photographs it got right, bool [n]."""

    normalisation: Normalisation
    right: NDArray[np.bool_]

    @property
    def top1(self) -> float:
        return float(self.right.mean())

    def surely_better_than(self, other: Tried) -> bool:
        """Whether it got more of the same photographs right than chance explains (McNemar's exact test, 5 %)."""
        won, lost = int((self.right & ~other.right).sum()), int((other.right & ~self.right).sum())
        n = won + lost
        if won <= lost:
            return False
        tail = sum(math.comb(n, k) for k in range(won, n + 1))
        return bool(2 * tail < 0.05 * 2**n)


def try_all(
    original: Original,
    ways: Sequence[Normalisation],
    pixels: Pixels,
    labels: NDArray[np.int64],
    reporter: Reporter,
) -> list[Tried]:
    """What each of `ways` gets right, the best first."""
    found = []
    with reporter.task("trying ways to preprocess", len(ways)) as task:
        for way in ways:
            found.append(Tried(way, original.answers(pixels, way).argmax(1) == labels))
            task.advance(1, way.name)
    return sorted(found, key=lambda one: -one.top1)
