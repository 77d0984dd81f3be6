"""How much of the machine do several users of one model get? Processes and threads, edgetl beside the bare runtime.

    python benchmarks/serve/workers.py [ARTIFACT] [--seconds 2] [--rounds 5] [--out benchmarks/serve/workers.json]

Ways, each on ort:cpu and openvino:CPU:
- 1, 2 and 4 processes with edgetl's defaults, and with one thread each;
- one process whose 1, 2 and 8 threads share a classifier;
- the ideal: bare sessions of one thread without pinning and spinning, a process each, as many as there are cores
  (`bare`), and a bare session with all cores for one user (`bare alone`).

Answers per second, all users together: the median of the rounds, which take turns. Frames are preprocessed already,
so that the runtimes alone are compared. Run it on a machine at rest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from toolchain.runs.ready_made import ready_made_artifact
from toolchain.runtimes.devices import cores
from toolchain.runtimes.machine import describe
from toolchain.system import files, interpreter

WORKER = """
import sys, threading, time
import numpy as np
import toolchain
from pathlib import Path
from toolchain.artifact import read_artifact
path, device, kind, threads, users = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
artifact = read_artifact(Path(path))
spec = artifact.card.preprocess
frames = np.random.default_rng(0).integers(0, 256, (users, 1, spec.height, spec.width, 3), dtype=np.uint8)
if kind == "edgetl":
    infer = toolchain.load(artifact, device, threads).runtime.infer
elif device == "ort:cpu":
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(artifact.model, options, providers=["CPUExecutionProvider"])
    infer = lambda images: session.run(None, {"image": images})
else:
    import openvino
    core = openvino.Core()
    model = core.read_model(artifact.model, artifact.weights)
    model.reshape({"image": [1, spec.height, spec.width, 3]})
    request = core.compile_model(model, "CPU", {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }).create_infer_request()
    infer = lambda images: request.infer({"image": images}, share_inputs=True)

def use(number, until, done):
    count = 0
    while time.time() < until:
        infer(frames[number])
        count += 1
    done[number] = count

def together(until):
    done = [0] * users
    start = time.time()
    others = [threading.Thread(target=use, args=(number, until, done)) for number in range(users)]
    for one in others: one.start()
    for one in others: one.join()
    return sum(done) / (time.time() - start)

together(time.time() + 1)
print("ready", flush=True)
for line in sys.stdin:
    print(together(float(line)), flush=True)
"""


class Way:
    """Some processes that wait for their turn."""

    def __init__(self, artifact: Path, device: str, kind: str, processes: int, threads: int, users: int) -> None:
        words = (str(artifact), device, kind, str(threads), str(users))
        pipe = subprocess.PIPE
        command = interpreter.command(WORKER, *words)
        self.processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(processes)]
        for process in self.processes:
            assert process.stdout
            if process.stdout.readline() != "ready\n":
                raise SystemExit(f"{words} did not start")

    def turn(self, seconds: float) -> float:
        until = time.time() + seconds
        for process in self.processes:
            assert process.stdin
            process.stdin.write(f"{until}\n")
            process.stdin.flush()
        return sum(float(process.stdout.readline()) for process in self.processes if process.stdout)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def measure(artifact: Path, device: str, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Every way on one device; `of_ideal` is the share of the bare processes that fill the cores."""
    plans = [("bare", cores(), 1, 1), ("bare alone", 1, cores(), 1)]
    plans += [("edgetl", processes, threads, 1) for threads in (0, 1) for processes in (1, 2, 4)]
    plans += [("edgetl", 1, 0, users) for users in (2, 8)]
    # As many as fit into memory wait side by side; whoever waits takes no core.
    ways = [
        Way(artifact, device, kind.split()[0], processes, threads, users)
        for kind, processes, threads, users in plans
    ]
    try:
        taken: list[list[float]] = [[] for _ in ways]
        for _ in range(rounds):
            for way, rates in zip(ways, taken, strict=True):
                rates.append(way.turn(seconds))
                time.sleep(0.1)
    finally:
        for way in ways:
            way.close()
    medians = [statistics.median(rates) for rates in taken]
    return [
        {
            "device": device,
            "kind": kind,
            "processes": processes,
            "threads": threads or cores(),
            "users": users,
            "per_second": round(median, 1),
            "of_ideal": round(median / medians[0], 3),
            "rounds": [round(rate, 1) for rate in rates],
        }
        for (kind, processes, threads, users), median, rates in zip(plans, medians, taken, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    artifact = options.artifact or ready_made_artifact()
    environment = describe()
    found = []
    for device in ("ort:cpu", "openvino:CPU"):
        for one in measure(artifact, device, options.seconds, options.rounds):
            found.append(one)
            print(
                "{device:13} {kind:11} {processes} processes, {threads} threads, {users} users: ".format(**one),
                end="",
            )
            print("{per_second:7.1f} a second, {of_ideal:.2f} of the ideal".format(**one), flush=True)
    if options.out:
        record = {
            "command": " ".join(["python", *sys.argv]),
            "artifact": artifact.name,
            "sha256": files.sha256_of(artifact),
            "environment": environment,
            "found": found,
        }
        files.write_bytes(options.out, json.dumps(json.loads(files.to_json(record)), indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
