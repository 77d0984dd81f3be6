"""int8 on x86 without VNNI: pairs of products are added in 16 bits, which saturate unless weights have 7 bits."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from tests.conftest import Recorder, lively
from toolchain.artifact import read_artifact
from toolchain.cli import run
from toolchain.export.exporting import export
from toolchain.export.int8 import search
from toolchain.export.int8.qdq import MAX_WEIGHT, Quantization, weight_bits
from toolchain.export.int8.quantisers import Task, recipes
from toolchain.export.int8.quantize import Scheme, dequantized_weight, quantize_graph, round_to
from toolchain.export.int8.torch_graph import Graph, Node
from toolchain.export.onnx_writer import to_onnx
from toolchain.export.results import QuantizationSettings
from toolchain.images.preprocess import Preprocess
from toolchain.runtimes import machine

SMALL = Preprocess(height=64, width=64, shortest_edge=64)
IMAGES = np.random.default_rng(3).integers(0, 256, (8, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module", params=["mobilenet_v2", "resnet18"])
def model(request: pytest.FixtureRequest) -> onnx.ModelProto:
    return to_onnx(lively(request.param, 7, seed=0), SMALL, 1.7)


def vpmaddubsw(activations: NDArray[np.uint8], weights: NDArray[np.int8]) -> NDArray[np.int64]:
    """`weights` [outputs, k] times `activations` [k, n], neighbouring products added in saturating int16."""
    if weights.shape[1] % 2:
        weights = np.pad(weights, ((0, 0), (0, 1)))
        activations = np.pad(activations, ((0, 1), (0, 0)))
    total = np.zeros((len(weights), activations.shape[1]), np.int64)
    wide, rows = activations.astype(np.int32), weights.astype(np.int32)
    for first in range(0, weights.shape[1], 2):
        pair = rows[:, first : first + 2] @ wide[first : first + 2]
        total += np.clip(pair, -(2**15), 2**15 - 1)
    return total


def _without_vnni(graph: Graph, found: Quantization, images: NDArray[np.uint8]) -> tuple[np.ndarray, int]:
    """Logits of the integer network as a CPU without VNNI computes them, and how many sums were not exact."""
    wrong = 0

    def visit(node: Node, inputs: list[torch.Tensor]) -> torch.Tensor:
        nonlocal wrong
        if node.op == "Sub" and found.pixels is not None:
            return inputs[0] - found.pixels
        layer = found.layers.get(node.name)
        if layer is None:
            output = node(inputs)
        else:
            bias = node.bias if layer.float_bias is None else torch.from_numpy(layer.float_bias)
            output = node([inputs[0], dequantized_weight(layer), bias])
            params = found.activations.get(node.inputs[0])
            if params is not None and node.op == "Conv" and node.attributes["group"] == 1:
                integers = (inputs[0] / params.scale + params.zero_point).round()
                strides, pads = node.attributes["strides"], node.attributes["pads"][:2]
                padded = torch.nn.functional.pad(
                    integers, (pads[1], pads[1], pads[0], pads[0]), value=params.zero_point
                )
                columns = torch.nn.functional.unfold(padded, layer.weight.shape[2:], stride=strides)
                [column] = columns.numpy().astype(np.uint8)
                # Kernels go over the channels of one pixel first.
                outputs, channels, *sides = layer.weight.shape
                column = column.reshape(channels, int(np.prod(sides)), -1).transpose(1, 0, 2)
                weight = layer.weight.reshape(outputs, channels, -1).transpose(0, 2, 1).reshape(outputs, -1)
                column = column.reshape(weight.shape[1], -1)
                error = vpmaddubsw(column, weight) - weight.astype(np.int64) @ column.astype(np.int64)
                wrong += int((error != 0).sum())
                steps = torch.from_numpy((error * layer.scales[:, None] * params.scale).astype(np.float32))
                output = output + steps.reshape(output.shape)
        params = found.activations.get(node.name)
        return round_to(output, params) if params else output

    with torch.inference_mode():
        logits = [graph.run(torch.from_numpy(image[None]), visit).numpy() for image in images]
    return np.concatenate(logits), wrong


def test_the_emulation_saturates_as_the_instruction_does() -> None:
    activations = np.array([[255], [255], [255], [1]], np.uint8)
    weights = np.array([[127, 127, -127, 127], [64, 64, -64, 64], [-127, -127, 0, 0]], np.int8)
    assert vpmaddubsw(activations, weights)[:, 0].tolist() == [32767 - 32258, 32640 - 16256, -32768]


def test_sums_of_7_bit_weights_are_exact_and_those_of_8_bits_are_not(model: onnx.ModelProto) -> None:
    graph = Graph(model)
    full = quantize_graph(graph, IMAGES, Scheme())
    portable = quantize_graph(graph, IMAGES, Scheme(weight_bits=7))
    assert max(int(np.abs(layer.weight).max()) for layer in portable.layers.values()) <= MAX_WEIGHT[7]
    assert 2 * 255 * MAX_WEIGHT[7] < 2**15 < 2 * 255 * MAX_WEIGHT[8]
    _, wrong = _without_vnni(graph, full, IMAGES[:1])
    assert wrong > 0
    _, wrong = _without_vnni(graph, portable, IMAGES[:1])
    assert wrong == 0


@pytest.mark.slow
def test_each_quantiser_has_portable_weights() -> None:
    model = to_onnx(lively("mobilenet_v2", 7, seed=0), SMALL, 1.7)
    for recipe in recipes(Task(model, IMAGES, portable=True)):
        made = recipe.make()
        assert weight_bits(made.model) == 7, recipe.label
        assert made.settings["weights"] == "int8 per-channel, 7 bits"
    assert weight_bits(next(iter(recipes(Task(model, IMAGES)))).make().model) == 8


@pytest.mark.parametrize("how", ["asked for", "needed here"])
def test_the_card_tells_bits_and_instructions(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    monkeypatch.setattr(search, "recipes", lambda task: recipes(task)[:1])
    flags = ("avx2",) if how == "needed here" else ("avx2", "avx512_vnni")
    monkeypatch.setattr(machine, "cpu_flags", lambda: flags)
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    recorder = Recorder()
    if how == "asked for":
        words = ["export", str(folder), "--portable", "--max-drop", "100", "--min-speed-up", "0", "--quiet"]
        assert run(words) == 0
    else:
        export(folder, int8=QuantizationSettings(max_drop_pp=100, min_speed_up=0), reporter=recorder)
        assert any("no VNNI on this CPU" in line for line in recorder.said)
    artifact = read_artifact(folder / "model.int8.onnx")
    recipe = artifact.card.recipe
    assert recipe is not None
    assert (recipe.weight_bits, recipe.cpu_flags) == (7, flags)
    assert recipe.settings["weights"] == "int8 per-channel, 7 bits"
    assert weight_bits(onnx.load_model_from_string(artifact.model)) == 7
