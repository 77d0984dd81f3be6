"""ONNX Runtime, OpenVINO, LiteRT, PyTorch and others behind one small protocol.

Each is a module of its own, imported only when its device is asked for; `devices.RUNTIMES` lists them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from toolchain.artifact import Artifact
from toolchain.errors import BadInputError, MissingError
from toolchain.runtimes.devices import family_of, is_cpu, parse_device, plain, probe
from toolchain.system.patience import within

Value = TypeVar("Value")

__all__ = [
    "Answer",
    "Execution",
    "Infer",
    "Runtime",
    "default_device",
    "in_loading_time",
    "open_runtime",
    "whole_number",
]


@dataclass(frozen=True)
class Answer:
    """What a network says about a batch. Both arrays are float32 [batch, classes] and belong to the caller."""

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class Execution:
    """How a runtime really runs an artifact, as it tells itself; null is what it does not tell.

    `mode` is sync (one request at a time); `hint` OpenVINO's performance hint; `streams` how many inferences can
    run at once; `pinning` whether threads are bound to cores; `spinning` whether they stay awake between
    inferences; `inference_precision` what floats are computed in; `static`: whether the number of images is fixed
    in the compiled graph. `nodes`: how many nodes each provider was given (ONNX Runtime), or how many are computed
    in each type (OpenVINO).
    """

    mode: Literal["sync", "async"] = "sync"
    hint: str | None = None
    streams: int | None = None
    pinning: bool | None = None
    spinning: bool | None = None
    inference_precision: str | None = None
    static: bool = False
    nodes: dict[str, int] = field(default_factory=dict)


Infer = Callable[[NDArray[np.uint8]], Answer]
"""A way to have images answered, as `Runtime.infer` has them."""


class Runtime(Protocol):
    """One artifact, loaded on one device."""

    device: str
    """The name it was asked for by, such as `ort:cpu`."""
    provider_effective: str
    """What really runs it, as the runtime itself tells, such as `CPUExecutionProvider`."""
    threads: int
    """Threads that it computes with: all of them for a caller who is alone, shared by those who come at once."""
    execution: Execution

    def infer(self, images: NDArray[np.uint8]) -> Answer:
        """Answer for `images`, uint8 [batch, height, width, 3], RGB, preprocessed as the card says.

        Any number of threads may call at once.
        """

    def streams(self, count: int, batch: int) -> list[Infer]:
        """`count` ways to `infer` on `batch` images, which as many threads may use at once.

        Together they compute with as many threads as `infer` does.

        Empty where the runtime has no such thing.
        """


CPU_LOADING_LIMIT_S = 120.0
LOADING_LIMIT_S = 1200.0
"""A file that takes longer to load, and be made fast, is refused. Some accelerators compile for minutes."""
MAX_THREADS = 1024
MAX_IMAGES = 4096

_LOADING = Lock()


def default_device(artifact: Artifact) -> str:
    """Where `artifact` runs when nobody says: a device that every machine has, and that the file is proven on."""
    usual = {"openvino": "openvino:CPU", "tflite": "litert:cpu"}.get(artifact.format, "ort:cpu")
    if artifact.card.proven_on(usual):
        return usual
    proven = (one for one in artifact.card.runtimes if one == plain(one) and is_cpu(one))
    return next(proven, usual)


def open_runtime(
    artifact: Artifact,
    device: str,
    *,
    threads: int = 0,
    batch: int = 1,
    unproven: bool = False,
    exclusive: bool = False,
) -> Runtime:
    """Load `artifact` on `device` (see `toolchain.runtimes.devices`).

    `threads` 0 means as many as can run at once. `batch` is the number of images that it is made fastest for; it
    takes any.
    `exclusive`: nothing else computes on this machine. Then threads of ONNX Runtime stay awake between inferences
    and those of OpenVINO are bound to cores, which takes the cores from whoever shares them. PyTorch computes in
    the thread that calls, and changes its number of threads.
    An artifact that is not float32 is refused on a runtime that its card does not name, unless `unproven`: one
    runtime can read another's int8 file and answer nonsense.

    Raises MissingError when the device or its package is not on this machine, or has not loaded the file after
    minutes, BadInputError when the device's name is wrong, the artifact cannot run there, or `threads` or `batch`
    is no such number.
    """
    name, target = parse_device(device)
    family = family_of(name)
    threads = whole_number("threads", threads, 0, MAX_THREADS)
    batch = whole_number("batch", batch, 1, MAX_IMAGES)
    if artifact.format not in family.formats:
        default, other = default_device(artifact), "or name the .onnx file."
        if artifact.format == "onnx":
            other = f"or let edgetl export write a file for {family.title}."
        raise BadInputError(
            f"{artifact.path.name} does not run on {device}: {family.title} runs {_suffixes(family.formats)} files",
            f"Run it on {default}, {other}",
        )
    if not (unproven or family.of_run or artifact.card.proven_on(device)):
        proven = artifact.card.runtimes
        there = f"Run it there (--device {proven[0]}), or use" if proven else "Use"
        raise BadInputError(
            f"{artifact.path} was proven on {', '.join(proven) or 'no runtime'}, not on {device}",
            f"{there} the float32 file, which answers the same on every runtime.",
        )
    # Threads that import and start a library at the same time would use it half initialised.
    with _LOADING:
        found = probe(device)
        if not found.available:
            raise MissingError(f"{found.name}: {found.reason}", found.install)
        if family.of_run:  # PyTorch, which builds its network itself, counts threads for the one that calls
            return family.load(artifact, target, threads, batch, exclusive=exclusive)
        return in_loading_time(
            device, artifact.path, lambda: family.load(artifact, target, threads, batch, exclusive=exclusive)
        )


def in_loading_time(device: str, path: Path | None, work: Callable[[], Value]) -> Value:
    """What `work` returns, which loads the file `path` on `device`, or lets it answer for the first time.

    Raises MissingError when that takes too long.
    """
    limit_s = CPU_LOADING_LIMIT_S if is_cpu(device) else LOADING_LIMIT_S
    try:
        return within(limit_s, work)
    except TimeoutError:
        raise MissingError(
            f"{path or 'the network'} was not ready on {device} after {limit_s:g} s",
            "Try another --device, or a smaller network.",
        ) from None


def _suffixes(formats: Sequence[str]) -> str:
    return " and ".join({"openvino": ".xml"}.get(one, f".{one}") for one in formats)


def whole_number(name: str, value: object, least: int, most: int | None = None) -> int:
    """`value`, if it is a whole number in the range. Raises BadInputError."""
    number = None
    if not isinstance(value, bool):
        with suppress(TypeError):
            number = operator.index(value)  # type: ignore[arg-type]
    if number is None or number < least or (most is not None and number > most):
        span = f"at least {least}" if most is None else f"from {least} to {most}"
        raise BadInputError(f"{name} must be a whole number, {span}, not {value!r}")
    return number
