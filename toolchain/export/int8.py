"""The search for an int8 file that keeps two promises: little accuracy lost, and faster than float."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from toolchain.artifact import make_artifact, write_artifact
from toolchain.artifact.card import Card, QuantizationRecipe, Speed, Tried
from toolchain.errors import PromiseBrokenError
from toolchain.export.candidates import Candidate, candidates
from toolchain.export.context import ExportContext
from toolchain.export.measure import Sample
from toolchain.export.promises import Attempt, QuantizationSettings
from toolchain.export.qat import train
from toolchain.export.torch_graph import Graph
from toolchain.runtimes.devices import cores, cpu_name
from toolchain.system.folders import scratch_folder
from toolchain.system.text import fixed
from toolchain.timing import time_artifacts

TIMED = 3
"""At most so many candidates for each device are timed, those that agree most with the float network."""
PICTURES = 32
SEARCH_SHARE = 0.6
"""Of the time limit, what recipes may take before the rest is left to the timing."""
AS_FAST = 0.95
"""Of the fastest's speed: above it, agreement decides."""


@dataclass(frozen=True)
class Found:
    """What came of the search: files by device, all attempts, and the promises that were not kept, by device."""

    files: dict[str, str]
    attempts: tuple[Attempt, ...]
    broken: dict[str, str]


def make_int8(job: ExportContext, settings: QuantizationSettings) -> Found:
    """Try recipes, time those that keep the accuracy, and write the fastest.

    One file for all devices where one keeps both promises on all of them: `model.int8.onnx`. Otherwise one for each
    device that has any, such as `model.int8.openvino.onnx`; where no device has any, the one that comes nearest is
    left as `model.int8.rejected.onnx`. Raises PromiseBrokenError when no recipe can be carried out at all.
    """
    search = _Search(job, settings, job.read("calibration"))
    search.try_recipes()
    if settings.qat_epochs:
        search.train()
    if not search.entries:
        raise PromiseBrokenError("no quantiser could make an int8 file of this network", "Use the float file.")
    if settings.min_speed_up:
        search.time()
    return search.write()


@dataclass
class _Entry:
    candidate: Candidate
    attempt: Attempt

    def agreement(self, device: str) -> float:
        return self.attempt.hop(device).accuracy.agreement or 0.0


