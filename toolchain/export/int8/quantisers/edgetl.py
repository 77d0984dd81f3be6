"""edgetl's own quantiser: equalised channels, corrected biases, sensitive layers in float if need be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from toolchain.export.int8.equalization import equalize
from toolchain.export.int8.gating import gate_loud_channels, gated_layer
from toolchain.export.int8.qdq import MIN_PER_CHANNEL, Quantization, quantize_layer, with_own_weights, write_qdq
from toolchain.export.int8.quantisers import Candidate, Quantiser, Recipe, Task
from toolchain.export.int8.quantize import QuantizedGraph, Scheme, quantize_graph
from toolchain.export.int8.rewrites import for_onnxruntime
from toolchain.export.int8.rewrites.float_layers import keep_float
from toolchain.export.int8.sensitivity import Sensitivity, layers_for_float, ruinous_layers
from toolchain.export.int8.torch_graph import Graph

FOR_ORT = "edgetl, for ONNX Runtime"
RUNTIME = "ort"
"""The runtime that graphs are rewritten for; OpenVINO is slower with them."""

MORE_FLOAT_LAYERS = 2
"""Of a network with hard-swishes, whose error is spread over many layers: two more take a quarter of it away."""

SENSITIVITY_SAMPLE = 16
"""Calibration photographs by which layers and ranges are chosen."""


def _recipes(task: Task) -> Iterator[Recipe]:
    network = _Network(task)
    bits = 7 if task.portable else 8
    wide = Scheme(pixels=not task.symmetric, symmetric=task.symmetric, per_tensor=task.per_tensor, weight_bits=bits)
    # The kernels of ONNX Runtime want a scale for each channel, and zero points.
    for_ort = not task.symmetric and not task.per_tensor
    float_layers = "sensitive layers in float"
    if any(node.op_type == "HardSwish" for node in task.model.graph.node):
        # A hard-swish between two roundings ruins the answers, unless some layers stay float.
        within = "edgetl, hard-swish within layers"
        unrounded = replace(wide, outputs=False, pixels=False)
        yield Recipe(within, partial(network.quantize, within, unrounded))
        if for_ort:
            spelt = replace(wide, swish=True, squeeze=True)
            yield Recipe(FOR_ORT, partial(network.quantize_gated, FOR_ORT, spelt), RUNTIME)
            more = f"{FOR_ORT}, more layers in float"
            yield Recipe(more, partial(network.quantize_gated, more, spelt, MORE_FLOAT_LAYERS), RUNTIME)
        for start, scheme in ((within, unrounded), ("edgetl", wide)):
            label = f"{start}, {float_layers}"
            yield Recipe(label, partial(network.quantize_but_sensitive, label, scheme))
        return
    yield Recipe("edgetl", partial(network.quantize, "edgetl", wide))
    label = f"edgetl, {float_layers}"
    yield Recipe(label, partial(network.quantize_but_sensitive, label, wide))
    if for_ort:
        yield Recipe(FOR_ORT, partial(network.quantize, FOR_ORT, wide, rewritten=True), RUNTIME)
        label = f"{FOR_ORT}, {float_layers}"
        yield Recipe(label, partial(network.quantize_but_sensitive, label, wide, rewritten=True), RUNTIME)


QUANTISER = Quantiser("edgetl", _recipes)


def candidate_of(label: str, quantized: QuantizedGraph, *, rewritten: bool = False, **more: Any) -> Candidate:
    """The candidate that `quantized` makes, `rewritten` for ONNX Runtime's kernels or plain.

    `more` is added to its settings.
    """
    scheme = quantized.scheme
    settings: dict[str, Any] = {
        "activations": "int8 per-tensor, symmetric" if scheme.symmetric else "uint8 per-tensor",
        "weights": f"int8 {'per-tensor' if scheme.per_tensor else 'per-channel'}"
        + ("" if scheme.weight_bits == 8 else f", {scheme.weight_bits} bits"),
        "ranges": scheme.ranges,
        "equalised": True,
        "weight_rounding": "GPTQ",
        "bias_correction": "full",
    }
    if scheme.float_layers:
        settings["float_layers"] = sorted(scheme.float_layers)
    if scheme.shorter:
        settings["shorter_ranges"] = dict(scheme.shorter)
    model = write_qdq(quantized.model, quantized.quantization)
    if rewritten:
        model, settings["rewrites"] = for_onnxruntime(model)
    if not scheme.per_tensor and not scheme.symmetric:  # TensorRT, too, wants one scale for a tensor of activations
        model = keep_float(model)
    model.producer_name = "edgetl"
    return Candidate("edgetl", label, settings | more, model, quantized, RUNTIME if rewritten else None)


def with_float_layers(candidate: Candidate, layers: frozenset[str], images: NDArray[np.uint8]) -> Candidate:
    """`candidate`, in its spelling, with more `layers` in float; `images` are the calibration photographs.

    Raises ValueError where it has none of them in integers.
    """
    old = candidate.quantized
    if old is None or not layers & set(old.quantization.layers) - old.scheme.float_layers:
        raise ValueError("none of these layers is in integers")
    scheme = replace(old.scheme, float_layers=old.scheme.float_layers | layers)
    trained = {name: value for name, value in candidate.settings.items() if name == "qat_epochs"}
    # What training taught the other layers would be lost if all were quantised anew.
    quantization = _without(old, layers) if trained else quantize_graph(Graph(old.model), images, scheme)
    return candidate_of(
        f"{candidate.label}, slow layers in float",
        QuantizedGraph(old.model, scheme, quantization),
        rewritten=candidate.runtime is not None,
        **trained,
    )


def _without(quantized: QuantizedGraph, layers: frozenset[str]) -> Quantization:
    """The integers of `quantized`, but for those of `layers`, whose inputs and outputs are rounded as before."""
    graph, old = Graph(quantized.model), quantized.quantization
    kept = {name: layer for name, layer in old.layers.items() if name not in layers}
    for node in (graph.by_name[name] for name in layers & old.layers.keys()):
        if node.weight[0].numel() >= MIN_PER_CHANNEL:
            weight, bias, per_tensor = node.weight.numpy(), node.bias.numpy(), quantized.scheme.per_tensor
            kept[node.name] = quantize_layer(weight, bias, None, per_tensor=per_tensor)
    biases = {name: bias for name, bias in old.biases.items() if name not in layers}
    # A first layer in float reads pixels less the means of the colours, as its bias was made for.
    means = {graph.by_name[name].inputs[0] for name in layers} & {old.centred}
    activations = {name: params for name, params in old.activations.items() if name not in means}
    pixels, centred = (None, None) if means else (old.pixels, old.centred)
    return replace(old, layers=kept, biases=biases, activations=activations, pixels=pixels, centred=centred)


class _Network:
    """One network, equalised once, when it is first needed, and quantised by several schemes."""

    def __init__(self, task: Task) -> None:
        self._task = replace(task, model=with_own_weights(task.model))
        self._quantized: dict[Scheme, Quantization] = {}
        self._but_sensitive: dict[Scheme, Scheme] = {}
        self._gated: dict[Scheme, tuple[_Network, Scheme, list[str]]] = {}

    def quantize(self, label: str, scheme: Scheme, *, rewritten: bool = False) -> Candidate:
        """With the integers of `scheme`; `rewritten` for ONNX Runtime's kernels or plain."""
        quantized = QuantizedGraph(self._model, scheme, self._quantization(scheme))
        return candidate_of(label, quantized, rewritten=rewritten)

    def quantize_but_sensitive(self, label: str, scheme: Scheme, *, rewritten: bool = False) -> Candidate:
        """As `quantize`, with those layers in float that most of the error comes from, and shorter ranges."""
        if scheme not in self._but_sensitive:
            chosen = layers_for_float(self.ranked(scheme))
            self._but_sensitive[scheme] = self.with_shorter_ranges(replace(scheme, float_layers=chosen))
        return self.quantize(label, self._but_sensitive[scheme], rewritten=rewritten)

    def quantize_gated(self, label: str, scheme: Scheme, more: int = 0) -> Candidate:
        """With all in integers that ONNX Runtime can compute so, but for sensitive layers, and `more` of them.

        Hard-swishes pass factors on (`gating`), but for those of layers that stay float: they need none.
        """
        if scheme not in self._gated:
            self._gated[scheme] = self._gate(scheme)
        network, chosen, others = self._gated[scheme]
        if not more:
            return network.quantize(label, chosen, rewritten=True)
        chosen = replace(chosen, float_layers=chosen.float_layers.union(others[:more]))
        found = network.quantize(label, chosen, rewritten=True)
        # Training begins with more integers: it gains what float layers do, and costs no time later.
        return replace(found, settings=found.settings | {"more_float_layers": more}, quantized=None)

    def _gate(self, scheme: Scheme) -> tuple[_Network, Scheme, list[str]]:
        """The network with gates, `scheme` with its sensitive layers in float, and the others by their error."""
        images = self._task.images
        equal = equalize(self._task.model, images, multiply=False)
        network = _Prepared(self._task, gate_loud_channels(equal, images))
        chosen = layers_for_float(network.ranked(scheme))
        # What a layer gives in float needs no gate, but then the layer after it may have to be float as well.
        chosen = frozenset(gated_layer(network.graph, name) for name in chosen)
        network = _Prepared(self._task, gate_loud_channels(equal, images, chosen))
        ranked = network.ranked(replace(scheme, float_layers=chosen))
        chosen |= ruinous_layers(ranked)
        others = [name for name, _ in ranked if name not in chosen]
        return network, network.with_shorter_ranges(replace(scheme, float_layers=chosen)), others

    def ranked(self, scheme: Scheme) -> list[tuple[str, float]]:
        """The integer layers of `scheme` by the error that each makes, largest first."""
        return self._sensitivity.layers(self._quantization(scheme))

    def with_shorter_ranges(self, scheme: Scheme) -> Scheme:
        """`scheme` with ranges chosen by the error of the logits.

        Each alone made it smaller on a few photographs. Together, on all of them, they have to as well: what is cut
        off is missing always on the same side, and adds up.
        """
        shorter = self._sensitivity.shorter_ranges(self._quantization(scheme), scheme)
        cut = replace(scheme, shorter=tuple(shorter.items()))
        return min(scheme, cut, key=lambda one: self._quantization(one).error)

    def _quantization(self, scheme: Scheme) -> Quantization:
        if scheme not in self._quantized:
            self._quantized[scheme] = quantize_graph(self.graph, self._task.images, scheme)
        return self._quantized[scheme]

    @cached_property
    def _model(self) -> onnx.ModelProto:
        return equalize(self._task.model, self._task.images)

    @cached_property
    def graph(self) -> Graph:
        """The equalised network."""
        return Graph(self._model)

    @cached_property
    def _sensitivity(self) -> Sensitivity:
        return Sensitivity(self.graph, self._task.images[:SENSITIVITY_SAMPLE])


class _Prepared(_Network):
    """A network that is equalised already."""

    def __init__(self, task: Task, model: onnx.ModelProto) -> None:
        super().__init__(task)
        self._model = model
