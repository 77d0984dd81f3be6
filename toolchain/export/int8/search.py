"""The search for an int8 file that keeps two promises: a small accuracy drop, and faster than float."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from toolchain.artifact import Artifact, make_artifact, write_artifact
from toolchain.artifact.card import Card, ProvenOn, QuantizationRecipe, Speed, Tried
from toolchain.errors import MissingError, PromiseBrokenError
from toolchain.evaluation import metrics
from toolchain.export.int8.qat import plan_of, train
from toolchain.export.int8.qdq import weight_bits
from toolchain.export.int8.quantisers import Candidate, Task, recipes
from toolchain.export.int8.torch_graph import Graph
from toolchain.export.measure import ExportContext
from toolchain.export.results import Attempt, QuantizationSettings
from toolchain.export.ways import int8_ways
from toolchain.runtimes import machine
from toolchain.runtimes.devices import cpu_name
from toolchain.system.folders import scratch_folder
from toolchain.system.text import fixed
from toolchain.timing import Timed, time_artifacts
from toolchain.timing.machines import Machine, connected
from toolchain.timing.protocol import LOCAL

MAX_TIMED = 3
"""Candidates that are timed for each device: those that agree most with the float network."""
TIMING_SAMPLE = 32
"""Photographs that candidates are timed on."""
SEARCH_SHARE = 0.6
"""Share of the time limit that recipes may take; the rest is left for the timing."""
AS_FAST = 0.95
"""Candidates that reach this share of the fastest one's speed count as equally fast; then agreement decides."""


@dataclass(frozen=True)
class Found:
    """The result of the search: files by device, all attempts, and by device the promises that were not kept."""

    files: dict[str, str]
    attempts: tuple[Attempt, ...]
    broken: dict[str, str]


def make_int8(context: ExportContext, settings: QuantizationSettings) -> Found:
    """Try recipes, time those that keep the accuracy, and write the fastest.

    One file is written for all devices where one keeps both promises on all of them: `model.int8.onnx`. Otherwise
    each device that has such a file gets its own, such as `model.int8.openvino.onnx`. Where no device has one, the
    one that comes nearest is left as `model.int8.rejected.onnx`. Raises PromiseBrokenError when no recipe can be
    carried out at all.
    """
    search = _Search(context, settings)
    search.try_recipes()
    if settings.qat_epochs:
        search.train()
    if not search.entries:
        _set_aside_older(context, ())
        raise PromiseBrokenError("no quantiser could make an int8 file of this network", "Use the float file.")
    if settings.min_speed_up:
        search.time()
    found = search.write()
    _set_aside_older(context, found.files.values())
    return found


def _set_aside_older(context: ExportContext, written: Iterable[str]) -> None:
    """Rename int8 files of an earlier export that this one did not replace: they would be preferred to float."""
    stem = context.path.with_suffix(".int8.onnx")
    families = dict.fromkeys(device.partition(":")[0] for device in context.devices)
    for path in (stem, *(stem.with_suffix(f".{family}.onnx") for family in families)):
        if path.is_file() and str(path) not in set(written):
            older = path.with_name(f"{path.name}.older")
            path.replace(older)
            context.reporter.warn(f"{path.name} was of an earlier export; it is {older.name} now")


@dataclass
class _Entry:
    candidate: Candidate
    attempt: Attempt


