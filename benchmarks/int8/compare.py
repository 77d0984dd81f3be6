"""int8 recipes side by side on one run: accuracy, agreement, latency and size on ONNX Runtime and OpenVINO.

    edgetl export RUN && python benchmarks/int8/compare.py RUN --out benchmarks/int8/results

Beside the recipes that `edgetl export --int8` tries stand the plain defaults of both quantisers, operators with
weights alone, as Ultralytics does it, and, with `--neural-compressor OTHER/bin/python`, Intel's Neural Compressor.
Accuracy is that of the test split through the deployed pipeline; latencies are measured as `edgetl bench` does,
arms taking turns.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from toolchain.artifact import read_artifact, write_artifact
from toolchain.artifact.card import QuantizationRecipe
from toolchain.bench.runner import Plan, bench
from toolchain.cli.console import Console
from toolchain.export.int8.quantisers import Task, from_library, recipes
from toolchain.export.int8.quantisers.onnxruntime import CalibrationReader
from toolchain.export.photographs import RunPhotographs
from toolchain.runs import read_run

COLUMNS = (
    *("recipe", "device", "status", "top1", "per_class_top1", "agreement", "n", "p50_ms", "p95_ms", "file_mb"),
    *("threads", "cpu", "onnxruntime", "openvino", "nncf"),
)
TARGETS = ("ort:cpu", "openvino:CPU")


def plain_onnxruntime(task: Task) -> onnx.ModelProto:
    """`quantize_static` with no options: S8S8, one scale for each tensor."""
    from onnxruntime.quantization import quantize_static

    with TemporaryDirectory() as folder:
        source, target = str(Path(folder) / "float.onnx"), str(Path(folder) / "int8.onnx")
        onnx.save(task.model, source)
        quantize_static(source, target, CalibrationReader(task.images))
        return onnx.load(target)


def plain_nncf(task: Task) -> onnx.ModelProto:
    """`nncf.quantize` with no options: activations before depthwise convolutions have a scale for each channel."""
    import nncf

    copy = onnx.ModelProto()
    copy.CopyFrom(task.model)
    quantised: onnx.ModelProto = nncf.quantize(
        copy, nncf.Dataset([{"image": image[None]} for image in task.images])
    )
    return quantised


def weighted_onnxruntime(task: Task) -> onnx.ModelProto:
    """Operators with weights only, as Ultralytics quantises its ONNX files; otherwise no options."""
    from onnxruntime.quantization import quantize_static

    with TemporaryDirectory() as folder:
        source, target = str(Path(folder) / "float.onnx"), str(Path(folder) / "int8.onnx")
        onnx.save(task.model, source)
        quantize_static(
            source, target, CalibrationReader(task.images), op_types_to_quantize=["Conv", "Gemm", "MatMul"]
        )
        return onnx.load(target)


def neural_compressor(python: Path, task: Task) -> onnx.ModelProto:
    """Intel's Neural Compressor, in the interpreter `python`; see `neural_compressor.py`."""
    with TemporaryDirectory() as folder:
        source, images, target = (Path(folder) / name for name in ("float.onnx", "images.npy", "int8.onnx"))
        onnx.save(task.model, source)
        np.save(images, task.images)
        program = Path(__file__).with_name("neural_compressor.py")
        subprocess.run([python, program, source, images, target], check=True, capture_output=True)
        return onnx.load(target)


PLAIN = (
    ("onnxruntime", "plain quantize_static", plain_onnxruntime),
    ("onnxruntime", "quantize_static, weighted operators", weighted_onnxruntime),
    ("nncf", "plain nncf.quantize", plain_nncf),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--neural-compressor", type=Path, metavar="PYTHON", help="an interpreter that has it")
    options = parser.parse_args()
    plain = list(PLAIN)
    if options.neural_compressor:
        other = partial(neural_compressor, options.neural_compressor.absolute())
        plain.append(("neural_compressor", "Neural Compressor, defaults as QDQ", other))
    console = Console()
    run = read_run(options.run)
    base = read_artifact(options.run / "model.onnx")
    calibration = RunPhotographs(options.run, run, None, console).read("calibration")
    model = onnx.load_model_from_string(base.model)
    del model.metadata_props[:]
    with TemporaryDirectory() as name:
        artifacts = [base]
        task = Task(model, calibration.pixels)
        theirs = [from_library(name, label, {}, partial(quantize, task)) for name, label, quantize in plain]
        for number, way in enumerate((*recipes(task), *theirs)):
            console.say(f"quantising: {way.label}")
            int8 = way.make().model
            recipe = QuantizationRecipe(way.label, {}, calibration.split_sha256, len(calibration.pixels))
            card = replace(base.card, precision="int8", recipe=recipe, runtimes=TARGETS)
            artifacts.append(write_artifact(int8, card, Path(name) / f"{number}.int8.onnx"))
        plan = Plan(tuple(artifacts), TARGETS, threads=(1,), data=run.data.name, limit=0)
        report = bench(plan, console)
        labels = {str(a.path): a.card.recipe.quantiser if a.card.recipe else "float32" for a in artifacts}
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / f"{run.model.name}-{run.data.name}.csv"
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for arm in report.arms:
            accuracy, latency = arm.accuracy, arm.latency_ms
            versions = report.environment.versions
            writer.writerow(
                [
                    labels[arm.artifact],
                    arm.device,
                    arm.status if arm.status == "ok" else f"{arm.status}: {arm.reason}",
                    *((f"{accuracy.top1:.4f}", f"{accuracy.per_class_top1:.4f}") if accuracy else ("", "")),
                    f"{accuracy.agreement:.4f}" if accuracy and accuracy.agreement is not None else "",
                    accuracy.n if accuracy else "",
                    *((f"{latency.p50:.3f}", f"{latency.p95:.3f}") if latency else ("", "")),
                    arm.file_mb,
                    arm.threads,
                    report.environment.cpu,
                    *(versions.get(package, "") for package in ("onnxruntime", "openvino", "nncf")),
                ]
            )
    console.say(f"written: {target}")


if __name__ == "__main__":
    main()
