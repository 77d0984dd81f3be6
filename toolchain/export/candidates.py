"""The int8 recipes that `export --int8` tries, the most promising first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from toolchain.export.cross_layer_equalization import equalise
from toolchain.export.integers import Scheme, dequantised_weight, quantise_graph, round_to
from toolchain.export.qdq import Quantisation, write_qdq
from toolchain.export.quantise import QUANTISERS, Quantiser, quantise
from toolchain.export.torch_graph import Graph, Node

Pixels = NDArray[np.uint8]

PROBED = 16
"""Calibration photographs by which layers are ranked."""
SHARE = 0.4
"""Of the squared error, what the layers that stay float must account for."""
MAX_FLOAT = 4


@dataclass(frozen=True)
class QuantizedGraph:
    """edgetl's own quantisation of a graph, from which training can go on (`toolchain.export.qat`)."""

    model: onnx.ModelProto
    scheme: Scheme
    quantisation: Quantisation


@dataclass(frozen=True)
class Candidate:
    """An int8 model, and how it was made. `integers` is None for other quantisers."""

    quantiser: str
    label: str
    settings: dict[str, Any]
    model: onnx.ModelProto
    integers: QuantizedGraph | None = None


def candidates(
    model: onnx.ModelProto, images: Pixels, *, symmetric: bool = False
) -> Iterator[tuple[str, Callable[[], Candidate]]]:
    """Labels of recipes for the float `model`, each with a function that carries it out.

    `images` are calibration photographs, uint8 [n, height, width, 3]. With `symmetric`, only what TensorRT reads.
    """
    own = _Own(model, images)
    wide = Scheme(pixels=not symmetric, symmetric=symmetric)
    styles = {"": wide}
    if any(node.op_type == "HardSwish" for node in model.graph.node):
        styles[", hard-swish within layers"] = replace(wide, outputs=False, pixels=False)
    for suffix, scheme in styles.items():
        yield f"edgetl{suffix}", partial(own.make, f"edgetl{suffix}", scheme)
    for suffix, scheme in styles.items():
        label = f"edgetl{suffix}, sensitive layers in float"
        yield label, partial(own.make_sparing, label, scheme)
    if not symmetric:
        for quantiser in QUANTISERS:
            yield quantiser.label, partial(_by_library, quantiser, model, images)


def _by_library(quantiser: Quantiser, model: onnx.ModelProto, images: Pixels) -> Candidate:
    made = quantise(model, images, quantiser)
    return Candidate(quantiser.name, quantiser.label, quantiser.settings, made)


class _Own:
    """edgetl's quantiser on one network: the equalised graph is made once, when it is first needed."""

    def __init__(self, model: onnx.ModelProto, images: Pixels) -> None:
        self._float = model
        self._images = images
        self._equalised: tuple[onnx.ModelProto, Graph] | None = None
        self._made: dict[Scheme, Quantisation] = {}

    def make(self, label: str, scheme: Scheme) -> Candidate:
        model, graph = self._graph()
        if scheme not in self._made:
            self._made[scheme] = quantise_graph(graph, self._images, scheme)
        return from_integers(label, QuantizedGraph(model, scheme, self._made[scheme]))

    def make_sparing(self, label: str, scheme: Scheme) -> Candidate:
        """As `make`, with the layers in float from which most of the error comes."""
        _, graph = self._graph()
        if scheme not in self._made:
            self.make(label, scheme)
        ranked = sensitivity(graph, self._made[scheme], self._images[:PROBED])
        total = sum(error**2 for _, error in ranked)
        chosen: set[str] = set()
        while ranked and len(chosen) < MAX_FLOAT and total > 0:
            chosen.add(ranked.pop(0)[0])
            if sum(rest**2 for _, rest in ranked) < (1 - SHARE) * total:
                break
        return self.make(label, replace(scheme, float_layers=frozenset(chosen)))

    def _graph(self) -> tuple[onnx.ModelProto, Graph]:
        if self._equalised is None:
            model = equalise(self._float, self._images)
            self._equalised = (model, Graph(model))
        return self._equalised


def from_integers(label: str, integers: QuantizedGraph, **more: Any) -> Candidate:
    """The candidate that `integers` make. `more` is added to its settings."""
    scheme = integers.scheme
    settings: dict[str, Any] = {
        "activations": "int8 per-tensor, symmetric" if scheme.symmetric else "uint8 per-tensor",
        "weights": "int8 per-channel",
        "ranges": scheme.ranges,
        "equalised": True,
        "bias_correction": "full",
    }
    if scheme.float_layers:
        settings["float_layers"] = sorted(scheme.float_layers)
    model = write_qdq(integers.model, integers.quantisation)
    model.producer_name = "edgetl"
    return Candidate("edgetl", label, settings | more, model, integers)


@torch.inference_mode()
def sensitivity(graph: Graph, quantisation: Quantisation, images: Pixels) -> list[tuple[str, float]]:
    """For each integer layer the error of the logits when it alone is rounded, inputs and weights, largest first.

    Relative to the logits' own size (L2 norms).
    """
    pixels = torch.from_numpy(images)
    exact = graph.run(pixels)
    errors = []
    for name in quantisation.layers:
        if graph.by_name[name].inputs[0] not in quantisation.grids:
            continue

        def visit(node: Node, inputs: list[Tensor], name: str = name) -> Tensor:
            if node.name != name:
                return node(inputs)
            rounded = round_to(inputs[0], quantisation.grids[node.inputs[0]])
            return node([rounded, dequantised_weight(quantisation.layers[name]), node.bias])

        logits = graph.run(pixels, visit)
        errors.append((name, float((logits - exact).norm() / exact.norm().clamp_min(1e-12))))
    return sorted(errors, key=lambda entry: -entry[1])
