"""int8 weights, float arithmetic: a quarter of the size, and nothing for the runtime to do at each image."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from onnx import TensorProto, numpy_helper

from tests.artifacts import tiny_card
from tests.conftest import lively
from toolchain.artifact import make_artifact
from toolchain.export.int8.quantize import int8_weights
from toolchain.export.onnx_writer import to_onnx
from toolchain.images.preprocess import Preprocess
from toolchain.runtimes import open_runtime

SMALL = Preprocess(height=64, width=64, shortest_edge=64)
CARD = tiny_card([str(label) for label in range(7)], preprocess=SMALL)


@pytest.fixture(scope="module", params=["mobilenet_v2", "mobilenet_v3_small", "resnet18"])
def models(request: pytest.FixtureRequest) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A float model of lively random weights, and the same with int8 weights."""
    model = to_onnx(lively(request.param, 7, seed=0), SMALL, 1.7)
    return model, int8_weights(model)


def test_file_is_about_a_quarter_and_the_contract_stands(models: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    model, small = models
    assert small.ByteSize() < 0.34 * model.ByteSize()
    assert small.graph.input == model.graph.input
    assert small.graph.output == model.graph.output
    assert not {tensor.data_type for tensor in model.graph.initializer} & {TensorProto.INT8}, (
        "the caller's is as it was"
    )


def test_each_weight_is_within_half_a_step_of_its_channel(models: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    model, small = models
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in small.graph.initializer}
    compared = 0
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if f"{tensor.name}_int8" not in stored:
            assert values.ndim < 2 or values.size // len(values) < 32, "depthwise, or no weights"
            continue
        compared += 1
        scale = stored[f"{tensor.name}_scale"]
        assert scale.size == values.shape[0], "one scale for each output channel"
        back = stored[f"{tensor.name}_int8"].astype(np.float32) * scale
        assert (np.abs(back - values) <= 0.501 * scale).all()
    assert compared > 15


@pytest.mark.parametrize("device", ["ort:cpu", "openvino:CPU"])
def test_answers_are_those_of_float_with_rounded_weights(
    models: tuple[onnx.ModelProto, onnx.ModelProto], device: str, tmp_path: Path
) -> None:
    """Nothing but the weights is rounded, on no runtime: OpenVINO would round what goes into the last layer too."""
    model, small = copy.deepcopy(models[0]), models[1]
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in small.graph.initializer}
    for tensor in model.graph.initializer:
        if f"{tensor.name}_int8" in stored:
            rounded = stored[f"{tensor.name}_int8"].astype(np.float32) * stored[f"{tensor.name}_scale"]
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    images = np.random.default_rng(5).integers(0, 256, (3, 64, 64, 3), np.uint8)
    expected, logits = (
        open_runtime(make_artifact(each, CARD, tmp_path / "model.onnx"), device).infer(images).logits
        for each in (model, small)
    )
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


def test_onnx_runtime_computes_the_weights_once_when_it_loads(
    models: tuple[onnx.ModelProto, onnx.ModelProto], tmp_path: Path
) -> None:
    model, small = models
    operators = []
    for number, each in enumerate((model, small)):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{number}.onnx")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        onnxruntime.InferenceSession(each.SerializeToString(), options, providers=["CPUExecutionProvider"])
        operators.append(sorted(node.op_type for node in onnx.load(tmp_path / f"{number}.onnx").graph.node))
    assert operators[1] == operators[0], "what it runs is the float network"


def test_openvino_computes_the_weights_once_when_it_loads(models: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    core = openvino.Core()
    kinds = []
    for model in models:
        compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", {"PERF_COUNT": True})
        request = compiled.create_infer_request()
        request.infer({"image": np.zeros((1, 64, 64, 3), np.uint8)})
        done = [info for info in request.profiling_info if info.status == openvino.ProfilingInfo.Status.EXECUTED]
        kinds.append([info.node_type for info in done])
    assert kinds[1].count("Convert") <= kinds[0].count("Convert"), "that of the pixels, and none of weights"
