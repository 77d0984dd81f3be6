"""Arms that take turns: A B C, B C A, ..., one at any moment, until their medians are known."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolchain.system.progress import Reporter
from toolchain.timing.arm import MIN_SAMPLES, Arm
from toolchain.timing.process import WorkerProcess
from toolchain.timing.protocol import Load, Loaded, Prepared, Samples, Span, Throughput, spread

ROUND_MS = 250.0
MAX_SAMPLES = 200
END_TO_END_SAMPLES = 40
ENCODED = 16
"""Photographs that the end-to-end measurement takes turns with."""
THROUGHPUT_S = 0.3
SPAN = 128


@dataclass(frozen=True)
class TimeLimits:
    """How long a worker may take before it is ended, in seconds."""

    load_s: float = 180.0
    answer_s: float = 60.0


@dataclass(frozen=True)
class Pace:
    """When an arm has been measured enough: after `rounds` at most, and `min_rounds` at least, as soon as the 95 %
    interval of its median is narrower than `precision` (a fraction of the median), or `budget_s` seconds have gone.
    """

    rounds: int
    min_rounds: int = 6
    precision: float | None = 0.02
    budget_s: float | None = 20.0


def turns(arms: int, rounds: int) -> Iterator[list[int]]:
    """The order of each round: A B C, B C A, C A B, ... so that no arm always follows the same idle time."""
    for number in range(rounds):
        yield [(number + index) % arms for index in range(arms)]


def load_arms(
    arms: Sequence[Arm],
    prepared: Prepared,
    photographs: Sequence[Path],
    reporter: Reporter,
    limits: TimeLimits,
    launch: Callable[[], WorkerProcess],
) -> None:
    """Start a worker for each arm, let it load and warm up, one after the other."""
    # Few, so that the order fits into a pipe: nobody waits for a worker that does not read.
    encoded = tuple(str(photographs[index].absolute()) for index in spread(len(photographs), ENCODED))
    waiting = [arm for arm in arms if not arm.reason]
    with reporter.task("loading", len(waiting)) as task:
        for arm in waiting:
            task.advance(0, arm.name)
            arm.worker = launch()
            with arm.step() as worker:
                order = Load(
                    artifact=str(arm.artifact.path.absolute()),
                    sha256=arm.artifact.sha256,
                    device=arm.device,
                    threads=arm.threads,
                    batch=arm.batch,
                    pictures=str(prepared.pictures[arm.artifact.card.preprocess]),
                    photographs=encoded,
                )
                arm.loaded = worker.ask("load", order, Loaded, limits.load_s)
                last = arm.keep(worker.ask("warm_up", None, Samples, limits.answer_s))
                arm.samples = int(np.clip(ROUND_MS / max(np.median(last), 1e-3), MIN_SAMPLES, MAX_SAMPLES))
            task.advance()


def take_turns(arms: Sequence[Arm], pace: Pace, reporter: Reporter, limits: TimeLimits) -> None:
    """Measure rounds of all arms; those whose median is known well enough drop out."""
    running = [arm for arm in arms if not arm.reason]
    start = time.monotonic()
    # What is left is told in turns where their number is fixed, and in seconds where it is not.
    total = len(running) * pace.rounds if pace.budget_s is None else math.ceil(pace.budget_s)
    told = 0
    with reporter.task("measuring", total) as task:
        for number, order in enumerate(turns(len(running), pace.rounds)):
            waiting = [running[index] for index in order]
            if number >= pace.min_rounds:
                over = pace.budget_s is not None and time.monotonic() - start > pace.budget_s
                waiting = [] if over else [arm for arm in waiting if not _settled(arm, pace)]
            if not waiting:
                break
            for arm in waiting:
                if not arm.reason:
                    with arm.step() as worker:
                        taken = worker.ask("round", arm.samples, Samples, limits.answer_s)
                        arm.rounds.append(arm.keep(taken))
                        arm.joules.append(taken.joules)
                now = told + 1 if pace.budget_s is None else min(int(time.monotonic() - start), total)
                task.advance(now - told, arm.name)
                told = now
        task.advance(total - told)


def _settled(arm: Arm, pace: Pace) -> bool:
    return arm.reason != "" or (pace.precision is not None and arm.uncertainty() < pace.precision)


def finish(arms: Sequence[Arm], photographs: int, reporter: Reporter, limits: TimeLimits) -> None:
    """What is measured once for each arm, while the others rest. Memory comes before the large batches."""
    running = [arm for arm in arms if not arm.reason]
    spans = [Span(start, min(start + SPAN, photographs)) for start in range(0, photographs, SPAN)]
    with reporter.task("accuracy" if spans else "throughput", len(running) * (1 + len(spans))) as task:
        for arm in running:
            with arm.step() as worker:
                taken = arm.keep(worker.ask("end_to_end", END_TO_END_SAMPLES, Samples, limits.answer_s))
                arm.end_to_end_ms = float(np.median(taken))
                taken = arm.keep(worker.ask("from_frame", END_TO_END_SAMPLES, Samples, limits.answer_s))
                arm.frame_to_answer_ms = float(np.median(taken))
                arm.peak_rss_mb = worker.ask("peak_rss_mb", None, float, limits.answer_s)
                arm.throughput = worker.ask("throughput", THROUGHPUT_S, Throughput, limits.answer_s)
                task.advance(note=arm.name)
                for span in spans:
                    arm.answers += worker.ask("answers", span, list[int], limits.answer_s)
                    task.advance(note=arm.name)
            arm.close()
