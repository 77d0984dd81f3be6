"""Integers for a graph: what is simulated in PyTorch is what the runtimes compute."""

from __future__ import annotations

import itertools
import weakref
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.functional import relu6

from tests.artifacts import tiny_card
from tests.conftest import lively
from toolchain.artifact import make_artifact
from toolchain.export.int8 import qat
from toolchain.export.int8.equalization import equalize, largest_values
from toolchain.export.int8.qat import plan_of, train, trained
from toolchain.export.int8.qdq import BIAS_BITS, Quantization, QuantParams, quantize_layer, write_qdq
from toolchain.export.int8.quantisers import Candidate, Task, recipes
from toolchain.export.int8.quantisers.edgetl import candidate_of
from toolchain.export.int8.quantize import (
    QuantizedGraph,
    Scheme,
    dequantized_weight,
    int8_weights,
    quantize_graph,
    round_to,
)
from toolchain.export.int8.sensitivity import Sensitivity, layers_for_float
from toolchain.export.int8.torch_graph import Graph, Node
from toolchain.export.onnx_writer import to_onnx
from toolchain.images.preprocess import Preprocess
from toolchain.runtimes import open_runtime
from toolchain.system.progress import Silent

SMALL = Preprocess(height=64, width=64, shortest_edge=64)
CARD = tiny_card([str(label) for label in range(7)], preprocess=SMALL)
IMAGES = np.random.default_rng(3).integers(0, 256, (8, 64, 64, 3), np.uint8)
SCHEMES = {
    "all": Scheme(),
    "pixels as floats": Scheme(pixels=False),
    "hard-swish within": Scheme(outputs=False, pixels=False),
    "percentile": Scheme(ranges="percentile"),
    "symmetric": Scheme(pixels=False, symmetric=True),
    "per tensor": Scheme(pixels=False, per_tensor=True),
}


@pytest.fixture(scope="module", params=["mobilenet_v2", "mobilenet_v3_small", "resnet18"])
def model(request: pytest.FixtureRequest) -> onnx.ModelProto:
    return to_onnx(lively(request.param, 7, seed=0), SMALL, 1.7)


