"""`toolchain.bench` for programs: paths and plain values in, a report out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from toolchain.artifact import find_artifacts, read_artifact
from toolchain.bench import runner
from toolchain.bench.results import BenchReport
from toolchain.errors import BadInputError
from toolchain.runtimes.devices import expand
from toolchain.system.progress import Reporter
from toolchain.timing.machines import checked


def bench(
    *models: str | os.PathLike[str],
    devices: Sequence[str] = ("all",),
    data: str | os.PathLike[str] | None = None,
    split: str = "test",
    threads: Sequence[int] = (0,),
    batches: Sequence[int] = (1,),
    rounds: int | None = None,
    budget_s: float = runner.BUDGET_S,
    limit: int = 400,
    on: Sequence[str] = ("local",),
    layers: bool = False,
    reporter: Reporter | None = None,
) -> BenchReport:
    """Measure accuracy and latency of model files or runs on each device, as `edgetl bench` does.

    >>> import toolchain
    >>> report = toolchain.bench("model.onnx", devices=["ort:cpu"], rounds=3)
    >>> [(arm.device, arm.status) for arm in report.arms]
    [('ort:cpu', 'ok')]
    >>> report.arms[0].latency_ms.p50 > 0
    True

    Each model runs on each device in a process of its own, and they take turns. `data` names photographs for
    accuracy (default: those that the model names, where they are at hand), `limit` how many at most. `threads` 0
    means as many as can run at once. `rounds` None measures until each median is known to 2 %, for `budget_s`
    seconds at most. `on` names machines: `local`, and others as ssh knows them, with edgetl installed
    (`user@board`). With `layers` the time of each layer is measured, too. What goes wrong with one arm stands in
    its `status` and `reason`.

    Raises ArtifactError for a file that is no model, BadInputError for data or numbers that cannot be used,
    MissingError for a machine that cannot be.
    """
    if rounds is not None and rounds < 1:
        raise BadInputError(f"rounds must be 1 or more, not {rounds}")
    if rounds is None and not budget_s > 0:
        raise BadInputError(f"budget_s must be above 0, not {budget_s}")
    files = dict.fromkeys(file for model in models for file in find_artifacts(Path(model)))
    plan = runner.Plan(
        artifacts=tuple(read_artifact(file) for file in files),
        devices=tuple(expand(tuple(devices))),
        threads=tuple(threads),
        batches=tuple(batches),
        rounds=rounds,
        budget_s=budget_s,
        data=None if data is None else os.fspath(data),
        split=split,
        limit=limit,
        on=checked(on),
        layers=layers,
        distinct="all" in devices and "openvino:AUTO" not in devices,
    )
    return runner.bench(plan, reporter)
