"""What an export is asked for, what it measured and wrote, and which of its files to use."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import NormalDist
from typing import Any

from toolchain.artifact import FLOAT_FILE, Format
from toolchain.artifact.card import Accuracy, Precision, Speed
from toolchain.browser import Page
from toolchain.errors import BadInputError, MissingError
from toolchain.evaluation.statistics import Z95_ONE_SIDED
from toolchain.recommended import MAX_DROP_PP, Recommended
from toolchain.system.installation import install
from toolchain.timing.protocol import LOCAL, at


@dataclass(frozen=True)
class QuantizationSettings:
    """What int8 must keep to, and what may be done for it.

    int8 may lose at most `max_drop_pp` points of top-1, and must be more than `min_speed_up` times as fast as
    float; with 0, speed does not matter and is not measured. Recipes are tried for 0.6 of `max_minutes`, and
    training that comes unasked may take as much again; `qat_epochs` of quantisation-aware training come on top.
    `portable`: weights of 7 bits, for CPUs on which sums of 8 bits saturate; in any case where the CPU of one of
    the machines is one of them. The promises must be kept on each of the machines `on`
    (`toolchain.timing.machines`).

    Raises BadInputError where other machines are to time, and speed does not matter.
    """

    max_drop_pp: float = MAX_DROP_PP
    min_speed_up: float = 1.0
    symmetric: bool = False
    qat_epochs: int = 0
    max_minutes: float = 3.0
    portable: bool = False
    on: tuple[str, ...] = (LOCAL,)
    per_tensor: bool = False
    """All weights of a layer share one scale, as some NPUs want it."""

    def __post_init__(self) -> None:
        if self.on != (LOCAL,) and not self.min_speed_up:
            raise BadInputError(
                "--on names machines to time int8 on, and --min-speed-up 0 times nothing", "Leave one out."
            )


@dataclass(frozen=True)
class Variants:
    """Which further files to write: `openvino` for each ONNX file, `raw_frame` and `litert` for float32 and int8.

    Those with int8 weights may lose at most `max_drop_pp` points of top-1.

    Raises MissingError when OpenVINO or LiteRT is not installed.
    """

    openvino: bool = False
    fp16: bool = False
    int8_weights: bool = False
    raw_frame: bool = False
    litert: bool = False
    max_drop_pp: float = MAX_DROP_PP

    def __post_init__(self) -> None:
        if self.openvino and find_spec("openvino") is None:
            raise MissingError("OpenVINO is not installed", "pip install openvino, or leave out --openvino")
        if self.litert and find_spec("ai_edge_litert") is None:
            raise MissingError("LiteRT (ai-edge-litert) is not installed", install("litert"))


CALIBRATED = 1.25
"""How far what is lost may be from what probabilities say, as a multiple of it: a standard deviation."""
MIN_ERROR_PP = 0.01
LEAST_ALIKE = 0.5
"""Share of photographs with the same answer as in float, below which nothing is proven by as many being right."""


@dataclass(frozen=True)
class Measurement:
    """The accuracy of one file on one device.

    `drop_pp`: points of top-1 lost against float on the same device, over all views of the photographs, which are
    compared in pairs; `drop_lower_pp` and `drop_upper_pp` are its bounds, each with 95 % confidence. `expected_pp`
    is what the float network's own probabilities say is lost (`metrics.expected_drop`), `expected_error_pp` its
    standard error. `look`: 1 for the first file that these photographs judge for the device, 2 for the one that is
    tried after it failed.
    """

    device: str
    accuracy: Accuracy
    drop_pp: float | None = None
    drop_upper_pp: float | None = None
    drop_lower_pp: float | None = None
    expected_pp: float | None = None
    expected_error_pp: float = 0.0
    look: int = 1

    @property
    def lost_pp(self) -> float:
        """Points of top-1 that are lost, by what labels and probabilities say together, each by its own error.

        Probabilities are taken to be right within `CALIBRATED` of what they say. What was not compared by
        probabilities loses `drop_pp`.
        """
        return self._lost[0]

    @property
    def most_lost_pp(self) -> float:
        """What is lost at most, with 95 % confidence at the first look, 97.5 % at the second."""
        mean, error = self._lost
        return min(mean + NormalDist().inv_cdf(1 - 0.05 / self.look) * error, 100.0)

    @property
    def judged_pp(self) -> float:
        """What must be within `--max-drop`: what is lost at most, and what labels alone say is surely lost."""
        return max(self.most_lost_pp, self.drop_lower_pp or 0.0)

    def seen(self, worse_pp: float = 0.0) -> str:
        """What labels and probabilities say is lost, in words, with what is lost on another machine beside it."""
        assert self.drop_pp is not None
        assert self.expected_pp is not None
        n = self.accuracy.n
        seen = f"{self.drop_pp + worse_pp:.2f} on {n} photographs, {self.expected_pp:.2f} by its probabilities"
        if self.look > 1:
            seen += f" (with {100 - 5 / self.look:.1f} % confidence, as {self.look - 1} failed before it)"
        if self.accuracy.agreement == 1 and not worse_pp:
            seen += f" (no answer changed; {n} photographs cannot prove a smaller loss)"
        return seen

    @property
    def _lost(self) -> tuple[float, float]:
        """Mean and standard error."""
        assert self.drop_pp is not None
        if self.expected_pp is None or self.drop_upper_pp is None:
            return self.drop_pp, 0.0
        label_error = max((self.drop_upper_pp - self.drop_pp) / Z95_ONE_SIDED, MIN_ERROR_PP)
        error = math.hypot(self.expected_error_pp, CALIBRATED * self.expected_pp, MIN_ERROR_PP)
        weight = error**2 / (error**2 + label_error**2)
        mean = (1 - weight) * self.expected_pp + weight * self.drop_pp
        return mean, math.sqrt(weight) * label_error


@dataclass(frozen=True)
class Nearness:
    """How near a file's answers are to the float network's on one device, by `n` views whose labels were not used.

    `agreement` is the share with the same top-1, `divergence` the mean one of the probabilities (Kullback-Leibler,
    in nats).
    """

    device: str
    n: int
    agreement: float
    divergence: float


@dataclass(frozen=True)
class Attempt:
    """One int8 recipe that was tried: how near it is to the float network on each target, and how fast there.

    `hops` are there for the targets on which it was chosen and judged by labels, `speeds` where it was timed.
    `chosen_for` names the devices that it was written for.
    """

    label: str
    quantiser: str
    settings: dict[str, Any]
    hops: tuple[Measurement, ...]
    """The name is a key of `export --json`."""
    size_mb: float
    speeds: tuple[Speed, ...] = ()
    chosen_for: tuple[str, ...] = ()
    top1_there: dict[str, dict[str, float]] = field(default_factory=dict)
    """Top-1 of the same photographs on other machines, by machine and device."""
    nearness: tuple[Nearness, ...] = ()
    """One for each target that the file is meant for."""
    untimed: dict[str, dict[str, str]] = field(default_factory=dict)
    """Why it could not be timed, by machine and device."""

    @property
    def devices(self) -> tuple[str, ...]:
        """The targets that it was compared or judged on."""
        return tuple(dict.fromkeys([*(one.device for one in self.nearness), *(one.device for one in self.hops)]))

    def on(self, device: str) -> Measurement | None:
        """What was measured with labels on `device`; None where it was not judged there."""
        return next((measurement for measurement in self.hops if measurement.device == device), None)

    def divergence(self, *devices: str) -> float:
        """From the float network on that of `devices` (none: all that it is meant for) where it is largest."""
        return max(one.divergence for one in self.nearness if not devices or one.device in devices)

    def speed_up(self, device: str) -> float | None:
        """How many times as fast as float on `device` (geometric mean over thread counts); None: not timed."""
        ratios = [speed.ratio for speed in self.speeds if speed.device == device]
        return math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios)) if ratios else None

    def broken(self, device: str, settings: QuantizationSettings) -> str | None:
        """Which promise is broken on `device`, and by how much; None when both are kept."""
        return self.broken_accuracy(device, settings) or self.broken_speed(device, settings)

    def undecided(self, device: str, settings: QuantizationSettings) -> bool:
        """Whether no promise is broken on `device`, and one is not known to be kept: it could not be timed."""
        broken = self.broken_accuracy(device, settings) or self._too_slow(device, settings)
        return broken is None and self._not_timed(device, settings) is not None

    def broken_accuracy(self, device: str, settings: QuantizationSettings) -> str | None:
        """By how much the accuracy drop on `device` is too large, or that few answers stay; None where neither is
        the case, or nothing was measured."""
        measured = self.on(device)
        if measured is None or measured.drop_pp is None:
            return None
        for machine in (LOCAL, *self.top1_there):
            drop_pp, worse_pp = measured.drop_pp, self.worse_there(device, machine)
            judged_pp = measured.judged_pp + worse_pp
            if judged_pp <= settings.max_drop_pp:
                continue
            place, limit = at(device, machine), f"--max-drop {settings.max_drop_pp:g}"
            beyond = f"{judged_pp - settings.max_drop_pp:.2f} pp more than {limit}"
            if measured.expected_pp is None:
                return f"int8 loses {drop_pp + worse_pp:.2f} pp of top-1 on {place}, {beyond}"
            return f"int8 may lose {judged_pp:.2f} pp of top-1 on {place}, {beyond}: {measured.seen(worse_pp)}"
        agreement = measured.accuracy.agreement
        if agreement is not None and agreement < LEAST_ALIKE and settings.max_drop_pp < 100 * LEAST_ALIKE:
            return (
                f"int8 answers as float does to {agreement:.0%} of {measured.accuracy.n} photographs on {device}: "
                "that it is right as often says nothing"
            )
        return None

    def worse_there(self, device: str, machine: str) -> float:
        """Points of top-1 that the same file answers worse on another machine than here."""
        measured = self.on(device)
        assert measured is not None
        top1 = self.top1_there.get(machine, {}).get(device, measured.accuracy.top1)
        return (measured.accuracy.top1 - top1) * 100

    def broken_speed(self, device: str, settings: QuantizationSettings) -> str | None:
        """Why int8 does not count as fast enough on `device`; None when it does, or speed does not matter.

        A ratio counts by its lower 95 % bound, and a device that was not timed does not count as fast.
        """
        if not settings.min_speed_up:
            return None
        return self._too_slow(device, settings) or self._not_timed(device, settings)

    def _not_timed(self, device: str, settings: QuantizationSettings) -> str | None:
        timed = {speed.on for speed in self.speeds if speed.device == device}
        for machine in settings.on:
            if machine not in timed:
                reason = self.untimed.get(machine, {}).get(device, "")
                return f"int8 could not be timed on {at(device, machine)}" + (f": {reason}" if reason else "")
        return None

    def _too_slow(self, device: str, settings: QuantizationSettings) -> str | None:
        for speed in self.speeds:
            if speed.device != device:
                continue
            least = speed.ratio if speed.min_ratio is None else speed.min_ratio
            if least <= settings.min_speed_up:
                sure = "" if speed.min_ratio is None else f" ({least:.2f} at least, with 95 % confidence)"
                place = at(device, speed.on)
                return (
                    f"int8 is {speed.ratio:.2f} times as fast as float on {place}{sure}, not more than "
                    f"{settings.min_speed_up:g} times: {speed.int8_ms:.2f} ms against {speed.float_ms:.2f} ms, "
                    f"threads {speed.threads}"
                )
        return None


@dataclass(frozen=True)
class Written:
    """A variant and what was measured of it. `broken` says which promise it did not keep; then it was not written.

    `size_mb` is that of both files of OpenVINO. `as_onnx`: the share of photographs and views to which a LiteRT
    file gives the same top-1 as the ONNX file that it was made of.
    """

    file: str
    format: Format
    precision: Precision
    size_mb: float
    hops: tuple[Measurement, ...]
    """One measurement for each device; the name is a key of `export --json`."""
    broken: str | None = None
    as_onnx: float | None = None


@dataclass(frozen=True)
class ServerFolder:
    """A folder that a model server loads: `server` says which one, `models` are their names there."""

    server: str
    folder: str
    models: tuple[str, ...]


@dataclass(frozen=True)
class Exported:
    """What `export` wrote and measured on `n` photographs of the run, those of `split`.

    `int8_files` are int8 files by device, `int8_for_all` is the one for all of them, if any. `broken` says, by
    device, which promise no int8 file kept; what lies in `int8_files` for it then is the rejected file, if
    anything. `undecided` are those of its devices where no promise is known to be broken: a machine was lost. Field
    names are keys of `export --json`.
    """

    run: str
    split: str
    n: int
    float_file: str
    float_mb: float
    float_hops: tuple[Measurement, ...]
    max_drop_pp: float | None = None
    attempts: tuple[Attempt, ...] = ()
    int8_files: dict[str, str] = field(default_factory=dict)
    int8_for_all: str = ""
    broken: dict[str, str] = field(default_factory=dict)
    undecided: tuple[str, ...] = ()
    further: tuple[Written, ...] = ()
    recommended: tuple[Recommended, ...] = ()
    """The file and way to use on each device; empty where nothing was timed."""
    on: tuple[str, ...] = (LOCAL,)
    """The machines that int8 was timed on."""
    page: Page | None = None
    server: ServerFolder | None = None


@dataclass(frozen=True)
class Option:
    """A file on a device of the machine `on`. `ms`: median latency of one photograph on `threads` threads."""

    file: str
    precision: str
    device: str
    threads: int
    ms: float
    on: str = LOCAL


def options(exported: Exported) -> list[Option]:
    """The float file on each device and in ways that are recommended, and the int8 files that kept their promises.

    The fastest come first. Latencies are those on the largest number of threads that was timed. Empty where nothing
    was timed.
    """
    found: dict[tuple[str, str, str], Option] = {}
    for attempt in exported.attempts:
        for speed in attempt.speeds:
            pairs = [("float", exported.float_file, speed.float_ms)]
            if speed.device in attempt.chosen_for and speed.device not in exported.broken:
                pairs.append(("int8", exported.int8_files[speed.device], speed.int8_ms))
            for precision, file, ms in pairs:
                key = precision, speed.device, speed.on
                if key not in found or speed.threads > found[key].threads:
                    found[key] = Option(file, precision, speed.device, speed.threads, ms, speed.on)
    for one in exported.recommended:
        if one.way != one.device and one.precision == "float32":
            found["float", one.way, LOCAL] = Option(exported.float_file, "float", one.way, one.threads, one.ms)
    return sorted(found.values(), key=lambda option: option.ms)


def benchmark(exported: Exported) -> str:
    """The command that measures all files of an export beside each other, where int8 was timed."""
    words = [exported.run]
    if Path(exported.float_file) != Path(exported.run) / FLOAT_FILE:  # --out
        kept = [file for device, file in exported.int8_files.items() if device not in exported.broken]
        kept += [exported.int8_for_all] if exported.int8_for_all else []
        words = list(dict.fromkeys([exported.float_file, *kept]))
    if exported.on != (LOCAL,):
        words += [word for machine in exported.on for word in ("--on", machine)]
    return f"edgetl bench {shlex.join(words)}"


def recommendation(exported: Exported) -> tuple[str, ...]:
    """Lines for an export that broke a promise: how to compare all files, and which one to use on each machine."""
    ranked = options(exported)
    compare = f"All files beside each other: {benchmark(exported)}"
    machines = sorted({option.on for option in ranked}, key=lambda name: (name != LOCAL, name))
    uses = [_use([option for option in ranked if option.on == machine]) for machine in machines]
    return compare, *(uses or [f"Use {exported.float_file}, the float file."])


def _use(ranked: Sequence[Option]) -> str:
    """The first of `ranked`, all of one machine, and the others beside it."""
    best = ranked[0]
    kind = "the float file, " if best.precision == "float" else ""
    threads = f"{best.threads} thread{'s' if best.threads > 1 else ''}"
    others = [_beside(option) for option in ranked[1:]]
    beside = f" ({', '.join(others)})" if others else ""
    use = f"Use {best.file}, {kind}on {at(best.device, best.on)}: {best.ms:.2f} ms on {threads}{beside}."
    if best.on != LOCAL:
        return use
    return f"{use} Next: edgetl camera {shlex.quote(best.file)} --device {best.device}"


def _beside(option: Option) -> str:
    name = "float" if option.precision == "float" else Path(option.file).name
    return f"{name} on {at(option.device, option.on)} {option.ms:.2f}"
