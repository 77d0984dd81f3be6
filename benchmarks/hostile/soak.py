"""Does the camera stay as it is while its source dies again and again?

    python benchmarks/hostile/soak.py --minutes 30

`edgetl camera` watches a motion-JPEG stream of 30 frames per second, with a page that one viewer follows (answers
and pictures) and a log. The stream is served by a process of its own, which is killed every 20 seconds and started
again three seconds later. Every few seconds the camera's memory, threads and descriptors are read, the lines that
it has printed are counted, and the ages of its newest answers are taken from its log.

The verdict is by the slopes of straight lines through the samples taken while the source was there, times the time
that they span: memory must not rise by more than 10 MiB, threads and descriptors not by one, the age's 95th
percentile not by a frame. The camera must print no more than four lines for each kill, come back after each one,
serve its viewer to the end, have every line of the log whole, and end with 0.

Writes the samples to hostile-soak.csv and the verdict to hostile-soak.json, in benchmarks/results unless `--out`
says otherwise; the exit code is 1 where it is not flat. Runs alone on the machine.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import psutil

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks" / "camera")]

from counter import FPS, picture, scenes  # noqa: E402
from present import ARTIFACT  # noqa: E402

from tests.streams import Stream, free_port  # noqa: E402
from toolchain._version import __version__  # noqa: E402
from toolchain.runtimes.devices import cpu_name  # noqa: E402

GONE_S = 3.0
"""How long the source is away each time."""
SETTLED_S = 3.0
"""After a kill, samples count again when the source has been back for so long."""
WARM_UP_S = 300.0
"""Not judged: memory grows with the first ten kills, and then no more. Of a short run, the first third."""
LINES_PER_KILL = 4
ALLOWED = {"memory_mib": 10.0, "threads": 1.0, "descriptors": 1.0, "age_p95_ms": 1000 / FPS}
"""The most that a straight line through the samples may rise from their first to their last."""


@dataclass(frozen=True)
class Sample:
    """The camera at one moment. Ages are of the answers since the sample before, NaN where there were none."""

    at_s: float
    kills: int
    settled: bool
    memory_mib: float
    threads: int
    descriptors: int
    printed_lines: int
    log_lines: int
    answers: int
    age_p50_ms: float
    age_p95_ms: float


class Source:
    """The process that serves the stream, always at the same port."""

    def __init__(self) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}/live"
        self.back_at_s = 0.0
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns when the stream is served."""
        command = [sys.executable, __file__, "--serve", str(self._port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        if not self._process.stdout.readline():
            raise SystemExit("the source could not be started")
        self.back_at_s = time.monotonic()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Log:
    """The log of answers, read as it grows."""

    def __init__(self, path: Path) -> None:
        self._path, self._read, self._rest = path, 0, b""
        self.lines = 0
        self.broken = 0
        self.last_s = 0.0

    def ages_ms(self) -> list[float]:
        """Of the answers since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        self._read += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        ages = [_age_ms(line) for line in lines]
        whole = [age for age in ages if age is not None]
        self.lines += len(lines)
        self.broken += len(lines) - len(whole)
        if lines:
            self.last_s = time.monotonic()
        return whole


def _age_ms(line: bytes) -> float | None:
    try:
        return float(json.loads(line)["age_ms"])
    except (ValueError, KeyError, TypeError):
        return None


class Viewer(threading.Thread):
    """Follows one address of the page as a browser would, and asks again when it is closed."""

    def __init__(self, port: int, address: str) -> None:
        super().__init__(daemon=True)
        self._port, self._address = port, address
        self.last_s = 0.0
        self.connections = 0

    def run(self) -> None:
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self._port), 5) as connection:
                    self.connections += 1
                    connection.settimeout(30)
                    connection.sendall(f"GET {self._address} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
                    while connection.recv(1 << 16):
                        self.last_s = time.monotonic()
            except OSError:
                pass
            time.sleep(0.5)


def serve(port: int) -> None:
    """Be the source until this process is killed."""
    shown = scenes()
    encoded = [cv2.imencode(".jpg", picture(shown, 2 * FPS * number))[1].tobytes() for number in range(len(shown))]
    with Stream(lambda number: encoded[number // (2 * FPS) % len(encoded)], FPS, port):
        print("served", flush=True)
        threading.Event().wait()


def soak(minutes: float, every_s: float, sample_s: float, folder: Path) -> tuple[list[Sample], dict[str, object]]:
    """The samples, and what came of the run."""
    source = Source()
    source.start()
    command = [sys.executable, "-m", "toolchain", "camera", str(ARTIFACT), "--source", source.url]
    command += ["--web", "127.0.0.1:0", "--log", "answers.jsonl"]
    printed: list[str] = []
    with subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as camera:
        try:
            threading.Thread(target=lambda: printed.extend(camera.stdout or ()), daemon=True).start()
            log = Log(folder / "answers.jsonl")
            _wait_for(lambda: bool(log.ages_ms()) or camera.poll() is not None, 60)
            port = next(int(found[1]) for line in printed if (found := re.search(r"127\.0\.0\.1:(\d+)", line)))
            viewers = [Viewer(port, "/answers"), Viewer(port, "/picture")]
            for viewer in viewers:
                viewer.start()
            samples, back_s = _watched(camera, source, log, printed, 60 * minutes, every_s, sample_s)
            seen_s = time.monotonic()
            camera.send_signal(signal.SIGTERM)
            code = camera.wait(30)
        finally:
            camera.kill()
            source.kill()
    log.ages_ms()
    return samples, {
        "exit_code": code,
        "kills": samples[-1].kills,
        "not_back": sum(seconds is None for seconds in back_s),
        "back_s_most": max((round(seconds, 2) for seconds in back_s if seconds is not None), default=None),
        "printed_lines": samples[-1].printed_lines,
        "log_lines": log.lines,
        "log_lines_broken": log.broken,
        "viewers_served": all(seen_s - viewer.last_s < every_s for viewer in viewers),
        "viewers_connected": [viewer.connections for viewer in viewers],
    }


def _watched(
    camera: subprocess.Popen[str],
    source: Source,
    log: Log,
    printed: Sequence[str],
    seconds: float,
    every_s: float,
    sample_s: float,
) -> tuple[list[Sample], list[float | None]]:
    """The samples, and for each kill how long after the source's return an answer came; None where none did."""
    process = psutil.Process(camera.pid)
    start_s = time.monotonic()
    kill_s, sample_at_s, return_s = start_s + every_s, start_s + sample_s, 0.0
    samples: list[Sample] = []
    back_s: list[float | None] = []
    waiting = False
    ages: list[float] = []
    while (now_s := time.monotonic()) < start_s + seconds and camera.poll() is None:
        new = log.ages_ms()
        ages += new
        if waiting and new and source.back_at_s > kill_s - every_s:
            back_s.append(log.last_s - source.back_at_s)
            waiting = False
        if return_s and now_s >= return_s:
            source.start()
            return_s = 0.0
        if now_s >= kill_s:
            if waiting:
                back_s.append(None)
            source.kill()
            kill_s, return_s, waiting = now_s + every_s, now_s + GONE_S, True
        if now_s >= sample_at_s:
            sample_at_s = now_s + sample_s
            p50, p95 = np.percentile(ages, [50, 95]) if ages else (np.nan, np.nan)
            samples.append(
                Sample(
                    at_s=round(now_s - start_s, 2),
                    kills=len(back_s) + waiting,
                    settled=not return_s and now_s - source.back_at_s >= SETTLED_S,
                    memory_mib=round(process.memory_info().rss / 2**20, 2),
                    threads=process.num_threads(),
                    descriptors=process.num_fds(),
                    printed_lines=len(printed),
                    log_lines=log.lines,
                    answers=len(ages),
                    age_p50_ms=round(float(p50), 2),
                    age_p95_ms=round(float(p95), 2),
                )
            )
            ages = []
        time.sleep(0.1)
    return samples, back_s


def judged(samples: Sequence[Sample], outcome: dict[str, object]) -> dict[str, object]:
    """How much each figure rose by a straight line through its samples, and whether that and all else is well."""
    warm_up_s = min(WARM_UP_S, samples[-1].at_s / 3)
    chosen = [sample for sample in samples if sample.settled and sample.at_s >= warm_up_s and sample.answers]
    if len(chosen) < 3:
        return {"samples": len(chosen), "rises": {}, "faults": ["too few samples"], "flat": False}
    at_s = np.array([sample.at_s for sample in chosen])
    rises: dict[str, dict[str, float]] = {}
    for name, allowed in ALLOWED.items():
        values = np.array([getattr(sample, name) for sample in chosen], float)
        slope, start = np.polyfit(at_s, values, 1)
        spread = values - (slope * at_s + start)
        error = np.sqrt((spread**2).sum() / (len(values) - 2) / ((at_s - at_s.mean()) ** 2).sum())
        span = float(np.ptp(at_s))
        rises[name] = {
            "first": round(float(start + slope * at_s[0]), 2),
            "rise": round(float(slope) * span, 2),
            "plus_minus": round(1.96 * float(error) * span, 2),
            "allowed": round(allowed, 2),
        }
    kills = samples[-1].kills
    faults = [name for name, rise in rises.items() if rise["rise"] > rise["allowed"]]
    faults += ["printed lines"] if samples[-1].printed_lines > LINES_PER_KILL * (kills + 5) else []
    wanted = {"exit_code": 0, "not_back": 0, "log_lines_broken": 0, "viewers_served": True}
    faults += [name for name, value in wanted.items() if outcome[name] != value]
    return {"samples": len(chosen), "rises": rises, "faults": faults, "flat": not faults}


def _wait_for(condition: object, limit_s: float) -> None:
    assert callable(condition)
    end_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end_s:
            raise SystemExit("the camera gave no answer")
        time.sleep(0.1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=20.0, help="seconds from one kill of the source to the next")
    parser.add_argument("--sample", type=float, default=3.0, help="seconds from one sample to the next")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        samples, outcome = soak(asked.minutes, asked.every, asked.sample, Path(folder))
    asked.out.mkdir(parents=True, exist_ok=True)
    with (asked.out / "hostile-soak.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [one.name for one in fields(Sample)])
        writer.writeheader()
        writer.writerows(asdict(sample) for sample in samples)
    document = {
        "date": time.strftime("%Y-%m-%d"),
        "edgetl": __version__,
        "machine": f"{cpu_name()}, {psutil.cpu_count()} cores; Python {platform.python_version()}",
        "load": round(os.getloadavg()[0], 1),
        "minutes": asked.minutes,
        "every_s": asked.every,
        **outcome,
        **judged(samples, outcome),
    }
    (asked.out / "hostile-soak.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(document, indent=2))
    return 0 if document["flat"] else 1


if __name__ == "__main__":
    sys.exit(main())
