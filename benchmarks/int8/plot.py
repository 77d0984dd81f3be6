"""Draw what `compare.py` found: time beside agreement, a panel for each runtime.

python benchmarks/int8/plot.py benchmarks/int8/results/mobilenet_v2-pets.csv --out docs/images/int8-recipes.svg
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

GROUPS = {
    "edgetl": "#1f6feb",
    "NNCF, ": "#8957e5",
    "ONNX Runtime": "#8957e5",
    "plain": "#d1242f",
    "quantize_static": "#d1242f",
    "Neural Compressor": "#d1242f",
    "float32": "#57606a",
}
"""Colours by how the name of a recipe begins: edgetl's own, others that edgetl tries, those that it does not."""
MARKERS = "osD^vP*X"


def draw(rows: list[dict[str, str]]) -> Figure:
    """Milliseconds for one photograph beside agreement with the float network; upper left is best."""
    devices = list(dict.fromkeys(row["device"] for row in rows))
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    panels = figure.subplots(1, len(devices), sharey=True, squeeze=False)[0]
    styles: dict[str, tuple[str, str]] = {}
    for row in rows:
        if row["recipe"] not in styles:
            (colour,) = (colour for start, colour in GROUPS.items() if row["recipe"].startswith(start))
            used = sum(known == colour for known, _ in styles.values())
            styles[row["recipe"]] = colour, MARKERS[used]
    for panel, device in zip(panels, devices, strict=True):
        for row in rows:
            if row["device"] == device and row["status"] == "ok":
                colour, marker = styles[row["recipe"]]
                place = float(row["p50_ms"]), float(row["agreement"])
                panel.plot(*place, marker, color=colour, markersize=8, label=row["recipe"], alpha=0.85)
        panel.set(title=device, xlabel="ms for one photograph, one thread", xlim=(0, None))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("same answer as float32")
    panels[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with options.results.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    style = {"svg.fonttype": "none", "svg.hashsalt": "edgetl", "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context(style):
        draw(rows).savefig(options.out, metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main()
