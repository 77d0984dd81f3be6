"""Does OpenVINO's Model API answer as edgetl does? From the files alone, on real photographs.

    python benchmarks/fidelity/by_model_api.py RUN --data FOLDER [--every 10] [--out FILE.csv]

RUN holds model.onnx and model.int8.onnx; FOLDER photographs. Both are also asked in OpenVINO's format, and the
float file with the frame's size left to the graph (`--raw-frame`), all made here. Model API reads photographs as
OpenCV does and runs on the CPU in float32, as edgetl does, and is told to take `probabilities`, as
docs/how-to/deploy-files.md says.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import onnx
from model_api.adapters import OpenvinoAdapter, create_core
from model_api.models import ClassificationModel

from toolchain.artifact import Artifact, read_artifact, write_artifact
from toolchain.classifier import Classifier
from toolchain.export.raw_frame import with_raw_frame
from toolchain.export.variants import make_ir, write_ir
from toolchain.runtimes import open_runtime


def files(run: Path, folder: Path) -> list[Artifact]:
    """The files of the run as Model API can read them, all with their cards."""
    found = []
    for name in ("model.onnx", "model.int8.onnx"):
        artifact = read_artifact(run / name)
        model = onnx.load_model_from_string(artifact.model)
        path = folder / name
        # Written again: the run may be older than the words for Model API.
        found.append(write_artifact(model, artifact.card, path))
        found.append(make_ir(artifact.model, artifact.card, path.with_suffix(".xml")))
        write_ir(found[-1])
        if artifact.card.precision == "float32":
            card = replace(artifact.card, input="frame")
            frame = with_raw_frame(model, card.preprocess)
            found.append(write_artifact(frame, card, path.with_suffix(".frame.onnx")))
    return found


def compare(artifact: Artifact, photographs: list[Path]) -> dict[str, object]:
    """How often both name the same class, and how far their probabilities of it are apart."""
    classifier = Classifier(artifact.card, open_runtime(artifact, "openvino:CPU", unproven=True))
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    adapter = OpenvinoAdapter(create_core(), str(artifact.path), device="CPU", plugin_config=exact)
    model = ClassificationModel.create_model(adapter)
    model.out_layer_names = ["probabilities"]
    same, apart = [], []
    for photograph in photographs:
        bgr = cv2.imread(str(photograph))
        frame = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB) if artifact.card.input == "frame" else bgr
        answered, expected = model(frame).top_labels[0], classifier.predict(photograph)
        same.append(answered.name == "_".join(expected.label.split()))
        apart.append(abs(answered.confidence - expected.probability))
    return {
        "file": artifact.path.name,
        "photographs": len(photographs),
        "same_label": sum(same),
        "probability_mean_difference": round(float(np.mean(apart)), 4),
        "probability_largest_difference": round(float(np.max(apart)), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--out", type=Path)
    words = parser.parse_args()
    photographs = sorted(words.data.glob("*.jpg"))[:: words.every]
    with TemporaryDirectory() as folder:
        rows = [compare(artifact, photographs) for artifact in files(words.run, Path(folder))]
    for row in rows:
        print(row)
    if words.out:
        with words.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
