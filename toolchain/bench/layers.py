"""Where the time goes: layers of the files of a benchmark, measured and put into words."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from toolchain.artifact import FLOAT_FILE, Artifact, read_artifact
from toolchain.bench.results import LayersOf
from toolchain.errors import EdgetlError
from toolchain.images.preprocess import Preprocess
from toolchain.runtimes.devices import family_of
from toolchain.system.progress import Reporter
from toolchain.timing.arm import Arm
from toolchain.timing.layers import LayerProfile, LayerRow, LayerTime, side_by_side, time_layers
from toolchain.timing.machines import Machine
from toolchain.timing.protocol import Prepared, at, spread

PICTURES = 16
MOST_NAMED = 5
"""Slower layers that a sentence names."""

KERNELS = ("kernel", *(f"{name} kernel" for name in ("int8", "float16", "int8-weights", "float")))
WORDS = frozenset({"layer", "type", "shape", *KERNELS})
"""Columns that hold no figures."""

Group = tuple[Artifact, ...]
"""A float file and another of the same run, or one file alone."""


def measure_layers(
    arms: Sequence[Arm], machine: Machine, cores: int, prepared: Prepared, reporter: Reporter
) -> list[LayersOf]:
    """Profile the files of those arms that ran: each int8 file beside the float file of its run.

    That is one of the arms, or else `model.onnx` in the same folder. A file that is not proven on the device is not
    run for its answers, but its layers tell why it was too slow. What cannot be profiled is told as a warning.
    Arms that ask for no number of threads have one for each of the machine's `cores`.
    """
    here = [arm for arm in arms if not arm.absent]
    ran = [arm for arm in here if not arm.reason or not arm.artifact.card.proven_on(arm.device)]
    for device in dict.fromkeys(arm.device for arm in ran if family_of(arm.device).profile is None):
        reporter.warn(f"layers are not timed on {at(device, machine.name)}")
    ran = [arm for arm in ran if family_of(arm.device).profile is not None]
    for path in dict.fromkeys(arm.artifact.path for arm in ran if arm.artifact.format != "onnx"):
        reporter.warn(f"layers of {path.name} are not timed: only those of ONNX files are")
    ran = [arm for arm in ran if arm.artifact.format == "onnx"]
    found: list[LayersOf] = []
    for kind in dict.fromkeys(map(_kind, ran)):
        found += _measure([arm for arm in ran if _kind(arm) == kind], machine, cores, prepared, reporter)
    return found


def _kind(arm: Arm) -> tuple[Preprocess, int, int]:
    """What arms have in common that are profiled side by side."""
    return arm.artifact.card.preprocess, arm.threads, arm.batch


def _measure(
    arms: Sequence[Arm], machine: Machine, cores: int, prepared: Prepared, reporter: Reporter
) -> list[LayersOf]:
    spec, threads, batch = _kind(arms[0])
    really = next((arm.loaded.threads for arm in arms if arm.loaded), threads or cores)
    groups = [
        (device, group)
        for device in dict.fromkeys(arm.device for arm in arms)
        for group in grouped([arm.artifact for arm in arms if arm.device == device])
    ]
    pairs = {(artifact.path, device): (artifact, device) for device, group in groups for artifact in group}
    pixels = np.fromfile(prepared.pictures[spec], np.uint8).reshape(-1, spec.height, spec.width, 3)
    sample = pixels[spread(len(pixels), PICTURES)]
    slowest_ms = max(arm.inference_ms for arm in arms)
    found = time_layers(list(pairs.values()), threads, sample, reporter, machine, batch, inference_ms=slowest_ms)
    failed = {(arm.artifact.path, arm.device) for arm in arms if arm.reason}
    for one in found:
        if one.reason and (one.artifact.path, one.device) not in failed:
            reporter.warn(f"layers of {one.artifact.path.name} on {at(one.device, machine.name)}: {one.reason}")
    profiles = {(one.artifact.path, one.device): one for one in found if not one.reason}
    beside = []
    for device, group in groups:
        ran = [profiles[one.path, device] for one in group if (one.path, device) in profiles]
        if ran:
            beside.append(_beside(ran, really, batch, machine.name))
    return beside


def grouped(artifacts: Sequence[Artifact]) -> list[Group]:
    """Each file that is not float32 with the float file of its run, and the float files that are left."""
    floats = {one.path: one for one in artifacts if one.card.precision == "float32"}
    groups: list[Group] = []
    used = set()
    for one in artifacts:
        if one.card.precision != "float32":
            base = next((base for base in floats.values() if _same_network(base, one)), None) or _sibling(one)
            groups.append((base, one) if base else (one,))
            used.add(base.path if base else None)
    return [*((one,) for path, one in floats.items() if path not in used), *groups]


def _sibling(artifact: Artifact) -> Artifact | None:
    with suppress(EdgetlError):
        base = read_artifact(artifact.path.with_name(FLOAT_FILE))
        return base if _same_network(base, artifact) else None
    return None


def _same_network(base: Artifact, other: Artifact) -> bool:
    mine, its = base.card, other.card
    same = (mine.labels, mine.source, mine.preprocess) == (its.labels, its.source, its.preprocess)
    return same and mine.precision == "float32" and base.format == other.format


def _beside(profiles: Sequence[LayerProfile], threads: int, batch: int, machine: str) -> LayersOf:
    wholes = [np.sum([part.process_us for part in profile.parts], axis=0) for profile in profiles]
    return LayersOf(
        artifacts=tuple(str(profile.artifact.path) for profile in profiles),
        precisions=tuple(profile.artifact.card.precision for profile in profiles),
        device=profiles[0].device,
        threads=threads,
        batch=batch,
        us=tuple(round(float(np.median(whole)), 2) for whole in wholes),
        rows=tuple(side_by_side(*profiles)),
        on=machine,
    )


def title(found: LayersOf) -> str:
    """What a table of layers shows."""
    files = " and ".join(Path(path).name for path in found.artifacts)
    place = at(found.device, found.on)
    threads = f", {found.threads} thread{'s' if found.threads > 1 else ''}"
    batch = f", batch {found.batch}" if found.batch > 1 else ""
    return f"Layers of {files} on {place}{threads}{batch}, microseconds"


def columns(found: LayersOf) -> tuple[str, ...]:
    """The columns of a table of layers. `%` (of all layers) and `converting` are the last file's."""
    if len(found.artifacts) == 1:
        return ("layer", "type", "shape", "µs", "%", "kernel")
    first, last = _names(found)
    times = (f"{first} µs", f"{last} µs", "%")
    return ("layer", "type", "shape", *times, f"{last} kernel", "converting", f"{first} kernel")


