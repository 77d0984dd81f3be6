"""Whether ssh changes what is measured: the same arms here and behind ssh, on one machine, in turns.

    python benchmarks/on/turns.py HOST      HOST is this machine, as ssh knows it

writes benchmarks/results/on-turns.csv.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from toolchain.artifact import read_artifact
from toolchain.evaluation.statistics import min_of_mean
from toolchain.runtimes import machine
from toolchain.system.folders import scratch_folder
from toolchain.system.progress import Silent
from toolchain.timing.arm import Arm
from toolchain.timing.machines import connected
from toolchain.timing.protocol import LOCAL, Prepared
from toolchain.timing.scheduler import Pace, TimeLimits, load_arms, measure

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "on-turns.csv"
FILES = (ROOT / "models" / "pets" / "model.int8.onnx",)
DEVICES = ("ort:cpu", "openvino:CPU")
PROCESSES, ROUNDS = 5, 6


def main(host: str) -> None:
    artifacts = [read_artifact(path) for path in FILES]
    arms = [Arm(one, device, 1, 1, on) for one in artifacts for device in DEVICES for on in (LOCAL, host)]
    spec = artifacts[0].card.preprocess
    pixels = np.random.default_rng(0).integers(0, 256, (32, spec.height, spec.width, 3), np.uint8)
    with scratch_folder("edgetl-on-") as folder, connected([LOCAL, host], Silent()) as machines:
        (folder / "pictures").write_bytes(pixels.tobytes())
        prepared = Prepared({spec: folder / "pictures"}, tuple(range(len(pixels))))

        def load(waiting: Sequence[Arm]) -> None:
            for one in machines:
                mine = [arm for arm in waiting if arm.on == one.name]
                load_arms(mine, prepared, [], Silent(), TimeLimits(), one)

        pace = Pace(PROCESSES * ROUNDS, ROUNDS, precision=None, budget_s=None, processes=PROCESSES)
        try:
            measure(arms, load, pace, Silent(), TimeLimits())
        finally:
            for arm in arms:
                arm.close()
    environment = machine.describe()
    with RESULT.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(
            (
                "file",
                "device",
                "threads",
                "local_ms",
                "ssh_ms",
                "ssh_by_local",
                "at_least",
                "at_most",
                "cpu",
            )
        )
        for here, there in zip(arms[::2], arms[1::2], strict=True):
            logs = np.log(there.process_ms) - np.log(here.process_ms)
            low, high = np.exp(min_of_mean(logs.tolist())), np.exp(-min_of_mean((-logs).tolist()))
            ms = [float(np.median(arm.process_ms)) for arm in (here, there)]
            figures = (
                *(round(one, 3) for one in ms),
                *(round(float(x), 4) for x in (np.exp(logs.mean()), low, high)),
            )
            table.writerow((here.artifact.path.name, here.device, here.threads, *figures, environment.cpu))


if __name__ == "__main__":
    main(sys.argv[1])