class _Search:
    def __init__(self, context: ExportContext, settings: QuantizationSettings) -> None:
        self._context = context
        self._settings = settings
        self._calibration = context.photographs.read("calibration")
        self._saturating = [
            "this CPU" if name == LOCAL else name
            for name, environment in context.machines.items()
            if machine.int8_saturates(machine.Processor.of(environment))
        ]
        self._portable = settings.portable or bool(self._saturating)
        self.entries: list[_Entry] = []

    def try_recipes(self) -> None:
        """Make and measure candidates until their share of the time is used up."""
        started = time.monotonic()
        limit = 60 * self._settings.max_minutes * SEARCH_SHARE
        reporter = self._context.reporter
        if self._portable and not self._settings.portable:
            without = " and ".join(self._saturating)
            reporter.say(f"no VNNI on {without}: int8 weights get 7 bits, so that 16-bit sums do not saturate")
        pixels, symmetric = self._calibration.pixels, self._settings.symmetric
        per_tensor = self._settings.per_tensor
        found = recipes(Task(self._context.model, pixels, symmetric, self._portable, per_tensor))
        with reporter.task("int8 recipes", len(found)) as task:
            for recipe in found:
                task.advance(0, recipe.label)
                if self.entries and time.monotonic() - started > limit:
                    reporter.say(f"not tried, for --max-minutes {self._settings.max_minutes:g}: {recipe.label}")
                else:
                    self._try(recipe.label, recipe.make)
                task.advance()

    def train(self) -> None:
        """Train the candidate that agrees most with the float network, on the run's training photographs.

        Only candidates without float layers are considered: training gains what float layers would, and costs no
        time later.
        """
        context, settings = self._context, self._settings
        trainable = [
            entry
            for entry in self.entries
            if entry.candidate.quantized and not entry.candidate.quantized.scheme.float_layers
        ]
        if not trainable:
            return
        best = max(trainable, key=lambda entry: entry.attempt.min_agreement)
        photographs = context.photographs

        def learn() -> Candidate:
            teacher = Graph(context.model)
            plan = plan_of(photographs.count("train"), settings.qat_epochs, context.seed)
            batches = photographs.batches("train", [step.photographs for step in plan])
            return train(teacher, best.candidate, plan, batches, settings.qat_epochs, context.reporter)

        self._try("quantisation-aware training", learn, fatal=MissingError)  # a photograph is gone

    def time(self) -> None:
        """Time the candidates that keep the accuracy beside the float file, on each machine."""
        context, devices = self._context, self._context.devices
        chosen: list[_Entry] = []
        for device in devices:
            keeping = [entry for entry in self.entries if not entry.attempt.broken_accuracy(device, self._settings)]
            keeping.sort(key=lambda entry: -(entry.attempt.on(device).accuracy.agreement or 0.0))
            chosen += [entry for entry in keeping[:MAX_TIMED] if entry not in chosen]
        if not chosen:
            return
        with scratch_folder("edgetl-int8-") as folder:
            base = write_artifact(context.model, context.card, folder / "float.onnx")
            written = [
                write_artifact(
                    entry.candidate.model,
                    replace(self._card(entry.candidate), runtimes=devices),
                    folder / f"{number}.onnx",
                )
                for number, entry in enumerate(chosen)
            ]
            for name, environment in context.machines.items():
                threads = sorted({1, environment.threads})
                try:
                    with connected([name], context.reporter) as (there,):
                        timed = self._time_on(there, [base, *written], threads)
                except MissingError as error:  # it was there when the export began
                    context.reporter.warn(f"{error.message}. {error.hint}")
                    continue
                for entry, artifact in zip(chosen, written, strict=True):
                    paths = {base.path, artifact.path}
                    self._keep(entry, name, [one for one in timed if one.artifact.path in paths])

    def _time_on(self, there: Machine, artifacts: Sequence[Artifact], threads: Sequence[int]) -> list[Timed]:
        """The first of `artifacts` is float. On other machines they answer the validation photographs, too."""
        context = self._context
        sample, answered_by = context.sample, 0 if there.name == LOCAL else threads[-1]
        pixels = sample.pixels if answered_by else sample.first(TIMING_SAMPLE)
        return time_artifacts(artifacts, context.devices, threads, pixels, context.reporter, there, answered_by)

    def _keep(self, entry: _Entry, machine: str, timed: Sequence[Timed]) -> None:
        """Add what was measured of an entry, beside float, on one machine."""
        attempt = entry.attempt
        for device in self._context.devices:
            here = [one for one in timed if one.device == device]
            slow, fast = here[: len(here) // 2], here[len(here) // 2 :]
            # A file that failed with some number of threads is not proven on the device.
            if not all(one.p50_ms for one in here):
                continue
            speeds = [_speed(*pair, machine) for pair in zip(slow, fast, strict=True)]
            attempt = replace(attempt, speeds=(*attempt.speeds, *speeds))
            answers = [one.answers for one in fast if one.answers]
            if answers:
                top1 = metrics.accuracy(np.array(answers[0]), self._context.sample.labels).top1
                known = attempt.top1_there.get(machine, {})
                attempt = replace(attempt, top1_there=attempt.top1_there | {machine: known | {device: top1}})
        entry.attempt = attempt

    def write(self) -> Found:
        """Write the best file for each device, or the one that comes nearest to its promises."""
        devices = self._context.devices
        winners = self._winners()
        broken = {}
        for device in devices:
            if device not in winners:
                nearest = min(self.entries, key=lambda entry: self._distance(entry, device))
                broken[device] = self._broken(nearest, device) or "no int8 file is right and fast at once"
        for entry in self.entries:
            served = tuple(device for device in devices if winners.get(device) is entry)
            entry.attempt = replace(entry.attempt, chosen_for=served)
        stem = self._context.path.with_suffix(".int8.onnx")
        files: dict[str, str] = {}
        for entry in self.entries:
            served = entry.attempt.chosen_for
            if served:
                family = served[0].partition(":")[0]
                path = stem if served == devices else stem.with_suffix(f".{family}.onnx")
                self._write(entry, path)
                files |= dict.fromkeys(served, str(path))
        if not winners:
            nearest = min(self.entries, key=lambda entry: max(self._distance(entry, device) for device in devices))
            path = stem.with_suffix(".rejected.onnx")
            self._write(nearest, path)
            files |= dict.fromkeys(devices, str(path))
        return Found(files, tuple(entry.attempt for entry in self.entries), broken)

    def _try(self, label: str, make: Callable[[], Candidate], fatal: type[Exception] | tuple[()] = ()) -> None:
        context = self._context
        try:
            candidate = make()
            if self._portable and weight_bits(candidate.model) > 7:
                raise ValueError("its weights need 8 bits")
            artifact = make_artifact(candidate.model, self._card(candidate), context.path)
            measured = tuple(context.measure(artifact, device) for device in context.devices)
        except fatal:
            raise
        except Exception as error:  # quantisers fail in many ways on networks they were not made for
            context.reporter.warn(f"{label} failed: {(str(error).strip() or repr(error)).splitlines()[0]}")
            return
        size_mb = round(artifact.size_mb, 3)
        attempt = Attempt(candidate.label, candidate.quantiser, candidate.settings, measured, size_mb)
        self.entries.append(_Entry(candidate, attempt))
        drops = ", ".join(f"{one.device} {fixed(one.drop_pp or 0.0, 2, plus=True)} pp" for one in measured)
        context.reporter.say(f"{candidate.label}: top-1 lost {drops}; agreement {attempt.min_agreement:.3f}")

    def _winners(self) -> dict[str, _Entry]:
        """By device the entry that keeps both promises there, the same for all devices where there is one."""
        devices = self._context.devices
        keeping = {
            device: [entry for entry in self.entries if self._broken(entry, device) is None] for device in devices
        }
        everywhere = [entry for entry in self.entries if all(entry in keeping[device] for device in devices)]
        if everywhere:
            return dict.fromkeys(devices, _fastest(everywhere, devices))
        return {device: _fastest(keeping[device], [device]) for device in devices if keeping[device]}

    def _broken(self, entry: _Entry, device: str) -> str | None:
        return entry.attempt.broken(device, self._settings)

    def _distance(self, entry: _Entry, device: str) -> tuple[bool, float]:
        """How far an entry is from its promises, to sort by: fast and wrong is worse than slow and right."""
        drop = entry.attempt.on(device).drop_pp or 0.0
        if drop > self._settings.max_drop_pp:
            return True, drop
        return False, -(entry.attempt.speed_up(device) or 0.0)

    def _card(self, candidate: Candidate) -> Card:
        calibration = self._calibration
        recipe = QuantizationRecipe(
            candidate.quantiser,
            candidate.settings,
            calibration.split_sha256,
            len(calibration.labels),
            cpu=cpu_name(),
            cpu_flags=machine.cpu_flags(),
            weight_bits=weight_bits(candidate.model),
        )
        return replace(self._context.card, precision="int8", recipe=recipe)

    def _write(self, entry: _Entry, path: Path) -> None:
        attempt = entry.attempt
        draft = make_artifact(entry.candidate.model, self._card(entry.candidate), path)
        ways = int8_ways(self._context, draft, attempt.chosen_for, self._settings.max_drop_pp)
        card = draft.card.with_accuracy(*(one.accuracy for one in (*attempt.hops, *ways)))
        assert card.recipe is not None
        recipe = replace(card.recipe, speeds=attempt.speeds, tried=self._tried(), proven=self._proven(attempt))
        runtimes = (*attempt.chosen_for, *(one.device for one in ways))
        write_artifact(entry.candidate.model, replace(card, recipe=recipe, runtimes=runtimes), path)

    def _proven(self, attempt: Attempt) -> tuple[ProvenOn, ...]:
        """The machines that the promises were kept on."""
        if not attempt.chosen_for or not attempt.speeds:
            return ()
        return tuple(
            ProvenOn(name, one.cpu, one.architecture, one.flags, attempt.top1_there.get(name, {}))
            for name, one in self._context.machines.items()
        )

    def _tried(self) -> tuple[Tried, ...]:
        rows = []
        for attempt in (entry.attempt for entry in self.entries):
            for one in attempt.hops:
                ratio = attempt.speed_up(one.device)
                rows.append(
                    Tried(
                        attempt.label,
                        one.device,
                        round(one.drop_pp or 0.0, 3),
                        one.accuracy.agreement or 0.0,
                        None if ratio is None else round(ratio, 3),
                    )
                )
        return tuple(rows)


def _speed(slow: Timed, fast: Timed, machine: str) -> Speed:
    """How int8 compares with float on one device of a machine with one number of threads."""
    assert slow.p50_ms is not None
    assert fast.p50_ms is not None
    least = slow.min_ratio(fast)
    rounded = None if least is None else round(least, 3)
    return Speed(slow.device, slow.threads, round(slow.p50_ms, 3), round(fast.p50_ms, 3), rounded, machine)


def _fastest(entries: Sequence[_Entry], devices: Sequence[str]) -> _Entry:
    """The fastest on `devices`; among those that are about as fast the one that agrees most with float."""

    def speed(entry: _Entry) -> float:
        return math.prod(entry.attempt.speed_up(device) or 1.0 for device in devices) ** (1 / len(devices))

    most = max(speed(entry) for entry in entries)
    as_fast = [entry for entry in entries if speed(entry) >= AS_FAST * most]
    return max(as_fast, key=lambda entry: entry.attempt.min_agreement)
