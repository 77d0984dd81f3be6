"""The benchmark: arms in processes of their own take turns, one at a time; each becomes a line of the report."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np

from toolchain.artifact import Artifact
from toolchain.bench.compare import Foreseen, planned
from toolchain.bench.inputs import Chosen, choose, compare_split, draw_photographs, prepare
from toolchain.bench.layers import measure_layers
from toolchain.bench.results import (
    BENCH_SCHEMA,
    QUANTILES,
    ArmAccuracy,
    ArmResult,
    BenchReport,
    BenchSettings,
    Data,
    LayersOf,
    MeasuredMachine,
)
from toolchain.evaluation import metrics
from toolchain.evaluation.statistics import summarise
from toolchain.runtimes import machine
from toolchain.runtimes.devices import Device, RuntimeFamily, family_of, plain
from toolchain.runtimes.machine import Environment
from toolchain.system.folders import scratch_folder
from toolchain.system.progress import Reporter, Silent
from toolchain.timing.arm import Arm
from toolchain.timing.machines import Machine, connected
from toolchain.timing.noise import LoadDuring
from toolchain.timing.process import WorkerProcess, probe_devices
from toolchain.timing.protocol import LOCAL, Observed, Prepared, at
from toolchain.timing.scheduler import (
    MAX_PROCESSES,
    ROUNDS_A_PROCESS,
    Pace,
    TimeLimits,
    answer,
    load_arms,
    measure,
)

MAX_ROUNDS = MAX_PROCESSES * ROUNDS_A_PROCESS
BUDGET_S = 20.0
PRECISION = 0.02
PROCESSES = 3
"""In which each arm is measured at least."""
BUSY = 0.25
"""Share of all cores in use before the run above which the machine is said to be busy."""


@dataclass(frozen=True)
class Plan:
    """What to measure: every artifact on every device with every number of threads (0: as many as can run at
    once) and every batch, on each of the machines `on` (see `toolchain.timing.machines`). `limit` is the largest
    number of photographs for accuracy, 0 for all of `split`.

    Measured are so many `rounds`; None: as many as it takes to know each median to PRECISION, for `budget_s`
    seconds at most.
    They are shared between PROCESSES or more processes of each arm. `distinct`: leave out
    `openvino:AUTO` where it could choose nothing but `openvino:CPU`, which is measured too, and ways of running a
    device (`openvino:CPU+bf16`) that are not here or not for the file. `command` is what would repeat it.
    """

    artifacts: tuple[Artifact, ...]
    devices: tuple[str, ...]
    threads: tuple[int, ...] = (0,)
    batches: tuple[int, ...] = (1,)
    rounds: int | None = None
    budget_s: float = BUDGET_S
    data: str | None = None
    split: str = "test"
    limit: int = 400
    distinct: bool = False
    command: str = ""
    on: tuple[str, ...] = (LOCAL,)
    layers: bool = False
    """Measure the time of each layer, too."""

    @property
    def pace(self) -> Pace:
        if self.rounds is not None:
            # Fewer rounds than processes are for a quick look.
            processes = PROCESSES if self.rounds >= PROCESSES else 1
            return Pace(self.rounds, self.rounds, precision=None, budget_s=None, processes=processes)
        return Pace(MAX_ROUNDS, precision=PRECISION, budget_s=self.budget_s, processes=PROCESSES)


@dataclass
class _Place:
    """A machine with its arms; `observed` is None where the connection was lost."""

    machine: Machine
    environment: Environment
    arms: list[Arm]
    observed: Observed | None = None

    @property
    def is_busy(self) -> bool:
        return self.environment.load_before.busy > BUSY

    @property
    def prefix(self) -> str:
        """What a remark about it begins with."""
        return "" if self.machine.name == LOCAL else f"{self.machine.name}: "


def bench(
    plan: Plan,
    reporter: Reporter | None = None,
    limits: TimeLimits | None = None,
    launch: Callable[[], WorkerProcess] = WorkerProcess,
    before: Callable[[Foreseen], None] | None = None,
) -> BenchReport:
    """Measure all arms of `plan`, one machine after the other. What goes wrong in one arm is told in its `status`
    and `reason`; a connection that is lost ends the arms of its machine.

    `before` is called when it is known what will be measured, and nothing has been yet; what it raises ends it.
    Raises BadInputError when the data cannot be used, MissingError when a machine cannot be connected to.
    """
    limits = limits or TimeLimits()
    remembering = _Remembering(reporter or Silent())
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with connected(plan.on, remembering, launch) as machines:
        environments = [one.describe() for one in machines]
        places = [_Place(*pair, []) for pair in zip(machines, environments, strict=True)]
        for place in places:
            if place.is_busy:
                busy = (
                    f"the machine is busy ({place.environment.load_before.busy:.0%} before the run): expect noise"
                )
                remembering.warn(place.prefix + busy)
        chosen = choose(plan.artifacts, plan.data, plan.split, plan.limit, remembering)
        for place in places:
            found = probe_devices(plan.devices, remembering, place.machine.launch)
            devices = {device.name: device for device in (_without_twins(found) if plan.distinct else found)}
            place.arms = _arms(plan, devices, place.machine.name)
        arms = [arm for place in places for arm in place.arms]
        if before is not None:
            before(_foreseen(places, chosen))
        with scratch_folder("edgetl-bench-") as folder:
            prepared, photographs = _inputs(plan, chosen, folder, remembering)
            for caution in dict.fromkeys(line for place in places for line in _cautions(place)):
                remembering.warn(caution)
            layers: list[LayersOf] = []
            for place in places:
                _measure(place, plan.pace, chosen is not None, prepared, photographs, remembering, limits)
                if plan.layers:
                    layers += _layers(place, prepared, remembering)
    results = tuple(
        result_of(arm, place.arms, chosen, prepared, place.environment) for place in places for arm in place.arms
    )
    doubts = [place.prefix + doubt for place in places for doubt in _doubts(place)]
    doubts += [f"{arm.name}: {noise}" for arm, result in zip(arms, results, strict=True) for noise in result.noise]
    for doubt in doubts:
        remembering.warn(f"noisy: {doubt}")
    for remark in filter(None, (_shared(result) for result in results)):
        remembering.warn(remark)
    measured = tuple(MeasuredMachine(one.machine.name, one.environment, _during(one)) for one in places)
    return BenchReport(
        schema=BENCH_SCHEMA,
        environment=environments[0],
        data=data_of(chosen, prepared),
        arms=results,
        remarks=tuple(remembering.remarks),
        noisy=bool(doubts) or any(place.is_busy for place in places),
        command=plan.command,
        started=started,
        settings=BenchSettings(plan.pace.rounds, plan.pace.budget_s, plan.pace.precision, plan.pace.processes),
        during=measured[0].during,
        machines=() if plan.on == (LOCAL,) else measured,
        layers=tuple(layers),
    )


def _doubts(place: _Place) -> Sequence[str]:
    """Why what was measured on a machine is in doubt."""
    if place.observed is not None:
        return place.observed.doubts
    measured = any(not arm.reason for arm in place.arms)
    return ["what else it did is not known: the connection was lost"] if measured else ()


def _during(place: _Place) -> LoadDuring | None:
    return None if place.observed is None else place.observed.during


def _inputs(plan: Plan, chosen: Chosen | None, folder: Path, reporter: Reporter) -> tuple[Prepared, list[Path]]:
    """The pictures for all arms, made in `folder`, and the photographs that they are of."""
    specs = list(dict.fromkeys(artifact.card.preprocess for artifact in plan.artifacts))
    prepared = prepare(chosen or draw_photographs(folder), specs, folder, reporter)
    photographs = sorted(folder.glob("*.jpg")) if chosen is None else list(chosen.photographs)
    if chosen is not None:
        for remark in filter(None, (compare_split(chosen, artifact) for artifact in plan.artifacts)):
            reporter.warn(remark)
    for artifact in plan.artifacts:
        if artifact.card.input == "frame":
            spec = artifact.card.preprocess
            reporter.warn(
                f"{artifact.path.name} was timed on pictures of {spec.width} x {spec.height}; resizing larger "
                "frames, which it does itself, comes on top (end to end has it)"
            )
    return prepared, [photographs[index] for index in prepared.readable]


def _cautions(place: _Place) -> list[str]:
    here = machine.Processor.of(place.environment)
    cautions = (machine.int8_caution(arm.artifact, arm.device, here) for arm in place.arms if not arm.reason)
    return [place.prefix + caution for caution in cautions if caution]


def _measure(
    place: _Place,
    pace: Pace,
    has_labels: bool,
    prepared: Prepared,
    photographs: Sequence[Path],
    reporter: Reporter,
    limits: TimeLimits,
) -> None:
    """Let the arms of one machine take their turns."""
    start = partial(
        load_arms,
        prepared=prepared,
        photographs=photographs,
        reporter=reporter,
        limits=limits,
        machine=place.machine,
    )
    try:
        place.machine.watch()
        measure(place.arms, start, pace, reporter, limits, whole=True)
        place.observed = place.machine.look()
        answer(place.arms, len(prepared.readable) if has_labels else 0, reporter, limits)
    finally:
        for arm in place.arms:
            arm.close()


def _layers(place: _Place, prepared: Prepared, reporter: Reporter) -> list[LayersOf]:
    """Those of one machine's arms; what was measured of the arms is kept, whatever a profiler does."""
    try:
        return measure_layers(place.arms, place.machine, place.environment.threads, prepared, reporter)
    except Exception as error:  # runtimes name kernels as they like
        reporter.warn(f"{place.prefix}layers could not be told apart: {type(error).__name__}: {error}")
        return []


