"""Which candidates are worth more work: being timed, or being trained."""

from __future__ import annotations

from collections.abc import Sequence

from toolchain.export.int8.choosing import Entry

MAX_TIMED = 2
"""Candidates that are timed for each device, and of those that are spelt for it: the nearest ones."""
FLOAT_LAYERS_COST = 1.5
"""How many times as far from the float network integers without float layers may be, to be trained instead."""
FAR, RUINED = 3e-3, 0.1
"""Where the nearest recipe diverges by more, it is trained unasked; by more than the second, it is lost."""


def to_time(entries: Sequence[Entry], devices: Sequence[str]) -> list[Entry]:
    """Those nearest to the float network on each device, and of those that are spelt for it; each once."""
    chosen: dict[Entry, None] = {}
    for device in devices:
        nearest = [entry for entry in entries if entry.is_for(device)]
        nearest.sort(key=lambda entry: entry.attempt.divergence(device))
        spelt = [entry for entry in nearest if entry.candidate.runtime]
        # Trained integers are near, and yet may lose more labels than those that they began with. With more layers
        # in float they are near, and yet may not be faster than float.
        made = ("qat_epochs", "more_float_layers")
        further = sum(any(name in entry.attempt.settings for entry in spelt) for name in made)
        chosen |= dict.fromkeys((*nearest[:MAX_TIMED], *spelt[: MAX_TIMED + further]))
    return list(chosen)


def far_spellings(entries: Sequence[Entry], devices: Sequence[str]) -> set[str | None]:
    """Of the nearest entry for each device, in the spelling made for it: those that diverge by more than FAR."""
    found = set()
    for device in devices:
        own = [entry for entry in entries if entry.is_for(device)]
        spelt = [entry for entry in own if entry.candidate.runtime] or own
        nearest = min(spelt, key=lambda entry: entry.attempt.divergence(device), default=None)
        if nearest is not None and FAR < nearest.attempt.divergence(device) < RUINED:
            found.add(nearest.candidate.runtime)
    return found


def to_train(entries: Sequence[Entry]) -> list[Entry]:
    """For each spelling the entry that training is to begin with.

    Training gains what float layers would, and costs no time later: one without them is taken even if it is a few
    times as far from the float network.
    """
    nearest: dict[str | None, tuple[float, Entry]] = {}
    for entry in entries:
        if quantized := entry.candidate.quantized:
            distance = entry.attempt.divergence() * (FLOAT_LAYERS_COST if quantized.scheme.float_layers else 1.0)
            known = nearest.get(entry.candidate.runtime)
            if known is None or distance < known[0]:
                nearest[entry.candidate.runtime] = distance, entry
    return [entry for _, entry in nearest.values()]
