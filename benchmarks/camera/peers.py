"""Three loops that name what a stream shows, side by side: answers per second, CPU, and how old the frames are.

    python benchmarks/camera/peers.py RUN [--seconds 20] [--peer FOLDER]

A server sends 30 frames a second as motion JPEG; each tells its number, and the server notes when it left. Each
loop runs in a process of its own, one after the other, three rounds: `edgetl` (int8 as deployed), `plain` (the loop
of most tutorials: `cap.read()`, torchvision's transform, ONNX Runtime in float32), `ultralytics` (the prediction
loop of YOLO's classifier, in PyTorch, of about the same arithmetic). Each as it is, and with every inference
computed ten times over, as on a machine that is ten times slower. FOLDER is where
`pip install --target FOLDER --no-deps -r benchmarks/camera/requirements.txt` put Ultralytics. Results:
results/peers.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from counter import FPS, counter_of, picture, scenes  # noqa: E402

RESULTS = HERE / "results" / "peers.csv"
LOOPS = ("edgetl", "plain", "ultralytics")
WARM_UP_S = 3.0
ROUNDS = 3
Seen = Iterator[np.ndarray]
"""The frames that were answered, BGR, each as soon as its answer is there."""


def serve(connection: Any, seconds: float) -> None:
    """Send frames until told to stop; then say when each left."""
    from tests.streams import Stream

    pictures = scenes()
    with Stream(lambda number: picture(pictures, number), FPS) as stream:
        connection.send(stream.url)
        connection.recv()
        connection.send(stream.sent_s)


def edgetl_loop(run: Path, url: str, slow: int, seen: Callable[[np.ndarray], None], end_s: float) -> None:
    from present import Slowed

    from toolchain.camera.engine import Engine
    from toolchain.camera.loop import StopConditions
    from toolchain.camera.loop import run as answer_all
    from toolchain.camera.sinks import Sink
    from toolchain.camera.sources.capture import Capture
    from toolchain.camera.sources.opening import CaptureOptions, open_source
    from toolchain.classifier import Classifier, load

    class Stamps(Sink):
        def show(self, answered: Any) -> None:
            seen(answered.frame.bgr)

    loaded = load(run / "model.int8.onnx")
    engine = Engine(Classifier(loaded.card, Slowed(loaded.runtime, slow)))
    capture = Capture(open_source(url, CaptureOptions()))
    answer_all(engine, capture, [Stamps()], limits=StopConditions(duration_s=end_s - time.monotonic()))


def plain_loop(run: Path, url: str, slow: int, seen: Callable[[np.ndarray], None], end_s: float) -> None:
    import cv2
    import onnxruntime
    import torch
    from PIL import Image
    from torchvision import transforms

    from toolchain.explain.torch_model import open_model

    subject = open_model(run)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "plain.onnx")
        torch.onnx.export(subject.network, (torch.zeros(1, 3, 224, 224),), path, input_names=["input"], dynamo=True)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    transform = transforms.Compose(
        [
            transforms.Resize(224),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    capture = cv2.VideoCapture(url)
    while time.monotonic() < end_s:
        whole, frame = capture.read()
        if not whole:
            break
        pixels = transform(Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)))[None].numpy()
        for _ in range(slow):
            [logits] = session.run(None, {"input": pixels})
        subject.labels[int(logits.argmax())]
        seen(frame)


def ultralytics_loop(run: Path, url: str, slow: int, seen: Callable[[np.ndarray], None], end_s: float) -> None:
    from ultralytics import YOLO
    from ultralytics.models.yolo.classify import ClassificationPredictor

    class Slow(ClassificationPredictor):
        def inference(self, *given: Any, **more: Any) -> Any:
            for _ in range(slow - 1):
                super().inference(*given, **more)
            return super().inference(*given, **more)

    model = YOLO("yolo11n-cls.yaml", task="classify")
    for result in model.predict(url, stream=True, imgsz=224, verbose=False, predictor=Slow, device="cpu"):
        seen(result.orig_img)
        if time.monotonic() > end_s:
            break


def watch(name: str, run: Path, url: str, slow: int, seconds: float) -> dict[str, Any]:
    """Run one loop in this process; what was answered when, and the CPU time that it took."""
    loop = {"edgetl": edgetl_loop, "plain": plain_loop, "ultralytics": ultralytics_loop}[name]
    answered: list[tuple[float, int]] = []
    marks: list[tuple[float, float]] = []

    def seen(bgr: np.ndarray) -> None:
        now = time.monotonic()
        answered.append((now, counter_of(bgr)))
        if now - answered[0][0] >= WARM_UP_S:
            used = psutil.Process().cpu_times()
            marks.append((now, used.user + used.system))

    loop(run, url, slow, seen, time.monotonic() + seconds + WARM_UP_S + 5)
    (start, before), (end, after) = marks[0], marks[-1]
    kept = [(now, number) for now, number in answered if start <= now <= end]
    return {"seconds": end - start, "cpu_s": after - before, "answered": kept}


def measure(name: str, run: Path, slow: int, seconds: float, peer: Path | None) -> dict[str, Any]:
    """Run the server and one loop, each in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs, seconds), daemon=True)
    server.start()
    url = ours.recv()
    paths = [str(peer)] if peer else []
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "YOLO_VERBOSE": "False"}
    words = [sys.executable, __file__, str(run), "--only", name, "--url", url, "--slow", str(slow)]
    done = subprocess.run(
        [*words, "--seconds", str(seconds)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    seen = json.loads(done.stdout.splitlines()[-1])
    ours.send("end")
    sent_s = ours.recv()
    server.join(10)
    ages_ms = [1000 * (now - sent_s[number]) for now, number in seen["answered"] if number in sent_s]
    p50, p95 = (float(value) for value in np.percentile(ages_ms, (50, 95)))
    return {
        "loop": name,
        "slowed": slow,
        "answers_per_s": round(len(ages_ms) / seen["seconds"], 1),
        "cores": round(seen["cpu_s"] / seen["seconds"], 2),
        "age_p50_ms": round(p50, 1),
        "age_p95_ms": round(p95, 1),
        "age_last_ms": round(ages_ms[-1], 1),
        "seconds": round(seen["seconds"], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder with model.int8.onnx")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--peer", type=Path, help="where Ultralytics is")
    parser.add_argument("--only", choices=LOOPS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--slow", type=int, default=1, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(watch(given.only, given.run, given.url, given.slow, given.seconds)))
        return
    from toolchain.runtimes.devices import cpu_name

    machine = f"{cpu_name()}, {psutil.cpu_count()} cores; Python {platform.python_version()}"
    rows = []
    for number in range(given.rounds):
        for slow in (1, 10):
            for name in LOOPS if given.peer else LOOPS[:2]:
                row = measure(name, given.run, slow, given.seconds, given.peer)
                rows.append({"round": number, **row, "machine": machine})
                print(rows[-1], flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
