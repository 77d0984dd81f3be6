"""The benchmark: arms in processes of their own take turns, one at a time; each becomes a line of the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np

from toolchain.artifact import Artifact
from toolchain.bench.compare import Foreseen, planned
from toolchain.bench.inputs import Chosen, choose, compare_split, draw_photographs, prepare
from toolchain.bench.results import BENCH_SCHEMA, ArmAccuracy, ArmResult, BenchReport, BenchSettings, Data
from toolchain.evaluation import metrics
from toolchain.evaluation.statistics import summarise
from toolchain.runtimes import machine
from toolchain.runtimes.devices import Device, cores, family_of, plain
from toolchain.system.folders import scratch_folder
from toolchain.system.progress import Reporter, Silent
from toolchain.timing.arm import Arm
from toolchain.timing.noise import Watch, reasons, spare_cores
from toolchain.timing.process import WorkerProcess, probe_devices
from toolchain.timing.protocol import Prepared
from toolchain.timing.scheduler import Pace, TimeLimits, answer, load_arms, measure

MAX_ROUNDS = 200
BUDGET_S = 20.0
PRECISION = 0.02
PROCESSES = 3
"""In which each arm is measured at least."""
BUSY = 0.25
"""Share of all cores in use before the run above which the machine is said to be busy."""


@dataclass(frozen=True)
class Plan:
    """What to measure: every artifact on every device with every number of threads (0: one for each core) and
    every batch. `limit` is the largest number of photographs for accuracy, 0 for all of `split`.

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

    @property
    def pace(self) -> Pace:
        if self.rounds is not None:
            # Fewer rounds than processes are for a quick look.
            processes = PROCESSES if self.rounds >= PROCESSES else 1
            return Pace(self.rounds, self.rounds, precision=None, budget_s=None, processes=processes)
        return Pace(MAX_ROUNDS, precision=PRECISION, budget_s=self.budget_s, processes=PROCESSES)


def bench(
    plan: Plan,
    reporter: Reporter | None = None,
    limits: TimeLimits | None = None,
    launch: Callable[[], WorkerProcess] = WorkerProcess,
    before: Callable[[Foreseen], None] | None = None,
) -> BenchReport:
    """Measure all arms of `plan`. What goes wrong in one arm is told in its `status` and `reason`.

    `before` is called when it is known what will be measured, and nothing has been yet; what it raises ends it.
    Raises BadInputError when the data cannot be used.
    """
    limits = limits or TimeLimits()
    remembering = _Remembering(reporter or Silent())
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    environment = machine.describe()
    if environment.load_before.busy > BUSY:
        remembering.warn(f"the machine is busy ({environment.load_before.busy:.0%} before the run): expect noise")
    chosen = choose(plan.artifacts, plan.data, plan.split, plan.limit, remembering)
    found = probe_devices(plan.devices, remembering, launch)
    devices = {device.name: device for device in (_without_twins(found) if plan.distinct else found)}
    arms = _arms(plan, devices)
    if before is not None:
        before(_foreseen(environment, chosen, arms))
    with scratch_folder("edgetl-bench-") as folder:
        specs = list(dict.fromkeys(artifact.card.preprocess for artifact in plan.artifacts))
        prepared = prepare(chosen or draw_photographs(folder), specs, folder, remembering)
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
        cautions = (machine.int8_caution(arm.artifact, arm.device) for arm in arms if not arm.reason)
        for caution in dict.fromkeys(filter(None, cautions)):
            remembering.warn(caution)
        try:
            start = partial(
                load_arms,
                prepared=prepared,
                photographs=[photographs[i] for i in prepared.readable],
                reporter=remembering,
                limits=limits,
                launch=launch,
            )
            watch = Watch()
            measure(arms, start, plan.pace, remembering, limits, whole=True)
            during = watch.look()
            answer(arms, len(prepared.readable) if chosen else 0, remembering, limits)
        finally:
            for arm in arms:
                arm.close()
    results = tuple(result_of(arm, arms, chosen, prepared) for arm in arms)
    doubts = reasons(during, spare_cores())
    doubts += [f"{arm.name}: {noise}" for arm, result in zip(arms, results, strict=True) for noise in result.noise]
    for doubt in doubts:
        remembering.warn(f"noisy: {doubt}")
    for remark in filter(None, (_shared(result) for result in results)):
        remembering.warn(remark)
    return BenchReport(
        schema=BENCH_SCHEMA,
        environment=environment,
        data=data_of(chosen, prepared),
        arms=results,
        remarks=tuple(remembering.remarks),
        noisy=bool(doubts) or environment.load_before.busy > BUSY,
        command=plan.command,
        started=started,
        settings=BenchSettings(plan.pace.rounds, plan.pace.budget_s, plan.pace.precision, plan.pace.processes),
        during=during,
    )


