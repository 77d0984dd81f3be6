"""Write the figures of README.md from models/pets/bench.json: `python docs/make_figures.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BENCH = ROOT / "models" / "pets" / "bench.json"
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


if __name__ == "__main__":
    README.write_text(page(), encoding="utf-8")