def _shared(arm: ArmResult) -> str:
    """What a reader must know when a provider left some of the network to another; empty when it did not."""
    if arm.execution is None or arm.provider_effective not in arm.execution.nodes:
        return ""
    others = {name: n for name, n in arm.execution.nodes.items() if name != arm.provider_effective}
    text = ", ".join(f"{n} nodes to {name}" for name, n in others.items())
    return f"{Path(arm.artifact).name} on {at(arm.device, arm.on)}: it left {text}" if others else ""


def _without_twins(devices: Sequence[Device]) -> list[Device]:
    names = {plain(device.name) for device in devices if device.available and device.name.startswith("openvino:")}
    if names != {"openvino:CPU", "openvino:AUTO"}:
        return list(devices)
    reason = "OpenVINO finds only the CPU, so AUTO is openvino:CPU"
    twin = Device("openvino:AUTO", False, reason, "--device openvino:AUTO measures it all the same")
    return [twin if device.name == twin.name else device for device in devices]


def _arms(plan: Plan, devices: dict[str, Device], on: str) -> list[Arm]:
    arms = []
    for artifact in plan.artifacts:
        for name in plan.devices:
            device = devices[name]
            if _for_others(artifact, family_of(name), plan):
                continue
            other_way = plan.distinct and name != plain(name)
            if other_way and not (device.available and family_of(name).takes(artifact, name)):
                continue
            for threads in plan.threads:
                for batch in plan.batches:
                    arm = Arm(artifact, name, threads, batch, on)
                    if not device.available:
                        hint = f" ({device.install})" if device.install else ""
                        arm.absent = True
                        arm.stop(device.reason + hint, unavailable=True)
                    arms.append(arm)
    return arms


