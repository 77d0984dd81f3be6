"""Write the figures of README.md and docs/guide.md from what was measured: `python docs/make_figures.py`."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BENCH = ROOT / "models" / "pets" / "bench.json"
GUIDE = ROOT / "docs" / "guide.md"
TRICKS = ROOT / "benchmarks" / "results" / "tricks-pets-mobilenet_v3_small.csv"
BLOCK = re.compile(r"(?<=<!-- figures: docs/make_figures.py -->\n).*?(?=<!-- end of figures -->)", re.DOTALL)


def figures() -> str:
    """The table of the ready-made model, arm by arm, and the machine it was measured on."""
    bench = json.loads(BENCH.read_text(encoding="utf-8"))
    arms = [arm for arm in bench["arms"] if arm["status"] == "ok"]
    p50 = {(arm["precision"], arm["device"]): arm["latency_ms"]["p50"] for arm in arms}
    lines = [
        "| file | device | top-1 | per-class top-1 | p50 ms | against float | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in arms:
        accuracy, latency = arm["accuracy"], arm["latency_ms"]["p50"]
        base = p50.get(("float32", arm["device"]))
        faster = f"{base / latency:.1f} times faster" if arm["precision"] == "int8" and base else ""
        lines.append(
            f"| {arm['artifact']} | {arm['device']} | {accuracy['top1']:.3f} | {accuracy['per_class_top1']:.3f} "
            f"| {latency:.2f} | {faster} | {arm['file_mb']:.1f} |"
        )
    machine, versions = bench["environment"], bench["environment"]["versions"]
    packages = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino", "PyTorch": "torch"}
    software = ", ".join(f"{name} {versions[package]}" for name, package in packages.items())
    lines += [
        "",
        f"The ready-made model on {arms[0]['accuracy']['n']} official test photographs of the pets, batch 1, "
        f"{arms[0]['threads']} threads; {machine['cpu']} with {', '.join(machine['flags'][-3:])}; {software}.",
    ]
    return "\n".join(lines) + "\n"


def page() -> str:
    """README.md with fresh figures."""
    return BLOCK.sub(lambda _: figures(), README.read_text(encoding="utf-8"))


def tricks() -> str:
    """The table of training tricks: means over seeds, and the error of the mean of their differences."""
    runs: dict[str, list[dict[str, str]]] = defaultdict(list)
    with TRICKS.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            runs[row["arm"]].append(row)
    lines = [
        "| option | test top-1 | difference, points | training loss | validation NLL |",
        "|---|---|---|---|---|",
    ]
    for arm, rows in runs.items():
        top1, loss, nll = (_mean(rows, column) for column in ("test_top1", "train_loss", "val_nll"))
        difference = ""
        if arm != "default":
            error = math.sqrt(sum(float(row["error_pp"]) ** 2 for row in rows)) / len(rows)
            difference = f"{_mean(rows, 'difference_pp'):+.1f} ± {error:.1f}"
        lines.append(f"| {arm} | {top1:.3f} | {difference} | {loss:.2f} | {nll:.3f} |")
    first = runs["default"][0]
    seeds = ", ".join(row["seed"] for row in runs["default"])
    lines += [
        "",
        f"Seeds {seeds}; {first['epochs']} epochs; the linear probe has "
        f"{_mean(runs['default'], 'probe_test_top1'):.3f}; {first['machine']}; {first['versions']}.",
    ]
    return "\n".join(lines) + "\n"


def _mean(rows: list[dict[str, str]], column: str) -> float:
    return sum(float(row[column]) for row in rows) / len(rows)


def guide() -> str:
    """docs/guide.md with fresh figures."""
    return BLOCK.sub(lambda _: tricks(), GUIDE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    README.write_text(page(), encoding="utf-8")
    GUIDE.write_text(guide(), encoding="utf-8")
