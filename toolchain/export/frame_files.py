"""The files of `--raw-frame`: those that were written already, with resizing and cropping in the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from toolchain.artifact import Artifact, make_artifact, read_artifact
from toolchain.classifier import Classifier
from toolchain.evaluation.metrics import accuracy_drop
from toolchain.export.context import ExportContext, Logits, Measurement
from toolchain.export.measure import accuracy_of, logits_on
from toolchain.export.raw_frame import with_raw_frame
from toolchain.export.variants import Written
from toolchain.images.preprocess import read
from toolchain.runtimes import open_runtime
from toolchain.system import files

MAX_OTHERWISE = {"float32": 0.01, "int8": 0.02}
"""Share of photographs, and one in any case, that may be answered otherwise than by the file that takes resized
pictures. Pixels differ by 1 of 255 where OpenCV rounds in its own way; int8 makes more of that."""


def write_frame_files(job: ExportContext, paths: Sequence[Path]) -> tuple[Written, ...]:
    """Write `model.frame.onnx` beside `model.onnx`, and so on for all `paths`, if it answers as that one does."""
    written = []
    with job.reporter.task("files for raw frames", len(paths)) as task:
        for path in paths:
            written.append(_write(job, read_artifact(path)))
            task.advance()
    return tuple(written)


def _write(job: ExportContext, plain: Artifact) -> Written:
    model = with_raw_frame(onnx.load_model_from_string(plain.model), plain.card.preprocess)
    path = plain.path.with_suffix(".frame.onnx")
    devices = plain.card.runtimes
    card = replace(plain.card, input="frame")
    draft = make_artifact(model, card, path)
    hops, broken = [], None
    n = len(job.photographs)
    for device in devices:
        logits = _logits(draft, device, job.photographs)
        accuracy = accuracy_of(logits, job.reference[:n], job.sample, device, card.precision)
        hops.append(Measurement(device, accuracy, *accuracy_drop(job.bases[device][:n], logits, job.sample.labels)))
        otherwise = int((logits.argmax(1) != logits_on(plain, device, job.sample.pixels).argmax(1)).sum())
        if otherwise > max(1, MAX_OTHERWISE[card.precision] * n):
            broken = (
                f"{path.name} was not written: on {device} it answers {otherwise} of {n} photographs otherwise "
                f"than {plain.path.name}"
            )
    if broken is None:
        others = tuple(entry for entry in card.accuracy if entry.precision != card.precision)
        card = replace(card, accuracy=(*others, *(hop.accuracy for hop in hops)))
        files.write_bytes(path, make_artifact(model, card, path).model)
    return Written(str(path), "onnx", card.precision, round(draft.size_mb, 3), tuple(hops), broken)


def _logits(artifact: Artifact, device: str, photographs: Sequence[Path]) -> Logits:
    """Logits of photographs at their own sizes, float32 [n, classes]."""
    classifier = Classifier(artifact.card, open_runtime(artifact, device, unproven=True))
    return np.concatenate([classifier.infer([read(path)]).logits for path in photographs])
