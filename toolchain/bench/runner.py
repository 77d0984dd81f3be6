"""The benchmark: arms in processes of their own that take turns, one at any moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from toolchain.artifact import FLOAT_FILE, INT8_FILE, Artifact
from toolchain.bench import machine
from toolchain.bench.arm import MIN_SAMPLES, Arm, data_of, result_of
from toolchain.bench.inputs import Prepared, choose, compare_split, draw_photographs, prepare
from toolchain.bench.probing import probe_devices
from toolchain.bench.process import WorkerProcess
from toolchain.bench.protocol import Load, Loaded, Samples, Span, spread
from toolchain.bench.results import BENCH_SCHEMA, Report
from toolchain.errors import BadInputError
from toolchain.progress import Reporter, Silent
from toolchain.runtimes.devices import Device

DEFAULT_ROUNDS = 6
ROUND_MS = 250.0
MAX_SAMPLES = 200
END_TO_END_SAMPLES = 40
ENCODED = 16
"""Photographs that the end-to-end measurement takes turns with."""
THROUGHPUT_S = 0.5
SPAN = 128
BUSY = 0.25
"""Share of all cores in use before the run above which the machine is said to be busy."""


@dataclass(frozen=True)
class Plan:
    """What to measure: every artifact on every device with every number of threads (0: one for each core) and
    every batch. `limit` is the largest number of photographs for accuracy, 0 for all of `split`.

    `distinct`: leave out `openvino:AUTO` where it could choose nothing but `openvino:CPU`, which is measured too.
    """

    artifacts: tuple[Artifact, ...]
    devices: tuple[str, ...]
    threads: tuple[int, ...] = (0,)
    batches: tuple[int, ...] = (1,)
    rounds: int = DEFAULT_ROUNDS
    data: str | None = None
    split: str = "test"
    limit: int = 400
    distinct: bool = False


@dataclass(frozen=True)
class Limits:
    """How long a worker may take before it is ended, in seconds."""

    load_s: float = 180.0
    answer_s: float = 60.0


def find_artifacts(path: Path) -> list[Path]:
    """The model files that a path stands for: itself, or those in a run folder.

    Raises BadInputError for a folder that holds none.
    """
    if not path.is_dir():
        return [path]
    by_runtime = [INT8_FILE.replace(".onnx", f".{family}.onnx") for family in ("ort", "openvino")]
    found = [path / name for name in (FLOAT_FILE, INT8_FILE, *by_runtime) if (path / name).is_file()]
    if not found:
        raise BadInputError(f"{path} holds no {FLOAT_FILE}", f"Write it with `edgetl export {path}`.")
    return found


def turns(arms: int, rounds: int) -> Iterator[list[int]]:
    """The order of each round: A B C, B C A, C A B, ... so that no arm always follows the same idle time."""
    for number in range(rounds):
        yield [(number + index) % arms for index in range(arms)]


def bench(
    plan: Plan,
    reporter: Reporter | None = None,
    limits: Limits | None = None,
    launch: Callable[[], WorkerProcess] = WorkerProcess,
) -> Report:
    """Measure all arms of `plan`. What goes wrong in one arm is told in its `status` and `reason`.

    Raises BadInputError when the data cannot be used.
    """
    limits = limits or Limits()
    remembering = _Remembering(reporter or Silent())
    environment = machine.describe()
    if environment.load_before.busy > BUSY:
        remembering.warn(f"the machine is busy ({environment.load_before.busy:.0%} before the run): expect noise")
    with TemporaryDirectory(prefix="edgetl-bench-") as name:
        folder = Path(name)
        chosen = choose(plan.artifacts, plan.data, plan.split, plan.limit, remembering)
        specs = list(dict.fromkeys(artifact.card.preprocess for artifact in plan.artifacts))
        prepared = prepare((chosen or draw_photographs(folder)).photographs, specs, folder, remembering)
        photographs = sorted(folder.glob("*.jpg")) if chosen is None else list(chosen.photographs)
        if chosen is not None:
            for remark in filter(None, (compare_split(chosen, artifact) for artifact in plan.artifacts)):
                remembering.warn(remark)
        for artifact in plan.artifacts:
            if artifact.card.input == "frame":
                spec = artifact.card.preprocess
                remembering.warn(
                    f"{artifact.path.name} was timed on pictures of {spec.width} x {spec.height}; resizing larger "
                    "frames, which it does itself, comes on top (end to end has it)"
                )
        found = probe_devices(plan.devices, remembering, launch)
        devices = {device.name: device for device in (_without_twins(found) if plan.distinct else found)}
        arms = _arms(plan, devices)
        try:
            load_arms(arms, prepared, [photographs[i] for i in prepared.readable], remembering, limits, launch)
            take_turns(arms, plan.rounds, remembering, limits)
            _finish(arms, len(prepared.readable) if chosen else 0, remembering, limits)
        finally:
            for arm in arms:
                arm.close()
    for arm in arms:
        if arm.restless:
            remembering.warn(f"{arm.name}: its threads kept running between its turns, which slows other arms")
    return Report(
        schema=BENCH_SCHEMA,
        environment=environment,
        data=data_of(chosen, prepared),
        arms=tuple(result_of(arm, arms, chosen, prepared) for arm in arms),
        remarks=tuple(remembering.remarks),
    )


def _without_twins(devices: Sequence[Device]) -> list[Device]:
    names = {device.name for device in devices if device.available and device.name.startswith("openvino:")}
    if names != {"openvino:CPU", "openvino:AUTO"}:
        return list(devices)
    reason = "OpenVINO finds only the CPU, so AUTO is openvino:CPU"
    twin = Device("openvino:AUTO", False, reason, "--device openvino:AUTO measures it all the same")
    return [twin if device.name == twin.name else device for device in devices]


def _arms(plan: Plan, devices: dict[str, Device]) -> list[Arm]:
    arms = []
    for artifact in plan.artifacts:
        for name in plan.devices:
            for threads in plan.threads:
                for batch in plan.batches:
                    arm = Arm(artifact, name, threads, batch)
                    device = devices[name]
                    if not device.available:
                        hint = f" ({device.install})" if device.install else ""
                        arm.stop(device.reason + hint, unavailable=True)
                    arms.append(arm)
    return arms


def load_arms(
    arms: Sequence[Arm],
    prepared: Prepared,
    photographs: Sequence[Path],
    reporter: Reporter,
    limits: Limits,
    launch: Callable[[], WorkerProcess],
) -> None:
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


def take_turns(arms: Sequence[Arm], rounds: int, reporter: Reporter, limits: Limits) -> None:
    running = [arm for arm in arms if not arm.reason]
    with reporter.task("measuring", len(running) * rounds) as task:
        for order in turns(len(running), rounds):
            for arm in (running[index] for index in order):
                if not arm.reason:
                    with arm.step() as worker:
                        taken = worker.ask("round", arm.samples, Samples, limits.answer_s)
                        arm.rounds.append(arm.keep(taken))
                task.advance(note=arm.name)


def _finish(arms: Sequence[Arm], photographs: int, reporter: Reporter, limits: Limits) -> None:
    """What is measured once for each arm, while the others rest. Memory comes before the large batches."""
    running = [arm for arm in arms if not arm.reason]
    spans = [Span(start, min(start + SPAN, photographs)) for start in range(0, photographs, SPAN)]
    with reporter.task("accuracy" if spans else "throughput", len(running) * (1 + len(spans))) as task:
        for arm in running:
            with arm.step() as worker:
                taken = arm.keep(worker.ask("end_to_end", END_TO_END_SAMPLES, Samples, limits.answer_s))
                arm.end_to_end_ms = float(np.median(taken))
                arm.peak_rss_mb = worker.ask("peak_rss_mb", None, float, limits.answer_s)
                arm.throughput_ips = worker.ask("throughput", THROUGHPUT_S, float, limits.answer_s)
                task.advance(note=arm.name)
                for span in spans:
                    arm.answers += worker.ask("answers", span, list[int], limits.answer_s)
                    task.advance(note=arm.name)
            arm.close()


class _Remembering:
    """Passes everything on, and keeps the warnings for the report."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.task = reporter.task
        self.say = reporter.say
        self.remarks: list[str] = []

    def warn(self, message: str) -> None:
        self.remarks.append(message)
        self._reporter.warn(message)
