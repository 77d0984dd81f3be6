"""ONNX files of edgetl as LiteRT files: the same weights, and of int8 files the same integers."""

from __future__ import annotations

from pathlib import Path

import onnx

from toolchain.artifact import CARD_KEY, Artifact, parse_tflite
from toolchain.artifact.card import Card
from toolchain.artifact.tflite.writing import write
from toolchain.export.litert.translate import translate
from toolchain.system import files


def make_tflite(onnx_file: bytes, card: Card, path: Path) -> Artifact:
    """Translate the content of an ONNX file and check the whole, without writing it to `path` yet.

    Raises UntranslatableError where an operator has no translation, ArtifactError when what would be written could
    not be read back.
    """
    network = translate(onnx.load_model_from_string(onnx_file))
    return parse_tflite(write(network, {CARD_KEY: files.to_json(card, indent=0).strip()}), path)
