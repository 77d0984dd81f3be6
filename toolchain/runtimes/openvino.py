"""Artifacts on OpenVINO."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolchain import telemetry
from toolchain.artifact import Artifact
from toolchain.errors import ArtifactError, MissingError
from toolchain.runtimes import Answer, Execution, Infer
from toolchain.runtimes.devices import cores, probe

with telemetry.off():
    import openvino

_TOLD = ("PERFORMANCE_HINT", "NUM_STREAMS", "ENABLE_CPU_PINNING", "INFERENCE_PRECISION_HINT")


class OpenVinoRuntime:
    """A compiled OpenVINO model with one inference request, for the lowest latency.

    It is compiled for one number of images, which is 6 to 9 % faster than for any (MobileNetV2 on a CPU), and for
    any number only once another one comes.
    """

    def __init__(self, artifact: Artifact, target: str, threads: int, batch: int) -> None:
        self.device = f"openvino:{target}"
        self.threads = threads or cores()
        self._artifact = artifact
        self._target = target
        self._core = openvino.Core()
        # Frames come in any size, and so does what they are computed with.
        self._batch = batch if artifact.card.input == "image" else 0
        compiled = self._compile(self._batch, {"PERFORMANCE_HINT": "LATENCY"})
        self._requests = {self._batch: _Request(compiled, self._batch > 0)}
        self.provider_effective = ",".join(compiled.get_property("EXECUTION_DEVICES"))
        self.execution = _execution(compiled, static=self._batch > 0)

    def infer(self, images: NDArray[np.uint8]) -> Answer:
        size = self._batch if len(images) == self._batch else 0
        if size not in self._requests:
            compiled = self._compile(size, {"PERFORMANCE_HINT": "LATENCY"})
            self._requests[size] = _Request(compiled, static=False)
        return self._requests[size](images)

    def streams(self, count: int, batch: int) -> list[Infer]:
        config: dict[str, object] = {"PERFORMANCE_HINT": "THROUGHPUT"}
        if self._target == "CPU":
            config["NUM_STREAMS"] = count
        compiled = self._compile(batch if self._batch else 0, config)
        return [_Request(compiled, self._batch > 0) for _ in range(count)]

    def _compile(self, batch: int, config: dict[str, object]) -> openvino.CompiledModel:
        """Compile for `batch` images, 0 for any number. Raises ArtifactError when OpenVINO cannot."""
        # OpenVINO would run a float32 file in bfloat16 where the CPU has it, and answer a little differently.
        # And it would round to int8 what goes into fully connected layers whose weights are stored as int8.
        cpu = {
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        }
        if self._target == "CPU":
            config = config | cpu
        elif self._target.startswith("BATCH:"):
            # It takes no properties for the device below it.
            self._core.set_property("CPU", cpu)
        elif self._target.partition(":")[0] in {"AUTO", "HETERO", "MULTI"}:
            config = config | {"DEVICE_PROPERTIES": {"CPU": cpu}}
        try:
            # The bytes that were checked, not the files again.
            model = self._core.read_model(self._artifact.model, self._artifact.weights)
            _check_outputs(model, self._artifact)
            if batch:
                spec = self._artifact.card.preprocess
                model.reshape({"image": [batch, spec.height, spec.width, 3]})
            return self._core.compile_model(model, self._target, config)
        except RuntimeError as error:
            reason = next(
                (line for line in reversed(str(error).splitlines()) if line.strip(" ;")), "unknown reason"
            )
            raise ArtifactError(
                f"{self._artifact.path}: OpenVINO cannot load it on {self._target}: {reason}"
            ) from None


class _Request:
    """One inference at a time. Where the shape is fixed, pixels are copied to where OpenVINO reads them, and no
    more: to hand over and take back dictionaries costs 0.07 ms, which is 3 % of MobileNetV2 in int8."""

    def __init__(self, compiled: openvino.CompiledModel, static: bool) -> None:
        self._request = compiled.create_infer_request()
        self._pixels: NDArray[np.uint8] | None = None
        if static:
            self._pixels = np.empty(tuple(compiled.input("image").shape), np.uint8)
            self._request.set_tensor("image", openvino.Tensor(self._pixels, shared_memory=True))

    def __call__(self, images: NDArray[np.uint8]) -> Answer:
        if self._pixels is None:
            self._request.infer({"image": images}, share_inputs=True, share_outputs=True)
        elif images.shape != self._pixels.shape or images.dtype != np.uint8:
            raise ValueError(f"images are {images.dtype} {images.shape}, not uint8 {self._pixels.shape}")
        else:
            np.copyto(self._pixels, images)
            self._request.infer(share_outputs=True)
        # Copies: the next inference writes where these are.
        logits, probabilities = (self._request.get_tensor(name).data for name in ("logits", "probabilities"))
        return Answer(np.array(logits), np.array(probabilities))


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


def _check_outputs(model: openvino.Model, artifact: Artifact) -> None:
    """Raise ArtifactError unless the outputs are the card's.

    Shapes that an IR states are not binding: OpenVINO computes its own from the layers.
    """
    for name in ("logits", "probabilities"):
        shape = model.output(name).get_partial_shape()
        if len(shape) != 2 or shape[1] != len(artifact.card.labels):
            raise ArtifactError(
                f"{artifact.path}: `{name}` is {shape}, and the card has {len(artifact.card.labels)} labels"
            )


def load(artifact: Artifact, target: str, threads: int, batch: int) -> OpenVinoRuntime:
    """Load `artifact`; `target` is a device string of OpenVINO, such as `CPU`, `GPU.0` or `AUTO`."""
    device = probe(f"openvino:{target}")
    if not device.available:
        raise MissingError(f"{device.name}: {device.reason}", device.install)
    return OpenVinoRuntime(artifact, target, threads, batch)
