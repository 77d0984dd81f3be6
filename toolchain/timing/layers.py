"""Time for each layer of model files, side by side, by the profilers of their runtimes.

Each file is profiled in several processes, one after the other, which take turns with those of the other files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
from numpy.typing import NDArray

from toolchain.artifact import Artifact
from toolchain.artifact.layers import Layers, find_layers
from toolchain.evaluation.statistics import paired_ratio_ci95
from toolchain.runtimes.profiling import Kernel
from toolchain.system.folders import scratch_folder
from toolchain.system.progress import Reporter, Task
from toolchain.timing.machines import Local, Machine
from toolchain.timing.process import WorkerError
from toolchain.timing.protocol import Load, Profiling
from toolchain.timing.scheduler import TimeLimits, turns

PROCESSES = 5
SECONDS = 0.4
"""In each process."""
INFERENCES = 50
"""In each process at least (`worker.MIN_PROFILED`), twice: a profiler makes them slower."""
LEAST_US = 2.0
"""Profilers count whole microseconds of each kernel: layers that differ by less are not told apart."""


@dataclass(frozen=True)
class Part:
    """A kernel, the layers that it computes, and its microseconds in each process."""

    layers: tuple[str, ...]
    kernel: Kernel
    process_us: tuple[float, ...]


@dataclass(frozen=True)
class LayerProfile:
    """A file's kernels on a device, in the order of execution; none, and the `reason`, where it could not run."""

    artifact: Artifact
    device: str
    threads: int
    layers: Layers
    parts: tuple[Part, ...] = ()
    reason: str = ""
    unavailable: bool = False


@dataclass(frozen=True)
class LayerTime:
    """What a layer takes in one file, in microseconds: the median over processes, and each process. `share`: of all
    layers, 0 to 1.

    `conversions_us` is the part of it in which values change their type or their order in memory. `kernels` compute
    the rest, the longest first.
    """

    us: float
    share: float
    process_us: tuple[float, ...]
    conversions_us: float
    kernels: tuple[str, ...]


