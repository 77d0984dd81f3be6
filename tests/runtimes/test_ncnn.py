"""ncnn answers as ONNX Runtime does, on networks and on single operators, or says what it cannot be told."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper, parser

from tests.artifacts import tiny_card
from tests.conftest import lively
from toolchain.artifact import Artifact, write_artifact
from toolchain.errors import ArtifactError
from toolchain.export.onnx_writer import to_onnx
from toolchain.images.preprocess import Preprocess
from toolchain.runtimes import open_runtime

pytest.importorskip("ncnn")

SIDE = 64
SPEC = Preprocess(SIDE, SIDE, shortest_edge=SIDE)
LABELS = ("a", "b", "c", "d", "e")


def pictures(count: int = 3) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(1).integers(0, 256, (count, 8, 8, 3), np.uint8)
    return coarse.repeat(SIDE // 8, 1).repeat(SIDE // 8, 2)


def differing(artifact: Artifact, device: str) -> float:
    """By how much of the largest logit answers differ from ONNX Runtime's."""
    expected = open_runtime(artifact, "ort:cpu", threads=1).infer(pictures())
    found = open_runtime(artifact, device, threads=1).infer(pictures())
    assert found.probabilities.shape == expected.probabilities.shape
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-5)
    assert expected.logits.std(0).max() > 1e-3, "answers that depend on the picture"
    return float(np.abs(found.logits - expected.logits).max() / np.abs(expected.logits).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "resnet18"])
def test_networks_answer_as_on_onnx_runtime(name: str, tmp_path: Path) -> None:
    model = to_onnx(lively(name, len(LABELS), seed=0), SPEC, 1.5)
    artifact = write_artifact(model, tiny_card(LABELS, preprocess=SPEC, temperature=1.5), tmp_path / "model.onnx")
    assert differing(artifact, "ncnn:cpu") < 1e-4
    assert differing(artifact, "ncnn:cpu+f16") < 2e-2


