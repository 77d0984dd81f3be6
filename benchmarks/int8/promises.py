"""Were the promises kept on photographs that had no say in it? float and int8 of several runs, side by side.

    edgetl export RUN --int8    (for each run)
    python benchmarks/int8/promises.py RUN... --out benchmarks/results/int8-promises.csv

Accuracy is that of the test split, through the deployed pipeline; latencies are measured as `edgetl bench` does,
arms taking turns, on one thread and on all. An int8 file is measured on the devices that its card names.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from toolchain.artifact import read_artifact
from toolchain.bench.runner import Plan, bench
from toolchain.cli.console import Console
from toolchain.runs import read_run
from toolchain.runtimes.devices import cores

DEVICES = ("ort:cpu", "openvino:CPU")
COLUMNS = (
    *("network", "seed", "file", "device", "threads", "recipe", "float_top1", "int8_top1", "drop_pp"),
    *("float_per_class", "int8_per_class", "agreement", "n", "float_p50_ms", "int8_p50_ms", "speed_up"),
    *("size_ratio", "cpu", "onnxruntime", "openvino"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    console = Console()
    rows = []
    for folder in options.runs:
        run = read_run(folder)
        files = [folder / "model.onnx", *sorted(folder.glob("model.int8*.onnx"))]
        artifacts = [read_artifact(path) for path in files if "frame" not in path.name]
        artifacts = [artifact for artifact in artifacts if artifact.card.runtimes]
        plan = Plan(tuple(artifacts), DEVICES, threads=tuple(sorted({1, cores()})), data=run.data.name, limit=0)
        report = bench(plan, console)
        arms = {(arm.artifact, arm.device, arm.threads): arm for arm in report.arms if arm.status == "ok"}
        versions = report.environment.versions
        for artifact in artifacts[1:]:
            for (file, device, threads), arm in arms.items():
                if file != str(artifact.path):
                    continue
                base = arms[str(artifacts[0].path), device, threads]
                assert arm.accuracy
                assert base.accuracy
                assert arm.latency_ms
                assert base.latency_ms
                recipe = artifact.card.recipe
                assert recipe is not None
                agreement = arm.accuracy.agreement
                rows.append(
                    [
                        *(run.model.name, run.settings["seed"], artifact.path.name, device, threads),
                        f"{recipe.quantiser} {recipe.settings.get('float_layers', '')}".strip(),
                        *(f"{base.accuracy.top1:.4f}", f"{arm.accuracy.top1:.4f}"),
                        f"{100 * (base.accuracy.top1 - arm.accuracy.top1):.2f}",
                        *(f"{base.accuracy.per_class_top1:.4f}", f"{arm.accuracy.per_class_top1:.4f}"),
                        *("" if agreement is None else f"{agreement:.4f}", arm.accuracy.n),
                        *(f"{base.latency_ms.p50:.3f}", f"{arm.latency_ms.p50:.3f}"),
                        f"{base.latency_ms.p50 / arm.latency_ms.p50:.2f}",
                        f"{artifact.size_mb / artifacts[0].size_mb:.3f}",
                        *(report.environment.cpu, versions["onnxruntime"], versions["openvino"]),
                    ]
                )
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    console.say(f"written: {options.out}")


if __name__ == "__main__":
    main()
