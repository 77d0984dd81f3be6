"""Which file to run on a device, and in which way: the rule, and where a run keeps what it found.

`export --int8` and `bench` measure the candidates in turns and apply the rule; `predict` and `camera` follow it
where a run folder is named and no device.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from toolchain.artifact import Artifact, read_artifact
from toolchain.artifact.card import Precision
from toolchain.errors import EdgetlError
from toolchain.evaluation.statistics import min_ratio
from toolchain.runtimes import machine
from toolchain.runtimes.devices import cores, cpu_name, plain, probe
from toolchain.system import files

FILE = "recommended.json"
SCHEMA: Literal["edgetl.recommended/1"] = "edgetl.recommended/1"
MAX_DROP_PP = 0.5
"""Points of top-1 that int8 may lose: the default of `export --max-drop`, and what `bench` holds its files to."""
MIN_AGREEMENT = 0.995
"""With the trained network, of the float file in bfloat16 or float16: less is another network."""
TYPES = {"bf16": "bfloat16", "f16": "float16"}
DEFAULT = "ort:cpu"
"""What a person gets who names no device, unless another one is surely faster."""


@dataclass(frozen=True)
class Candidate:
    """A file on a device, in one way of running it, that keeps its answers there.

    `process_ms` are the median latencies of one photograph in each process; those of all candidates were measured
    side by side.
    """

    file: str
    sha256: str
    precision: Precision
    device: str
    threads: int
    ms: float
    process_ms: tuple[float, ...]
    size_mb: float
    loses: bool = False
    """Whether it surely loses more answers than int8 may. It is never recommended, and the reason says so."""

    @property
    def arithmetic(self) -> str:
        """What people call it: `float32`, `bfloat16`, `int8`, `int8 with bfloat16`."""
        kind = TYPES.get(self.device.partition("+")[2])
        if self.precision == "float32":
            return kind or "float32"
        return f"{self.precision} with {kind}" if kind else self.precision


@dataclass(frozen=True)
class Recommended:
    """What to run on a device: `file` on `way`, which is the device itself or `openvino:CPU+bf16`; and `why`, in
    figures. `ms` is the median latency of one photograph on `threads` threads."""

    device: str
    file: str
    sha256: str
    precision: Precision
    way: str
    threads: int
    ms: float
    why: str

    def sentence(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"Recommended on {self.device}: {self.file} on {self.way}, {self.ms:.2f} ms on {threads}. {self.why}"


@dataclass(frozen=True)
class Record:
    """`recommended.json` of a run folder: what `by` (a command) found on a machine of this `cpu`.

    `first` is the device to use where none is named. Files are names within the folder.
    """

    schema: Literal["edgetl.recommended/1"]
    by: str
    cpu: str
    cpu_flags: tuple[str, ...]
    threads: int
    first: str
    devices: tuple[Recommended, ...]


def recommend(candidates: Iterable[Candidate]) -> tuple[Recommended, ...]:
    """For each device that was measured with a float32 file and something else, the one to use.

    A way of floats takes float32's place where it is surely faster, and int8 takes theirs where it is surely faster
    than the best of them: the lower 95 % bound of the ratio is above 1. So what is told apart by nothing stays
    nearer to the trained network.
    """
    groups: dict[str, list[Candidate]] = {}
    for one in candidates:
        groups.setdefault(plain(one.device), []).append(one)
    found = (_best(device, group) for device, group in groups.items())
    return tuple(one for one in found if one is not None)


def first_of(found: Sequence[Recommended], candidates: Iterable[Candidate]) -> str:
    """The device to use where none is named: the default one, unless another one is surely faster."""
    candidates = list(candidates)
    times = {(one.file, one.device): one.process_ms for one in candidates}
    usual = next((one for one in found if one.device == DEFAULT), None)
    # With nothing beside its float32 file there is nothing to choose on a device, and yet it may be the fastest.
    alone = next((one for one in candidates if (one.device, one.precision) == (DEFAULT, "float32")), None)
    if usual is None and alone is not None:
        best, shortest = alone.device, alone.process_ms
    else:
        start = usual or found[0]
        best, shortest = start.device, times[start.file, start.way]
    for one in found:
        least = min_ratio(shortest, times[one.file, one.way])
        if least is not None and least > 1:
            best, shortest = one.device, times[one.file, one.way]
    return best


def _best(device: str, group: Sequence[Candidate]) -> Recommended | None:
    ordered = sorted(group, key=lambda one: one.device != device)
    floats = [one for one in ordered if one.precision == "float32"]
    integers = [one for one in ordered if one.precision == "int8" and not one.loses]
    lost = [one for one in ordered if one.loses]
    if len(group) < 2 or not floats or floats[0].device != device:
        return None
    if any(min_ratio(floats[0].process_ms, one.process_ms) is None for one in group):
        return None  # a quick look, in one process
    base = _fastest(floats)
    chosen = _fastest([base, _fastest(integers)]) if integers else base
    return Recommended(
        device=device,
        file=chosen.file,
        sha256=chosen.sha256,
        precision=chosen.precision,
        way=chosen.device,
        threads=chosen.threads,
        ms=round(chosen.ms, 3),
        why=" ".join([_why(floats, integers, base, chosen), *map(_why_not, lost)]),
    )


def _fastest(group: Sequence[Candidate]) -> Candidate:
    """The first of `group`, or one that is surely faster."""
    best = group[0]
    for one in group[1:]:
        if _least(best, one) > 1:
            best = one
    return best


def _least(slow: Candidate, fast: Candidate) -> float:
    return min_ratio(slow.process_ms, fast.process_ms) or 0.0


def _why(floats: Sequence[Candidate], integers: Sequence[Candidate], base: Candidate, chosen: Candidate) -> str:
    """The reason, in figures: each candidate beside the one that it had to beat."""
    exact = floats[0]
    told = [f"float32 takes {exact.ms:.2f} ms", *(_beside(one, exact) for one in floats[1:])]
    told += [_beside(one, base) for one in integers]
    if chosen is not base or not integers:
        return "; ".join(told) + "."
    elsewhere = f" and for devices without {base.arithmetic}" if base is not exact else ""
    sizes = f"{integers[0].size_mb:.1f} MB against {base.size_mb:.1f}"
    return f"{'; '.join(told)}. int8 is not surely faster: it is for size here ({sizes}){elsewhere}."


def _why_not(lost: Candidate) -> str:
    return f"{lost.arithmetic} ({lost.ms:.2f} ms) surely loses more than {MAX_DROP_PP:g} points of top-1."


def _beside(fast: Candidate, slow: Candidate) -> str:
    ratio, least = slow.ms / fast.ms, _least(slow, fast)
    return f"{fast.arithmetic} {fast.ms:.2f}, {ratio:.2f} times as fast as {slow.arithmetic} ({least:.2f} at least)"


def record(by: str, candidates: Sequence[Candidate]) -> Record | None:
    """What `candidates` come to on this machine; None where there is nothing to choose among."""
    found = recommend(candidates)
    if not found:
        return None
    first = first_of(found, candidates)
    return Record(SCHEMA, by, cpu_name(), machine.cpu_flags(), found[0].threads, first, found)


def write(folder: Path, found: Record) -> None:
    files.write_json(folder / FILE, found)


def read(folder: Path) -> Record | None:
    """The record of a run folder; None where there is none, or none that can be read: it is only advice."""
    with suppress(OSError, msgspec.DecodeError):
        return files.read_json(folder / FILE, Record)
    return None


def holds_here(found: Record) -> bool:
    """Whether it was measured on such a CPU as this one, with as many threads as it has."""
    return not measured_elsewhere(found)


def measured_elsewhere(found: Record) -> str:
    """In what the machine that it was measured on differs from this one; empty where it does not."""
    if (found.cpu, found.cpu_flags) != (cpu_name(), machine.cpu_flags()):
        return f"on {found.cpu}" + (" with other instructions" if found.cpu == cpu_name() else "")
    if found.threads != cores():
        return f"on {found.threads} thread{'s' if found.threads > 1 else ''}, and there are {cores()} here"
    return ""


def still_there(folder: Path, one: Recommended) -> Artifact | None:
    """The file that is recommended; None where it is gone from the run folder, or is another one now."""
    if Path(one.file).name != one.file:
        return None
    with suppress(EdgetlError):
        artifact = read_artifact(folder / one.file)
        return artifact if artifact.sha256 == one.sha256 else None
    return None


@dataclass(frozen=True)
class Advice:
    """The file and way to use for a run folder where nothing else is chosen; `by` is the command that found it."""

    artifact: Artifact
    chosen: Recommended
    by: str

    def __str__(self) -> str:
        why = f"edgetl doctor {shlex.quote(str(self.artifact.path.parent))} says why"
        return f"{self.by} recommends it for this CPU, {self.chosen.ms:.2f} ms: {why}, --device chooses another."


def advice(folder: Path | None, threads: int = 0) -> Advice | None:
    """What a run folder's record says for this machine, on `threads` threads (0: as many as can run at once).

    None where nothing was measured on such a machine, the file has changed since, or the device is gone; for what
    is no folder; and for other numbers of threads, which have other latencies.
    """
    found = read(folder) if folder is not None and folder.is_dir() else None
    if folder is None or found is None or not holds_here(found) or threads not in {0, found.threads}:
        return None
    chosen = next((one for one in found.devices if one.device == found.first), None)
    artifact = still_there(folder, chosen) if chosen is not None else None
    if chosen is None or artifact is None or not artifact.card.proven_on(chosen.way):
        return None
    if machine.int8_caution(artifact, chosen.way):
        return None  # this CPU may compute other answers: time is not all
    with suppress(EdgetlError):
        return Advice(artifact, chosen, found.by) if probe(chosen.way).available else None
    return None
