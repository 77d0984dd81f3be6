"""edgetl's own quantiser: equalised channels, corrected biases, sensitive layers in float if need be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import onnx

from toolchain.export.int8.equalization import equalize
from toolchain.export.int8.qdq import Quantization, write_qdq
from toolchain.export.int8.quantisers import Candidate, Quantiser, Recipe, Task
from toolchain.export.int8.quantize import QuantizedGraph, Scheme, quantize_graph, sensitivity
from toolchain.export.int8.torch_graph import Graph

SENSITIVITY_SAMPLE = 16
"""Calibration photographs by which layers are ranked."""
ERROR_SHARE = 0.4
"""Share of the squared error that the layers which stay float must account for."""
MAX_FLOAT_LAYERS = 4


def _recipes(task: Task) -> Iterator[Recipe]:
    network = _Network(task)
    wide = Scheme(pixels=not task.symmetric, symmetric=task.symmetric, weight_bits=7 if task.portable else 8)
    schemes = {"edgetl": wide}
    if any(node.op_type == "HardSwish" for node in task.model.graph.node):
        schemes["edgetl, hard-swish within layers"] = replace(wide, outputs=False, pixels=False)
    for label, scheme in schemes.items():
        yield Recipe(label, partial(network.quantize, label, scheme))
    for label, scheme in schemes.items():
        label = f"{label}, sensitive layers in float"
        yield Recipe(label, partial(network.quantize_but_sensitive, label, scheme))


QUANTISER = Quantiser("edgetl", _recipes)


def candidate_of(label: str, quantized: QuantizedGraph, **more: Any) -> Candidate:
    """The candidate that `quantized` makes. `more` is added to its settings."""
    scheme = quantized.scheme
    settings: dict[str, Any] = {
        "activations": "int8 per-tensor, symmetric" if scheme.symmetric else "uint8 per-tensor",
        "weights": "int8 per-channel"
        if scheme.weight_bits == 8
        else f"int8 per-channel, {scheme.weight_bits} bits",
        "ranges": scheme.ranges,
        "equalised": True,
        "bias_correction": "full",
    }
    if scheme.float_layers:
        settings["float_layers"] = sorted(scheme.float_layers)
    model = write_qdq(quantized.model, quantized.quantization)
    model.producer_name = "edgetl"
    return Candidate("edgetl", label, settings | more, model, quantized)


class _Network:
    """One network, equalised once, when it is first needed, and quantised by several schemes."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._quantized: dict[Scheme, Quantization] = {}

    def quantize(self, label: str, scheme: Scheme) -> Candidate:
        return candidate_of(label, QuantizedGraph(self._model, scheme, self._quantization(scheme)))

    def quantize_but_sensitive(self, label: str, scheme: Scheme) -> Candidate:
        """As `quantize`, with those layers in float that most of the error comes from."""
        images = self._task.images[:SENSITIVITY_SAMPLE]
        ranked = sensitivity(self._graph, self._quantization(scheme), images)
        total = sum(error**2 for _, error in ranked)
        chosen: set[str] = set()
        while ranked and len(chosen) < MAX_FLOAT_LAYERS and total > 0:
            chosen.add(ranked.pop(0)[0])
            if sum(error**2 for _, error in ranked) < (1 - ERROR_SHARE) * total:
                break
        return self.quantize(label, replace(scheme, float_layers=frozenset(chosen)))

    def _quantization(self, scheme: Scheme) -> Quantization:
        if scheme not in self._quantized:
            self._quantized[scheme] = quantize_graph(self._graph, self._task.images, scheme)
        return self._quantized[scheme]

    @cached_property
    def _model(self) -> onnx.ModelProto:
        return equalize(self._task.model, self._task.images)

    @cached_property
    def _graph(self) -> Graph:
        return Graph(self._model)
