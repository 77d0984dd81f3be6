"""ResNet and VGG as ONNX: the answers of PyTorch on the runtimes that edgetl deploys to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import scipy.special
import torch

from tests.conftest import lively
from toolchain.backbones.networks import normalised
from toolchain.export.onnx_writer import to_onnx
from toolchain.images.preprocess import Preprocess

SMALL = Preprocess(height=64, width=64, shortest_edge=64)
TEMPERATURE = 1.7


@pytest.fixture(
    scope="module",
    params=[
        "resnet18",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet50", "vgg16", "vgg19")),
    ],
)
def network_and_file(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[torch.nn.Module, Path]:
    """A network with lively random weights, and its ONNX file."""
    network = lively(request.param, 7, seed=0)
    path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    onnx.save(to_onnx(network, SMALL, TEMPERATURE), path)
    return network, path


def _images_and_logits(network: torch.nn.Module, count: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(5).integers(0, 256, (count, 64, 64, 3), np.uint8)
    with torch.inference_mode():
        return images, network(normalised(torch.from_numpy(images))).numpy()


def test_pooling_and_normalisation_leave_no_trace(network_and_file: tuple[torch.nn.Module, Path]) -> None:
    model = onnx.load(network_and_file[1])
    onnx.checker.check_model(model, full_check=True)
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"BatchNormalization", "Gather", "Shape", "GlobalAveragePool", "AveragePool"}


@pytest.mark.parametrize(("side", "pools"), [(2, 0), (1, 1)])
def test_a_pool_of_single_pixels_is_left_out(side: int, pools: int) -> None:
    """VGG pools to 7 x 7, which is what its maps are."""
    network = lively("resnet18", 7, seed=0)
    network.get_submodule("layer4").append(torch.nn.AdaptiveAvgPool2d((side, side)))  # type: ignore[operator]
    model = to_onnx(network, SMALL, TEMPERATURE)
    onnx.checker.check_model(model, full_check=True)
    means = [
        node for node in model.graph.node if node.op_type in {"AveragePool", "GlobalAveragePool", "ReduceMean"}
    ]
    assert len(means) == 1 + pools
    images, expected = _images_and_logits(network, 2)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.allclose(session.run(["logits"], {"image": images})[0], expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_runtime_answers_as_torch_does(network_and_file: tuple[torch.nn.Module, Path], batch: int) -> None:
    network, path = network_and_file
    images, expected = _images_and_logits(network, batch)
    session = onnxruntime.InferenceSession(path)
    logits, probabilities = session.run(["logits", "probabilities"], {"image": images})
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(probabilities, scipy.special.softmax(logits / TEMPERATURE, axis=1), atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3])
def test_openvino_answers_as_torch_does(network_and_file: tuple[torch.nn.Module, Path], batch: int) -> None:
    network, path = network_and_file
    images, expected = _images_and_logits(network, batch)
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    logits = compiled({"image": images})["logits"]
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()
