"""Does `edgetl bench` find what others find? Beside OpenVINO's `benchmark_app` and a bare ONNX Runtime loop.

    python benchmarks/fidelity/fidelity.py RUN [--threads 1,2] [--repeat 3] [--out FILE.csv]

RUN holds model.onnx and model.int8.onnx (one that serves both runtimes). Each measurement is a process of its own,
one after the other, in turns; what is compared are medians over the repetitions. `benchmark_app` runs with
`-api sync`, `-hint latency` where all cores compute, in float32 as edgetl does (`-infer_precision f32`), with one
image.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

from toolchain.runtimes.devices import cores

FILES = ("model.onnx", "model.int8.onnx")
SECONDS = 5
LOOP = """
import sys, time
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = int(sys.argv[2]), 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
shape = [1, *session.get_inputs()[0].shape[1:]]
images = np.random.default_rng(0).integers(0, 256, (16, *shape), np.uint8)
times, start = [], time.perf_counter()
while time.perf_counter() - start < float(sys.argv[3]):
    before = time.perf_counter()
    session.run(None, {"image": images[len(times) % 16]})
    times.append(time.perf_counter() - before)
print(np.median(times[len(times) // 5:]) * 1e3)
"""


def by_edgetl(path: Path, threads: int) -> dict[str, float]:
    """Median latency in ms by device."""
    devices = ("--device", "ort:cpu", "--device", "openvino:CPU")
    command = [sys.executable, "-m", "toolchain", "bench", str(path), *devices, "--threads", str(threads)]
    report = json.loads(_run([*command, "--limit", "16", "--json", "--quiet"]))
    if report["noisy"]:
        print("noisy:", *report["remarks"], sep="\n  ")
    return {arm["device"]: arm["latency_ms"]["p50"] for arm in report["arms"]}


def by_benchmark_app(path: Path, threads: int, shape: str) -> float:
    """Median latency in ms on OpenVINO's CPU."""
    words = ["-m", str(path), "-d", "CPU", "-api", "sync", "-infer_precision", "f32", "-shape", shape]
    # It takes no number of threads together with a hint; the hint's own number is that of the cores.
    fixed = ["-hint", "none", "-nstreams", "1", "-nthreads", str(threads)]
    words += [*(["-hint", "latency"] if threads == cores() else fixed), "-t", str(SECONDS)]
    said = _run([str(Path(sys.executable).with_name("benchmark_app")), *words])
    found = re.search(r"Median:\s+([\d.]+) ms", said)
    if found is None:
        raise SystemExit(f"benchmark_app gave no median:\n{said}")
    return float(found[1])


def by_loop(path: Path, threads: int) -> float:
    """Median latency in ms of ONNX Runtime alone."""
    return float(_run([sys.executable, "-c", LOOP, str(path), str(threads), str(SECONDS)]))


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--shape", default="image[1,224,224,3]")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for name in FILES:
        for threads in (int(word) for word in options.threads.split(",")):
            ours: dict[str, list[float]] = {"ort:cpu": [], "openvino:CPU": []}
            theirs: dict[str, list[float]] = {"ort:cpu": [], "openvino:CPU": []}
            for _ in range(options.repeat):
                for device, value in by_edgetl(options.run / name, threads).items():
                    ours[device].append(value)
                theirs["ort:cpu"].append(by_loop(options.run / name, threads))
                theirs["openvino:CPU"].append(by_benchmark_app(options.run / name, threads, options.shape))
            for device, reference in (("ort:cpu", "bare loop"), ("openvino:CPU", "benchmark_app")):
                mine, other = statistics.median(ours[device]), statistics.median(theirs[device])
                row = {
                    "file": name, "device": device, "threads": threads, "reference": reference,
                    "edgetl_ms": round(mine, 3), "reference_ms": round(other, 3), "ratio": round(mine / other, 3),
                }  # fmt: skip
                print(row, flush=True)
                rows.append(row)
    if options.out:
        with options.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
