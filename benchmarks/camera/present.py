"""Does the camera show the present? A counter in each frame is read back from the frames that were answered.

    python benchmarks/camera/present.py steady [--minutes 10]    a clip of 30 frames per second, paced in real time
    python benchmarks/camera/present.py slow                     the same, each inference computed 40 times over
    python benchmarks/camera/present.py pull                     a stream that is cut for ten seconds, three times

Each prints a JSON document and appends a line to results/present.csv. Runs alone on the machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from counter import FPS, HEIGHT, WIDTH, counter_of, picture, scenes
from results_file import append_row

from tests.streams import Stream
from toolchain.camera.answering import Answered
from toolchain.camera.engine import Engine
from toolchain.camera.loop import StopConditions, run
from toolchain.camera.sinks import Sink
from toolchain.camera.sources.capture import Capture
from toolchain.camera.sources.opening import CaptureOptions, open_source
from toolchain.classifier import Classifier, load
from toolchain.runtimes import Answer, Runtime
from toolchain.runtimes.devices import cpu_name

RESULTS = Path(__file__).parent / "results" / "present.csv"
ARTIFACT = Path(__file__).parents[2] / "models" / "pets" / "model.int8.onnx"


def write_clip(path: Path, seconds: float) -> None:
    pictures = scenes()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (WIDTH, HEIGHT))
    for number in range(round(seconds * FPS)):
        writer.write(picture(pictures, number))
    writer.release()


class Slowed:
    """A runtime that computes each answer `times` times."""

    def __init__(self, runtime: Runtime, times: int) -> None:
        self._runtime, self._times = runtime, times
        self.device, self.provider_effective, self.threads = (
            runtime.device,
            runtime.provider_effective,
            runtime.threads,
        )

    def infer(self, images: np.ndarray) -> Answer:
        for _ in range(self._times - 1):
            self._runtime.infer(images)
        return self._runtime.infer(images)


class ReadBack(Sink):
    """Reads the counter of each answered frame, and notes when it was answered."""

    def __init__(self) -> None:
        self.wrong = 0
        self.behind: list[int] = []
        self.answered_s: list[float] = []
        self._first_s: float | None = None

    def show(self, answered: Answered) -> None:
        now = time.monotonic()
        self.answered_s.append(now)
        number = counter_of(answered.frame.bgr)
        self.wrong += number != answered.frame.number
        captured_s = answered.frame.captured_s
        if self._first_s is None:
            self._first_s = captured_s - number / FPS
        # The newest frame at the moment when the loop took this one.
        taken_s = now - answered.age_ms / 1000 + answered.wait_ms / 1000
        self.behind.append(int((taken_s - self._first_s) * FPS + 1e-6) - number)


@contextmanager
def memory_watched() -> Iterator[list[tuple[float, float]]]:
    """Seconds and resident MiB of this process, once a second."""
    process, seen, done = psutil.Process(), [], threading.Event()
    start = time.monotonic()

    def watch() -> None:
        while not done.wait(1.0):
            seen.append((time.monotonic() - start, process.memory_info().rss / 2**20))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def clip_run(minutes: float, times: int) -> dict[str, object]:
    """Answer a clip with each inference computed `times` times."""
    loaded = load(ARTIFACT)
    classifier = Classifier(loaded.card, Slowed(loaded.runtime, times)) if times > 1 else loaded
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "counter.mp4"
        write_clip(path, minutes * 60)
        sink = ReadBack()
        cpu = psutil.Process().cpu_times()
        with memory_watched() as memory:
            summary = run(Engine(classifier), Capture(open_source(str(path), CaptureOptions())), [sink])
        used = psutil.Process().cpu_times()
    first_minute = [mib for second, mib in memory if second >= min(60, minutes * 30)]
    interval_ms = 1000 / FPS
    assert summary.resize_ms.p50 is not None
    assert summary.infer_ms.p50 is not None
    return {
        "what": "steady" if times == 1 else f"slowed {times} times",
        "seconds": summary.seconds,
        "frames_in": summary.frames_in,
        "answered": summary.frames_answered,
        "fps": summary.fps,
        "counters_wrong": sink.wrong,
        "frames_behind_max": max(sink.behind),
        "age_p50_ms": summary.age_ms.p50,
        "age_p95_ms": summary.age_ms.p95,
        "age_p99_ms": summary.age_ms.p99,
        "resize_p50_ms": summary.resize_ms.p50,
        "infer_p50_ms": summary.infer_ms.p50,
        "infer_p95_ms": summary.infer_ms.p95,
        "own_p50_ms": summary.own_ms.p50,
        "own_p95_ms": summary.own_ms.p95,
        "age_allowed_ms": round(interval_ms + summary.resize_ms.p50 + summary.infer_ms.p50 + 5, 3),
        "memory_after_first_minute_mib": round(first_minute[0], 1),
        "memory_grown_mib": round(max(first_minute) - first_minute[0], 1),
        "cores_used": round((used.user + used.system - cpu.user - cpu.system) / summary.seconds, 3),
    }


def pulled_run(cuts: int = 3, away_s: float = 10.0) -> dict[str, object]:
    """Cut a stream and bring it back; how long until the next answer."""
    pictures = scenes()
    with Stream(lambda number: picture(pictures, number), FPS) as stream:
        source = open_source(stream.url, CaptureOptions())
        capture = Capture(source, reopen=lambda: open_source(stream.url, CaptureOptions(), open_limit_s=2.5))
        sink = ReadBack()
        back_s: list[float] = []

        def pull() -> None:
            for _ in range(cuts):
                time.sleep(5)
                stream.cut()
                time.sleep(away_s)
                back_s.append(time.monotonic())
                stream.back()

        threading.Thread(target=pull, daemon=True).start()
        summary = run(
            Engine(load(ARTIFACT)), capture, [sink], limits=StopConditions(duration_s=cuts * (away_s + 5) + 5)
        )
    resumed = [min(at for at in sink.answered_s if at > moment) - moment for moment in back_s]
    return {
        "what": f"pulled for {away_s:g} s, {cuts} times",
        "seconds": summary.seconds,
        "frames_in": summary.frames_in,
        "answered": summary.frames_answered,
        "fps": summary.fps,
        "age_p50_ms": summary.age_ms.p50,
        "age_p95_ms": summary.age_ms.p95,
        "infer_p50_ms": summary.infer_ms.p50,
        "reconnects": summary.reconnects,
        "resumed_after_s": " ".join(f"{seconds:.2f}" for seconds in resumed),
    }


FIELDS = (
    *("what", "seconds", "frames_in", "answered", "fps", "counters_wrong", "frames_behind_max", "age_p50_ms"),
    *("age_p95_ms", "age_p99_ms", "resize_p50_ms", "infer_p50_ms", "infer_p95_ms", "own_p50_ms", "own_p95_ms"),
    *("age_allowed_ms", "memory_after_first_minute_mib", "memory_grown_mib", "cores_used", "reconnects"),
    *("resumed_after_s", "machine"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["steady", "slow", "pull"])
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--times", type=int, default=40, help="how often a slow network computes each answer")
    given = parser.parse_args()
    if given.what == "pull":
        result = pulled_run()
    elif given.what == "slow":
        result = clip_run(given.minutes or 1, times=given.times)
    else:
        result = clip_run(given.minutes or 10, times=1)
    result["machine"] = f"{cpu_name()}, {psutil.cpu_count()} cores; Python {platform.python_version()}"
    append_row(RESULTS, result, FIELDS)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
