"""edgetl beside a plain PyTorch loop and fastai: accuracy, time and memory on the same photographs and weights.

    EDGETL_DATA=FOLDER python benchmarks/finetune/compare.py pets --weights mobilenet_v2.safetensors \\
        --fastai-python PEERS/bin/python --out benchmarks/results

Each run is a process of its own, one after the other. Rows are written after each run, and a repeated run takes the
place of its old row, so that `--only` can repeat or complete a part. Every wall time is that of the whole process,
from its start to the evaluated model.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil
from peer import Photographs, Result, open_photographs, write_list
from rich.console import Console
from rich.table import Table

from toolchain.runs import METRICS_FILE, read_run
from toolchain.runtimes.devices import cores, cpu_name

MODEL = "mobilenet_v2"
TOOLS = ("edgetl", "plain", "fastai")
HERE = Path(__file__).parent
COLUMNS = (
    *("tool", "seed", "epochs", "setting", "val_top1", "test_top1", "test_per_class_top1", "wall_s"),
    *("train_images_per_s", "cpu_s", "peak_rss_mb", "peak_pss_mb", "machine", "versions"),
)
CURVE_COLUMNS = ("tool", "seed", "epochs", "epoch", "elapsed_s", "val_top1")
KEY = ("tool", "seed", "epochs")
PACKAGES = {
    "edgetl": ("edgetl", "torch", "torchvision", "openvino", "opencv-python-headless"),
    "plain": ("torch", "torchvision", "pillow"),
    "fastai": ("fastai", "torch", "torchvision", "pillow"),
}
SAMPLE_S = 0.25
SAMPLES_A_PSS = 8
"""Looking up the shared memory of a large process holds it up for some milliseconds."""

SPOKEN = re.compile(r"^(?:linear probe|epoch (?P<epoch>\d+): loss [\d.na]+,).*validation top-1")
"""What edgetl says when an epoch (or the probe, which counts as 0) has been judged."""

Row = dict[str, str]


@dataclass
class Watched:
    """A process that has ended: what it printed (`lines`, with seconds since its start) and what it took."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_rss_mb: float = 0.0
    peak_pss_mb: float | None = None
    lines: list[tuple[float, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Task:
    """What each run gets: the data, as a name or folder and as a list of photographs, and where it may write."""

    data: str
    photographs: Path
    folder: Path
    options: argparse.Namespace


def watch(command: Sequence[str], environment: dict[str, str]) -> Watched:
    """Run `command` to its end; its output is passed on to stderr. Raises SystemExit when it fails."""
    watched = Watched()
    before = _children_cpu_s()
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment}
    )
    assert process.stdout is not None
    ended = threading.Event()
    sampler = threading.Thread(target=_sample, args=(process.pid, watched, ended), daemon=True)
    sampler.start()
    for line in process.stdout:
        watched.lines.append((time.perf_counter() - started, line.rstrip()))
        print(f"  {line.rstrip()}", file=sys.stderr)
    code = process.wait()
    watched.wall_s = time.perf_counter() - started
    # All descendants that were waited for: DataLoader's processes too, which no sampling would catch whole.
    watched.cpu_s = _children_cpu_s() - before
    ended.set()
    sampler.join()
    if code:
        raise SystemExit(f"failed with {code}: {' '.join(command)}")
    return watched


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _sample(pid: int, watched: Watched, ended: threading.Event) -> None:
    """Keep the peaks of the memory of a process and its descendants, until it has ended."""
    number = 0
    while not ended.wait(SAMPLE_S):
        rss = pss = 0
        number += 1
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            for member in (process, *process.children(recursive=True)):
                with suppress(psutil.Error):
                    rss += member.memory_info().rss
                    # Pages that forked processes share count once here; only Linux tells.
                    if number % SAMPLES_A_PSS == 0:
                        pss += getattr(member.memory_full_info(), "pss", 0)
        watched.peak_rss_mb = max(watched.peak_rss_mb, rss / 1e6)
        if pss:
            watched.peak_pss_mb = max(watched.peak_pss_mb or 0.0, pss / 1e6)


