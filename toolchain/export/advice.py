"""What to deploy where int8 kept no promise, or kept it on some devices only: the fastest file that did well."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from toolchain.export.exporting import Exported


@dataclass(frozen=True)
class Choice:
    """A file on a device. `ms`: median latency of one photograph on `threads` threads, where it was timed."""

    file: str
    precision: str
    device: str
    threads: int
    ms: float


def choices(done: Exported) -> list[Choice]:
    """The float file on each device, and the int8 files that kept their promises, fastest first, on the largest
    number of threads that was timed. Empty where nothing was timed."""
    found: dict[tuple[str, str], Choice] = {}
    for attempt in done.attempts:
        for speed in attempt.speeds:
            keeps = speed.device in attempt.chosen_for and speed.device not in done.broken
            pairs = [("float", done.float_file, speed.float_ms)]
            if keeps:
                pairs.append(("int8", done.int8_files[speed.device], speed.int8_ms))
            for precision, file, ms in pairs:
                key = precision, speed.device
                if key not in found or speed.threads > found[key].threads:
                    found[key] = Choice(file, precision, speed.device, speed.threads, ms)
    return sorted(found.values(), key=lambda one: one.ms)


def instead(done: Exported) -> tuple[str, str]:
    """What to type to see more, and, as the last line, what to use with the figures that were measured."""
    ranked = choices(done)
    more = f"All files beside each other: edgetl bench {shlex.quote(done.run)}"
    if not ranked:
        return more, f"Use {done.float_file}, the float file."
    best = ranked[0]
    kind = "the float file, " if best.precision == "float" else ""
    threads = f"{best.threads} thread{'s' if best.threads > 1 else ''}"
    rivals = [f"{_name(one)} on {one.device} {one.ms:.2f}" for one in ranked[1:]]
    beside = f" ({', '.join(rivals)})" if rivals else ""
    place = shlex.quote(best.file)
    tried = f"edgetl camera {place} --device {best.device}"
    use = f"Use {best.file}, {kind}on {best.device}: {best.ms:.2f} ms on {threads}{beside}."
    return more, f"{use} Next: {tried}"


def _name(one: Choice) -> str:
    return "float" if one.precision == "float" else Path(one.file).name
