"""Photographs per second of training alone: the plain loop beside edgetl's, at equal settings on the CPU.

    EDGETL_DATA=FOLDER python benchmarks/finetune/throughput.py pets --weights mobilenet_v2.safetensors --json OUT

All layers are trained, in batches of 32 pictures of 224 x 224, on the same photographs. The arms take turns in
short rounds, each in a process of its own; the ratio is taken within each round. edgetl decodes a photograph once
and keeps it, so its rate is that of epochs whose photographs are decoded already; `edgetl-uncached` decodes each
time as the plain loop does. edgetl computes in bfloat16 where the processor is made for it; `plain-bfloat16` tells
how much of the difference that is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from peer import BATCH, limited, open_photographs, seed_everything, stamped
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from toolchain.runtimes.devices import cores, cpu_name

MODEL = "mobilenet_v2"
ARMS = ("edgetl", "edgetl-uncached", "plain", "plain-bfloat16")
DEFAULT_ARMS = "edgetl,plain"
WARM_UP_STEPS = 5
"""Not timed: more than what is prepared ahead on either side, which would otherwise count as done in no time."""


def rate_of(stamps: Sequence[float], warm_up: int) -> float:
    """Photographs per second after `warm_up` steps; see `peer.stamped`."""
    steps = len(stamps) - 1 - warm_up
    return steps * BATCH / (stamps[-1] - stamps[warm_up])


def plain_step_rate(data: str, weights: Path, seed: int, steps: int, warm_up: int, bfloat16: bool) -> float:
    """Photographs per second of plain.py's loop with its DataLoader."""
    from plain import LEARNING_RATE, Trainer, build, training_loader

    photographs = open_photographs(data)
    photos = limited(photographs.splits["train"], (warm_up + steps) * BATCH)
    seed_everything(seed)
    loader = training_loader(photos)
    trainer = Trainer(build(weights, len(photographs.classes)), LEARNING_RATE, bfloat16=bfloat16)
    stamps: list[float] = []
    trainer.epoch(stamped(iter(loader), stamps), len(loader), 1, 1)
    return rate_of(stamps, warm_up)


# ---- The only part that knows edgetl's training loop from inside: change it when toolchain.training changes. ----


def edgetl_step_rate(data: str, weights: Path, seed: int, steps: int, warm_up: int, cache: Path | None) -> float:
    """Photographs per second of edgetl's fine-tuning loop with all blocks trained.

    `cache` is a folder for decoded photographs, which is filled before anything is timed; None decodes each time.
    """
    from toolchain.backbones.networks import build
    from toolchain.backbones.weights import load_pretrained
    from toolchain.datasets.catalogue import open_dataset
    from toolchain.images.reader import Reader
    from toolchain.runs import Metrics
    from toolchain.system.progress import Silent
    from toolchain.training.batches import Step, cpu_batches
    from toolchain.training.context import TrainContext
    from toolchain.training.loop import fine_tune
    from toolchain.training.settings import TrainSettings
    from toolchain.training.team import Team

    dataset = open_dataset(data)
    by_path = {photo.path: photo for photo in dataset.splits["train"]}
    pairs = [(photo.path, photo.label) for photo in dataset.splits["train"]]
    photos = tuple(by_path[path] for path, _ in limited(pairs, (warm_up + steps) * BATCH))
    every_block = 10**6
    settings = TrainSettings(
        data=data,
        weights=str(weights),
        epochs=1,
        seed=seed,
        device="cpu",
        batch_size=BATCH,
        trained_blocks=every_block,
    )
    reader = Reader(settings.preprocess, cache, Silent())
    if cache:
        for photo in photos:
            reader.prepare(photo, larger=True)
    torch.manual_seed(seed)
    network = build(MODEL, len(dataset.classes))
    load_pretrained(network, MODEL, str(weights))
    network.to(memory_format=torch.channels_last)
    batches = cpu_batches(photos, reader, settings)
    stamps: list[float] = []

    def timed(wanted: Sequence[Step], epoch: int) -> Iterator[Tensor]:
        return stamped(batches(wanted, epoch), stamps)

    nothing = Metrics(n=1, top1=0, top5=0, per_class_top1=0, nll=0, ece=0, ece_uncalibrated=0, confusion=[])

    def judge(_: nn.Module, __: str) -> Metrics:
        return nothing

    with TemporaryDirectory() as folder:
        dataset = replace(dataset, splits={**dataset.splits, "train": photos})
        context = TrainContext(settings, dataset, (), reader, torch.device("cpu"), Team(), Path(folder), Silent())
        fine_tune(network, context, timed, judge, nothing)
    return rate_of(stamps, warm_up)