Curve = list[tuple[int, float, float]]
"""Epoch, seconds since the process began, top-1 on validation."""


def run_edgetl(task: Task, seed: int) -> tuple[Watched, Result, Curve]:
    options = task.options
    out = task.folder / f"edgetl-{seed}"
    # Photographs that an earlier run has decoded would save this one that work.
    cache = options.cache or task.folder / f"cache-{seed}"
    command = [sys.executable, "-m", "toolchain", "finetune", task.data, "--model", MODEL]
    command += ["--weights", str(options.weights), "--epochs", str(options.epochs), "--seed", str(seed)]
    command += ["--out", str(out), *_max_minutes(options)]
    watched = watch(command, {"EDGETL_CACHE": str(cache)})
    run = read_run(out)
    epochs = [json.loads(line) for line in (out / METRICS_FILE).read_text(encoding="utf-8").splitlines()]
    top1 = {0: run.probe_metrics["val"].top1} | {line["epoch"]: line["val_top1"] for line in epochs}
    curve: Curve = []
    for seconds, line in watched.lines:
        if spoken := SPOKEN.match(line):
            epoch = int(spoken["epoch"] or 0)
            curve.append((epoch, seconds, top1[epoch]))
    settings = run.settings
    number_format = "bfloat16" if run.environment.get("bfloat16") else "float32"
    measured = Result(
        setting=f"recipe: probe, then {settings['trained_blocks']} blocks, {number_format}, AdamW "
        f"{settings['learning_rate']:g}, batch {settings['batch_size']}"
        + ("; photographs decoded before" if options.cache else ""),
        epochs=len(epochs),
        best_epoch=run.model.best_epoch,
        val_top1=run.metrics["val"].top1,
        test_top1=run.metrics["test"].top1,
        test_per_class_top1=run.metrics["test"].per_class_top1,
        train_images_per_s=median(line["images_per_s"] for line in epochs),
    )
    if not options.cache:
        shutil.rmtree(cache, ignore_errors=True)
    return watched, measured, curve


def run_peer(task: Task, seed: int, program: Sequence[str]) -> tuple[Watched, Result, Curve]:
    options = task.options
    out = task.folder / "peer.json"
    command = [*program, str(task.photographs), "--weights", str(options.weights)]
    command += ["--seed", str(seed), "--epochs", str(options.epochs), "--json", str(out), *_max_minutes(options)]
    watched = watch(command, {})
    curve: Curve = []
    for _, line in watched.lines:
        if line.startswith('{"epoch"'):
            point = json.loads(line)
            curve.append((point["epoch"], point["elapsed_s"], point["val_top1"]))
    return watched, Result(**json.loads(out.read_text(encoding="utf-8"))), curve


def _max_minutes(options: argparse.Namespace) -> list[str]:
    return [] if options.max_minutes is None else ["--max-minutes", str(options.max_minutes)]


def run(tool: str, task: Task, seed: int) -> tuple[Row, list[Row]]:
    """Run one tool with one seed; return its row and those of its curve."""
    options = task.options
    python = options.fastai_python if tool == "fastai" else sys.executable
    if tool == "edgetl":
        watched, measured, curve = run_edgetl(task, seed)
    else:
        own = ["--learning-rate", str(options.plain_learning_rate)] if options.plain_learning_rate else []
        script = [HERE / "fastai_peer.py"] if tool == "fastai" else [HERE / "plain.py", *own]
        watched, measured, curve = run_peer(task, seed, [python, "-W", "ignore", *map(str, script)])
    key = {"tool": tool, "seed": str(seed), "epochs": str(options.epochs)}
    row = key | {
        "setting": measured.setting,
        "val_top1": f"{measured.val_top1:.4f}",
        "test_top1": f"{measured.test_top1:.4f}",
        "test_per_class_top1": f"{measured.test_per_class_top1:.4f}",
        "wall_s": f"{watched.wall_s:.1f}",
        "train_images_per_s": f"{measured.train_images_per_s:.1f}",
        "cpu_s": f"{watched.cpu_s:.1f}",
        "peak_rss_mb": f"{watched.peak_rss_mb:.0f}",
        "peak_pss_mb": "" if watched.peak_pss_mb is None else f"{watched.peak_pss_mb:.0f}",
        "machine": f"{cpu_name()}, {cores()} cores",
        "versions": versions(python, PACKAGES[tool]),
    }
    points = [
        key | {"epoch": str(epoch), "elapsed_s": f"{seconds:.1f}", "val_top1": f"{top1:.4f}"}
        for epoch, seconds, top1 in curve
    ]
    return row, points


