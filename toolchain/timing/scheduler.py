"""Arms that take turns: A B C, B C A, ..., one at any moment, until their medians are known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from toolchain.runtimes import CPU_LOADING_LIMIT_S, LOADING_LIMIT_S
from toolchain.runtimes.devices import is_cpu
from toolchain.system.progress import Reporter, Task
from toolchain.timing.arm import MIN_SAMPLES, Arm
from toolchain.timing.machines import Local, Machine
from toolchain.timing.protocol import (
    THROUGHPUT_BATCHES,
    Flood,
    Load,
    Loaded,
    Prepared,
    Samples,
    Span,
    Throughput,
    spread,
)

ROUND_MS = 250.0
MAX_SAMPLES = 200
WHOLE_SAMPLES = 20
ENCODED = 16
"""Photographs that the end-to-end measurement takes turns with."""
THROUGHPUT_S = 0.3
ROUNDS_A_PROCESS = 4
MAX_PROCESSES = 10
SPAN, SPAN_S = 128, 10.0
"""Photographs that are answered at a request: at most so many, and no more than take so many seconds."""
MOST_INFERENCES = 30
"""No request but one for answers or throughput has more of those that take long."""


@dataclass(frozen=True)
class TimeLimits:
    """How long a worker may take before it is ended, in seconds: `load_s` to load on a CPU and `compile_s` on other
    devices, some of which compile for minutes; `answer_s` for everything else beside what its inferences take."""

    load_s: float = CPU_LOADING_LIMIT_S + 60
    compile_s: float = LOADING_LIMIT_S + 60
    answer_s: float = 60.0

    def to_load(self, device: str) -> float:
        return self.load_s if is_cpu(device) else self.compile_s

    def of(self, arm: Arm) -> float:
        """For a request to `arm` once it is loaded: a slow device gets the time that it needs."""
        return self.answer_s + round(MOST_INFERENCES * arm.inference_ms / 1e3)


@dataclass(frozen=True)
class Pace:
    """When an arm has been measured enough: after `rounds` at most, and `min_rounds` at least, as soon as the 95 %
    interval of its median is narrower than `precision` (a fraction of the median), or `budget_s` seconds have gone.

    The rounds are shared between `processes` at least: medians differ from one process of the same arm to the next,
    which no number of rounds within one of them shows.
    """

    rounds: int
    min_rounds: int = 6
    precision: float | None = 0.02
    budget_s: float | None = 20.0
    processes: int = 3

    def shares(self) -> Iterator[tuple[int, int, float | None]]:
        """For each process in turn: its rounds at most, those at least, and the seconds by whose end (counted from
        the first round, without loading) it has to be done."""
        wanted = min(self.processes, max(self.rounds, 1))
        for number in range(wanted):
            if self.budget_s is None:
                rounds = (self.rounds + wanted - 1 - number) // wanted
                yield rounds, rounds, None
            else:
                most = max(ROUNDS_A_PROCESS, -(-self.min_rounds // wanted))
                yield most, -(-self.min_rounds // wanted), self.budget_s * (number + 1) / wanted
        for _ in range(MAX_PROCESSES - wanted if self.budget_s is not None else 0):
            yield ROUNDS_A_PROCESS, 1, self.budget_s


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
    machine: Machine | None = None,
) -> None:
    """Start a worker for each arm on `machine` (default: this one); they load and warm up one after the other."""
    machine = machine or Local()
    # Few, so that the request fits into the pipe's buffer and writing it never blocks.
    encoded = [photographs[index] for index in spread(len(photographs), ENCODED)]
    waiting = [arm for arm in arms if not arm.reason]
    with reporter.task("loading", len(waiting)) as task:
        for arm in waiting:
            task.advance(0, arm.name)
            arm.worker = machine.launch()
            note = partial(_note, task, arm)
            with arm.step() as worker:
                order = Load(
                    artifact=machine.place_artifact(arm.artifact, note),
                    sha256=arm.artifact.sha256,
                    device=arm.device,
                    threads=arm.threads,
                    batch=arm.batch,
                    pictures=machine.place(prepared.pictures[arm.artifact.card.preprocess], note),
                    photographs=tuple(machine.place(photograph, note) for photograph in encoded),
                )
                arm.loaded = worker.ask("load", order, Loaded, limits.to_load(arm.device))
                arm.inference_ms = arm.loaded.first_ms
                last = arm.keep(worker.ask("warm_up", None, Samples, limits.of(arm)))
                arm.inference_ms = float(np.median(last))
                arm.samples = int(np.clip(ROUND_MS / max(arm.inference_ms, 1e-3), MIN_SAMPLES, MAX_SAMPLES))
            task.advance()


def _note(task: Task, arm: Arm, text: str) -> None:
    task.advance(0, f"{arm.name}: {text}")


def measure(
    arms: Sequence[Arm],
    load: Callable[[Sequence[Arm]], None],
    pace: Pace,
    reporter: Reporter,
    limits: TimeLimits,
    *,
    whole: bool = False,
) -> None:
    """Measure arms in rounds, in several processes each; those whose median is known well enough drop out.

    `load` starts a worker for each of the arms that it is given (`load_arms`). The last one of each stays open.
    With `whole` each process also measures whole answers, memory and throughput.
    """
    spent = 0.0
    for number, (rounds, least, until) in enumerate(pace.shares()):
        running = [arm for arm in arms if not arm.reason]
        if number >= pace.processes:
            running = [arm for arm in running if len(arm.rounds) < pace.rounds and not _settled(arm, pace)]
            if until is not None and spent > until:
                break
        if not running:
            break
        for arm in running:
            arm.close()
            arm.processes.append([])
        load(running)
        spent += _take_turns(running, rounds, least, None if until is None else until - spent, reporter, limits)
        if whole:
            _measure_whole(running, reporter, limits)


def _take_turns(
    arms: Sequence[Arm], rounds: int, least: int, seconds: float | None, reporter: Reporter, limits: TimeLimits
) -> float:
    """Measure `rounds`, or as many as fit into `seconds`, but at least `least`; return the seconds that it took."""
    running = [arm for arm in arms if not arm.reason]
    start = time.monotonic()
    done = 0
    with reporter.task("measuring", len(running) * rounds) as task:
        for number, order in enumerate(turns(len(running), rounds)):
            if number >= least and seconds is not None and time.monotonic() - start > seconds:
                break
            for arm in (running[index] for index in order):
                if not arm.reason:
                    with arm.step() as worker:
                        taken = worker.ask("round", arm.samples, Samples, limits.of(arm))
                        arm.processes[-1].append(arm.keep(taken))
                        arm.joules.append(taken.joules)
                done += 1
                task.advance(note=arm.name)
        task.advance(len(running) * rounds - done)
    return time.monotonic() - start


def _settled(arm: Arm, pace: Pace) -> bool:
    return pace.precision is not None and arm.uncertainty() < pace.precision


def _measure_whole(arms: Sequence[Arm], reporter: Reporter, limits: TimeLimits) -> None:
    """What is measured once in each process: whole answers, then memory, before the large batches of throughput.

    Each kind is measured of all arms in turns, so that none has a machine in another state.
    """
    running = [arm for arm in arms if not arm.reason]
    with reporter.task("whole answers and throughput", 2 * len(running)) as task:
        for arm in running:
            with arm.step() as worker:
                for name, medians in (("end_to_end", arm.end_to_end), ("from_frame", arm.from_frame)):
                    if taken := arm.keep(worker.ask(name, WHOLE_SAMPLES, Samples, limits.of(arm))):
                        medians.append(float(np.median(taken)))
                used = worker.ask("peak_rss_mb", None, float, limits.of(arm))
                arm.peak_rss_mb = max(used, arm.peak_rss_mb or 0.0)
            task.advance(note=arm.name)
        for arm in running:
            if not arm.reason:
                with arm.step() as worker:
                    order = Flood(THROUGHPUT_S, arm.floods[0] if arm.floods else None)
                    # Each of several streams compiles a model of its own, in each way that is tried.
                    compiled = 1 + len({*THROUGHPUT_BATCHES, arm.batch})
                    compiling_s = compiled * arm.loaded.threads * _made_ms(arm.loaded) / 1e3 if arm.loaded else 0.0
                    limit_s = limits.of(arm) + compiling_s
                    arm.floods.append(worker.ask("throughput", order, Throughput, limit_s))
            task.advance(note=arm.name)


def _made_ms(loaded: Loaded) -> float:
    """What a model takes until it answers; some compile at their first answer."""
    return loaded.load_ms + loaded.first_ms


def answer(arms: Sequence[Arm], photographs: int, reporter: Reporter, limits: TimeLimits) -> None:
    """Let each arm name so many photographs, and end it."""
    running = [(arm, _spans(arm, photographs)) for arm in arms if not arm.reason]
    with reporter.task("accuracy", sum(len(spans) for _, spans in running)) as task:
        for arm, spans in running:
            with arm.step() as worker:
                for span in spans:
                    arm.answers += worker.ask("answers", span, list[int], limits.of(arm))
                    task.advance(note=arm.name)
            arm.close()


def _spans(arm: Arm, photographs: int) -> list[Span]:
    fitting = int(SPAN_S * 1e3 * arm.batch / max(arm.inference_ms, 1e-3))
    size = min(max(fitting, 1), SPAN)
    return [Span(start, min(start + size, photographs)) for start in range(0, photographs, size)]
