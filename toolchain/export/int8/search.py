"""The search for an int8 file that keeps two promises: a small accuracy drop, and faster than float."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from toolchain.artifact import REJECTED_FILE, Artifact, make_artifact, read_artifact, write_artifact
from toolchain.artifact.card import Card, Compared, ProvenOn, QuantizationRecipe, Tried
from toolchain.errors import ArtifactError, MissingError, PromiseBrokenError
from toolchain.evaluation import metrics
from toolchain.export import older
from toolchain.export.int8.choosing import Choice, Entry
from toolchain.export.int8.qat import Learnt, plan_of, train, trained
from toolchain.export.int8.qdq import weight_bits
from toolchain.export.int8.quantisers import Candidate, Task, recipes
from toolchain.export.int8.quantisers.edgetl import with_float_layers
from toolchain.export.int8.quantize import QuantizedGraph
from toolchain.export.int8.shortlist import far_spellings, to_time, to_train
from toolchain.export.int8.slow_layers import slow_layers
from toolchain.export.int8.speed import SAMPLE, time_entries
from toolchain.export.int8.torch_graph import Graph
from toolchain.export.measure import ExportContext, Logits, logits_on
from toolchain.export.results import Attempt, Measurement, Nearness, QuantizationSettings
from toolchain.export.ways import int8_ways
from toolchain.runtimes import machine
from toolchain.runtimes.devices import cores, cpu_name
from toolchain.system.folders import scratch_folder
from toolchain.system.text import fixed
from toolchain.timing.protocol import LOCAL

COMPARED_ON = 512
"""Views of training photographs on which recipes are compared with the float network."""
FAR_EPOCHS = 4
FAR_PHOTOGRAPHS = 512
"""Fewer would be learnt by heart."""
FAR_SHARE = 0.6
"""Share of the time limit that training may take that nobody asked for."""
SEARCH_SHARE = 0.6
"""Share of the time limit that recipes may take; the rest is left for the timing."""


@dataclass(frozen=True)
class Found:
    """The result of the search: files by device, all attempts, and by device the promises that were not kept.

    `undecided` are those of the last where no promise is known to be broken. `for_all` is the file that keeps both
    on all devices, which may be faster with others; empty where there is none.
    """

    files: dict[str, str]
    attempts: tuple[Attempt, ...]
    broken: dict[str, str]
    undecided: tuple[str, ...]
    for_all: str = ""


def make_int8(context: ExportContext, settings: QuantizationSettings) -> Found:
    """Try recipes, time those nearest to the float network, and write the fastest if it keeps its accuracy.

    `model.int8.onnx` is for all devices, where one file keeps both promises on all of them; a device on which
    another one is surely faster gets that beside it, such as `model.int8.ort.onnx`. Where none serves all devices,
    each that has such a file gets its own. Where no device has one, the one that comes nearest is left as
    `model.int8.rejected.onnx`. Raises PromiseBrokenError when no recipe can be carried out at all.
    """
    search = _Search(context, settings)
    search.try_recipes()
    if settings.qat_epochs:
        search.train(settings.qat_epochs)
    elif far := search.far():
        search.train(FAR_EPOCHS, far, budget_s=60 * settings.max_minutes * FAR_SHARE)
    if not search.entries:
        _set_aside_older(context, None)
        raise PromiseBrokenError("no quantiser could make an int8 file of this network", "Use the float file.")
    if settings.min_speed_up:
        search.leave_slow_layers()
        search.time()
    found = search.write()
    _set_aside_older(context, found)
    return found


def _set_aside_older(context: ExportContext, found: Found | None) -> None:
    """Set aside int8 files that this export did not replace, with those that were made of them.

    One of the same network stays where nothing is known against it: this export came to no end on its devices.
    """
    decided = set(context.devices).difference(() if found is None else found.undecided)
    for path in older.int8_files(context.path, context.devices):
        if found is not None and str(path) in (*found.files.values(), found.for_all):
            continue
        if older.is_of(path, context.card.source) and not any(older.serves(path, device) for device in decided):
            context.reporter.warn(f"{path.name} is of an earlier export of this network, and stays")
        else:
            older.set_aside([path, *older.made_of(path)], context.reporter)


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
        self._unlabelled = context.photographs.unlabelled(COMPARED_ON)
        self.entries: list[Entry] = []
        self._refusing: dict[str, str] = {}
        """Why devices loaded none of the files that they were given last."""

    @cached_property
    def _float_logits(self) -> dict[str, Logits]:
        """Of the views that recipes are compared on."""
        context = self._context
        return {
            device: logits_on(read_artifact(context.path), device, self._unlabelled) for device in context.devices
        }

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
        wanted = Task(self._context.model, pixels, symmetric, self._portable, per_tensor)
        found = [recipe for recipe in recipes(wanted) if _serving(recipe.runtime, self._context.devices)]
        with reporter.task("int8 recipes", len(found)) as task:
            for recipe in found:
                task.advance(0, recipe.label)
                if recipe.fallback and self.entries:
                    pass  # it never was the nearest
                elif self.entries and time.monotonic() - started > limit:
                    reporter.say(f"not tried, for --max-minutes {self._settings.max_minutes:g}: {recipe.label}")
                else:
                    self._try(recipe.label, recipe.make)
                task.advance()

    def leave_slow_layers(self) -> None:
        """Try the nearest candidate that is spelt for a runtime with those layers in float that are faster so."""
        context = self._context
        for device in context.devices if LOCAL in context.machines else ():
            own = [entry for entry in self.entries if entry.candidate.runtime and entry.is_for(device)]
            spelt = [entry for entry in own if entry.candidate.quantized is not None]
            nearest = min(spelt, key=lambda entry: entry.attempt.divergence(device), default=None)
            if nearest is None or nearest.candidate.quantized is None:
                continue
            with scratch_folder("edgetl-int8-") as folder:
                card = replace(self._card(nearest.candidate), runtimes=(device,))
                int8 = write_artifact(nearest.candidate.model, card, folder / "int8.onnx")
                base, pixels = read_artifact(context.path), context.sample.first(SAMPLE)
                slow = slow_layers(base, int8, device, cores(), pixels, context.reporter)
            slow -= nearest.candidate.quantized.scheme.float_layers
            if slow:
                images = self._calibration.pixels
                make = partial(with_float_layers, nearest.candidate, slow, images)
                self._try(f"{nearest.candidate.label}, slow layers in float", make)

    def far(self) -> set[str | None]:
        """The spellings whose nearest candidates are so far from float that training is worth its time."""
        photographs = self._context.photographs
        left = len(photographs.for_training(COMPARED_ON))
        # Answers to photographs that were learnt would flatter what learnt them.
        enough = FAR_PHOTOGRAPHS <= left < photographs.count("train")
        return far_spellings(self.entries, self._context.devices) if enough else set()

    def train(self, epochs: int, spellings: Set[str | None] | None = None, budget_s: float = math.inf) -> None:
        """Train the integers of the candidates nearest to the float network, of each spelling, or of `spellings`.

        Training is on the run's training photographs, without those that recipes are compared on where enough are
        left. All of it takes `budget_s` at most: it is cut short, or given up where little would be left of it.
        """
        ends = time.monotonic() + budget_s
        context = self._context
        photographs = context.photographs
        numbers = photographs.for_training(COMPARED_ON)
        learnt: dict[int, Learnt] = {}
        starts = [
            start.candidate
            for start in to_train(self.entries)
            if spellings is None or start.candidate.runtime in spellings
        ]
        # One set of integers may have several spellings.
        waiting = {id(start.quantized.quantization) for start in starts if start.quantized}
        for start in starts:
            quantized = start.quantized
            assert quantized is not None
            left_s = (ends - time.monotonic()) / max(len(waiting), 1)
            waiting.discard(id(quantized.quantization))

            def learn(
                start: Candidate = start, quantized: QuantizedGraph = quantized, left_s: float = left_s
            ) -> Candidate:
                if id(quantized.quantization) not in learnt:
                    plan = plan_of(len(numbers), epochs, context.seed)
                    groups = [[numbers[place] for place in step.photographs] for step in plan]
                    batches = photographs.batches("train", groups)
                    found = train(Graph(context.model), quantized, plan, batches, context.reporter, left_s)
                    learnt[id(quantized.quantization)] = found
                return trained(start, learnt[id(quantized.quantization)], epochs)

            # A photograph that is gone ends only a training that was asked for.
            fatal = MissingError if self._settings.qat_epochs else ()
            self._try("quantisation-aware training", learn, fatal=fatal)

    def time(self) -> None:
        """Time the candidates nearest to the float network beside the float file, on each machine."""
        time_entries(self._context, to_time(self.entries, self._context.devices), self._card)

    def write(self) -> Found:
        """Write the best file for each device, or the one that comes nearest to its promises."""
        context, devices = self._context, self._context.devices
        choice = Choice(self.entries, devices, self._settings, self._look)
        broken, rejected, undecided = {}, [], []
        for device in devices:
            if device not in choice.winners:
                broken[device] = f"no int8 file was made for {device}"
                if nearest := choice.nearest(device):
                    broken[device] = nearest.attempt.broken(device, self._settings) or broken[device]
                    rejected.append(nearest)
                    undecided += [device] if nearest.attempt.undecided(device, self._settings) else []
        for entry in self.entries:
            served = tuple(device for device in devices if choice.winners.get(device) is entry)
            entry.attempt = replace(entry.attempt, chosen_for=served)
        stem = context.path.with_suffix(".int8.onnx")
        others = older.is_of(stem, context.card.source) and not any(older.serves(stem, one) for one in devices)
        files: dict[str, str] = {}
        for_all = ""
        for entry in self.entries:
            served = entry.attempt.chosen_for
            shared = entry is choice.common
            if not served and not shared:
                continue
            # What an export for other devices has written stays theirs, unless this one is for all.
            own = not shared or (others and len(devices) == 1)
            path = stem
            if own:
                path = older.own_int8_file(context.path, (served or devices)[0], context.card.source)
            elif others:
                older.set_aside([stem], context.reporter)
            self._write(entry, path, devices if shared else served)
            files |= dict.fromkeys(served, str(path))
            for_all = str(path) if shared else for_all
            if choice.common and not shared:
                self._say_apart(path, entry, choice.common, served)
        if not choice.winners:
            path = context.path.with_name(REJECTED_FILE)
            self._write(rejected[0], path, ())
            files |= dict.fromkeys(devices, str(path))
        return Found(files, tuple(entry.attempt for entry in self.entries), broken, tuple(undecided), for_all)

    def _say_apart(self, path: Path, entry: Entry, common: Entry, devices: Sequence[str]) -> None:
        for device in devices:
            times = (entry.attempt.speed_up(device) or 0.0) / (common.attempt.speed_up(device) or 1.0)
            self._context.reporter.say(
                f"{path.name} is for {device} alone: {times:.2f} times as fast there as the file for all devices "
                f"({entry.least_gain(common, device):.2f} at least)"
            )

    def _look(self, entry: Entry, device: str) -> Measurement:
        """Measure an entry on the photographs that judge."""
        context = self._context
        draft = make_artifact(entry.candidate.model, self._card(entry.candidate), context.path)
        measured = context.measure(draft, device)
        drop, lower, upper, expected = (
            fixed(value or 0.0, 2)
            for value in (
                measured.drop_pp,
                measured.drop_lower_pp,
                measured.drop_upper_pp,
                measured.expected_pp,
            )
        )
        context.reporter.say(
            f"{entry.attempt.label} on {len(context.sample.labels)} {context.sample.split} photographs, {device}: "
            f"{drop} pp of top-1 lost by the labels (90 %: {lower} to {upper}), {expected} by the probabilities"
        )
        return measured

    def _try(self, label: str, make: Callable[[], Candidate], fatal: type[Exception] | tuple[()] = ()) -> None:
        context = self._context
        try:
            candidate = make()
            if self._portable and weight_bits(candidate.model) > 7:
                raise ValueError("its weights need 8 bits")
            artifact = make_artifact(candidate.model, self._card(candidate), context.path)
            nearness = self._near_on(artifact, _serving(candidate.runtime, context.devices))
        except fatal:
            raise
        except Exception as error:  # quantisers fail in many ways on networks they were not made for
            context.reporter.warn(f"{label} failed: {(str(error).strip() or repr(error)).splitlines()[0]}")
            return
        size_mb = round(artifact.size_mb, 3)
        attempt = Attempt(candidate.label, candidate.quantiser, candidate.settings, (), size_mb, nearness=nearness)
        self.entries.append(Entry(candidate, attempt))
        figures = ", ".join(
            f"{one.device} agreement {one.agreement:.3f}, divergence {one.divergence:.2e}" for one in nearness
        )
        context.reporter.say(f"{candidate.label}: {figures}")

    def _near_on(self, artifact: Artifact, devices: Sequence[str]) -> tuple[Nearness, ...]:
        """What a file is compared by on each of `devices` that loads it: on Arm, OpenVINO takes no int8."""
        found = [near for device in devices if (near := self._near_or_none(artifact, device))]
        if not found:
            raise ArtifactError(self._refusing[devices[0]])
        return tuple(found)

    def _near_or_none(self, artifact: Artifact, device: str) -> Nearness | None:
        try:
            return self._nearness(artifact, device)
        except ArtifactError as error:
            if device not in self._refusing:
                self._context.reporter.warn(f"{device} does not load an int8 file: {error.message}")
            self._refusing[device] = error.message
            return None

    def _nearness(self, artifact: Artifact, device: str) -> Nearness:
        """Compare a file with the float network on photographs whose labels are not used."""
        pixels, wanted = self._unlabelled, self._float_logits[device]
        logits = logits_on(artifact, device, pixels)
        divergence = metrics.divergence(logits, wanted, self._context.card.temperature)
        agreement = metrics.agreement(logits.argmax(1), wanted.argmax(1))
        return Nearness(device, len(pixels), agreement, float(divergence.mean()))

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

    def _write(self, entry: Entry, path: Path, devices: Sequence[str]) -> None:
        """Write an entry that keeps its promises on `devices`."""
        attempt = entry.attempt
        draft = make_artifact(entry.candidate.model, self._card(entry.candidate), path)
        ways = int8_ways(self._context, draft, devices, self._settings.max_drop_pp)
        card = draft.card.with_accuracy(*(one.accuracy for one in (*attempt.hops, *ways)))
        assert card.recipe is not None
        recipe = replace(
            card.recipe,
            speeds=attempt.speeds,
            tried=self._tried(),
            compared=self._compared(),
            proven=self._proven(attempt) if devices else (),
        )
        runtimes = (*devices, *(one.device for one in ways))
        write_artifact(entry.candidate.model, replace(card, recipe=recipe, runtimes=runtimes), path)

    def _proven(self, attempt: Attempt) -> tuple[ProvenOn, ...]:
        """The machines that the promises were kept on."""
        if not attempt.speeds:
            return ()
        return tuple(
            ProvenOn(name, one.cpu, one.architecture, one.flags, attempt.top1_there.get(name, {}))
            for name, one in self._context.machines.items()
        )

    def _tried(self) -> tuple[Tried, ...]:
        """What validation judged."""
        return tuple(
            Tried(
                entry.attempt.label,
                one.device,
                round(one.drop_pp or 0.0, 3),
                one.accuracy.agreement or 0.0,
                _rounded(entry.attempt.speed_up(one.device)),
                _rounded(one.drop_lower_pp),
                _rounded(one.drop_upper_pp),
                one.look,
            )
            for entry in self.entries
            for one in entry.attempt.hops
        )

    def _compared(self) -> tuple[Compared, ...]:
        return tuple(
            Compared(
                entry.attempt.label,
                one.device,
                one.n,
                one.agreement,
                float(f"{one.divergence:.3g}"),
                _rounded(entry.attempt.speed_up(one.device)),
            )
            for entry in self.entries
            for one in entry.attempt.nearness
        )


def _serving(runtime: str | None, devices: Sequence[str]) -> list[str]:
    """Those of `devices` that a spelling for `runtime` (None: any) is meant for."""
    return [device for device in devices if runtime in {None, device.partition(":")[0]}]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
