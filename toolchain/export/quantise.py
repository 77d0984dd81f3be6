"""Post-training quantisation to int8: weights per channel, activations uint8 per tensor, explicit QDQ.

Both quantisers write files that ONNX Runtime and OpenVINO read. Which of them loses least depends on the network,
so `toolchain.export.exporting` measures each; `benchmarks/int8/` holds what was seen on the pets. NNCF loses less,
but its file as it stands is no faster than float on ONNX Runtime; `_for_integer_kernels` mends that.
"""

from __future__ import annotations

import copy
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from toolchain.export.qdq import BIAS_BITS
from toolchain.system import telemetry
from toolchain.system.folders import scratch_folder

# NNCF sends usage statistics unless it believes that it runs in its makers' own CI.
os.environ.setdefault("NNCF_CI", "1")

Pixels = NDArray[np.uint8]

ORT_OPERATORS = ["Conv", "Gemm", "Add", "Mul", "Clip", "Relu", "HardSwish", "ReduceMean"]
"""The pixel arithmetic before the network and the softmax after it stay float."""


NNCF_SETTINGS = {"preset": "performance", "activations": "uint8 per-tensor", "weights": "int8 per-channel"}


@dataclass(frozen=True)
class Quantiser:
    """One way to int8. `run` takes the float model and calibration images uint8 [n, height, width, 3]."""

    name: str
    label: str
    settings: dict[str, Any]
    run: Callable[[onnx.ModelProto, Pixels], onnx.ModelProto]


def _nncf(fast_bias_correction: bool) -> Callable[[onnx.ModelProto, Pixels], onnx.ModelProto]:
    def run(model: onnx.ModelProto, images: Pixels) -> onnx.ModelProto:
        with telemetry.off():
            import nncf
            from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters

        nncf.set_log_level(logging.ERROR)
        # ONNX Runtime refuses activations that have a scale for each channel, NNCF's default in front of depthwise
        # convolutions.
        per_tensor = AdvancedQuantizationParameters(
            activations_quantization_params=QuantizationParameters(per_channel=False)
        )
        quantised: onnx.ModelProto = nncf.quantize(
            _copied(model),
            nncf.Dataset([{"image": image[None]} for image in images]),
            subset_size=len(images),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            fast_bias_correction=fast_bias_correction,
            advanced_parameters=per_tensor,
        )
        return _for_integer_kernels(quantised)

    return run


def _for_integer_kernels(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same numbers, written so that ONNX Runtime too computes in integers (its QLinearConv).

    It asks for two things that NNCF leaves out: biases as int32 with the product of the scales of activation and
    weight, and, for its fast kernels, uint8 activations: int8 around 0 becomes uint8 around 128.
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


def _onnxruntime(model: onnx.ModelProto, images: Pixels) -> onnx.ModelProto:
    with telemetry.off():
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

    with scratch_folder("edgetl-int8-") as folder:
        source, prepared, target = (str(folder / f"{name}.onnx") for name in ("float", "prepared", "int8"))
        onnx.save(model, source)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            _Reader(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=ORT_OPERATORS,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return onnx.load(target)


QUANTISERS = (
    Quantiser(
        "nncf",
        "NNCF, fast bias correction",
        {**NNCF_SETTINGS, "bias_correction": "fast"},
        _nncf(fast_bias_correction=True),
    ),
    Quantiser(
        "nncf",
        "NNCF, full bias correction",
        {**NNCF_SETTINGS, "bias_correction": "full"},
        _nncf(fast_bias_correction=False),
    ),
    Quantiser(
        "onnxruntime",
        "ONNX Runtime, min-max",
        {"activations": "uint8 per-tensor", "weights": "int8 per-channel", "ranges": "min-max"},
        _onnxruntime,
    ),
)
"""All that `export --int8` tries, in this order."""


def quantise(model: onnx.ModelProto, images: Pixels, quantiser: Quantiser) -> onnx.ModelProto:
    """Quantise the float `model` with calibration `images`, uint8 [n, height, width, 3]. `model` stays as it is."""
    with _silence():
        quantised = quantiser.run(model, images)
    quantised.producer_name = "edgetl"
    del quantised.metadata_props[:]
    return quantised


class _Reader:
    """Calibration images for ONNX Runtime, one at a time."""

    def __init__(self, images: Pixels) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, Pixels] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image[None]}


def _copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


@contextmanager
def _silence() -> Iterator[None]:
    """Both quantisers draw progress bars and advice on stdout, which belongs to the command's result."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
