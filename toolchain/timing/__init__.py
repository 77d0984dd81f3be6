"""Latencies of a few artifacts side by side, each on each device in a process of its own, taking turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from toolchain.artifact import Artifact
from toolchain.evaluation.statistics import min_ratio
from toolchain.runtimes.devices import plain
from toolchain.system.folders import scratch_folder
from toolchain.system.progress import Reporter
from toolchain.timing.arm import Arm
from toolchain.timing.machines import Local, Machine
from toolchain.timing.protocol import Prepared
from toolchain.timing.scheduler import Pace, TimeLimits, answer, load_arms, measure

PROCESSES = 3
"""Each arm is measured in so many processes, one after the other: medians move more between than within them."""
ROUNDS = 2
"""In each process."""
MAX_PROCESSES = 8
SURE = 0.95
"""A gain is known well enough when at least this share of it is sure."""
WORTH = 1.05
"""Where several are to be put in order, a smaller ratio of their medians is not worth more processes."""


@dataclass(frozen=True)
class Timed:
    """Latency of one photograph in milliseconds, None with the `reason` where it could not be measured.

    `process_ms` are the medians of each process, and `p50_ms` is their geometric mean: ratios of two are the middle
    of what `min_ratio` says of them.
    """

    artifact: Artifact
    device: str
    threads: int
    p50_ms: float | None
    reason: str = ""
    process_ms: tuple[float, ...] = ()
    answers: tuple[int, ...] = ()
    """The class of each photograph, where that was asked for."""

    def min_ratio(self, other: Timed) -> float | None:
        """How many times as fast as this `other` is at least, with 95 % confidence; None where that is not known.

        See `toolchain.evaluation.statistics.min_ratio`.
        """
        if len(self.process_ms) != len(other.process_ms):
            return None
        return min_ratio(self.process_ms, other.process_ms)


def time_artifacts(
    artifacts: Sequence[Artifact],
    devices: Sequence[str],
    threads: Sequence[int],
    pixels: NDArray[np.uint8],
    reporter: Reporter,
    machine: Machine | None = None,
    answered_by: int = 0,
) -> list[Timed]:
    """Measure every artifact on every device with every number of threads; see `time_pairs`."""
    pairs = [(artifact, device) for artifact in artifacts for device in devices]
    return time_pairs(pairs, threads, pixels, reporter, machine, answered_by)


def time_pairs(
    pairs: Sequence[tuple[Artifact, str]],
    threads: Sequence[int],
    pixels: NDArray[np.uint8],
    reporter: Reporter,
    machine: Machine | None = None,
    answered_by: int = 0,
    *,
    in_order: bool = False,
) -> list[Timed]:
    """Measure artifacts on devices with every number of threads, in rounds of several processes, on `machine`
    (default: this one).

    Where a process was disturbed, so that it is not sure whether an artifact is faster than the first one on its
    device, all that run there are measured in more processes, until its gain is known well enough. With `in_order`
    that goes on until it is sure which of each two is faster, of all artifacts and ways of one device.

    `pixels` are preprocessed photographs, uint8 [n, height, width, 3], which all artifacts take. The artifacts must
    be files: each process reads its own. With `answered_by` as the number of threads, those arms answer all
    photographs too.
    """
    machine = machine or Local()
    arms = [Arm(artifact, device, count, 1, machine.name) for artifact, device in pairs for count in threads]
    with scratch_folder("edgetl-timing-") as folder:
        path = folder / "pictures"
        path.write_bytes(pixels.tobytes())
        prepared = Prepared({artifact.card.preprocess: path for artifact, _ in pairs}, tuple(range(len(pixels))))
        try:
            pace = Pace(PROCESSES * ROUNDS, ROUNDS, precision=None, budget_s=None, processes=PROCESSES)
            limits = TimeLimits()
            start = partial(
                load_arms, prepared=prepared, photographs=[], reporter=reporter, limits=limits, machine=machine
            )
            measure(arms, start, pace, reporter, limits)
            one_more = Pace(ROUNDS, ROUNDS, precision=None, budget_s=None, processes=1)
            open_still = _places(arms, _is_open)
            for _ in range(MAX_PROCESSES - PROCESSES):
                if in_order:
                    unsure = _without_order(arms)
                    again = [arm for arm in arms if (plain(arm.device), arm.threads) in unsure]
                else:
                    vague = _places(arms, _is_vague) & open_still
                    again = [arm for arm in arms if _place(arm) in vague]
                if not again:
                    break
                measure(again, start, one_more, reporter, limits)
            answering = [arm for arm in arms if arm.threads == answered_by and not arm.reason]
            answer(answering, len(pixels), reporter, limits)
        finally:
            for arm in arms:
                arm.close()
    return [_timed(arm) for arm in arms]


_Place = tuple[str, int]
"""A device, and the number of threads."""


def _place(arm: Arm) -> _Place:
    return arm.device, arm.threads


def _places(arms: Sequence[Arm], holds: Callable[[float, float], bool]) -> set[_Place]:
    """Where `holds` is true of the gain of an arm over the first one there, and of the least that is sure of it."""
    found: set[_Place] = set()
    first: dict[_Place, Timed] = {}
    for arm in arms:
        if arm.reason or not arm.rounds:
            continue
        timed = _timed(arm)
        before = first.setdefault(_place(arm), timed)
        least = before.min_ratio(timed)
        assert before.p50_ms is not None
        assert timed.p50_ms is not None
        if least is not None and holds(before.p50_ms / timed.p50_ms, least):
            found.add(_place(arm))
    return found


def _without_order(arms: Sequence[Arm]) -> set[_Place]:
    """Devices, whatever the way of running them, where it is not sure which of two is faster."""
    measured = [(plain(arm.device), _timed(arm)) for arm in arms if not arm.reason and arm.rounds]
    found: set[_Place] = set()
    for (device, one), (other_device, other) in combinations(measured, 2):
        if (device, one.threads) == (other_device, other.threads):
            fast, slow = sorted((one, other), key=lambda timed: timed.p50_ms or 0.0)
            least = slow.min_ratio(fast)
            assert slow.p50_ms is not None
            assert fast.p50_ms is not None
            if least is not None and least <= 1 and slow.p50_ms > WORTH * fast.p50_ms:
                found.add((device, one.threads))
    return found


def _is_open(gain: float, least: float) -> bool:
    return least <= 1 < gain


def _is_vague(gain: float, least: float) -> bool:
    return least < SURE * gain


def _timed(arm: Arm) -> Timed:
    if arm.reason or not arm.rounds:
        return Timed(arm.artifact, arm.device, arm.threads, None, arm.reason)
    process_ms = tuple(float(np.median(np.concatenate(rounds))) for rounds in arm.processes if rounds)
    p50_ms = float(np.exp(np.mean(np.log(process_ms))))
    return Timed(arm.artifact, arm.device, arm.threads, p50_ms, "", process_ms, tuple(arm.answers))
