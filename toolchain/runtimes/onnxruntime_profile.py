"""ONNX Runtime's profiler: the kernels of its optimised graph, and the time of each."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from toolchain.artifact import Artifact
from toolchain.errors import BadInputError
from toolchain.runtimes.devices import cores
from toolchain.runtimes.onnxruntime import _infer, _open, providers_of
from toolchain.runtimes.profiling import WARM_UP, Kernel, midmean, without_endings
from toolchain.system.folders import scratch_folder

_ENDING = re.compile(r"(_token_\d+|_nchwc|_nhwc|_out\d+|_quant)$")
"""What its optimisations add to names."""

_CONVERTING = {"QuantizeLinear", "DequantizeLinear", "ReorderInput", "ReorderOutput", "Transpose", "Cast"}
_LAYOUTS = {"com.microsoft.nchwc": "NCHWc", "com.ms.internal.nhwc": "NHWC"}


def profile(
    artifact: Artifact, target: str, threads: int, batch: int, images: Iterable[NDArray[np.uint8]]
) -> list[Kernel]:
    """See `toolchain.runtimes.profiling.Profile`.

    On GPUs the profiler's times are those of handing out work, and are not told.
    """
    place, _, way = target.partition("+")
    if place != "cpu":
        raise BadInputError(f"layers are not timed on ort:{target}", "On ort:cpu they are.")
    with scratch_folder("edgetl-profile-") as folder:
        optimised = folder / "optimised.onnx"
        providers, prefix = providers_of(place, artifact), str(folder / "profile")
        session = _open(artifact, providers, True, way == "bf16", threads or cores(), prefix, str(optimised))
        for one in images:
            _infer(session, artifact.path, one)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        nodes = list(onnx.load(optimised).graph.node)
    return _kernels(_runs(events)[WARM_UP:], nodes)


def _runs(events: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The kernels' events of each inference, in the order of execution."""
    ends = sorted(event["ts"] + event["dur"] for event in events if event["name"] == "model_run")
    runs: list[list[dict[str, Any]]] = [[] for _ in ends]
    found = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    number = 0
    for event in sorted(found, key=lambda event: event["ts"]):
        while number < len(ends) and event["ts"] >= ends[number]:
            number += 1
        if number < len(ends):
            runs[number].append(event)
    return runs


def _kernels(runs: Sequence[Sequence[dict[str, Any]]], nodes: Sequence[onnx.NodeProto]) -> list[Kernel]:
    taken: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        for event in run:
            taken[event["args"]["node_index"]].append(event["dur"])
    described = _described(runs[0], nodes)
    makers = {name: place for place, node in enumerate(described) for name in node.output}
    return [
        Kernel(
            names=tuple(name for own in (*node.output, node.name) for name in without_endings(own, _ENDING.search)),
            op=node.op_type,
            kernel=_kernel(node),
            converts=node.op_type in _CONVERTING,
            makes_float="float" in event["args"].get("output_type_shape", [{}])[0],
            reads=tuple(dict.fromkeys(makers[name] for name in node.input if name in makers)),
            us=midmean(taken[event["args"]["node_index"]]),
        )
        for event, node in zip(runs[0], described, strict=True)
    ]


def _described(run: Sequence[dict[str, Any]], nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The node of the optimised graph for each event, by name and operator; those without a name by their order."""
    waiting: dict[tuple[str, str], list[onnx.NodeProto]] = defaultdict(list)
    for node in nodes:
        waiting[node.name, node.op_type].append(node)
    found = []
    for event in run:
        name, op = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
        rest = waiting[name, op] or waiting["", op]
        found.append(rest.pop(0) if rest else onnx.NodeProto(name=name, op_type=op))
    return found


def _kernel(node: onnx.NodeProto) -> str:
    nhwc = any(one.name == "channels_last" and one.i for one in node.attribute)
    layout = "NHWC" if nhwc else _LAYOUTS.get(node.domain, "")
    return f"{node.op_type} {layout}".strip()
