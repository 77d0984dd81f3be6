"""What a benchmark found, as `bench.json` holds it (docs/reference/files.md).

`bench.schema.json` beside this module is the same as a JSON Schema, made by docs/make_schema.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolchain.artifact.card import Precision
from toolchain.evaluation.statistics import Latency
from toolchain.runtimes import Execution
from toolchain.runtimes.machine import Environment
from toolchain.timing.layers import LayerRow
from toolchain.timing.noise import LoadDuring
from toolchain.timing.protocol import LOCAL, Throughput

BENCH_SCHEMA: Literal["edgetl.bench/1"] = "edgetl.bench/1"
QUANTILES = 101
"""The 0th, 1st, ... 100th percentile."""


@dataclass(frozen=True)
class ArmAccuracy:
    """Through the deployed pipeline, on the photographs of `Data`. Fractions, 0 to 1.

    `per_class_top1` is the mean over the classes that are present; `agreement` the share of photographs with the
    same top-1 as the float32 artifact of the same run on `ort:cpu` (null when that was not measured);
    `top1_ci95` Wilson's interval. `right` is one character for each photograph, in the order of the split: 1 where
    the first answer was right, 0 where it was not.
    """

    top1: float
    per_class_top1: float
    n: int
    agreement: float | None
    top1_ci95: tuple[float, float]
    right: str = ""


@dataclass(frozen=True)
class ArmResult:
    """One artifact on one device. What was not measured is null; `reason` says why when `status` is not `ok`.

    `execution` is how it really ran. `quantiles_ms` are the 0th, 1st, ... 100th percentile of the latency,
    `round_p50_ms` its median in each round, `process_p50_ms` its median in each process.
    `throughput_ips` is that of `throughput`. `load_ms`: from the file's
    content to a runtime that is ready, without importing its library. `first_ms`: the first inference.
    `end_to_end_ms`: median from the bytes of an encoded photograph to a named answer; `frame_to_answer_ms`: from a
    decoded frame. `peak_rss_mb`: the most memory that the process held through all this, before throughput and
    accuracy. `energy_mj`: what the processor's package used for one inference, where the machine counts it.
    `noise`: why these figures are to be doubted. `on` is the machine that it ran on. MB are 10^6 bytes.
    """

    artifact: str
    sha256: str
    precision: Precision
    device: str
    provider_effective: str | None
    threads: int
    batch: int
    status: Literal["ok", "unavailable", "failed"]
    reason: str
    latency_ms: Latency | None
    throughput_ips: float | None
    load_ms: float | None
    first_ms: float | None
    end_to_end_ms: float | None
    peak_rss_mb: float | None
    file_mb: float
    accuracy: ArmAccuracy | None
    execution: Execution | None = None
    throughput: Throughput | None = None
    frame_to_answer_ms: float | None = None
    energy_mj: float | None = None
    quantiles_ms: tuple[float, ...] = ()
    round_p50_ms: tuple[float, ...] = ()
    process_p50_ms: tuple[float, ...] = ()
    noise: tuple[str, ...] = ()
    on: str = LOCAL
    proven: bool = False
    """Whether the file's card names this device, in this way of running it."""


@dataclass(frozen=True)
class Data:
    """The photographs that accuracy was measured on: `n` of the split were read, `skipped` were unreadable.

    `order_sha256`: which ones, in which order (empty in files of earlier versions).
    """

    name: str
    split: str
    split_sha256: str
    n: int
    skipped: int
    order_sha256: str = ""


@dataclass(frozen=True)
class BenchSettings:
    """How long was measured: until the interval of each arm's median was narrower than `precision` (a fraction of
    it), in at most `rounds` rounds and `budget_s` seconds (null: without such a limit)."""

    rounds: int
    budget_s: float | None
    precision: float | None
    processes: int = 1
    """In how many each arm was measured, at least."""


Verdict = Literal["slower", "faster", "same", "uncertain", "undecided"]