def _constant(name: str, *shape: int, least: float = -1.0) -> onnx.TensorProto:
    values = np.random.default_rng(len(name) + sum(shape)).uniform(least, 1, shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


CONSTANTS = {
    "w": _constant("w", 6, 6, 3, 3),
    "grouped": _constant("grouped", 6, 2, 3, 3),
    "deep": _constant("deep", 6, 1, 3, 3),
    "b": _constant("b", 6),
    "positive": _constant("positive", 6, least=0.5),
    "channels": _constant("channels", 1, 6, 1, 1, least=0.5),
    "two": numpy_helper.from_array(np.float32(2), "two"),
    "zero": numpy_helper.from_array(np.float32(0), "zero"),
    "six": numpy_helper.from_array(np.float32(6), "six"),
    "axes": numpy_helper.from_array(np.array([2, 3]), "axes"),
    "pads": numpy_helper.from_array(np.array([0, 0, 1, 2, 0, 0, 0, 1]), "pads"),
    "stem": _constant("stem", 6, 3, 3, 3),
    "mean": numpy_helper.from_array(np.array([120, 110, 100], np.float32)[:, None, None], "mean"),
    "std": numpy_helper.from_array(np.array([60, 61, 62], np.float32)[:, None, None], "std"),
    "head": _constant("head", len(LABELS), 6),
}

OPERATORS = {
    "relu": "y = Relu(x)",
    "leaky": "y = LeakyRelu<alpha=0.2>(x)",
    "sigmoid": "s = Sigmoid(x) y = Mul(s, x)",
    "hard sigmoid": "y = HardSigmoid<alpha=0.1666667, beta=0.5>(x)",
    "hard swish": "y = HardSwish(x)",
    "clip": "y = Clip(x, zero, six)",
    "clip below": "y = Clip(x, zero)",
    "convolution, relu6": "c = Conv<pads=[1, 1, 1, 1]>(x, w, b) y = Clip(c, zero, six)",
    "convolution, hard swish": "c = Conv<pads=[1, 1, 1, 1]>(x, w) y = HardSwish(c)",
    "convolution that two read": "c = Conv<pads=[1, 1, 1, 1]>(x, w, b) r = Relu(c) y = Add(r, c)",
    "stride and dilation": "y = Conv<strides=[2, 1], dilations=[1, 2], pads=[0, 2, 1, 2]>(x, w, b)",
    "groups": "y = Conv<group=3>(x, grouped, b)",
    "depthwise": "c = Conv<group=6, strides=[2, 2], pads=[0, 0, 1, 1]>(x, deep) y = Relu(c)",
    "three readers": "r = Relu(x) s = Add(r, x) t = Mul(s, r) y = Sub(t, r)",
    "numbers": "a = Add(two, x) m = Mul(a, two) s = Sub(m, two) y = Div(s, two)",
    "a value for each channel": "m = Mul(channels, x) y = Div(m, channels)",
    "squeeze and excite": "p = ReduceMean<keepdims=1>(x, axes) s = Sigmoid(p) y = Mul(s, x)",
    "global pooling": "p = GlobalAveragePool(x) y = Mul(x, p)",
    "max pooling": "y = MaxPool<kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0]>(x)",
    "max pooling, ceil": "y = MaxPool<kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1>(x)",
    "mean pooling": "y = AveragePool<kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]>(x)",
    "mean pooling, zeros too": "y = AveragePool<kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1>(x)",
    "normalisation": "y = BatchNormalization<epsilon=0.001>(x, b, b, b, positive)",
    "concatenation": "r = Relu(x) c = Concat<axis=1>(r, x) y = Conv(c, wide)",
    "padding": "p = Pad(x, pads, two) y = Relu(p)",
}


def network_of(operators: str, folder: Path) -> Artifact:
    """A classifier with `operators` from x to y, [batch, 6, ...], in the middle."""
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
    net (uint8[batch, {SIDE}, {SIDE}, 3] image) => (float[batch, 5] logits, float[batch, 5] probabilities) {{
        turned = Transpose<perm=[0, 3, 1, 2]>(image) pixels = Cast<to=1>(turned)
        centred = Sub(pixels, mean) scaled = Div(centred, std)
        x = Conv<strides=[2, 2], pads=[1, 1, 1, 1]>(scaled, stem, b)
        {operators}
        pooled = ReduceMean<keepdims=0>(y, axes) logits = Gemm<transB=1>(pooled, head)
        probabilities = Softmax<axis=1>(logits) }}"""
    model = parser.parse_model(text)
    wanted = {name for node in model.graph.node for name in node.input}
    known = CONSTANTS | {"wide": _constant("wide", 6, 12, 1, 1)}
    model.graph.initializer.extend(tensor for name, tensor in known.items() if name in wanted)
    return write_artifact(model, tiny_card(LABELS, preprocess=SPEC), folder / "model.onnx")


@pytest.mark.parametrize("operators", OPERATORS.values(), ids=OPERATORS.keys())
def test_operators_compute_what_onnx_says(operators: str, tmp_path: Path) -> None:
    assert differing(network_of(operators, tmp_path), "ncnn:cpu") < 1e-4


@pytest.mark.parametrize(
    ("operators", "reason"),
    [
        ("y = Exp(x)", "the operator Exp"),
        ('y = Conv<auto_pad="SAME_UPPER">(x, w)', "automatic padding"),
        ("y = Div(two, x)", "the constant two"),
        ("p = ReduceMean<keepdims=1>(x, axes2) y = Add(p, x)", "a mean over other axes"),
        ("y = Softmax<axis=2>(x)", "a softmax along another axis"),
        ("y = Softmax<axis=-1>(x)", "a softmax along another axis"),
    ],
)
def test_what_ncnn_cannot_be_told_is_named(
    operators: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONSTANTS, "axes2", numpy_helper.from_array(np.array([1]), "axes2"))
    with pytest.raises(ArtifactError, match=f"edgetl cannot tell ncnn of .*{reason}") as raised:
        open_runtime(network_of(operators, tmp_path), "ncnn:cpu")
    assert "ort:cpu" in raised.value.hint


def test_a_forked_process_goes_on(tmp_path: Path) -> None:
    runtime = open_runtime(network_of("y = Relu(x)", tmp_path), "ncnn:cpu", threads=2)
    expected = runtime.infer(pictures()).logits
    child = os.fork()
    if child == 0:
        same = np.allclose(runtime.infer(pictures()).logits, expected, atol=1e-5)
        os._exit(0 if same else 1)
    until = time.monotonic() + 30
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < until:
        time.sleep(0.01)
    if done == (0, 0):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert done[1:] == (0,), "the child has ended, with the same answers"


def test_frames_of_any_size_are_refused(tmp_path: Path) -> None:
    from toolchain.export.raw_frame import with_raw_frame

    plain = network_of("y = Relu(x)", tmp_path)
    frames = with_raw_frame(onnx.load(plain.path), SPEC)
    artifact = write_artifact(frames, tiny_card(LABELS, preprocess=SPEC, input="frame"), tmp_path / "frame.onnx")
    with pytest.raises(ArtifactError, match="no frames of any size"):
        open_runtime(artifact, "ncnn:cpu")