def versions(python: str, packages: Sequence[str]) -> str:
    """Versions of `packages` as the interpreter `python` finds them."""
    program = (
        "import sys, platform; from importlib.metadata import version; "
        "print('; '.join(['python ' + platform.python_version(), *(f'{p} {version(p)}' for p in sys.argv[1:])]))"
    )
    done = subprocess.run([python, "-c", program, *packages], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def update(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> list[Row]:
    """Put `rows` into the CSV file at `path` in place of those of the same runs; return all that it holds."""
    new = {tuple(row[name] for name in KEY) for row in rows}
    kept = [row for row in read_rows(path) if tuple(row[name] for name in KEY) not in new]
    together = sorted(
        [*kept, *rows], key=lambda row: (TOOLS.index(row["tool"]), int(row["epochs"]), int(row["seed"]))
    )
    beside = path.with_suffix(".new")
    with beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(together)
    beside.replace(path)
    return together


def read_rows(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def copy_photographs(photographs: Photographs, folder: Path) -> None:
    """Copy them into SPLIT/CLASS/ below `folder`, where edgetl finds a data set."""
    for split, photos in photographs.splits.items():
        for path, label in photos:
            target = folder / split / photographs.classes[label] / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def show(rows: Sequence[Row]) -> None:
    shown = [name for name in COLUMNS if name not in {"setting", "machine", "versions"}]
    table = Table(*shown, title=f"{MODEL}, fine-tuned")
    for row in rows:
        table.add_row(*(row[name] for name in shown))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("data", nargs="?", default="pets", help="name or folder as for edgetl")
    parser.add_argument("--weights", type=Path, required=True, help=f"state dict of {MODEL}, torchvision's names")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--max-minutes", type=float, help="of fine-tuning, for each tool")
    parser.add_argument("--only", choices=TOOLS, action="append", help="this tool; may be given again for another")
    parser.add_argument("--fastai-python", default=sys.executable, help="interpreter of an environment with fastai")
    parser.add_argument("--cache", type=Path, help="where edgetl keeps decoded photographs; default: new each run")
    parser.add_argument("--plain-learning-rate", type=float, help="default: that of plain.py")
    parser.add_argument("--limit", type=int, default=0, help="photographs of each split, for a trial; 0 for all")
    options = parser.parse_args()
    options.weights = options.weights.absolute()
    return options


def main() -> None:
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    name = Path(options.data).resolve().name if Path(options.data).is_dir() else options.data
    stem = f"finetune-{name}-{MODEL}" + (f"-limit{options.limit}" if options.limit else "")
    table, curves = options.out / f"{stem}.csv", options.out / f"{stem}-curve.csv"
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data, photographs = options.data, open_photographs(options.data, options.limit)
        if options.limit:
            data = str(folder / "photographs")
            copy_photographs(photographs, Path(data))
            # edgetl sets some training photographs aside for calibration; nobody should train on those.
            photographs = open_photographs(data)
        write_list(photographs, folder / "photographs.json")
        task = Task(data, folder / "photographs.json", folder, options)
        for seed in map(int, options.seeds.split(",")):
            for tool in options.only or TOOLS:
                print(f"{tool}, seed {seed}", file=sys.stderr)
                row, points = run(tool, task, seed)
                update(table, COLUMNS, [row])
                update(curves, CURVE_COLUMNS, points)
    show(read_rows(table))


if __name__ == "__main__":
    main()