def _for_others(artifact: Artifact, family: RuntimeFamily, plan: Plan) -> bool:
    """Whether a device reads other files than `artifact`, and is there for those. (Alone it is told why not.)"""
    if artifact.format in family.formats:
        return False
    return any(one.format in family.formats for one in plan.artifacts) or (
        plan.distinct and "onnx" not in family.formats
    )


def _foreseen(places: Sequence[_Place], chosen: Chosen | None) -> Foreseen:
    here = [(arm, place.environment.threads) for place in places for arm in place.arms if not arm.reason]
    return Foreseen(
        {place.machine.name: place.environment for place in places},
        chosen,
        tuple(planned(arm, threads) for arm, threads in here),
        tuple(number for number, (arm, _) in enumerate(here) if _will_run(arm)),
    )


def _will_run(arm: Arm) -> bool:
    """Whether nothing speaks against it before it is loaded. PyTorch needs the run too, and is never certain."""
    return family_of(arm.device).takes(arm.artifact, arm.device)


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


def data_of(chosen: Chosen | None, prepared: Prepared) -> Data | None:
    """Which photographs were measured on; None for drawn ones, which have no labels."""
    if chosen is None:
        return None
    n = len(prepared.readable)
    read = "".join(chosen.sha256[index] for index in prepared.readable) if chosen.sha256 else ""
    order = hashlib.sha256(read.encode()).hexdigest() if read else ""
    return Data(chosen.data, chosen.split, chosen.split_sha256, n, len(chosen.photographs) - n, order)


