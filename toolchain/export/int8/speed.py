"""How fast int8 candidates are beside the float file: in turns, on each machine, on one thread and on all."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from toolchain.artifact import Artifact, write_artifact
from toolchain.artifact.card import Card, Speed
from toolchain.errors import MissingError
from toolchain.evaluation import metrics
from toolchain.export.int8.choosing import Entry
from toolchain.export.int8.quantisers import Candidate
from toolchain.export.measure import ExportContext
from toolchain.system.folders import scratch_folder
from toolchain.timing import Timed, time_pairs
from toolchain.timing.machines import Machine, connected
from toolchain.timing.protocol import LOCAL

SAMPLE = 32
"""Photographs that candidates are timed on."""


def time_entries(context: ExportContext, entries: Sequence[Entry], card_of: Callable[[Candidate], Card]) -> None:
    """Time `entries` on the devices that they are meant for, on each machine, and keep it in them.

    `card_of` gives the card of a candidate's file.
    """
    if not entries:
        return
    devices = context.devices
    with scratch_folder("edgetl-int8-") as folder:
        base = write_artifact(context.model, context.card, folder / "float.onnx")
        pairs = [(base, device) for device in devices]
        paths = []
        for number, entry in enumerate(entries, 1):
            card = replace(card_of(entry.candidate), runtimes=devices)
            words = re.sub(r"\W+", "-", entry.candidate.label)  # progress lines show the file's name
            artifact = write_artifact(entry.candidate.model, card, folder / f"{number}-{words}.onnx")
            pairs += [(artifact, device) for device in devices if entry.is_for(device)]
            paths.append(artifact.path)
        for name, environment in context.machines.items():
            threads = sorted({1, environment.threads})
            try:
                with connected([name], context.reporter) as (there,):
                    timed = _time_on(context, there, pairs, threads)
            except MissingError as error:  # it was there when the export began
                context.reporter.warn(f"{error.message}. {error.hint}")
                for entry in entries:
                    _without(entry, name, dict.fromkeys(filter(entry.is_for, devices), error.message))
                continue
            for entry, path in zip(entries, paths, strict=True):
                own = {base.path, path}
                _keep(context, entry, name, [one for one in timed if one.artifact.path in own])


def _time_on(
    context: ExportContext, there: Machine, pairs: Sequence[tuple[Artifact, str]], threads: Sequence[int]
) -> list[Timed]:
    """Time artifacts on devices. On other machines they answer the photographs that judge, too."""
    sample, answered_by = context.sample, 0 if there.name == LOCAL else threads[-1]
    pixels = sample.pixels if answered_by else sample.first(SAMPLE)
    return time_pairs(pairs, threads, pixels, context.reporter, there, answered_by)


def _keep(context: ExportContext, entry: Entry, machine: str, timed: Sequence[Timed]) -> None:
    """Add what was measured of an entry, beside float, on one machine."""
    attempt, untimed = entry.attempt, {}
    for device in filter(entry.is_for, context.devices):
        here = [one for one in timed if one.device == device]
        slow, fast = here[: len(here) // 2], here[len(here) // 2 :]
        # A file that failed with some number of threads is not proven on the device.
        failed = [one for one in here if not one.p50_ms]
        if failed:
            untimed[device] = failed[0].reason
            continue
        speeds = [compare(*pair, machine) for pair in zip(slow, fast, strict=True)]
        entry.process_ms |= {(machine, device, one.threads): one.process_ms for one in fast}
        attempt = replace(attempt, speeds=(*attempt.speeds, *speeds))
        answers = [one.answers for one in fast if one.answers]
        if answers:
            top1 = metrics.accuracy(np.array(answers[0]), context.sample.labels).top1
            known = attempt.top1_there.get(machine, {})
            attempt = replace(attempt, top1_there=attempt.top1_there | {machine: known | {device: top1}})
    entry.attempt = attempt
    _without(entry, machine, untimed)


def _without(entry: Entry, machine: str, reasons: dict[str, str]) -> None:
    """Keep why an entry has no latencies on devices of a machine."""
    if reasons:
        entry.attempt = replace(entry.attempt, untimed=entry.attempt.untimed | {machine: reasons})


def compare(slow: Timed, fast: Timed, machine: str) -> Speed:
    """How int8 compares with float on one device of a machine with one number of threads."""
    assert slow.p50_ms is not None
    assert fast.p50_ms is not None
    float_ms, int8_ms = round(slow.p50_ms, 3), round(fast.p50_ms, 3)
    least = slow.min_ratio(fast)
    if least is not None:
        # Rounded down: processes that agree closely leave less between the two than the last digit.
        least = math.floor(min(least, float_ms / int8_ms) * 1000) / 1000
    return Speed(slow.device, slow.threads, float_ms, int8_ms, least, machine)
