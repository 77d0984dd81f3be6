"""Which int8 file serves which device: the fastest of those nearest to the float network, if validation agrees.

Recipes are compared without labels. The split that judges sees only the file that was chosen, so it does not
flatter it. Where it turns the file down, more is asked of the next one (`Measurement.most_lost_pp`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from toolchain.evaluation.statistics import min_ratio
from toolchain.export.int8.quantisers import Candidate
from toolchain.export.results import Attempt, Measurement, QuantizationSettings

AS_FAST = 0.95
"""Candidates that reach this share of the fastest one's speed count as equally fast; then divergence decides."""

DISTANT, AS_FAST_AS_DISTANT = 4e-3, 0.85
"""Where the fastest one diverges by more, this share of its speed is enough for a nearer one."""

NEAR, AS_NEAR = 2e-3, 1.5
"""A candidate is worth a look at the photographs that judge up to this divergence, or so many times that of the
nearest one: others would lose more, and each look makes the next ones stricter."""

Arm = tuple[str, str, int]
"""Machine, device and number of threads."""


@dataclass(eq=False)
class Entry:
    """A candidate, and what was measured of it. `process_ms`: its latencies, medians of processes, by arm."""

    candidate: Candidate
    attempt: Attempt
    process_ms: dict[Arm, tuple[float, ...]] = field(default_factory=dict)

    def is_for(self, device: str) -> bool:
        """Whether it was compared with the float network on `device`: some are spelt for one runtime."""
        return any(one.device == device for one in self.attempt.nearness)

    def least_gain(self, other: Entry, device: str) -> float:
        """How many times as fast as `other` it is on `device` at least, with 95 % confidence; 0 where not known.

        Of all machines and numbers of threads the one where it is least.
        """
        arms = [arm for arm in self.process_ms if arm[1] == device]
        found = [min_ratio(other.process_ms.get(arm, ()), self.process_ms[arm]) for arm in arms]
        return min((least or 0.0 for least in found), default=0.0)


class Choice:
    """The entries that serve `devices`. `look` measures an entry on a device on the photographs that judge."""

    def __init__(
        self,
        entries: Sequence[Entry],
        devices: Sequence[str],
        settings: QuantizationSettings,
        look: Callable[[Entry, str], Measurement],
    ) -> None:
        self._entries = entries
        self._devices = devices
        self._settings = settings
        self._look = look
        self._failed = Counter[str]()
        self.common = self._first(entries, devices)
        """The entry that keeps both promises on all devices, if there is one."""
        self.winners: dict[str, Entry] = {}
        """The entry to use on each device, where one keeps both promises."""
        for device in devices:
            entry = self._first(self._faster(device), [device]) or self.common
            if entry is not None:
                self.winners[device] = entry

    def nearest(self, device: str) -> Entry | None:
        """The entry that comes nearest to its promises on a device that none serves; None if none is meant for it.

        Fast ones were looked at and lose too much: the one that loses least. Else the fastest, which is looked at
        too.
        """
        entries = [entry for entry in self._entries if entry.is_for(device)]
        looked = [(one.drop_pp or 0.0, entry) for entry in entries if (one := entry.attempt.on(device)) is not None]
        if looked:
            return min(looked, key=lambda pair: pair[0])[1]
        entries.sort(key=lambda entry: (-(entry.attempt.speed_up(device) or 0.0), entry.attempt.divergence(device)))
        for entry in entries[:1]:
            self._keeps(entry, device)
            return entry
        return None

    def _faster(self, device: str) -> list[Entry]:
        """What may have a file of its own for `device`: all, or what is surely faster than the common file."""
        common = self.common
        if common is None:
            return list(self._entries)
        if len(self._devices) == 1:
            return []
        return [
            entry
            for entry in self._entries
            if entry.is_for(device)
            and entry.least_gain(common, device) > 1
            and _enough(entry, [device]) * (entry.attempt.speed_up(device) or 0.0)
            > (common.attempt.speed_up(device) or 0.0)
        ]

    def _first(self, entries: Sequence[Entry], devices: Sequence[str]) -> Entry | None:
        """The best of `entries` that keeps both promises on all of `devices`."""
        fast = [
            entry
            for entry in entries
            if all(
                entry.is_for(device) and entry.attempt.broken_speed(device, self._settings) is None
                for device in devices
            )
        ]
        fast = [entry for entry in fast if all(self._is_worth_it(entry, fast, device) for device in devices)]
        for entry in _by_preference(fast, devices):
            if all(self._keeps(entry, device) for device in devices):
                return entry
        return None

    def _is_worth_it(self, entry: Entry, others: Sequence[Entry], device: str) -> bool:
        """Whether to look at an entry: it is near, or it was looked at already, which costs no further look."""
        if entry.attempt.on(device) is not None:
            return True
        nearest = min(other.attempt.divergence(device) for other in others)
        return entry.attempt.divergence(device) <= max(NEAR, AS_NEAR * nearest)

    def _keeps(self, entry: Entry, device: str) -> bool:
        """Whether it keeps the accuracy on `device`: the photographs are looked at once for each entry there."""
        if entry.attempt.on(device) is None:
            look = self._failed[device] + 1
            measured = replace(self._look(entry, device), look=look)
            entry.attempt = replace(entry.attempt, hops=(*entry.attempt.hops, measured))
            if entry.attempt.broken_accuracy(device, self._settings):
                self._failed[device] += 1
        return entry.attempt.broken_accuracy(device, self._settings) is None


def _by_preference(entries: Sequence[Entry], devices: Sequence[str]) -> Iterator[Entry]:
    """The fastest on `devices` first; among those that are about as fast the one nearest to the float network.

    Where the fastest is far from it, others count as about as fast that are somewhat slower.
    """

    def speed(entry: Entry) -> float:
        return math.prod(entry.attempt.speed_up(device) or 1.0 for device in devices) ** (1 / len(devices))

    left = list(entries)
    while left:
        fastest = max(left, key=speed)
        as_fast = [entry for entry in left if speed(entry) >= _enough(fastest, devices) * speed(fastest)]
        best = min(as_fast, key=lambda entry: entry.attempt.divergence(*devices))
        left.remove(best)
        yield best


def _enough(fast: Entry, devices: Sequence[str]) -> float:
    """The share of the speed of `fast` that counts as about as fast."""
    return AS_FAST_AS_DISTANT if fast.attempt.divergence(*devices) > DISTANT else AS_FAST
