"""Build models/pets from the photographs: `EDGETL_DATA=FOLDER python models/make_pets.py WEIGHTS`.

WEIGHTS are torchvision's ImageNet weights of mobilenet_v2 as a file. Fine-tunes, exports, benchmarks on the test
split, and puts half-precision weights, the int8 artifact, bench.json and the card beside this script, in `pets/`.
Then the figures of README and docs are written anew (`docs/make_figures.py`).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file

from toolchain.artifact import read_artifact
from toolchain.artifact.card import Card
from toolchain.backbones import recipes
from toolchain.bench import report as reports
from toolchain.bench.results import BenchReport
from toolchain.bench.runner import Plan, bench
from toolchain.cli.console import Console
from toolchain.export.exporting import export
from toolchain.export.results import QuantizationSettings as Int8
from toolchain.runs import RUN_FILE, WEIGHTS_FILE, Run, SplitFile, read_run, read_splits
from toolchain.system import files
from toolchain.training.finetune import finetune
from toolchain.training.settings import settings_for

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "models" / "pets"
PLAIN = {"val": "validation photographs", "test": "test photographs"}
DEVICES = ("ort:cpu", "openvino:CPU", "torch:cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--run", type=Path, help="where to train, or a run that was trained with the defaults")
    parser.add_argument(
        "--measure", action="store_true", help="only measure the files that --run has been exported to"
    )
    options = parser.parse_args()
    if options.measure and options.run is None:
        parser.error("--measure needs --run")
    console = Console()
    with TemporaryDirectory() as name:
        folder = options.run or Path(name) / "pets-mobilenet_v2"
        if (folder / RUN_FILE).exists():
            run = read_run(folder)
        else:
            settings = settings_for(
                "pets", "mobilenet_v2", recipes.load("mobilenet_v2"), weights=str(options.weights.resolve())
            )
            run = finetune(settings, folder, command="edgetl finetune pets", reporter=console)
        if not options.measure:
            done = export(folder, int8=Int8(), reporter=console)
            if done.broken:
                raise SystemExit("; ".join(done.broken.values()))
        os.chdir(folder)  # paths in bench.json are those that were given
        artifacts = [read_artifact(Path(file)) for file in ("model.onnx", "model.int8.onnx")]
        report = bench(Plan(tuple(artifacts), DEVICES, data="pets", limit=0), console)
        state, splits = load_file(WEIGHTS_FILE), read_splits(Path())
    TARGET.mkdir(exist_ok=True)
    with files.replaced(TARGET / WEIGHTS_FILE) as beside:
        save_file({k: v.half() if v.dtype == torch.float32 else v for k, v in state.items()}, beside)
    files.write_bytes(TARGET / "model.int8.onnx", artifacts[1].model)
    files.write_json(TARGET / reports.JSON_FILE, report)
    files.write_bytes(TARGET / "card.md", card_page(run, splits, artifacts[1].card, report).encode())
    subprocess.run([sys.executable, ROOT / "docs" / "make_figures.py"], cwd=ROOT, check=True)
    if report.noisy:
        console.warn("bench.json is of a machine that was not at rest, and every text that quotes it says so")


def card_page(run: Run, splits: Mapping[str, Sequence[SplitFile]], card: Card, report: BenchReport) -> str:
    """The model's card for people, in Markdown."""
    taught = sorted(Counter(file.label for file in splits["train"]).values())
    recipe, reject = card.recipe, card.reject
    assert recipe is not None
    assert reject is not None
    rows = {"linear probe": run.probe_metrics["test"], f"kept ({run.model.kept})": run.metrics["test"]}
    measured = "\n".join(
        f"| {name}, float32 | {m.top1:.4f} | {m.per_class_top1:.4f} | {m.top5:.4f} | {m.ece:.4f} |"
        for name, m in rows.items()
    )
    counts = ", ".join(f"{split} {count}" for split, count in run.data.counts.items())
    settings = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in recipe.settings.items())
    rejection = run.rejection
    assert rejection is not None
    unsure = " and ".join(f"{1 - share:.1%} of the {PLAIN[split]}" for split, share in rejection.accepted.items())
    rejected = ""
    if rejection.outliers_rejected is not None:
        rejected = f", and to {rejection.outliers_rejected:.0%} of {rejection.outliers} pictures of other things"
    doubts = [f"- {remark}" for remark in report.remarks if remark.startswith("noisy: ")]
    state = "\n".join(["", "**The machine was not at rest:**", "", *doubts, ""]) if report.noisy else ""
    speeds = "\n".join(
        f"| {speed.device} | {speed.threads} | {speed.float_ms:.2f} | {speed.int8_ms:.2f} | {speed.ratio:.2f} |"
        for speed in recipe.speeds
    )
    licences = "\n".join(f"- {what}: {terms}" for what, terms in card.source.licences.items())
    arms = "\n".join(line for line in reports.to_markdown(report).splitlines() if line.startswith("|"))
    return f"""# The ready-made pets model

Names the breed of a cat or dog: {len(card.labels)} breeds, {run.model.name}, {run.model.parameters:,} parameters.
Made by `models/make_pets.py` with edgetl {card.edgetl_version}; nothing here was edited by hand.

| file | what |
|---|---|
| `model.int8.onnx` | the artifact: uint8 RGB pixels in, logits and probabilities out |
| `model.safetensors` | the float weights in half precision, in torchvision's names, to start training from |
| `bench.json` | the measurements below, whole |

## Data
Oxford-IIIT Pet, the part that was at hand: {counts} photographs. Validation and calibration were carved from the
official train list by content hash; test is the official one. Test split SHA-256 `{card.splits["test"][:16]}...`.

## Accuracy
| on {run.data.counts["test"]} test photographs | top-1 | per-class top-1 | top-5 | ECE |
|---|---|---|---|---|
{measured}

int8 by {recipe.quantiser} ({settings}; {recipe.calibration_n} calibration photographs).

## Measured
{report.environment.cpu}, {report.environment.cores} cores, {report.environment.os}.
{state}
{arms}

By `edgetl export`, when it chose the recipe (p50 in ms):

| device | threads | float32 | int8 | times as fast |
|---|---|---|---|---|
{speeds}

## Limits
It knows these {len(card.labels)} breeds and nothing else. Where its {reject.score.replace("_", " ")} is below
{reject.threshold:.2f} it says that it does not know, which happens to {unsure}{rejected};
other things can still be named wrongly and surely. The breeds were trained on {taught[0]} to {taught[-1]}
photographs each, half of them on {taught[len(taught) // 2]} or fewer.

## Licences
{licences}
"""


if __name__ == "__main__":
    main()
