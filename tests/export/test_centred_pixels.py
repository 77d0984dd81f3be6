"""Networks centre their pixels in many ways; only bytes less the means of colours are read as bytes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from toolchain.export.int8.qdq import write_qdq
from toolchain.export.int8.quantize import Scheme, quantize_graph
from toolchain.export.int8.torch_graph import Graph

NORMALISED = {
    "unit pixels less a half": "unit = Div(pixels, most) centred = Sub(unit, half)",
    "from -1 to 1": "unit = Div(pixels, most) twice = Mul(unit, two) centred = Sub(twice, one)",
    "less a mean picture": "centred = Sub(pixels, picture)",
    "less a mean of each column": "centred = Sub(pixels, columns)",
    "bytes that are read twice": "less = Sub(pixels, hundred) more = Mul(pixels, half) centred = Add(less, more)",
    "bytes less the means": "centred = Sub(pixels, means)",
}


@pytest.mark.parametrize("scheme", [Scheme(), Scheme(pixels=False)], ids=["pixels", "floats"])
@pytest.mark.parametrize("how", NORMALISED.values(), ids=NORMALISED.keys())
def test_other_ways_of_centring_pixels(how: str, scheme: Scheme) -> None:
    """As adopted networks have them: only bytes less the means of colours are read as bytes."""
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
    net (uint8[batch, 16, 16, 3] image) => (float[batch, 4] logits, float[batch, 4] probabilities) {{
        turned = Transpose<perm=[0, 3, 1, 2]>(image) pixels = Cast<to=1>(turned)
        {how}
        c = Conv<kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], dilations=[1, 1], group=1>(centred, w, b)
        r = Relu(c) pooled = ReduceMean<keepdims=0>(r, axes)
        logits = Gemm<transB=1, alpha=1.0, beta=1.0>(pooled, head, bias)
        probabilities = Softmax<axis=1>(logits) }}"""
    dice = np.random.default_rng(5)
    constants = {
        "most": 255.0,
        "half": 0.5,
        "two": 2.0,
        "one": 1.0,
        "hundred": 100.0,
        "picture": dice.uniform(0, 255, (3, 16, 16)),
        "columns": dice.uniform(0, 255, (1, 1, 1, 16)),
        "means": np.array([120.0, 110, 100])[:, None, None],
        "w": dice.normal(size=(8, 3, 3, 3)),
        "b": dice.normal(size=8),
        "head": dice.normal(size=(4, 8)),
        "bias": dice.normal(size=4),
    }
    float_model = onnx.parser.parse_model(text)
    wanted = {name for node in float_model.graph.node for name in node.input}
    float_model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value, np.float32), name)
        for name, value in constants.items()
        if name in wanted
    )
    float_model.graph.initializer.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    images = dice.integers(0, 256, (12, 16, 16, 3), np.uint8)
    found = quantize_graph(Graph(float_model), images, scheme)
    assert (found.pixels is not None) == (scheme.pixels and "means)" in how)
    integers = write_qdq(float_model, found)
    onnx.checker.check_model(integers, full_check=True)
    exact, ours = (
        onnxruntime.InferenceSession(one.SerializeToString()).run(["logits"], {"image": images})[0]
        for one in (float_model, integers)
    )
    assert np.linalg.norm(ours - exact) < 0.05 * np.linalg.norm(exact)
