"""What does it cost when those who receive the answers are away? A broker and a webhook, both real, in turns.

    python benchmarks/camera/away.py [--seconds 30]

One camera answers a clip of 30 frames per second, paced in real time, whose scene changes every two seconds, with
the ready-made model, which here names whatever it sees. Its changes go to mosquitto and to an HTTP server on this
machine. These are there, killed, there again, frozen (they accept and say nothing), and there again, for 30 seconds
each. Prints a line for each phase and appends it to results/away.csv: how old the answers were, and how soon the
receivers knew the newest one once they were back.
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from present import ARTIFACT, write_clip
from results_file import append_row

from tests.receivers import Broker, Hook, Subscriber
from toolchain.artifact import read_artifact, write_artifact
from toolchain.camera.answering import Answered
from toolchain.camera.session import watch
from toolchain.camera.sinks import Delivery, Sink, SinkContext
from toolchain.camera.sinks.messages import Changes
from toolchain.camera.sinks.mqtt import MqttOptions
from toolchain.camera.sinks.webhook import WebhookOptions
from toolchain.runtimes.devices import cpu_name

RESULTS = Path(__file__).parent / "results" / "away.csv"
TOPIC = "edgetl/away"
PHASES = ("there", "killed", "there again", "frozen", "there at last")
FIELDS = (
    *("phase", "seconds", "answered", "age_p50_ms", "age_p95_ms", "age_p99_ms", "age_max_ms", "changes"),
    *("broker_got", "hook_got", "broker_knows_after_s", "hook_knows_after_s", "load", "machine"),
)


@dataclass
class Phase:
    name: str
    begun_s: float
    ages: list[float] = field(default_factory=list)
    changes: int = 0
    broker_got: int = 0
    hook_got: int = 0
    broker_knows_after_s: float | None = None
    hook_knows_after_s: float | None = None


class Ages(Sink):
    """Notes the age of each answer, and what the answer is now."""

    delivery: Delivery = "loop"

    def __init__(self) -> None:
        self.phases: list[Phase] = []
        self.frame = -1
        """The frame with which the answer changed last."""
        self._changes = Changes()

    def open(self, context: SinkContext) -> Ages:
        return self

    def show(self, answered: Answered) -> None:
        if self._changes(answered):
            self.frame = answered.frame.number
            if self.phases:
                self.phases[-1].changes += 1
        if self.phases:
            self.phases[-1].ages.append(answered.age_ms)


class Receivers:
    """The two of them, and for each the frame of the last answer that it was told."""

    def __init__(self, folder: Path) -> None:
        self.broker, self.hook = Broker(folder), Hook()
        self._thawed = threading.Event()
        self._thawed.set()
        self.hook.wait = self._thawed.wait

    def do(self, phase: str) -> None:
        process = self.broker._process
        if phase == "killed":
            self.broker.kill()
            self.hook.kill()
        elif phase == "there again":
            self.broker.start()
            self.hook.start()
        elif phase == "frozen" and process:
            self._thawed.clear()
            process.send_signal(signal.SIGSTOP)
        elif phase == "there at last" and process:
            process.send_signal(signal.SIGCONT)
            self._thawed.set()

    def told_hook(self) -> int:
        return int(self.hook.got[-1]["frame"]) if self.hook.got else -1


def named_at_any_rate(path: Path) -> Path:
    """The ready-made model without its threshold, which would reject drawn animals, and so never change."""
    artifact = read_artifact(ARTIFACT)
    write_artifact(onnx.load_from_string(artifact.model), replace(artifact.card, reject=None), path)
    return path


def follow(ages: Ages, receivers: Receivers, seconds: float, done: threading.Event) -> None:
    """Go through the phases, and note when the receivers know the newest answer, once they are back."""
    for name in PHASES:
        receivers.do(name)
        phase = Phase(name, time.monotonic())
        ages.phases.append(phase)
        posted = len(receivers.hook.got)
        end = phase.begun_s + seconds
        if name in {"killed", "frozen"}:
            time.sleep(seconds)
        else:
            with Subscriber(receivers.broker.port) as subscriber:
                while time.monotonic() < end:
                    now = time.monotonic() - phase.begun_s
                    told = subscriber.of(TOPIC)
                    if told and phase.broker_knows_after_s is None and json.loads(told[-1])["frame"] == ages.frame:
                        phase.broker_knows_after_s = now
                    if phase.hook_knows_after_s is None and receivers.told_hook() == ages.frame:
                        phase.hook_knows_after_s = now
                    time.sleep(0.01)
                phase.broker_got = len(subscriber.of(TOPIC))
        phase.hook_got = len(receivers.hook.got) - posted
    done.set()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_clip(folder / "clip.mp4", seconds * len(PHASES) + 10)
        done = threading.Event()
        ages, receivers = Ages(), Receivers(folder)
        with receivers.broker, receivers.hook:
            following = threading.Thread(target=follow, args=(ages, receivers, seconds, done), daemon=True)
            options = MqttOptions("127.0.0.1", receivers.broker.port, TOPIC)
            threading.Timer(2.0, following.start).start()
            watch(
                named_at_any_rate(folder / "model.onnx"),
                folder / "clip.mp4",
                sinks=[options, WebhookOptions(receivers.hook.url), ages],
                on_answer=lambda _: not done.is_set(),
                device="ort:cpu",
            )
    machine = f"{cpu_name()}, {psutil.cpu_count()} cores; Python {platform.python_version()}"
    for phase in ages.phases:
        p50, p95, p99 = np.percentile(phase.ages, (50, 95, 99))
        row = {
            "phase": phase.name,
            "seconds": seconds,
            "answered": len(phase.ages),
            "age_p50_ms": round(p50, 2),
            "age_p95_ms": round(p95, 2),
            "age_p99_ms": round(p99, 2),
            "age_max_ms": round(max(phase.ages), 1),
            "changes": phase.changes,
            "broker_got": phase.broker_got,
            "hook_got": phase.hook_got,
            "broker_knows_after_s": _rounded(phase.broker_knows_after_s),
            "hook_knows_after_s": _rounded(phase.hook_knows_after_s),
            "load": round(psutil.getloadavg()[0], 1),
            "machine": machine,
        }
        append_row(RESULTS, row, FIELDS)
        print(json.dumps(row))


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, 2)


if __name__ == "__main__":
    main()
