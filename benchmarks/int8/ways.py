"""How fast are float32, bfloat16 and int8 beside each other? Files of several runs, in every way of running them.

    edgetl export RUN --int8    (for each run)
    python benchmarks/int8/ways.py RUN... --out benchmarks/results/int8-ways.csv

Latencies are measured as `edgetl bench` does, arms taking turns, on one thread and on all; accuracy is not, so that
runs with random weights will do. An int8 file is measured on the devices that its card names. Ratios are to float32
on the same device; `least` is how many times as fast at least, with 95 % confidence.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from toolchain.artifact import find_artifacts, read_artifact
from toolchain.bench.runner import Plan, bench
from toolchain.cli.console import Console
from toolchain.evaluation.statistics import min_ratio
from toolchain.runs import read_run
from toolchain.runtimes.devices import cores, plain

DEVICES = ("ort:cpu", "openvino:CPU", "openvino:CPU+bf16")
COLUMNS = (
    *("network", "weights", "seed", "file", "device", "threads", "p50_ms", "times_float32", "least"),
    *("cpu", "onnxruntime", "openvino"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows: list[list[object]] = []
    for folder in options.runs:
        run = read_run(folder)
        artifacts = tuple(read_artifact(path) for path in find_artifacts(folder) if path.suffix == ".onnx")
        # `distinct` leaves out bfloat16 where it is not here, or not for the file.
        plan = Plan(artifacts, DEVICES, threads=tuple(sorted({1, cores()})), distinct=True)
        report = bench(plan, Console())
        arms = [arm for arm in report.arms if arm.status == "ok"]
        exact = {(arm.device, arm.threads): arm for arm in arms if arm.artifact == str(artifacts[0].path)}
        versions = report.environment.versions
        for arm in arms:
            base = exact[plain(arm.device), arm.threads]
            assert arm.latency_ms
            assert base.latency_ms
            least = min_ratio(base.process_p50_ms, arm.process_p50_ms)
            rows.append(
                [
                    *(run.model.name, Path(run.model.weights).name, run.settings["seed"], Path(arm.artifact).name),
                    *(arm.device, arm.threads, f"{arm.latency_ms.p50:.3f}"),
                    f"{base.latency_ms.p50 / arm.latency_ms.p50:.2f}",
                    "" if least is None else f"{least:.2f}",
                    *(report.environment.cpu, versions["onnxruntime"], versions["openvino"]),
                ]
            )
        with options.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(rows)


if __name__ == "__main__":
    main()
