"""OpenVINO's performance counters: the nodes of the graph that it runs, and the time of each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolchain.artifact import Artifact
from toolchain.errors import BadInputError
from toolchain.runtimes.devices import cores
from toolchain.runtimes.openvino import _compile, _Request, core
from toolchain.runtimes.profiling import WARM_UP, Kernel, without_endings

_ENDING = re.compile(r"(/WithoutBiases|_original)$")
"""What its transformations add to names."""

_NOT_RUN = {"Input", "Output", "Const", "Reshape", ""}
"""What costs nothing: values that are there, or are looked at in another shape."""
_CONVERTING = {"Reorder", "Convert", "FakeQuantize", "Transpose"}


def profile(
    artifact: Artifact, target: str, threads: int, batch: int, images: Iterable[NDArray[np.uint8]]
) -> list[Kernel]:
    """See `toolchain.runtimes.profiling.Profile`.

    The CPU's counters are the mean of all inferences so far, so those of the first ones are subtracted. Each is
    rounded down to whole microseconds, twice.
    """
    place, _, way = target.partition("+")
    if place != "CPU":
        raise BadInputError(f"layers are not timed on openvino:{target}", "On openvino:CPU they are.")
    config: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": True}
    fixed = batch if artifact.card.input == "image" else 0
    compiled = _compile(core(), artifact, place, way, threads or cores(), True, config, fixed)
    request = _Request(compiled, static=fixed > 0)
    before: dict[str, float] = {}
    count = 0
    for one in images:
        request(one)
        count += 1
        if count == WARM_UP:
            before = request.counters()
    after = request.counters()
    nodes = [_Node(op) for op in compiled.get_runtime_model().get_ordered_ops()]
    ran = [node for node in nodes if node.op not in _NOT_RUN]
    places = {node.name: place for place, node in enumerate(ran)}
    return [
        Kernel(
            names=node.names,
            op=node.op,
            kernel=node.kernel,
            converts=node.op in _CONVERTING,
            makes_float=node.makes_float,
            reads=tuple(dict.fromkeys(places[name] for name in node.inputs if name in places)),
            us=max(count * after.get(node.name, 0) - WARM_UP * before.get(node.name, 0), 0) / (count - WARM_UP),
        )
        for node in ran
    ]


class _Node:
    """A node of the graph that is really run, as it tells of itself."""

    def __init__(self, op: Any) -> None:
        told = {key: value.astype(str) for key, value in op.get_rt_info().items()}
        self.name: str = op.get_friendly_name()
        self.op: str = told.get("layerType", "")
        self.kernel: str = told.get("primitiveType", "")
        self.makes_float: bool = told.get("outputPrecisions", "").startswith(("f", "bf"))
        self.inputs: list[str] = [one.get_source_output().get_node().get_friendly_name() for one in op.inputs()]
        originals = [name for name in told.get("originalLayersNames", "").split(",") if name]
        self.names: tuple[str, ...] = tuple(
            name for original in originals for name in without_endings(original, _ENDING.search)
        )