def row(one: LayerRow) -> tuple[str, ...]:
    """A layer, as text under `columns`. Of the kernels, the one that takes longest."""
    first, last = one.times[0], one.times[-1]
    head = (short(one.name), one.type, "x".join(map(str, one.shape)))
    share = f"{last.share:.0%}"
    if first is last:
        return (*head, f"{last.us:.0f}", share, _kernel(last))
    converting = f"{last.conversions_us:.0f}"
    return (*head, f"{first.us:.0f}", f"{last.us:.0f}", share, _kernel(last), converting, _kernel(first))


def sentences(found: LayersOf) -> list[str]:
    """What all layers take, and which of them the last file made slower."""
    if len(found.artifacts) == 1:
        return [f"All layers: {found.us[0]:.0f} µs."]
    first, last = _names(found)
    lines = [f"All layers: {first} {found.us[0]:.0f} µs, {last} {found.us[-1]:.0f} µs."]
    slower = sorted((one for one in found.rows if one.slower), key=_lost, reverse=True)
    if not slower:
        return [*lines, f"{last} made no layer slower."]
    named = ", ".join(_change(one) for one in slower[:MOST_NAMED])
    more = f", and {len(slower) - MOST_NAMED} more" if len(slower) > MOST_NAMED else ""
    lost = sum(map(_lost, slower))
    return [
        *lines,
        f"{last} made {len(slower)} of {len(found.rows)} layers slower, conversions included, by {lost:.0f} µs "
        f"together: {named}{more}.",
    ]


def short(name: str) -> str:
    """A layer's name without what PyTorch's exporter puts before each."""
    return name.removeprefix("node_")


def _names(found: LayersOf) -> tuple[str, str]:
    first, last = ("float" if one == "float32" else one for one in (found.precisions[0], found.precisions[-1]))
    return first, last


def _kernel(time: LayerTime) -> str:
    return time.kernels[0] if time.kernels else "-"


def _lost(one: LayerRow) -> float:
    return one.times[-1].us - one.times[0].us


def _change(one: LayerRow) -> str:
    first, last = one.times[0], one.times[-1]
    converting = f", {last.conversions_us:.0f} of them converting" if last.conversions_us >= 1 else ""
    return f"{short(one.name)} ({first.us:.0f} to {last.us:.0f}{converting})"
