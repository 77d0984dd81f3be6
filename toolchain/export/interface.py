"""`toolchain.export` for programs: paths and plain values in, what was written and measured out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from toolchain.errors import BadInputError
from toolchain.export import exporting
from toolchain.export.results import Exported, QuantizationSettings, Variants
from toolchain.recommended import MAX_DROP_PP
from toolchain.system.progress import Reporter
from toolchain.timing.machines import checked
from toolchain.timing.protocol import LOCAL


def export(
    run: str | os.PathLike[str],
    *,
    int8: bool = False,
    max_drop_pp: float = MAX_DROP_PP,
    min_speed_up: float = 1.0,
    portable: bool = False,
    target: str = "any",
    on: Sequence[str] = ("local",),
    fp16: bool = False,
    int8_weights: bool = False,
    raw_frame: bool = False,
    openvino: bool = False,
    litert: bool = False,
    data: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    reporter: Reporter | None = None,
) -> Exported:
    """Write a run's model file, as `edgetl export` does, and return what was written and measured.

    >>> import toolchain
    >>> done = toolchain.export("runs/flowers", fp16=True)
    >>> done.float_file
    'runs/flowers/model.onnx'
    >>> [written.file for written in done.further]
    ['runs/flowers/model.fp16.onnx']

    With `int8`, recipes are tried; what is written loses `max_drop_pp` points of top-1 at most, and is more than
    `min_speed_up` times as fast as float (0: speed is not measured) on `target`, a device or `any` for ONNX
    Runtime and OpenVINO both, on each of the machines `on` (`local`, and others as ssh knows them). `portable`
    weights have 7 bits, for x86 CPUs without VNNI. `done.int8_files` then names the file for each device, and
    `done.broken` says which promise was not kept. `data` is where the photographs lie now, if they have moved.

    Raises BadInputError for a folder that holds no run, MissingError when PyTorch or the photographs are missing,
    PromiseBrokenError when the file does not answer as the trained network does.
    """
    if not (int8 or portable) and tuple(on) != (LOCAL,):
        raise BadInputError("other machines time int8, and int8 was not asked for", "Add int8=True.")
    settings = QuantizationSettings(max_drop_pp, min_speed_up, portable=portable, on=checked(on))
    return exporting.export(
        Path(run),
        int8=settings if int8 or portable else None,
        target=target,
        out=None if out is None else Path(out),
        further=Variants(openvino, fp16, int8_weights, raw_frame, litert, max_drop_pp),
        data=None if data is None else Path(data),
        reporter=reporter,
    )
