"""NNCF, OpenVINO's compression library, with its two ways of correcting biases.

NNCF loses less accuracy than ONNX Runtime's quantiser, but its file as it stands is no faster than float on ONNX
Runtime; `_for_integer_kernels` mends that. `benchmarks/int8/` holds what was measured on the pets.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from toolchain.export.int8.qdq import BIAS_BITS
from toolchain.export.int8.quantisers import Quantiser, Recipe, Task, from_library
from toolchain.system import telemetry

# NNCF sends usage statistics unless it believes that it runs in its makers' own CI.
os.environ.setdefault("NNCF_CI", "1")


def _recipes(task: Task) -> Iterator[Recipe]:
    if task.symmetric:
        return
    for correction in ("full", "fast"):
        settings = {"preset": "performance", "activations": "uint8 per-tensor", "weights": task.weights}
        settings["bias_correction"] = correction
        label = f"NNCF, {correction} bias correction"
        fast = correction == "fast"
        yield from_library("nncf", label, settings, partial(_quantize, task, fast), fallback=fast)


QUANTISER = Quantiser("nncf", _recipes)


def _quantize(task: Task, fast_bias_correction: bool) -> onnx.ModelProto:
    with telemetry.off():
        import nncf
        from nncf.quantization.advanced_parameters import (
            AdvancedQuantizationParameters,
            OverflowFix,
            QuantizationParameters,
        )

    nncf.set_log_level(logging.ERROR)
    # ONNX Runtime refuses activations that have a scale for each channel, NNCF's default in front of depthwise
    # convolutions.
    parameters = AdvancedQuantizationParameters(
        activations_quantization_params=QuantizationParameters(per_channel=False),
        weights_quantization_params=QuantizationParameters(per_channel=False) if task.per_tensor else None,
        overflow_fix=OverflowFix.ENABLE if task.portable else None,
    )
    quantized: onnx.ModelProto = nncf.quantize(
        copy.deepcopy(task.model),
        nncf.Dataset([{"image": image[None]} for image in task.images]),
        subset_size=len(task.images),
        preset=nncf.QuantizationPreset.PERFORMANCE,
        fast_bias_correction=fast_bias_correction,
        advanced_parameters=parameters,
    )
    return _for_integer_kernels(quantized)


def _for_integer_kernels(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same numbers, written so that ONNX Runtime too computes in integers (its QLinearConv).

    ONNX Runtime asks for two things that NNCF leaves out: biases as int32 with the product of the scales of
    activation and weight, and, for its fast kernels, uint8 activations: int8 around 0 becomes uint8 around 128.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}

    def add(name: str, values: NDArray[Any]) -> str:
        if name not in constants:
            constants[name] = onnx.numpy_helper.from_array(values, name)
            graph.initializer.append(constants[name])
        return name

    def value(name: str) -> NDArray[Any]:
        return onnx.numpy_helper.to_array(constants[name])

    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"} and node.input[0] not in constants:
            zero = value(node.input[2])
            if zero.dtype == np.int8:
                node.input[2] = add(f"{node.input[2]}_uint8", (zero.astype(np.int16) + 128).astype(np.uint8))
        elif node.op_type in {"Conv", "Gemm"} and len(node.input) == 3 and node.input[2] in constants:
            image, weight = (producers.get(name) for name in node.input[:2])
            if image is not None and weight is not None and image.op_type == weight.op_type == "DequantizeLinear":
                bias, name = value(node.input[2]), f"{node.input[2]}_{node.name}"
                scale = np.broadcast_to(value(image.input[1]) * value(weight.input[1]), bias.shape).astype(
                    np.float32
                )
                rounded = np.round(bias.astype(np.float64) / scale)
                # Inputs that were always 0 have next to no scale: such a bias does not fit, and stays float.
                if np.abs(rounded).max() < 2**BIAS_BITS:
                    inputs = [
                        add(f"{name}_int32", rounded.astype(np.int32)),
                        add(f"{name}_scale", scale),
                        add(f"{name}_zero", np.zeros(bias.shape, np.int32)),
                    ]
                    nodes.append(
                        onnx.helper.make_node("DequantizeLinear", inputs, [name], name=f"{name}_dq", axis=0)
                    )
                    node.input[2] = name
        nodes.append(node)
    nodes = [copy.deepcopy(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]  # it names the old types
    return model