@dataclass(frozen=True)
class LayerRow:
    """A layer in each of the files that are compared: `times`, in their order.

    `name` and `type` are those of its first convolution or product of matrices. Layers that one of the files
    computes in one kernel, or that only one of them has, are one row: `members` are all of them. `slower`: the last
    file surely takes longer for it than the first, with 95 % confidence.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    members: tuple[str, ...]
    times: tuple[LayerTime, ...]
    slower: bool


def time_layers(
    pairs: Sequence[tuple[Artifact, str]],
    threads: int,
    pixels: NDArray[np.uint8],
    reporter: Reporter,
    machine: Machine | None = None,
    batch: int = 1,
    processes: int = PROCESSES,
    inference_ms: float = 0.0,
) -> list[LayerProfile]:
    """Profile artifacts (ONNX files) on devices, with so many `threads` (0: as many as can run at once), on
    `machine` (default: this one).

    `pixels` are preprocessed photographs, uint8 [n, height, width, 3], which all artifacts take. `inference_ms` is
    what an inference takes at most, where that is known: a slow device gets the time that it needs.
    """
    limit_s = TimeLimits().load_s + TimeLimits().answer_s + INFERENCES * inference_ms / 1e3
    machine = machine or Local()
    found: list[list[list[Kernel]]] = [[] for _ in pairs]
    failures: dict[int, WorkerError] = {}
    with scratch_folder("edgetl-layers-") as folder:
        path = folder / "pictures"
        path.write_bytes(pixels.tobytes())
        with reporter.task("layers", len(pairs) * processes) as task:
            for order in turns(len(pairs), processes):
                for number in order:
                    artifact, device = pairs[number]
                    task.advance(0, f"{artifact.path.name} on {device}")
                    if number not in failures:
                        try:
                            note = partial(_note, task)
                            load = Load(
                                artifact=machine.place_artifact(artifact, note),
                                sha256=artifact.sha256,
                                device=device,
                                threads=threads,
                                batch=batch,
                                pictures=machine.place(path, note),
                                photographs=(),
                            )
                            found[number].append(_profile(machine, Profiling(load, SECONDS), limit_s))
                        except WorkerError as error:
                            failures[number] = error
                    task.advance()
    return [
        _profiled(*pair, threads, kernels, failures.get(number))
        for number, (pair, kernels) in enumerate(zip(pairs, found, strict=True))
    ]


def _note(task: Task, text: str) -> None:
    task.advance(0, text)


def _profile(machine: Machine, order: Profiling, limit_s: float) -> list[Kernel]:
    worker = machine.launch()
    try:
        return worker.ask("profile", order, list[Kernel], limit_s)
    finally:
        worker.close()


def _profiled(
    artifact: Artifact, device: str, threads: int, found: Sequence[Sequence[Kernel]], failure: WorkerError | None
) -> LayerProfile:
    layers = find_layers(onnx.load_model_from_string(artifact.model))
    if failure is not None:
        return LayerProfile(artifact, device, threads, layers, (), failure.reason, failure.unavailable)
    if len({len(kernels) for kernels in found}) > 1:
        reason = "it ran other kernels in one process than in another"
        return LayerProfile(artifact, device, threads, layers, (), reason)
    owners = owners_of(found[0], layers)
    parts = tuple(
        Part(owner, one[0], tuple(kernel.us for kernel in one)) for owner, *one in zip(owners, *found, strict=True)
    )
    return LayerProfile(artifact, device, threads, layers, parts)


def owners_of(kernels: Sequence[Kernel], layers: Layers) -> list[tuple[str, ...]]:
    """The layers that each kernel computes.

    A conversion belongs to the layer that computes in float, which is why it is needed: one from integers to the
    layer that reads it, one to integers to the layer that made the values. Any other kernel without a name of the
    file belongs to its reader where it only moves floats, and else to where its values come from.
    """
    owners = [_named(kernel, layers) for kernel in kernels]
    readers: dict[int, list[int]] = {}
    for place, kernel in enumerate(kernels):
        for source in kernel.reads:
            readers.setdefault(source, []).append(place)
    # Backwards: its reader may be a conversion that belongs to its own.
    for place in reversed(range(len(kernels))):
        kernel = kernels[place]
        from_integers = any(not kernels[source].makes_float for source in kernel.reads)
        if kernel.converts and kernel.makes_float and (from_integers or not owners[place]):
            known = [owners[reader] for reader in readers.get(place, []) if owners[reader]]
            owners[place] = known[0][:1] if known else owners[place]
    for place, kernel in enumerate(kernels):
        if not owners[place] and kernel.reads:
            owners[place] = owners[kernel.reads[0]][-1:]
    return [owner or tuple(layers.by_name)[:1] for owner in owners]


def _named(kernel: Kernel, layers: Layers) -> tuple[str, ...]:
    return tuple(dict.fromkeys(layers.of[name] for name in kernel.names if name in layers.of))


def side_by_side(*profiles: LayerProfile) -> list[LayerRow]:
    """The layers of one network in several files, such as float and int8, that were profiled on the same device."""
    base = profiles[0].layers.by_name
    groups = _Groups([name for profile in profiles for name in profile.layers.by_name])
    for profile in profiles:
        timed = {name for part in profile.parts for name in part.layers}
        for part in profile.parts:
            groups.join(part.layers)
        for name, layer in profile.layers.by_name.items():
            everywhere = all(name in other.layers.by_name for other in profiles)
            if name in timed and everywhere:
                continue
            # What has no kernel of its own was computed by the one before.
            order = [source for source in profile.layers.by_name if source in layer.sources]
            groups.join((name, order[-1]) if order else (name,))
    rows = []
    for members in groups.all():
        ordered = sorted(
            (name for name in base if name in members), key=lambda name: not _is_heavy(base[name].type)
        )
        if not ordered:
            continue
        first = ordered[0]
        others = [base[name].type for name in ordered[1:]]
        times = tuple(_time(profile, members) for profile in profiles)
        rows.append(
            LayerRow(
                name=first,
                type=" + ".join((base[first].type, *dict.fromkeys(others))),
                shape=base[first].shape,
                members=tuple(ordered),
                times=times,
                slower=is_slower(times[-1], times[0]),
            )
        )
    return rows


def is_slower(one: LayerTime, other: LayerTime) -> bool:
    """Whether `one` surely takes longer than `other`, with 95 % confidence."""
    pairs = ([max(value, LEAST_US / 10) for value in time.process_us] for time in (one, other))
    interval = paired_ratio_ci95(*pairs)
    return one.us - other.us >= LEAST_US and interval is not None and interval[0] > 1


def _is_heavy(kind: str) -> bool:
    return any(word in kind for word in ("Conv", "Gemm", "MatMul"))


def _time(profile: LayerProfile, members: set[str]) -> LayerTime:
    parts = [part for part in profile.parts if part.layers[0] in members]
    parts.sort(key=lambda part: -float(np.median(part.process_us)))
    whole = float(np.median(np.sum([part.process_us for part in profile.parts], axis=0)))
    processes = np.array([part.process_us for part in parts])
    converting = [part.process_us for part in parts if part.kernel.converts]
    each = processes.sum(axis=0) if parts else np.zeros(1)
    return LayerTime(
        us=round(float(np.median(each)), 2),
        share=round(float(np.median(each)) / max(whole, LEAST_US / 10), 5),
        process_us=tuple(round(float(value), 2) for value in each),
        conversions_us=round(float(np.median(np.sum(converting, axis=0))), 2) if converting else 0.0,
        kernels=tuple(dict.fromkeys(part.kernel.kernel for part in parts if not part.kernel.converts)),
    )


class _Groups:
    """Names that belong together, in the order of their first."""

    def __init__(self, names: Sequence[str]) -> None:
        self._group = {name: {name} for name in names}

    def join(self, names: Sequence[str]) -> None:
        whole = set().union(*(self._group[name] for name in names))
        for name in whole:
            self._group[name] = whole

    def all(self) -> list[set[str]]:
        return list({id(group): group for group in self._group.values()}.values())