def _on(device: str, model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    from pathlib import Path

    artifact = make_artifact(model, CARD, Path("model.onnx"))
    return open_runtime(artifact, device, unproven=True).infer(images).logits


def _simulated(
    graph: Graph, found: Quantization, images: np.ndarray, given: dict[str, np.ndarray] | None = None
) -> np.ndarray:
    """Logits as quantisation simulates them; rounded tensors are compared with the `given` ones, which go on."""

    def visit(node: Node, inputs: list[torch.Tensor]) -> torch.Tensor:
        if node.op == "Sub" and found.pixels is not None:
            return inputs[0] - found.pixels
        if layer := found.layers.get(node.name):
            bias = node.bias
            if layer.float_bias is not None:
                bias = torch.from_numpy(layer.float_bias)
            elif node.name in found.biases:
                bias = torch.from_numpy(found.biases[node.name])
            output = node([inputs[0], dequantized_weight(layer), bias])
        else:
            output = node(inputs)
        params = found.activations.get(node.name)
        if params is None:
            return output
        output = round_to(output, params)
        if given is not None:
            steps = (output - torch.from_numpy(given[node.name])).abs() / params.scale
            assert steps.max() < 1.01, node.name
            # A sum that lies on a half falls to either side by the order in which it is added up.
            assert (steps > 0.01).float().mean() < 1e-3, node.name
            output = torch.from_numpy(given[node.name])
        return output

    with torch.inference_mode():
        return graph.run(torch.from_numpy(images), visit).numpy()


def _step_by_step(
    written: onnx.ModelProto, found: Quantization, images: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Logits and all rounded tensors as ONNX Runtime computes them from one operator to the next."""
    names = [name for name in found.activations if name + "_quantize" in {node.name for node in written.graph.node}]
    told = onnx.ModelProto()
    told.CopyFrom(written)
    told.graph.output.extend(
        onnx.helper.make_tensor_value_info(f"{name}_float", onnx.TensorProto.FLOAT, None) for name in names
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(told.SerializeToString(), options, providers=["CPUExecutionProvider"])
    logits, *values = session.run(["logits", *(f"{name}_float" for name in names)], {"image": images})
    return logits, dict(zip(names, values, strict=True))


def test_graph_in_torch_is_the_exported_one(model: onnx.ModelProto) -> None:
    with torch.inference_mode():
        logits = Graph(model).run(torch.from_numpy(IMAGES)).numpy()
    expected = _on("ort:cpu", model, IMAGES)
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES.keys())
def test_file_says_what_was_simulated(model: onnx.ModelProto, scheme: Scheme) -> None:
    graph = Graph(model)
    found = quantize_graph(graph, IMAGES, scheme)
    written = write_qdq(model, found)
    onnx.checker.check_model(written, full_check=True)
    simulated, exact = _simulated(graph, found, IMAGES), _on("ort:cpu", model, IMAGES)
    step_by_step, given = _step_by_step(written, found, IMAGES)
    apart = np.linalg.norm(step_by_step - _simulated(graph, found, IMAGES, given), axis=1)
    assert (apart / np.linalg.norm(exact, axis=1)).max() < 1e-5
    # Integer kernels have roundings of their own, and these networks were never trained to bear any.
    for device in ("ort:cpu", "openvino:CPU"):
        logits = _on(device, written, IMAGES)
        assert np.linalg.norm(logits - simulated) < 0.4 * np.linalg.norm(exact)
        assert np.linalg.norm(logits - exact) < 0.6 * np.linalg.norm(exact)


def test_every_layer_becomes_integers_and_none_twice(model: onnx.ModelProto) -> None:
    found = quantize_graph(Graph(model), IMAGES, Scheme())
    written = write_qdq(model, found)
    assert {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8} == set()
    stored = {tensor.name: tensor for tensor in written.graph.initializer}
    for node in model.graph.node:
        if node.op_type in {"Conv", "Gemm"}:
            integer = f"{node.input[1]}_int8" in stored
            assert integer or np.prod(stored[node.input[1]].dims[1:]) < 32, "only small squeeze layers stay"
    assert len(stored) == len(written.graph.initializer)
    assert "Sub" not in {node.op_type for node in written.graph.node}, "pixels go in as they are"


def test_onnx_runtime_finds_integer_kernels(model: onnx.ModelProto, tmp_path: object) -> None:
    written = write_qdq(model, quantize_graph(Graph(model), IMAGES, Scheme()))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = f"{tmp_path}/optimised.onnx"
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(written.SerializeToString(), options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    squeezed = sum(node.op == "Mul" for node in Graph(model).nodes)
    assert operators.count("QLinearConv") == sum(node.op == "Conv" for node in Graph(model).nodes) - 2 * squeezed


def test_openvino_computes_the_first_layer_in_integers(model: onnx.ModelProto) -> None:
    written = write_qdq(model, quantize_graph(Graph(model), IMAGES, Scheme()))
    core = openvino.Core()
    network = core.read_model(written.SerializeToString())
    compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    layers = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    first = next(layer for layer in layers if layer["layerType"].astype(str) == "Convolution")
    assert first["originalLayersNames"].astype(str).startswith("node_conv2d/")
    assert first["runtimePrecision"].astype(str) == "u8"


def test_symmetric_is_what_tensorrt_reads(model: onnx.ModelProto) -> None:
    graph = Graph(model)
    chosen = frozenset([node.name for node in graph.nodes if node.is_depthwise][1:3])
    scheme = Scheme(pixels=False, symmetric=True, float_layers=chosen)
    integers = quantize_graph(graph, IMAGES, scheme)
    written = candidate_of("way", QuantizedGraph(model, scheme, integers)).model
    constants = {tensor.name for tensor in written.graph.initializer}
    for node in written.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] not in constants:
            [scale] = [tensor for tensor in written.graph.initializer if tensor.name == node.input[1]]
            assert not scale.dims, "activations have one scale for a tensor, also where a float layer reads them"
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in written.graph.initializer}
    for node in written.graph.node:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            zero = stored[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
        if node.op_type == "Conv":
            assert len(node.input) < 3 or node.input[2] in stored, "biases stay float constants"


def test_equalised_network_answers_as_before(model: onnx.ModelProto) -> None:
    equal = equalize(model, IMAGES)
    onnx.checker.check_model(equal, full_check=True)
    before, after = _on("ort:cpu", model, IMAGES), _on("ort:cpu", equal, IMAGES)
    assert np.abs(after - before).max() < 1e-4 * np.abs(before).max()


class Grouped(nn.Module):
    """A depthwise layer that makes two channels of each, as in TensorFlow, and groups in a residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 4, 1)
        self.twice = nn.Conv2d(8, 16, 3, 1, 1, groups=8)
        self.narrow = nn.Conv2d(16, 8, 1)
        self.groups = nn.Conv2d(8, 8, 3, 1, 1, groups=2)
        self.last = nn.Conv2d(8, 1280, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        stream = self.narrow(relu6(self.twice(relu6(self.stem(pixels)))))
        answer: Tensor = relu6(self.last(stream + self.groups(stream)))
        return answer


def test_grouped_layers_are_quantised_by_edgetl() -> None:
    network = lively("mobilenet_v2", 7, seed=0)
    network.features = Grouped()
    model = to_onnx(network.eval(), SMALL, 1.0)
    equal = equalize(model, IMAGES)
    before, after = _on("ort:cpu", model, IMAGES), _on("ort:cpu", equal, IMAGES)
    assert np.abs(after - before).max() < 1e-4 * np.abs(before).max()
    integers = write_qdq(equal, quantize_graph(Graph(equal), IMAGES, Scheme()))
    assert np.abs(_on("ort:cpu", integers, IMAGES) - before).max() < 0.1 * np.abs(before).max()


def test_inputs_of_depthwise_layers_have_one_range(model: onnx.ModelProto) -> None:
    equal = Graph(equalize(model, IMAGES))
    inputs = [node.inputs[0] for node in equal.nodes if node.is_depthwise]
    before, after = (
        [values for name in inputs if (values := seen.get(name)) is not None and values.max() > 0]
        for seen in (largest_values(Graph(model), IMAGES, inputs), largest_values(equal, IMAGES, inputs))
    )

    def spread(values: np.ndarray) -> float:
        alive = values[values > 1e-3 * values.max()]
        return float(alive.max() / np.median(alive))

    if before:
        assert np.mean([spread(values) for values in after]) < np.mean([spread(values) for values in before])


def test_sensitivity_names_what_hurts(model: onnx.ModelProto) -> None:
    graph = Graph(model)
    found = quantize_graph(graph, IMAGES, Scheme())
    wide = [node for node in graph.nodes if node.op == "Conv" and node.weight.shape[1] > 8]
    spoiled = next(node for node in wide if node.inputs[0] in found.activations)
    params = found.activations[spoiled.inputs[0]]
    found.activations[spoiled.inputs[0]] = QuantParams(params.scale * 60, params.zero_point)
    ranked = Sensitivity(graph, IMAGES[:2]).layers(found)
    assert ranked[0][1] >= ranked[-1][1]
    assert spoiled.name in [name for name, _ in ranked[:3]]


def test_sensitivity_sees_what_a_layer_gives_before_a_hard_swish() -> None:
    graph = Graph(to_onnx(lively("mobilenet_v3_small", 7, seed=0), SMALL, 1.7))
    found = quantize_graph(graph, IMAGES, Scheme())
    assert "conv2d" in found.activations, "the stem's output is rounded"
    found.activations["conv2d"] = QuantParams(20.0, 1)
    seen = Sensitivity(graph, IMAGES[:2])
    assert seen.tensors(found)[0][0] == "conv2d"
    assert seen.layers(found)[0][0] == "conv2d"
    assert "conv2d" in layers_for_float(seen.layers(found))


def test_ranges_are_shortened_where_the_answers_gain_by_it() -> None:
    graph = Graph(to_onnx(lively("mobilenet_v2", 7, seed=0), SMALL, 1.7))
    found = quantize_graph(graph, IMAGES, Scheme())
    wide = next(node.inputs[0] for node in graph.nodes if node.is_depthwise)
    exact = found.activations[wide]
    found.activations[wide] = QuantParams(exact.scale * 2.5, exact.zero_point)
    assert Sensitivity(graph, IMAGES[:2]).shorter_ranges(found, Scheme())[wide] < 1
    shorter = quantize_graph(graph, IMAGES, Scheme(shorter=((wide, 0.5),)))
    assert shorter.activations[wide].scale == pytest.approx(exact.scale / 2, rel=1e-5)


@pytest.mark.slow
def test_training_keeps_the_spelling_and_the_layers_in_float() -> None:
    model = to_onnx(lively("mobilenet_v3_small", 7, seed=0), SMALL, 1.7)
    start = next(recipe for recipe in recipes(Task(model, IMAGES)) if recipe.runtime == "ort").make()
    assert start.quantized is not None
    chosen = start.quantized.scheme.float_layers
    assert chosen
    plan = plan_of(len(IMAGES), 60, 0)
    batches = [IMAGES[step.photographs] for step in plan]
    learnt = train(Graph(model), start.quantized, plan, batches, Silent())
    after, before = learnt.quantized.quantization, start.quantized.quantization.layers
    assert after.biases == {}, "float layers keep the bias of the graph"
    moved = [name for name, layer in after.layers.items() if layer.bias is not None]
    assert any((after.layers[name].weight != before[name].weight).any() for name in moved)
    candidate = trained(start, learnt, 2)
    assert (candidate.runtime, candidate.settings["qat_epochs"]) == ("ort", 2)
    assert candidate.settings["rewrites"] == start.settings["rewrites"]
    assert candidate.settings["float_layers"] == sorted(chosen)
    kinds = [[node.op_type for node in made.model.graph.node] for made in (start, candidate)]
    assert kinds[0] == kinds[1]
    logits, exact = (_on("ort:cpu", one, IMAGES) for one in (candidate.model, model))
    assert np.linalg.norm(logits - exact) < 0.6 * np.linalg.norm(exact)


def test_a_bias_that_would_not_fit_makes_its_scale_grow() -> None:
    weight = np.array([[1e-9, -1e-9], [1.0, 0.5]], np.float32)
    bias = np.array([0.5, 0.25], np.float32)
    layer = quantize_layer(weight, bias, 1e-6)
    assert layer.bias is not None
    assert np.abs(layer.bias.astype(np.int64)).max() <= 2**BIAS_BITS
    np.testing.assert_allclose(layer.bias * layer.scales.astype(np.float64) * 1e-6, bias, rtol=1e-6)
    np.testing.assert_allclose(layer.weight[1] * layer.scales[1], weight[1], atol=layer.scales[1] / 2)


@pytest.mark.parametrize("input_scale", [None, 0.1])
def test_one_scale_for_all_weights(input_scale: float | None) -> None:
    rng = np.random.default_rng(0)
    weight = (rng.normal(size=(4, 3, 3, 3)) * np.array([1, 0.1, 2, 0.5])[:, None, None, None]).astype(np.float32)
    layer = quantize_layer(weight, rng.normal(size=4).astype(np.float32), input_scale, per_tensor=True)
    assert layer.scales.shape == ()
    assert np.abs(layer.weight).max() == 127
    np.testing.assert_allclose(dequantized_weight(layer), weight, atol=layer.scales / 2 + 1e-6)
    if input_scale is not None:
        assert layer.float_bias is not None
        assert layer.float_bias.shape == (4,)


def test_every_recipe_for_npus_has_one_scale_for_a_tensor() -> None:
    model = to_onnx(lively("mobilenet_v2", 7, seed=0), SMALL, 1.7)
    found = recipes(Task(model, IMAGES[:2], per_tensor=True))
    assert {recipe.label.split(",")[0] for recipe in found} == {"edgetl", "NNCF", "ONNX Runtime"}
    for recipe in found:
        candidate = recipe.make()
        assert candidate.settings["weights"] == "int8 per-tensor"
        constants = {tensor.name: tensor for tensor in candidate.model.graph.initializer}
        scales = [
            constants[node.input[1]].dims
            for node in candidate.model.graph.node
            if node.op_type == "DequantizeLinear" and len(constants.get(node.input[0], onnx.TensorProto()).dims) > 1
        ]
        assert len(scales) > 40
        assert all(list(dims) in ([], [1]) for dims in scales), recipe.label


def test_channels_of_zeros_stay_zero() -> None:
    layer = quantize_layer(np.zeros((2, 3), np.float32), np.zeros(2, np.float32), 0.1)
    assert not layer.weight.any()
    assert (layer.scales > 0).all()


def test_recipes_depend_on_the_network(model: onnx.ModelProto) -> None:
    labels = [recipe.label for recipe in recipes(Task(model, IMAGES))]
    swish = any(node.op_type == "HardSwish" for node in model.graph.node)
    assert ("edgetl, hard-swish within layers" in labels) == swish
    assert any(label.startswith("NNCF") for label in labels)
    assert all(recipe.label.startswith("edgetl") for recipe in recipes(Task(model, IMAGES, symmetric=True)))


def test_training_that_would_take_too_long_is_given_up() -> None:
    model = to_onnx(lively("mobilenet_v2", 7, seed=0), SMALL, 1.7)
    graph = Graph(model)
    start = QuantizedGraph(model, Scheme(), quantize_graph(graph, IMAGES[:2], Scheme()))
    plan = plan_of(2, 12, 0)
    with pytest.raises(ValueError, match=r"it would take \d+ s, and may take 0; ask for it with --qat"):
        train(graph, start, plan, [IMAGES[step.photographs] for step in plan], Silent(), budget_s=1e-6)


def test_training_takes_as_many_steps_as_fit_into_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model = to_onnx(lively("mobilenet_v2", 7, seed=0), SMALL, 1.7)
    graph = Graph(model)
    start = QuantizedGraph(model, Scheme(), quantize_graph(graph, IMAGES[:2], Scheme()))
    plan = plan_of(2, 16, 0)
    clock = itertools.count(0.0, qat.TIMED_STEPS)  # a second for each step
    monkeypatch.setattr(qat.time, "monotonic", lambda: next(clock))
    rates: list[tuple[int, int]] = []
    schedule = qat._schedule
    monkeypatch.setattr(qat, "_schedule", lambda step, steps: rates.append((step, steps)) or schedule(step, steps))
    batches = [IMAGES[step.photographs] for step in plan]
    learnt = train(graph, start, plan, batches, Silent(), budget_s=12.5)
    assert rates[-1] == (11, 12), "the rate falls to the end that there is"
    assert learnt.done == 12 / 16
    candidate = Candidate("edgetl", "edgetl", {}, model)
    assert trained(candidate, learnt, 4).settings["qat_epochs"] == 3
    rates.clear()
    assert train(graph, start, plan, batches, Silent(), budget_s=16.5).done == 1
    assert len(rates) == 16


def test_what_is_rounded_is_kept_no_longer_than_it_is_read(
    model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it at once took gigabytes."""
    made: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def remembering(values: Tensor, params: QuantParams) -> Tensor:
        rounded = round_to(values, params)
        made.append(weakref.ref(rounded))
        alive.append(sum(one() is not None for one in made))
        return rounded

    monkeypatch.setattr("toolchain.export.int8.quantize.round_to", remembering)
    quantize_graph(Graph(model), IMAGES, Scheme())
    assert len(made) > 15
    assert max(alive) <= 4


def test_the_bytes_of_a_photograph_are_exact_to_the_sensitivity(model: onnx.ModelProto) -> None:
    """Files read them as they are. Less the mean of each colour, 0 and 255 would lie outside of the grid."""
    graph = Graph(model)
    extreme = np.where(IMAGES > 127, 255, 0).astype(np.uint8)
    [means] = [node.name for node in graph.nodes if node.op == "Sub"]
    [first] = [node.name for node in graph.nodes if node.is_layer and node.inputs[0] == means]
    integers = quantize_graph(graph, extreme, Scheme(pixels=True))
    assert integers.pixels is not None
    sensitivity = Sensitivity(graph, extreme)
    assert means not in dict(sensitivity.tensors(integers))
    without = replace(integers, activations={k: v for k, v in integers.activations.items() if k != means})
    exact = sensitivity._error(without, {first}, sensitivity._given(first))
    assert dict(sensitivity.layers(integers))[first] == exact


def test_layers_that_share_weights_get_integers_of_their_own() -> None:
    apart = to_onnx(lively("resnet18", 7, seed=0), SMALL, 1.7)
    layers = {tuple(node.input[1:]): node for node in apart.graph.node if node.op_type == "Conv"}
    stored = {tensor.name: tensor for tensor in apart.graph.initializer}
    alike: dict[tuple[int, ...], list[onnx.NodeProto]] = {}
    for node in layers.values():
        alike.setdefault(tuple(stored[node.input[1]].dims), []).append(node)
    first, second = next(found[:2] for found in alike.values() if len(found) > 1)
    for one, other in zip(first.input[1:], second.input[1:], strict=True):
        stored[other].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(stored[one]), other))
    shared = onnx.ModelProto()
    shared.CopyFrom(apart)
    for node in shared.graph.node:
        if node.output[0] == second.output[0]:
            node.input[1:] = first.input[1:]
    for model in (apart, shared):
        onnx.checker.check_model(model)
    both = [
        {recipe.label: recipe for recipe in recipes(Task(model, IMAGES))}["edgetl"].make().model
        for model in (apart, shared)
    ]
    expected, found = (_on("ort:cpu", model, IMAGES) for model in both)
    np.testing.assert_array_equal(found, expected)
    small = [_on("ort:cpu", int8_weights(model), IMAGES) for model in (apart, shared)]
    np.testing.assert_array_equal(*small)
