"""Artifacts on OpenVINO."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolchain.artifact import Artifact
from toolchain.errors import ArtifactError, BadInputError, FallbackError, MissingError
from toolchain.runtimes import Answer, Execution, Infer
from toolchain.runtimes.devices import Device, RuntimeFamily, cores
from toolchain.runtimes.openvino_checks import check_outputs, check_sizes
from toolchain.runtimes.sharing import Shared
from toolchain.system import telemetry

if TYPE_CHECKING:
    import openvino

    from toolchain.runtimes.profiling import Profile

WAYS = {"bf16": ("BF16", "bfloat16"), "f16": ("FP16", "float16")}
"""Types that a device may compute floats in, added to its name with a `+`: what OpenVINO calls the capability, and
what people call the type."""

_TOLD = ("PERFORMANCE_HINT", "NUM_STREAMS", "ENABLE_CPU_PINNING", "INFERENCE_PRECISION_HINT")

_NO_MEMORY = ("bad_alloc", "Cannot allocate memory", "Resource temporarily unavailable")
"""What its errors say where memory, or threads, cannot be had."""
_COMPILING = Lock()
_at_home = 0
"""The process in which OpenVINO has loaded a model; 0 for none."""


@cache
def _library() -> Any:
    with telemetry.off():
        import openvino
    return openvino


def core() -> openvino.Core:
    """OpenVINO's `Core` of this process: one for all, and never freed.

    The CPU plug-in gives the thread that makes a Core another stack for signals, and puts the former one back when
    the Core goes. Where two Cores go in the order they were made, a freed stack is left, and the next signal
    (Ctrl-C) ends the process with a segmentation fault.
    """
    return _core(os.getpid())


@cache
def _core(process: int) -> openvino.Core:
    # A forked process makes its own: it has none of the threads that belong to its parent's.
    made: openvino.Core = _library().Core()
    return made


def parse(text: str) -> str:
    """A device string of OpenVINO, in its capitals (`GPU.1`, `HETERO:GPU,CPU`), or with a type (`CPU+bf16`)."""
    place, plus, way = text.partition("+")
    place = place.upper()
    if plus and (way not in WAYS or not re.fullmatch(r"(?!AUTO|MULTI|HETERO|BATCH)[A-Z]+(\.\d+)?", place)):
        raise BadInputError(
            f"openvino:{place}+{way}: OpenVINO has no such way of running",
            f"One device and one of {', '.join(WAYS)}; for example openvino:CPU+bf16.",
        )
    return place + plus + way


def probe(target: str) -> Device:
    """Whether OpenVINO finds every device that `target` names, and the device has instructions for its type."""
    name = f"openvino:{target}"
    target, _, way = target.partition("+")
    if find_spec("openvino") is None:
        return Device(name, False, "OpenVINO is not installed", "pip install openvino")
    found = core().available_devices
    wanted = target.split(":")[-1].split(",") if ":" in target else [] if target == "AUTO" else [target]
    missing = [device for device in wanted if not _is_there(device, found)]
    if not missing:
        # Without them it would compute in another type, or imitate this one slowly.
        if way and WAYS[way][0] not in core().get_property(target, "OPTIMIZATION_CAPABILITIES"):
            return Device(name, False, f"this {target} has no instructions for {WAYS[way][1]}", f"leave out +{way}")
        return Device(name, True)
    if "CPU" in missing:
        # The CPU plug-in comes with OpenVINO itself: it is there and could not be loaded.
        return Device(name, False, "OpenVINO cannot load its part for the CPU: there may be too little memory")
    drivers = {"GPU": "install Intel's GPU compute runtime", "NPU": "install Intel's NPU driver"}
    version = _library().__version__.partition("-")[0]
    return Device(
        name,
        False,
        f"OpenVINO {version} finds no {missing[0]} here, only {', '.join(found)}",
        drivers.get(missing[0].split(".")[0], ""),
    )


def _is_there(device: str, found: Sequence[str]) -> bool:
    """Whether a device is among those that were `found`: a `GPU` stands for `GPU.0`, and the other way round."""
    kind, _, number = device.partition(".")
    other = kind == "GPU" and number not in ("", "0")
    return device in found or (not other and kind in {one.partition(".")[0] for one in found})


def _forked() -> bool:
    """Whether a process that has loaded with OpenVINO was forked to become this one."""
    return _at_home not in {0, os.getpid()}


class OpenVinoRuntime:
    """A compiled OpenVINO model with one inference request, for the lowest latency.

    It is compiled for one number of images, which is 6 to 9 % faster than for any (MobileNetV2 on a CPU), and for
    any number only once another one comes.
    """

    def __init__(
        self, artifact: Artifact, target: str, threads: int, batch: int, *, exclusive: bool = False
    ) -> None:
        self.device: str = f"openvino:{target}"
        self.threads: int = threads or cores()
        # Frames come in any size, so the graph is compiled for any.
        self._batch = batch if artifact.card.input == "image" else 0
        target, _, way = target.partition("+")
        self._compile = partial(_compile, core(), artifact, target, way, self.threads, exclusive)
        models = _Models(partial(self._compile, {"PERFORMANCE_HINT": "LATENCY"}))
        compiled = models(self._batch)
        self.provider_effective: str = ",".join(compiled.get_property("EXECUTION_DEVICES"))
        self.execution: Execution = _execution(compiled, static=self._batch > 0)
        if way and self.execution.inference_precision != way:
            raise FallbackError(
                f"{self.device}: OpenVINO computes in {self.execution.inference_precision} all the same",
                f"Run it on openvino:{target}.",
            )
        fixed = self._batch
        self._target = target
        # A name for several devices makes its own choice, which may be what `_streams` avoids.
        several = self.threads > 1 and (target == "CPU" or target.split(".")[0] in {"GPU", "NPU"})
        crowd = _Crowd(partial(_models, self._compile, target, self.threads, self.threads), fixed)
        self._shared = Shared(lambda: _Stream(models, fixed), crowd if several else None)

    def infer(self, images: NDArray[np.uint8]) -> Answer:
        return self._shared(images)

    def streams(self, count: int, batch: int) -> list[Infer]:
        batch = batch if self._batch else 0
        return [_Stream(one, batch) for one in _models(self._compile, self._target, self.threads, count)]


class _Crowd:
    """Streams on models of their own, which are made once; after a fork, streams on the models that there are."""

    def __init__(self, make: Callable[[], list[_Models]], batch: int) -> None:
        self._make = make
        self._batch = batch
        self._made: list[_Models] = []

    def __call__(self) -> list[Infer]:
        if not self._made and not _forked():
            made = self._make()
            for one in made:
                one(self._batch)
            self._made = made
        return [_Stream(one, self._batch) for one in self._made]


def _models(
    compile_model: Callable[[dict[str, object], int], openvino.CompiledModel],
    target: str,
    threads: int,
    count: int,
) -> list[_Models]:
    if target != "CPU":
        return [_Models(partial(compile_model, {"PERFORMANCE_HINT": "THROUGHPUT"}))] * count
    # Models of their own: OpenVINO 2026.4 prepares the streams of one model side by side, and one int8 model in
    # thirty then answered every picture alike.
    # Bound to cores, each of them would take the same first one.
    config: dict[str, object] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": max(1, threads // count),
        "ENABLE_CPU_PINNING": False,
    }
    return [_Models(partial(compile_model, config)) for _ in range(count)]


def _compile(
    core: openvino.Core,
    artifact: Artifact,
    target: str,
    way: str,
    threads: int,
    exclusive: bool,
    config: dict[str, object],
    batch: int,
) -> openvino.CompiledModel:
    """Compile for `batch` images, 0 for any number; floats are computed in `way`, else in float32.

    Raises ArtifactError when OpenVINO cannot, and BadInputError in a process that was forked from one where it has:
    there it may wait for ever for threads that are gone.
    """
    global _at_home
    _at_home = _at_home or os.getpid()
    if _forked():
        raise BadInputError(
            "OpenVINO cannot load in a process that was forked from one where it has loaded before",
            "Load before the fork, or start processes with spawn.",
        )
    exact: dict[str, object] = {"INFERENCE_PRECISION_HINT": way or "f32"}
    cpu = exact | {
        "INFERENCE_NUM_THREADS": threads,
        # It would round to int8 what goes into fully connected layers whose weights are stored as int8.
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        # Bound to cores, every process with fewer threads than cores would take the same ones.
        "ENABLE_CPU_PINNING": exclusive,
    }
    kind = target.partition(":")[0].partition(".")[0]
    # Left alone, OpenVINO computes float32 files in bfloat16 on CPUs that have it, and in float16 on GPUs.
    gpu = exact if way or artifact.card.precision != "float16" else {}
    if kind == "CPU":
        config = cpu | config
    elif kind == "GPU":
        config = gpu | config
    elif way:
        config = exact | config
    elif kind == "BATCH":
        # It takes no properties for the device below it.
        core.set_property("CPU", cpu)
        # Where there are two, they are GPU.0 and GPU.1.
        if gpu and any(one.partition(".")[0] == "GPU" for one in core.available_devices):
            core.set_property("GPU", gpu)
    elif kind in {"AUTO", "HETERO", "MULTI"}:
        config = config | {"DEVICE_PROPERTIES": {"CPU": cpu, **({"GPU": gpu} if gpu else {})}}
    try:
        with _COMPILING:
            # The bytes that were checked: the files may have changed since.
            model = core.read_model(artifact.model, artifact.weights)
            check_outputs(model, artifact)
            if artifact.format == "openvino":  # ONNX files were checked when they were read
                check_sizes(model, artifact)
            if batch:
                spec = artifact.card.preprocess
                model.reshape({"image": [batch, spec.height, spec.width, 3]})
            return core.compile_model(model, target, config)
    except RuntimeError as error:
        lines = [line for line in reversed(str(error).splitlines()) if line.strip(" ;")]
        # Under the line that names the operators stands one of where to read about them.
        lines.sort(key=lambda line: "No conversion rule" not in line)
        reason = lines[0].strip() if lines else "unknown reason"
        if any(sign in str(error) for sign in _NO_MEMORY):
            raise MissingError(
                f"{artifact.path}: there is too little memory for OpenVINO to load it on {target}",
                "Give this process more, or run it on ort:cpu, which needs less.",
            ) from None
        # On Arm, OpenVINO 2026.4 refuses int8 files that it runs elsewhere.
        hint = "Use the float32 file, or the int8 file on ort:cpu." if artifact.card.precision == "int8" else ""
        raise ArtifactError(f"{artifact.path}: OpenVINO cannot load it on {target}: {reason}", hint) from None


class _Models:
    """A model compiled for each number of images that it is asked for, 0 for any; once for all threads."""

    def __init__(self, compile_for: Callable[[int], openvino.CompiledModel]) -> None:
        self._compile_for = compile_for
        self._compiled: dict[int, openvino.CompiledModel] = {}
        self._lock = Lock()

    def has(self, batch: int) -> bool:
        return batch in self._compiled

    def __call__(self, batch: int) -> openvino.CompiledModel:
        if batch in self._compiled:
            return self._compiled[batch]
        with self._lock:
            if batch not in self._compiled:
                self._compiled[batch] = self._compile_for(batch)
            return self._compiled[batch]


class _Stream:
    """Inferences of one thread at a time, on requests of its own."""

    def __init__(self, models: _Models, batch: int) -> None:
        self._models = models
        self._batch = batch
        self._requests = {batch: _Request(models(batch), static=batch > 0)}

    def __call__(self, images: NDArray[np.uint8]) -> Answer:
        size = self._batch if len(images) == self._batch else 0
        if size not in self._requests:
            if _forked() and not self._models.has(size):
                one_by_one = [self._requests[self._batch](image[None]) for image in images]
                names = ("logits", "probabilities")
                return Answer(*(np.concatenate([getattr(one, name) for one in one_by_one]) for name in names))
            self._requests[size] = _Request(self._models(size), static=False)
        return self._requests[size](images)


class _Request:
    """One inference at a time. Where the shape is fixed, pixels are copied to where OpenVINO reads them, and no
    more: to hand over and take back dictionaries costs 0.07 ms, which is 3 % of MobileNetV2 in int8."""

    def __init__(self, compiled: openvino.CompiledModel, static: bool) -> None:
        self._request = compiled.create_infer_request()
        self._pixels: NDArray[np.uint8] | None = None
        if static:
            self._pixels = np.empty(tuple(compiled.input("image").shape), np.uint8)
            self._request.set_tensor("image", _library().Tensor(self._pixels, shared_memory=True))

    def __call__(self, images: NDArray[np.uint8]) -> Answer:
        try:
            return self._answer(images)
        except RuntimeError as error:
            said = str(error)
            if any(sign in said for sign in _NO_MEMORY):
                raise MissingError(
                    "there is too little memory for OpenVINO to run it", "Run fewer photographs at once."
                ) from None
            reason = next((line for line in reversed(said.splitlines()) if line.strip(" ;")), "unknown reason")
            raise ArtifactError(f"OpenVINO cannot run it: {reason}", "Export it again.") from None

    def _answer(self, images: NDArray[np.uint8]) -> Answer:
        if self._pixels is None:
            self._request.infer({"image": images}, share_inputs=True, share_outputs=True)
        elif images.shape != self._pixels.shape or images.dtype != np.uint8:
            raise ValueError(f"images are {images.dtype} {images.shape}, not uint8 {self._pixels.shape}")
        else:
            np.copyto(self._pixels, images)
            self._request.infer(share_outputs=True)
        # Copies: the next inference overwrites this memory.
        logits, probabilities = (self._request.get_tensor(name).data for name in ("logits", "probabilities"))
        return Answer(np.array(logits), np.array(probabilities))

    def counters(self) -> dict[str, float]:
        """What OpenVINO's performance counters say of each node, by name, in microseconds; of a model compiled with
        PERF_COUNT."""
        told = self._request.get_profiling_info()
        return {one.node_name: one.real_time.total_seconds() * 1e6 for one in told}


def _execution(compiled: openvino.CompiledModel, static: bool) -> Execution:
    supported = set(compiled.get_property("SUPPORTED_PROPERTIES"))
    told: dict[str, Any] = {name: compiled.get_property(name) for name in _TOLD if name in supported}
    precision = told.get("INFERENCE_PRECISION_HINT")
    hint = told.get("PERFORMANCE_HINT")
    return Execution(
        hint=None if hint is None else str(getattr(hint, "name", hint)),
        streams=told.get("NUM_STREAMS"),
        pinning=told.get("ENABLE_CPU_PINNING"),
        inference_precision=None if precision is None else precision.get_type_name(),
        static=static,
        nodes=_nodes(compiled),
    )


def _nodes(compiled: openvino.CompiledModel) -> dict[str, int]:
    """How many nodes of the graph that is really run compute in each type; empty where the device does not tell."""
    try:
        graph = compiled.get_runtime_model()
    except RuntimeError:
        return {}
    found: Counter[str] = Counter()
    for node in graph.get_ops():
        told = node.get_rt_info()
        kind = told["layerType"].astype(str) if "layerType" in told else ""
        if "runtimePrecision" in told and kind not in {"Input", "Output", "Const", ""}:
            found[told["runtimePrecision"].astype(str)] += 1
    return dict(found)


def load(artifact: Artifact, target: str, threads: int, batch: int, *, exclusive: bool = False) -> OpenVinoRuntime:
    """Load `artifact`; `target` is a device string of OpenVINO, such as `CPU`, `GPU.0`, `AUTO` or `CPU+bf16`."""
    return OpenVinoRuntime(artifact, target, threads, batch, exclusive=exclusive)


def _profile() -> Profile:
    from toolchain.runtimes.openvino_profile import profile

    return profile


FAMILY = RuntimeFamily(
    name="openvino",
    title="OpenVINO",
    targets=("CPU", "CPU+bf16", "CPU+f16", "GPU", "NPU", "AUTO"),
    parse=parse,
    probe=probe,
    load=load,
    preload=_library,
    profile=_profile,
    formats=("onnx", "openvino"),
    packages={"openvino": ("openvino",)},
)