# -----------------------------------------------------------------------------------------------------------------


def measure_arm(arm: str, options: argparse.Namespace) -> float:
    shared = (options.data, options.weights, options.seed, options.steps, options.warm_up)
    if arm.startswith("edgetl"):
        cache = None if arm == "edgetl-uncached" else options.cache
        return edgetl_step_rate(*shared, cache)
    return plain_step_rate(*shared, bfloat16=arm == "plain-bfloat16")


def in_own_process(arm: str, seed: int, cache: Path, options: argparse.Namespace) -> float:
    command = [sys.executable, "-W", "ignore", __file__, options.data, "--weights", str(options.weights)]
    command += ["--measure", arm, "--seed", str(seed), "--steps", str(options.steps)]
    command += ["--warm-up", str(options.warm_up), "--cache", str(cache)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["images_per_s"])


def spread(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="pets", help="name or folder as for edgetl")
    parser.add_argument("--weights", type=Path, required=True, help=f"state dict of {MODEL}, torchvision's names")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="timed ones of a round")
    parser.add_argument("--warm-up", type=int, default=WARM_UP_STEPS, help="steps before those")
    parser.add_argument("--arms", default=DEFAULT_ARMS, help=f"of {', '.join(ARMS)}; ratios are over the last one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--measure", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.weights = options.weights.absolute()
    unknown = set(options.arms.split(",")) - set(ARMS)
    if unknown:
        parser.error(f"unknown arms: {', '.join(sorted(unknown))}")
    return options


def main() -> None:
    options = parse()
    if options.measure:
        print(json.dumps({"images_per_s": measure_arm(options.measure, options)}))
        return
    arms = options.arms.split(",")
    rates: dict[str, list[float]] = {arm: [] for arm in arms}
    with TemporaryDirectory() as folder:
        for number in range(options.rounds):
            # Who goes first changes, so that neither always meets the warmer machine.
            for arm in arms if number % 2 == 0 else arms[::-1]:
                started = time.perf_counter()
                rates[arm].append(in_own_process(arm, options.seed + number, Path(folder), options))
                seconds = time.perf_counter() - started
                print(f"round {number + 1}, {arm}: {rates[arm][-1]:.1f}/s, {seconds:.0f} s", file=sys.stderr)
    base = arms[-1]
    ratios = {arm: [mine / other for mine, other in zip(rates[arm], rates[base], strict=True)] for arm in arms[:-1]}
    table = Table("arm", "photographs per second", f"ratio to {base}", title=f"{MODEL}, all layers, batch {BATCH}")
    for arm in arms:
        table.add_row(arm, spread(rates[arm]), spread(ratios[arm]) if arm in ratios else "")
    Console(width=None if sys.stdout.isatty() else 120).print(table, "Median (smallest to largest) of the rounds.")
    if options.json:
        document = {
            "machine": f"{cpu_name()}, {cores()} cores",
            "torch": str(torch.__version__),
            "rounds": options.rounds,
            "steps": options.steps,
            "images_per_s": rates,
            f"ratio_to_{base}": ratios,
            "median_ratio": {arm: median(values) for arm, values in ratios.items()},
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
