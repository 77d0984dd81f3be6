"""ONNX Runtime's own static quantiser, with minimum-maximum ranges."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import onnx
from numpy.typing import NDArray

from toolchain.export.int8.quantisers import Quantiser, Recipe, Task, from_library
from toolchain.system import telemetry
from toolchain.system.folders import scratch_folder

OPERATORS = ["Conv", "Gemm", "Add", "Mul", "Clip", "Relu", "HardSwish", "ReduceMean"]
"""The pixel arithmetic before the network and the softmax after it stay float."""


class CalibrationReader:
    """Calibration images, uint8 [n, height, width, 3], one at a time, as ONNX Runtime asks for them."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image[None]}


def _recipes(task: Task) -> Iterator[Recipe]:
    if not task.symmetric:
        settings = {"activations": "uint8 per-tensor", "weights": task.weights, "ranges": "min-max"}
        quantize = partial(_quantize, task)
        yield from_library("onnxruntime", "ONNX Runtime, min-max", settings, quantize, fallback=True)


QUANTISER = Quantiser("onnxruntime", _recipes)


def _quantize(task: Task) -> onnx.ModelProto:
    with telemetry.off():
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

    with scratch_folder("edgetl-int8-") as folder:
        source, prepared, target = (str(folder / f"{name}.onnx") for name in ("float", "prepared", "int8"))
        onnx.save(task.model, source)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            CalibrationReader(task.images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=OPERATORS,
            per_channel=not task.per_tensor,
            reduce_range=task.portable,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return onnx.load(target)
