"""Does `--compare` cry wolf, and does it see the wolf? The same file measured again and again, and slowed by 10 %.

    python benchmarks/fidelity/stability.py ARTIFACT [--tries 40] [--slow 10] [--out FILE.json]

Each try is a whole benchmark with new processes, compared with the one before it. In the slowed ones every
inference of openvino:CPU is followed by idle computing for a tenth of its time; ort:cpu is left as it is.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

from toolchain.artifact import read_artifact
from toolchain.bench.compare import Tolerance, compare
from toolchain.bench.results import BenchReport
from toolchain.bench.runner import Plan, bench
from toolchain.runtimes.machine import describe
from toolchain.timing.process import PROGRAM, WorkerProcess

DEVICES = ("ort:cpu", "openvino:CPU")
SLOWED = """
import time
from toolchain.timing import worker
infer = worker.Worker.infer_once
def slowed(self):
    start = time.perf_counter()
    infer(self)
    if self.classifier.runtime.device == "openvino:CPU":
        took = time.perf_counter() - start
        while time.perf_counter() - start < 1.1 * took:
            pass
    return (time.perf_counter() - start) * 1e3
worker.Worker.infer_once = slowed
worker.main()
"""


def measure(path: Path, program: str = PROGRAM) -> BenchReport:
    plan = Plan((read_artifact(path),), DEVICES, limit=8)
    return bench(plan, launch=partial(WorkerProcess, program))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--tries", type=int, default=40)
    parser.add_argument("--slow", type=int, default=10)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    tries = []
    before = measure(options.artifact)
    kinds = ["same"] * options.tries + ["slowed"] * options.slow
    for kind in kinds:
        slowed = kind == "slowed"
        now = measure(options.artifact, SLOWED if slowed else PROGRAM)
        # What is decided of a noisy run is of interest here, too.
        found = compare(replace(before, noisy=False), replace(now, noisy=False), "before", Tolerance())
        changes = {one.device: (round(one.ratio, 4), one.latency) for one in found.changes}
        tries.append({"kind": kind, "noisy": now.noisy, "changes": changes})
        print(tries[-1], flush=True)
        if not slowed:
            before = now
    alike = [change[1] for one in tries if one["kind"] == "same" for change in one["changes"].values()]
    document = {
        "cpu": describe().cpu,
        "false_alarms": alike.count("slower"),
        "comparisons": len(alike),
        "marked_noisy": sum(one["noisy"] for one in tries),
        "found": sum(one["changes"]["openvino:CPU"][1] == "slower" for one in tries if one["kind"] == "slowed"),
        "slowed": options.slow,
        "tries": tries,
    }  # fmt: skip
    print({name: value for name, value in document.items() if name != "tries"})
    if options.out:
        options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
