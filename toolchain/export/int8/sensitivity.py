"""Which roundings the answers suffer from: each alone in the float network, by what it does to the logits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Set
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toolchain.export.int8.qdq import Quantization
from toolchain.export.int8.quantize import Scheme, dequantized_weight, floor_of, round_to, shortened
from toolchain.export.int8.torch_graph import Graph, Node

GROUP = 4
"""Photographs that are computed at once."""

SHARES = (0.8, 0.6, 0.4)
"""Shorter ranges that are tried, as shares of what was seen."""
LOUDEST = 16
"""Tensors whose ranges are chosen: those that cost most."""
GAIN = 0.9
"""A shorter range is taken where its error is below this share of the error of the whole one."""

RUINOUS = 0.3
"""A layer that changes the logits by more than this share of them stays float in any case."""
ERROR_SHARE = 0.4
"""Share of the other layers' squared error that the layers which stay float must account for."""
MAX_FLOAT_LAYERS = 4


class Sensitivity:
    """The float network's values on a few photographs, uint8 [n, height, width, 3], to compare roundings with.

    Errors are those of the logits, relative to their own size (L2 norms).
    """

    @torch.inference_mode()
    def __init__(self, graph: Graph, images: NDArray[np.uint8]) -> None:
        self._graph = graph
        self._place = {node.name: place for place, node in enumerate(graph.nodes)}
        groups = [images[at : at + GROUP] for at in range(0, len(images), GROUP)]
        self._groups = [_Group(graph, torch.from_numpy(pixels)) for pixels in groups]

    @torch.inference_mode()
    def layers(self, quantization: Quantization) -> list[tuple[str, float]]:
        """The integer layers with the error that each makes, largest first: all that would stay float with it.

        That is its input, its weights, and what it gives, up to the next layer: also before a hard-swish.
        """
        errors = [
            (name, self._error(quantization, {name}, self._given(name) | set(self._graph.by_name[name].inputs[:1])))
            for name in quantization.layers
            if self._graph.by_name[name].inputs[0] in quantization.activations
        ]
        return sorted(errors, key=lambda entry: -entry[1])

    @torch.inference_mode()
    def tensors(self, quantization: Quantization) -> list[tuple[str, float]]:
        """All rounded tensors with the error that each makes on a few of the photographs, largest first."""
        rounded = quantization.activations.keys() - {quantization.centred}
        errors = [(name, self._error(quantization, (), {name}, 1)) for name in sorted(rounded)]
        return sorted(errors, key=lambda entry: -entry[1])

    @torch.inference_mode()
    def shorter_ranges(self, quantization: Quantization, scheme: Scheme) -> dict[str, float]:
        """The shares of their ranges that suit the loudest tensors best, where they make a clear difference."""
        found = {}
        for name, _ in self.tensors(quantization)[:LOUDEST]:
            params = quantization.activations[name]
            whole = self._error(quantization, (), {name})
            errors = {}
            for share in SHARES:
                floor = floor_of(self._graph, self._graph.by_name[name])
                activations = {name: shortened(params, share, scheme, floor)}
                errors[share] = self._error(replace(quantization, activations=activations), (), {name})
            best = min(errors, key=lambda share: errors[share])
            if errors[best] < GAIN * whole:
                found[name] = best
        return found

    def _given(self, name: str) -> set[str]:
        """What the layer `name` gives: its output, and what is made of that alone, up to the next layer's input."""
        names = {name}
        while True:
            readers = self._graph.consumers.get(name, [])
            reader = readers[0] if len(readers) == 1 else None
            if reader is None or reader.is_layer or reader.op not in {"HardSwish", "Relu", "Clip"}:
                # What the next layer reads is counted there.
                return names - {name} if reader is not None and reader.is_layer else names
            name = reader.name
            names.add(name)

    def _error(
        self, quantization: Quantization, layers: Iterable[str], tensors: Iterable[str], groups: int | None = None
    ) -> float:
        """The error with these layers' weights and these tensors rounded, and all else exact.

        It is that on the first `groups` of the photographs (None: all).
        """
        layers = set(layers)
        tensors = (set(tensors) & quantization.activations.keys()) - {quantization.centred}
        first = min(self._place[name] for name in {*layers, *tensors})
        shifts = {name: self._shift(quantization, name, tensors) for name in layers}

        def visit(group: _Group, node: Node, inputs: list[Tensor]) -> Tensor:
            if self._place[node.name] < first:
                output = group.exact[node.name]
            elif node.name in layers:
                weight = dequantized_weight(quantization.layers[node.name])
                output = node([inputs[0], weight, node.bias + shifts[node.name]])
            else:
                output = node(inputs)
            return round_to(output, quantization.activations[node.name]) if node.name in tensors else output

        changed = largest = 0.0
        for group in self._groups[:groups]:
            logits = self._graph.run(group.pixels, partial(visit, group))
            changed += float((logits - group.logits).square().sum())
            largest += float(group.logits.square().sum())
        return math.sqrt(changed / max(largest, 1e-24))

    def _shift(self, quantization: Quantization, name: str, tensors: Set[str]) -> Tensor:
        """What the bias of a layer is corrected by, [outputs]: quantisation keeps the mean of each channel."""
        node = self._graph.by_name[name]
        weight, source = dequantized_weight(quantization.layers[name]), node.inputs[0]
        found = []
        for group in self._groups:
            image = group.exact[source]
            if source in tensors:
                image = round_to(image, quantization.activations[source])
            error = group.exact[name] - node([image, weight, node.bias])
            found.append(error.mean([axis for axis in range(error.ndim) if axis != 1]))
        return torch.stack(found).mean(0)


class _Group:
    """A few photographs and all that the float network makes of them: few, so that a tensor fits into the cache."""

    def __init__(self, graph: Graph, pixels: Tensor) -> None:
        self.pixels = pixels
        self.exact: dict[str, Tensor] = {}

        def keep(node: Node, inputs: list[Tensor]) -> Tensor:
            self.exact[node.name] = output = node(inputs)
            return output

        self.logits = graph.run(pixels, keep)


def ruinous_layers(ranked: list[tuple[str, float]]) -> frozenset[str]:
    """The layers of `ranked`, which is what `Sensitivity.layers` gives, that ruin the answers."""
    return frozenset(name for name, error in ranked if error > RUINOUS)


def layers_for_float(ranked: list[tuple[str, float]]) -> frozenset[str]:
    """The layers that are to stay float: the ruinous ones, and those that make most of the other error."""
    chosen = set(ruinous_layers(ranked))
    others = [(name, error) for name, error in ranked if name not in chosen]
    total = sum(error**2 for _, error in others)
    while others and total > 0 and len(chosen) < MAX_FLOAT_LAYERS:
        chosen.add(others.pop(0)[0])
        if sum(error**2 for _, error in others) < (1 - ERROR_SHARE) * total:
            break
    return frozenset(chosen)