def _shared(arm: ArmResult) -> str:
    """What a reader must know when a provider left some of the network to another; empty when it did not."""
    if arm.execution is None or arm.provider_effective not in arm.execution.nodes:
        return ""
    others = {name: n for name, n in arm.execution.nodes.items() if name != arm.provider_effective}
    text = ", ".join(f"{n} nodes to {name}" for name, n in others.items())
    return f"{Path(arm.artifact).name} on {arm.device}: it left {text}" if others else ""


def _without_twins(devices: Sequence[Device]) -> list[Device]:
    names = {plain(device.name) for device in devices if device.available and device.name.startswith("openvino:")}
    if names != {"openvino:CPU", "openvino:AUTO"}:
        return list(devices)
    reason = "OpenVINO finds only the CPU, so AUTO is openvino:CPU"
    twin = Device("openvino:AUTO", False, reason, "--device openvino:AUTO measures it all the same")
    return [twin if device.name == twin.name else device for device in devices]


def _arms(plan: Plan, devices: dict[str, Device]) -> list[Arm]:
    arms = []
    for artifact in plan.artifacts:
        for name in plan.devices:
            device = devices[name]
            other_way = plan.distinct and name != plain(name)
            if other_way and not (device.available and family_of(name).takes(artifact, name)):
                continue
            for threads in plan.threads:
                for batch in plan.batches:
                    arm = Arm(artifact, name, threads, batch)
                    if not device.available:
                        hint = f" ({device.install})" if device.install else ""
                        arm.stop(device.reason + hint, unavailable=True)
                    arms.append(arm)
    return arms


def _foreseen(environment: machine.Environment, chosen: Chosen | None, arms: Sequence[Arm]) -> Foreseen:
    here = [arm for arm in arms if not arm.reason]
    return Foreseen(
        environment,
        chosen,
        tuple(planned(arm.artifact, arm.device, arm.threads, arm.batch) for arm in here),
        tuple(place for place, arm in enumerate(here) if _will_run(arm)),
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
    return Data(chosen.data, chosen.split, chosen.split_sha256, n, skipped=len(chosen.photographs) - n)


def result_of(arm: Arm, arms: Sequence[Arm], chosen: Chosen | None, prepared: Prepared) -> ArmResult:
    """The arm's line in the report. `arms` are all, among them the one that it is compared with."""
    ok = not arm.reason
    loaded = arm.loaded
    return ArmResult(
        artifact=str(arm.artifact.path),
        sha256=arm.artifact.sha256,
        precision=arm.artifact.card.precision,
        device=arm.device,
        provider_effective=loaded.provider_effective if loaded else None,
        threads=loaded.threads if loaded else arm.threads or cores(),
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
    )


def _quantiles(rounds: Sequence[Sequence[float]]) -> tuple[float, ...]:
    samples = np.concatenate([np.asarray(samples) for samples in rounds])
    return tuple(round(float(value), 5) for value in np.percentile(samples, range(101)))


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