class _Search:
    def __init__(self, job: ExportContext, settings: QuantizationSettings, calibration: Sample) -> None:
        self._job = job
        self._settings = settings
        self._calibration = calibration
        self._images = calibration.pixels
        self.entries: list[_Entry] = []

    def try_recipes(self) -> None:
        """Make and measure candidates until the time for it has gone."""
        started = time.monotonic()
        limit = 60 * self._settings.max_minutes * SEARCH_SHARE
        reporter = self._job.reporter
        ways = list(candidates(self._job.model, self._images, symmetric=self._settings.symmetric))
        with reporter.task("int8 recipes", len(ways)) as task:
            for label, make in ways:
                task.advance(0, label)
                if self.entries and time.monotonic() - started > limit:
                    reporter.say(f"not tried, for --max-minutes {self._settings.max_minutes:g}: {label}")
                else:
                    self._try(label, make)
                task.advance()

    def train(self) -> None:
        """Train the candidate that agrees most with the float network, on the photographs that trained that one.

        Of those that are integers throughout: training gives back what float layers would, and costs no time later.
        """
        job, settings = self._job, self._settings
        own = [
            entry
            for entry in self.entries
            if entry.candidate.integers and not entry.candidate.integers.scheme.float_layers
        ]
        if not own:
            return
        best = max(own, key=lambda entry: min(entry.agreement(device) for device in job.devices))
        photographs = job.read("train").pixels

        def learn() -> Candidate:
            teacher = Graph(job.model)
            return train(teacher, best.candidate, photographs, settings.qat_epochs, job.seed, job.reporter)

        self._try("quantisation-aware training", learn)

    def time(self) -> None:
        """Time the candidates that keep the accuracy beside the float file."""
        job, devices = self._job, self._job.devices
        chosen: list[_Entry] = []
        for device in devices:
            keeping = [entry for entry in self.entries if self._broken(entry, device) is None]
            keeping.sort(key=lambda entry: -entry.agreement(device))
            chosen += [entry for entry in keeping[:TIMED] if entry not in chosen]
        if not chosen:
            return
        threads = sorted({1, cores()})
        with scratch_folder("edgetl-int8-") as folder:
            base = write_artifact(job.model, job.card, folder / "float.onnx")
            written = [
                write_artifact(
                    entry.candidate.model,
                    replace(self._card(entry.candidate), runtimes=devices),
                    folder / f"{number}.onnx",
                )
                for number, entry in enumerate(chosen)
            ]
            pixels = job.sample.pixels[:PICTURES]
            timed = time_artifacts([base, *written], devices, threads, pixels, job.reporter)
        p50 = {(one.artifact.path, one.device, one.threads): one.p50_ms for one in timed}
        for entry, artifact in zip(chosen, written, strict=True):
            speeds = []
            for device in devices:
                for count in threads:
                    slow, fast = (p50[file.path, device, count] for file in (base, artifact))
                    if slow is not None and fast is not None:
                        speeds.append(Speed(device, count, round(slow, 3), round(fast, 3)))
            entry.attempt = replace(entry.attempt, speeds=tuple(speeds))

    def write(self) -> Found:
        """Write the best file for each device, or the one that comes nearest to its promises."""
        devices = self._job.devices
        winners = self._winners()
        broken = {}
        for device in devices:
            if device not in winners:
                nearest = min(self.entries, key=lambda entry: self._distance(entry, device))
                broken[device] = self._broken(nearest, device) or f"int8 could not be timed on {device}"
        for entry in self.entries:
            served = tuple(device for device in devices if winners.get(device) is entry)
            entry.attempt = replace(entry.attempt, chosen_for=served)
        stem = self._job.path.with_suffix(".int8.onnx")
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

    def _try(self, label: str, make: Callable[[], Candidate]) -> None:
        job = self._job
        try:
            candidate = make()
            artifact = make_artifact(candidate.model, self._card(candidate), job.path)
            hops = tuple(job.hop(artifact, device) for device in job.devices)
        except Exception as error:  # quantisers fail in many ways on networks they were not made for
            job.reporter.warn(f"{label} failed: {(str(error).strip() or repr(error)).splitlines()[0]}")
            return
        size_mb = round(artifact.size_mb, 3)
        entry = _Entry(candidate, Attempt(candidate.label, candidate.quantiser, candidate.settings, hops, size_mb))
        self.entries.append(entry)
        drops = ", ".join(f"{hop.device} {fixed(hop.drop_pp or 0.0, 2, plus=True)} pp" for hop in hops)
        agreement = min(entry.agreement(device) for device in job.devices)
        job.reporter.say(f"{candidate.label}: top-1 lost {drops}; agreement {agreement:.3f}")

    def _winners(self) -> dict[str, _Entry]:
        """By device the entry that keeps both promises there, the same for all devices where there is one."""
        devices = self._job.devices
        known = [entry for entry in self.entries if entry.attempt.speeds or not self._settings.min_speed_up]
        keeping = {device: [entry for entry in known if self._broken(entry, device) is None] for device in devices}
        everywhere = [entry for entry in known if all(entry in keeping[device] for device in devices)]
        if everywhere:
            return dict.fromkeys(devices, _fastest(everywhere, devices))
        return {device: _fastest(keeping[device], [device]) for device in devices if keeping[device]}

    def _broken(self, entry: _Entry, device: str) -> str | None:
        return entry.attempt.broken(device, self._settings)

    def _distance(self, entry: _Entry, device: str) -> tuple[bool, float]:
        """How far an entry is from its promises, to compare by: fast and wrong is worse than slow and right."""
        drop = entry.attempt.hop(device).drop_pp or 0.0
        if drop > self._settings.max_drop_pp:
            return True, drop
        return False, -(entry.attempt.speed_up(device) or 0.0)

    def _card(self, candidate: Candidate) -> Card:
        recipe = QuantizationRecipe(
            candidate.quantiser, candidate.settings, self._calibration.split_sha256, len(self._images)
        )
        return replace(self._job.card, precision="int8", recipe=recipe)

    def _write(self, entry: _Entry, path: Path) -> None:
        attempt = entry.attempt
        card = self._card(entry.candidate).with_accuracy(*(hop.accuracy for hop in attempt.hops))
        assert card.recipe is not None
        recipe = replace(card.recipe, cpu=cpu_name(), speeds=attempt.speeds, tried=self._tried())
        write_artifact(entry.candidate.model, replace(card, recipe=recipe, runtimes=attempt.chosen_for), path)

    def _tried(self) -> tuple[Tried, ...]:
        rows = []
        for attempt in (entry.attempt for entry in self.entries):
            for hop in attempt.hops:
                ratio = attempt.speed_up(hop.device)
                rows.append(
                    Tried(
                        attempt.label,
                        hop.device,
                        round(hop.drop_pp or 0.0, 3),
                        hop.accuracy.agreement or 0.0,
                        None if ratio is None else round(ratio, 3),
                    )
                )
        return tuple(rows)


def _fastest(entries: Sequence[_Entry], devices: Sequence[str]) -> _Entry:
    """The fastest on `devices`; among those that are about as fast the one that agrees most with float."""

    def speed(entry: _Entry) -> float:
        return math.prod(entry.attempt.speed_up(device) or 1.0 for device in devices) ** (1 / len(devices))

    most = max(speed(entry) for entry in entries)
    about = [entry for entry in entries if speed(entry) >= AS_FAST * most]
    return max(about, key=lambda entry: min(entry.agreement(device) for device in devices))