@dataclass(frozen=True)
class Change:
    """An arm beside the same arm of an older run. `ratio`: new median latency by old one, with its 95 % interval.

    `latency`: slower or faster when the whole interval is beyond the tolerance; uncertain when only the ratio is;
    undecided when one of the runs was noisy. `old_artifact`: its file's name then, where that was another.
    `drop_pp`: top-1 lost, in percentage points, on the same photographs (null when they were others).
    """

    artifact: str
    precision: Precision
    device: str
    threads: int
    batch: int
    same_file: bool
    old_p50_ms: float
    new_p50_ms: float
    ratio: float
    ratio_ci95: tuple[float, float]
    latency: Verdict
    drop_pp: float | None
    drop_pp_ci95: tuple[float, float] | None
    accuracy_lost: bool
    old_artifact: str = ""
    on: str = LOCAL


@dataclass(frozen=True)
class Comparison:
    """This run beside the `old` one. `differences`: in what the two were unlike, when that was overruled;
    `regressions`: in words, what became worse beyond the tolerance; `noisy`: which of the runs were, so that
    latencies are not judged."""

    old: str
    tolerance_percent: float
    tolerance_pp: float
    differences: tuple[str, ...]
    changes: tuple[Change, ...]
    regressions: tuple[str, ...]
    noisy: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayersOf:
    """Where the time goes in one file, or in a float file and an int8 file of the same run, side by side.

    `artifacts` are their paths; the `times` of each layer are in the same order. `us`: microseconds of all layers
    together, as the runtime's profiler counts them, which is less than a whole inference. `rows` are in the order
    of the network; `slower` says which layers int8 made slower, conversions included.
    """

    artifacts: tuple[str, ...]
    precisions: tuple[Precision, ...]
    device: str
    threads: int
    batch: int
    us: tuple[float, ...]
    rows: tuple[LayerRow, ...]
    on: str = LOCAL


@dataclass(frozen=True)
class MeasuredMachine:
    """A machine that arms were measured on. `name` is `local` or how ssh found it; `during` is null where the
    connection was lost."""

    name: str
    environment: Environment
    during: LoadDuring | None


@dataclass(frozen=True)
class BenchReport:
    """`bench.json`. `data` is null when only latency was measured; `remarks` are what a reader must know.

    `noisy`: the machine was not at rest, or arms were restless; the remarks say why. `command` repeats the run,
    `started` is the time (UTC) at which it began. `during` is what else the machine did meanwhile. `not_compared`:
    why there is no comparison although one was asked for, else empty. `machines` are all that were measured on, and
    empty where that was this one alone; `environment` and `during` are those of the first.
    """

    schema: Literal["edgetl.bench/1"]
    environment: Environment
    data: Data | None
    arms: tuple[ArmResult, ...]
    remarks: tuple[str, ...]
    noisy: bool = False
    command: str = ""
    started: str = ""
    settings: BenchSettings | None = None
    during: LoadDuring | None = None
    comparison: Comparison | None = None
    not_compared: str = ""
    machines: tuple[MeasuredMachine, ...] = ()
    layers: tuple[LayersOf, ...] = ()
    """With `--layers`: on each device, and for each number of threads and batch."""

    @property
    def environments(self) -> dict[str, Environment]:
        """That of each machine, by name."""
        return {one.name: one.environment for one in self.machines} or {LOCAL: self.environment}


def measured(report: BenchReport) -> list[ArmResult]:
    """The arms that are `ok`, as they were asked for."""
    return [arm for arm in report.arms if arm.status == "ok"]


def names_of(arms: Sequence[ArmResult]) -> dict[str, str]:
    """The shortest names that tell the artifacts apart: the file's, or the path where two files have the same."""
    paths = list(dict.fromkeys(arm.artifact for arm in arms))
    short = [Path(path).name for path in paths]
    return {path: name if short.count(name) == 1 else path for path, name in zip(paths, short, strict=True)}
