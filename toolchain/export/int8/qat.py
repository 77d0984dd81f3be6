"""Quantisation-aware training: the int8 network learns to answer as the float one does.

The graph that will be deployed is trained itself. Integers are simulated in the forward pass, gradients pass
through the rounding (straight-through, Bengio et al., 2013), and the float network is the teacher, so no labels are
needed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from toolchain.export.int8.qdq import MAX_WEIGHT, Floats, Quantization, quantize_layer, rounding_to
from toolchain.export.int8.quantisers import Candidate
from toolchain.export.int8.quantisers.edgetl import candidate_of
from toolchain.export.int8.quantize import QuantizedGraph, round_to
from toolchain.export.int8.torch_graph import Graph, Node
from toolchain.system.progress import Reporter
from toolchain.system.text import fixed

LEARNING_RATE = 1e-5
WARM_UP_STEPS = 10
SLOW_STEPS, TIMED_STEPS = 2, 8
"""The first ones are slower than the rest; after both it is known how long the training will take."""
LEAST_OF_PLAN = 0.5
"""Training that is cut shorter gains too little: it is given up."""
BATCH = 32
LEAST_SHARE = 0.5
"""Of a photograph that another one shows through."""


class _Student:
    """The graph with integers simulated; weights and biases of the integer layers can be trained."""

    def __init__(self, start: QuantizedGraph) -> None:
        self._graph = graph = Graph(start.model)
        self._bits, self._per_tensor = start.scheme.weight_bits, start.scheme.per_tensor
        self._start = start.quantization
        layers = self._start.layers
        nearest = {name: rounding_to(graph.by_name[name].weight.numpy(), layers[name]) for name in layers}
        self.weights = {name: nn.Parameter(torch.from_numpy(weight)) for name, weight in nearest.items()}
        # What stays float stores its weights as integers, and has the bias of the graph.
        learning = [name for name in layers if layers[name].bias is not None or name in self._start.biases]
        self.biases = {name: nn.Parameter(self._bias(name)) for name in learning}

    def __call__(self, images: Tensor) -> Tensor:
        return self._graph.run(images, self._visit)

    def quantization(self) -> Quantization:
        """Integers of the network as it is now."""
        layers, biases = {}, {}
        for name, old in self._start.layers.items():
            weight = self.weights[name].detach().numpy()
            bias = (self.biases[name].detach() if name in self.biases else self._graph.by_name[name].bias).numpy()
            rounded = partial(quantize_layer, weight_bits=self._bits_of(name), per_tensor=self._per_tensor)
            layers[name] = rounded(weight, bias, old.input_scale, scales=old.scales)
            if name in self._start.biases:
                biases[name] = bias
        return replace(self._start, layers=layers, biases=biases)

    def _bits_of(self, name: str) -> int:
        """Of what stays float, and is only stored as integers, 8: nothing saturates there."""
        return self._bits if name in self.biases else 8

    def _bias(self, name: str) -> Tensor:
        layer = self._start.layers[name]
        if name in self._start.biases:
            return torch.from_numpy(self._start.biases[name].copy())
        if layer.float_bias is None:
            return self._graph.by_name[name].bias.clone()
        return torch.from_numpy(layer.float_bias)

    def _visit(self, node: Node, inputs: list[Tensor]) -> Tensor:
        if self._start.pixels is not None and node.name == self._start.centred:
            return inputs[0] - self._start.pixels
        if node.name in self.weights:
            bias = self.biases.get(node.name, node.bias)
            weights = _rounded(
                self.weights[node.name], self._start.layers[node.name].scales, self._bits_of(node.name)
            )
            output = node([inputs[0], weights, bias])
        else:
            output = node(inputs)
        params = self._start.activations.get(node.name)
        return round_to(output, params) if params else output


def _rounded(weight: Tensor, scales: Floats, bits: int) -> Tensor:
    most = MAX_WEIGHT[bits]
    each = torch.from_numpy(np.broadcast_to(scales, len(weight)).copy())
    zeros = torch.zeros(len(each), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, each, zeros, 0, -most, most)


@dataclass(frozen=True)
class Step:
    """One step of the training: the numbers of its `photographs`, and how they are seen.

    Each is mirrored or not, and the one before it in the batch shows through: a share of each is left (mixup, Zhang
    et al., 2018). The float network is sure of the photographs that it learnt, and teaches little with them; what
    it makes of two at once tells much more of how it decides.
    """

    photographs: list[int]
    mirrored: NDArray[np.bool_]
    shares: NDArray[np.float32]

    def seen(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """`images` of its photographs, uint8 [batch, height, width, 3], as they are seen in this step."""
        turned = np.where(_each(self.mirrored), images[:, :, ::-1], images)
        shares = _each(self.shares)
        mixed: NDArray[np.uint8] = np.rint(shares * turned + (1 - shares) * np.roll(turned, 1, axis=0)).astype(
            np.uint8
        )
        return mixed


def _each(values: NDArray[Any]) -> NDArray[Any]:
    """One value for each image of a batch, to be broadcast over its pixels."""
    return values[:, None, None, None]


def plan_of(photographs: int, epochs: int, seed: int) -> list[Step]:
    """The steps that go `epochs` times over so many photographs, in an order that depends on the seed."""
    rng = np.random.default_rng([seed, 71])
    steps = []
    order: list[int] = []
    for _ in range(max(1, photographs // BATCH) * epochs):
        if len(order) < min(BATCH, photographs):
            order = rng.permutation(photographs).tolist()
        batch, order = order[:BATCH], order[BATCH:]
        shares = rng.uniform(LEAST_SHARE, 1, len(batch)).astype(np.float32)
        steps.append(Step(batch, rng.random(len(batch)) < 0.5, shares))
    return steps


@dataclass(frozen=True)
class Learnt:
    """What training came to, after `done` of its plan (a share)."""

    quantized: QuantizedGraph
    done: float


def train(
    teacher: Graph,
    start: QuantizedGraph,
    plan: Sequence[Step],
    batches: Iterable[NDArray[np.uint8]],
    reporter: Reporter,
    budget_s: float = math.inf,
) -> Learnt:
    """Train the integers of `start` by `plan`, with the photographs of each step in `batches`.

    These are uint8 [batch, height, width, 3]. Scales and zero points stay as they were calibrated; weights and
    biases learn. `teacher` is the float network. Where `plan` would take longer than `budget_s`, so many of its
    steps are taken as fit; raises ValueError where these are less than LEAST_OF_PLAN.
    """
    student = _Student(start)
    parameters = [*student.weights.values(), *student.biases.values()]
    optimizer = torch.optim.Adam(parameters, LEARNING_RATE, betas=(0.9, 0.99))
    steps = len(plan)
    with reporter.task("quantisation-aware training", len(plan)) as task:
        for number, (step, images) in enumerate(zip(plan, batches, strict=True)):
            if number == SLOW_STEPS:
                started = time.monotonic()
            if number == SLOW_STEPS + TIMED_STEPS:
                steps = _fitting(plan, (time.monotonic() - started) / TIMED_STEPS, budget_s)
            if number == steps:
                task.advance(len(plan) - steps)
                break
            pixels = torch.from_numpy(step.seen(images))
            with torch.no_grad():
                wanted = torch.log_softmax(teacher.run(pixels), 1)
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * _schedule(number, steps)
            answers = torch.log_softmax(student(pixels), 1)
            loss = functional.kl_div(answers, wanted, log_target=True, reduction="batchmean")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            task.advance(1, f"loss {fixed(loss.item(), 4)}")
    return Learnt(QuantizedGraph(start.model, start.scheme, student.quantization()), steps / len(plan))


def _fitting(plan: Sequence[Step], step_s: float, budget_s: float) -> int:
    """How many steps of `plan` fit into `budget_s`. Raises ValueError where they are too few."""
    expected_s = step_s * len(plan)
    if expected_s * LEAST_OF_PLAN > budget_s:
        raise ValueError(f"it would take {expected_s:.0f} s, and may take {budget_s:.0f}; ask for it with --qat")
    return len(plan) if expected_s <= budget_s else max(int(budget_s / step_s), SLOW_STEPS + TIMED_STEPS)


def trained(start: Candidate, learnt: Learnt, epochs: int) -> Candidate:
    """The candidate that the integers of `start` have become, in its spelling. `epochs` were planned."""
    label, rewritten = f"{start.label}, trained (QAT)", start.runtime is not None
    done = epochs if learnt.done == 1 else round(epochs * learnt.done, 1)
    return candidate_of(label, learnt.quantized, rewritten=rewritten, qat_epochs=done)


def _schedule(step: int, steps: int) -> float:
    """The share of the learning rate: a short warm-up, then down along a cosine to 0."""
    return min(1.0, (step + 1) / WARM_UP_STEPS) * 0.5 * (1 + math.cos(math.pi * step / steps))