def result_of(
    arm: Arm, arms: Sequence[Arm], chosen: Chosen | None, prepared: Prepared, environment: Environment
) -> ArmResult:
    """The arm's line in the report. `arms` are all of its machine, among them the one that it is compared with."""
    ok = not arm.reason
    loaded = arm.loaded
    return ArmResult(
        artifact=str(arm.artifact.path),
        sha256=arm.artifact.sha256,
        precision=arm.artifact.card.precision,
        device=arm.device,
        provider_effective=loaded.provider_effective if loaded else None,
        threads=loaded.threads if loaded else arm.threads or environment.threads,
        batch=arm.batch,
        status="ok" if ok else "unavailable" if arm.unavailable else "failed",
        reason=arm.reason,
        latency_ms=summarise(*arm.processes) if ok else None,
        throughput_ips=arm.throughput.ips if ok and arm.throughput else None,
        load_ms=loaded.load_ms if loaded else None,
        first_ms=loaded.first_ms if loaded else None,
        end_to_end_ms=arm.end_to_end_ms if ok else None,
        peak_rss_mb=arm.peak_rss_mb if ok else None,
        file_mb=arm.artifact.size_mb,
        accuracy=_accuracy(arm, arms, chosen, prepared) if ok and chosen else None,
        execution=loaded.execution if loaded else None,
        throughput=arm.throughput if ok else None,
        frame_to_answer_ms=arm.frame_to_answer_ms if ok else None,
        energy_mj=_energy_mj(arm) if ok else None,
        quantiles_ms=_quantiles(arm.rounds) if ok else (),
        round_p50_ms=tuple(round(float(np.median(samples)), 5) for samples in arm.rounds) if ok else (),
        process_p50_ms=tuple(round(median, 5) for median in arm.process_ms) if ok else (),
        noise=tuple(arm.noise()) if ok else (),
        on=arm.on,
        proven=arm.device in arm.artifact.card.runtimes,
    )


def _quantiles(rounds: Sequence[Sequence[float]]) -> tuple[float, ...]:
    samples = np.concatenate([np.asarray(samples) for samples in rounds])
    return tuple(round(float(value), 5) for value in np.percentile(samples, range(QUANTILES)))


def _energy_mj(arm: Arm) -> float | None:
    """Millijoules for one inference, with what the machine uses anyway in the same time."""
    counted = [joules for joules in arm.joules if joules is not None]
    if len(counted) < len(arm.joules) or not counted:
        return None
    return sum(counted) / sum(len(samples) for samples in arm.rounds) * 1e3


def _accuracy(arm: Arm, arms: Sequence[Arm], chosen: Chosen, prepared: Prepared) -> ArmAccuracy:
    position = {label: index for index, label in enumerate(arm.artifact.card.labels)}
    in_card = [position[label] for label in chosen.classes]
    labels = np.array([in_card[chosen.labels[index]] for index in prepared.readable], np.int64)
    answers = np.array(arm.answers, np.int64)
    found = metrics.accuracy(answers, labels)
    reference = next((other for other in arms if _is_reference(other, arm)), None)
    return ArmAccuracy(
        top1=found.top1,
        per_class_top1=found.per_class_top1,
        n=found.n,
        agreement=metrics.agreement(answers, np.array(reference.answers)) if reference else None,
        top1_ci95=found.top1_ci95,
        right="".join("01"[int(one)] for one in found.right),
    )


def _is_reference(other: Arm, arm: Arm) -> bool:
    """Whether `other` is the float network of the same run on ONNX Runtime, with its labels in the same order."""
    mine, its = arm.artifact.card, other.artifact.card
    is_float = not other.reason and other.device == "ort:cpu" and its.precision == "float32"
    return is_float and (mine.labels, mine.source) == (its.labels, its.source)
