"""Post-training quantisation to int8: weights per channel, activations uint8 per tensor, explicit QDQ.

Both quantisers write files that ONNX Runtime and OpenVINO read. Which of them loses least depends on the network,
so `toolchain.export.exporting` measures each; `benchmarks/int8/` holds what was seen on the pets.
"""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

# NNCF sends usage statistics unless it believes that it runs in its makers' own CI.
os.environ.setdefault("NNCF_CI", "1")

Pixels = NDArray[np.uint8]

ORT_OPERATORS = ["Conv", "Gemm", "Add", "Mul", "Clip", "Relu", "HardSwish", "ReduceMean"]
"""The pixel arithmetic before the network and the softmax after it stay float."""


@dataclass(frozen=True)
class Quantiser:
    """One way to int8. `run` takes the float model and calibration images uint8 [n, height, width, 3]."""

    name: str
    label: str
    settings: dict[str, Any]
    run: Callable[[onnx.ModelProto, Pixels], onnx.ModelProto]


def _nncf(fast_bias_correction: bool) -> Callable[[onnx.ModelProto, Pixels], onnx.ModelProto]:
    def run(model: onnx.ModelProto, images: Pixels) -> onnx.ModelProto:
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
            preset=nncf.QuantizationPreset.MIXED,
            fast_bias_correction=fast_bias_correction,
            advanced_parameters=per_tensor,
        )
        return quantised

    return run


def _onnxruntime(model: onnx.ModelProto, images: Pixels) -> onnx.ModelProto:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory() as folder:
        source, prepared, target = (str(Path(folder) / f"{name}.onnx") for name in ("float", "prepared", "int8"))
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
        {"preset": "mixed", "activations": "per-tensor", "weights": "per-channel", "bias_correction": "fast"},
        _nncf(fast_bias_correction=True),
    ),
    Quantiser(
        "nncf",
        "NNCF, full bias correction",
        {"preset": "mixed", "activations": "per-tensor", "weights": "per-channel", "bias_correction": "full"},
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
