"""Quantise an ONNX file as Intel's Neural Compressor does by itself; a program for an interpreter of its own.

    python -m venv OTHER && OTHER/bin/pip install -r benchmarks/int8/requirements.txt
    OTHER/bin/python benchmarks/int8/neural_compressor.py FLOAT.onnx IMAGES.npy INT8.onnx

It needs older packages than edgetl. Its defaults are kept (min-max ranges, one scale for each tensor, uint8
activations), but for the format: QDQ, which OpenVINO reads, too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx_neural_compressor import data_reader
from onnx_neural_compressor.quantization import QuantFormat, config, quantize


class Reader(data_reader.CalibrationDataReader):  # type: ignore[misc]  # the package has no types
    """Gives one image after the other, each as a batch of its own."""

    def __init__(self, images: np.ndarray[Any, Any], name: str) -> None:
        self._images = images
        self._name = name
        self.rewind()

    def rewind(self) -> None:
        self._left: Iterator[np.ndarray[Any, Any]] = iter(self._images)

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        image = next(self._left, None)
        return None if image is None else {self._name: image[None]}


def main() -> None:
    source, images, target = sys.argv[1:]
    name = onnxruntime.InferenceSession(source).get_inputs()[0].name
    quantize(source, target, config.StaticQuantConfig(Reader(np.load(images), name), quant_format=QuantFormat.QDQ))
    onnx.save(onnx.load(target), target)  # with its weights inside


if __name__ == "__main__":
    main()
