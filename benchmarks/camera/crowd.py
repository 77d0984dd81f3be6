"""Does the camera keep its pace while strangers crowd its page?

    python benchmarks/camera/crowd.py [--seconds 20]

A clip of 30 frames per second is answered by `edgetl camera` with a page, a log, a recording and a command, while
others connect from 40 addresses: 1,100 that say nothing, 200 that read one byte of the pictures a second, 50 that
read all they can and come back at once when they are refused. Before, between and after there is one viewer alone.
Prints a JSON document and appends lines to results/crowd.csv. Runs alone on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from counter import FPS
from present import ARTIFACT, write_clip
from results_file import append_row

from toolchain.runtimes.devices import cpu_name

RESULTS = Path(__file__).parent / "results" / "crowd.csv"
CROWDS = {"one viewer": 0, "idle": 1100, "slow": 200, "greedy": 50}
ADDRESSES = 40
SETTLE_S = 2.0
REQUEST = b"GET /picture HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class Stranger:
    """One connection of a crowd; it comes again when it is closed."""

    def __init__(self, number: int, kind: str, port: int, selector: selectors.BaseSelector) -> None:
        self._from = f"127.0.0.{2 + number % ADDRESSES}"
        self._kind, self._port, self._selector = kind, port, selector
        self.received = 0
        self._connect()

    def _connect(self) -> None:
        self._next_s, self._asked = 0.0, False
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.bind((self._from, 0))
        if self._kind == "slow":
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.connect_ex(("127.0.0.1", self._port))
        self._selector.register(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)

    def act(self, events: int) -> None:
        """Ask and read as its kind does."""
        try:
            if events & selectors.EVENT_WRITE:
                if self._kind != "idle":
                    self._socket.send(REQUEST)
                self._selector.modify(self._socket, selectors.EVENT_READ, self)
            elif self._kind == "greedy":
                self._read(1 << 20)
            elif time.monotonic() >= self._next_s:
                self._next_s = time.monotonic() + 1
                self._read(1)
        except OSError:
            self._again()

    def _read(self, size: int) -> None:
        got = self._socket.recv(size)
        self.received += len(got)
        if not got:
            self._again()

    def _again(self) -> None:
        self._selector.unregister(self._socket)
        self._socket.close()
        self._connect()


def be_crowd(kind: str, port: int) -> None:
    """Crowd the page until this process is ended; the selector sleeps, so that it takes little of the processor."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    selector = selectors.DefaultSelector()
    crowd = [Stranger(number, kind, port, selector) for number in range(CROWDS[kind])]
    print(f"{len(crowd)} {kind}", flush=True)
    while True:
        for key, events in selector.select(0.5):
            key.data.act(events)
        time.sleep(0.01)


class Viewer(threading.Thread):
    """Follows the answers as a browser would; one viewer who is welcome."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self.last_s = 0.0

    def run(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as connection:
            connection.sendall(REQUEST.replace(b"/picture", b"/answers"))
            while connection.recv(1 << 16):
                self.last_s = time.monotonic()


def _ages(lines: list[tuple[float, dict[str, float]]], start_s: float, end_s: float) -> dict[str, float]:
    chosen = [line for at_s, line in lines if start_s + SETTLE_S <= at_s < end_s]
    ages, infers = ([line[name] for line in chosen] for name in ("age_ms", "infer_ms"))
    return {
        "answers": len(chosen),
        "age_p50_ms": round(float(np.percentile(ages, 50)), 3),
        "age_p95_ms": round(float(np.percentile(ages, 95)), 3),
        "infer_p50_ms": round(float(np.percentile(infers, 50)), 3),
        "infer_p95_ms": round(float(np.percentile(infers, 95)), 3),
        "age_allowed_ms": round(1000 / FPS + float(np.percentile(infers, 50)) + 5, 3),
    }


def crowded_run(seconds: float, folder: Path) -> list[dict[str, object]]:
    """One camera, and one crowd after the other, with a viewer alone before, between and after."""
    phases = ["one viewer", "idle", "one viewer", "slow", "one viewer", "greedy", "one viewer"]
    clips = folder / "clip.mp4"
    write_clip(clips, seconds * len(phases) + 30)
    command = [sys.executable, "-m", "toolchain", "camera", str(ARTIFACT), "--source", str(clips), "--json"]
    command += ["--web", "127.0.0.1:0", "--log", "log.jsonl", "--record", "seen.mp4"]
    command += ["--on-change", "echo $EDGETL_LABEL >> told", "--on-unsure", "echo unsure >> told"]
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    lines: list[tuple[float, dict[str, float]]] = []
    said: list[str] = []
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as camera:
        assert camera.stdout
        assert camera.stderr
        threading.Thread(target=lambda: said.extend(camera.stderr or ()), daemon=True).start()

        def read() -> None:
            lines.extend((time.monotonic(), json.loads(line)) for line in camera.stdout or ())

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        while not lines:
            time.sleep(0.1)
        port = next(int(found[1]) for line in said if (found := re.search(r"127\.0\.0\.1:(\d+)", line)))
        viewer = Viewer(port)
        viewer.start()
        process = psutil.Process(camera.pid)
        time.sleep(SETTLE_S)
        before_mib, rows = process.memory_info().rss / 2**20, []
        for phase in phases:
            crowd = None
            if CROWDS[phase]:
                here = [sys.executable, __file__, "--crowd", phase, "--port", str(port)]
                crowd = subprocess.Popen(here, stdout=subprocess.PIPE, text=True, env=environment)
                assert crowd.stdout
                crowd.stdout.readline()
            told, start_s = len(said), time.monotonic()
            most = before_mib
            while time.monotonic() - start_s < seconds:
                time.sleep(0.5)
                most = max(most, process.memory_info().rss / 2**20)
            end_s = time.monotonic()
            row: dict[str, object] = {"crowd": f"{CROWDS[phase]} {phase}" if crowd else phase}
            row |= _ages(lines, start_s, end_s)
            row |= {"memory_mib": round(most, 1), "memory_more_mib": round(most - before_mib, 1)}
            row |= {"files": process.num_fds(), "threads": process.num_threads(), "log_lines": len(said) - told}
            row |= {"viewer_served": end_s - viewer.last_s < 1}
            rows.append(row)
            if crowd:
                crowd.kill()
                crowd.wait()
        camera.send_signal(2)
        camera.wait(30)
        reader.join(5)
    summary = lines[-1][1]["summary"]
    logged = len((folder / "log.jsonl").read_text().splitlines())
    rows[-1] |= {
        "exit_code": camera.returncode,
        "log_whole": logged >= summary["frames_answered"],  # type: ignore[index]
        "recorded": (folder / "seen.mp4").is_file(),
        "commands_run": len((folder / "told").read_text().splitlines()),
    }
    return rows


FIELDS = (
    *("crowd", "answers", "age_p50_ms", "age_p95_ms", "infer_p50_ms", "infer_p95_ms", "age_allowed_ms"),
    *("memory_mib", "memory_more_mib", "files", "threads", "log_lines", "viewer_served", "exit_code", "log_whole"),
    *("recorded", "commands_run", "load", "machine"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each crowd stays")
    parser.add_argument("--crowd", choices=list(CROWDS), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.crowd:
        be_crowd(given.crowd, given.port)
    machine = f"{cpu_name()}, {psutil.cpu_count()} cores; Python {platform.python_version()}"
    load = round(os.getloadavg()[0], 1)
    with tempfile.TemporaryDirectory() as folder:
        rows = crowded_run(given.seconds, Path(folder))
    for row in rows:
        append_row(RESULTS, row | {"machine": machine, "load": load}, FIELDS)
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
