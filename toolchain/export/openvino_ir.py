"""ONNX files as OpenVINO's own format (IR), a `.xml` with its weights in a `.bin`, with the same card.

OpenVINO reads ONNX too. The IR is for programs that were built without its ONNX reader, and it loads faster.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx

from toolchain.artifact import Artifact, ir, parse_ir
from toolchain.artifact.card import Card
from toolchain.system import files, telemetry
from toolchain.system.folders import scratch_folder

with telemetry.off():
    import openvino
from toolchain.errors import BadInputError


def make_ir(onnx_file: bytes, card: Card, path: Path, *, half: bool = False) -> Artifact:
    """Convert the content of an ONNX file and check the whole, without writing it to `path` (a `.xml`) yet.

    With `half`, weights are stored as float16; OpenVINO computes in whatever its device prefers.
    Raises ArtifactError when what would be written could not be read back.
    """
    source = onnx.load_model_from_string(onnx_file)
    del source.metadata_props[:]  # OpenVINO would keep them, and the card be there twice
    model = openvino.Core().read_model(source.SerializeToString())
    model.set_rt_info(files.to_json(card, indent=0).decode().strip(), [ir.CARD])
    _, weights = _saved(model, half)
    model.set_rt_info(hashlib.sha256(weights).hexdigest(), [ir.WEIGHTS_SHA256])
    return parse_ir(*_saved(model, half), path)


def write_ir(artifact: Artifact) -> None:
    """Rename both files into place, the weights first: an old `.xml` refuses new weights, and so does a new one."""
    with files.replaced(artifact.path) as beside:  # both are written before either has its name
        beside.write_bytes(artifact.model)
        files.write_bytes(artifact.path.with_suffix(".bin"), artifact.weights)


def _saved(model: openvino.Model, half: bool) -> tuple[bytes, bytes]:
    with scratch_folder("edgetl-ir-") as folder:
        path = folder / "model.xml"
        try:
            openvino.save_model(model, path, compress_to_fp16=half)
        except RuntimeError as error:
            # It says neither which disk is full nor that one is.
            reason = " ".join(str(error).split())[-120:]
            raise BadInputError(
                f"OpenVINO could not write into {folder}: {reason}",
                "Make space there, or set TMPDIR to another folder.",
            ) from None
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()
