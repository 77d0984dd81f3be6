"""Artifacts on OpenVINO."""

from __future__ import annotations

import numpy as np
import openvino
from numpy.typing import NDArray

from toolchain.artifact import Artifact
from toolchain.errors import ArtifactError, MissingError
from toolchain.runtimes import Answer
from toolchain.runtimes.devices import cores, probe


class OpenVinoRuntime:
    """A compiled OpenVINO model with one inference request, for the lowest latency."""

    def __init__(self, artifact: Artifact, target: str, threads: int) -> None:
        self.device = f"openvino:{target}"
        config: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY"}
        # OpenVINO would run a float32 file in bfloat16 where the CPU has it, and answer a little differently.
        # And it would round to int8 what goes into fully connected layers whose weights are stored as int8.
        cpu = {
            "INFERENCE_NUM_THREADS": threads or cores(),
            "INFERENCE_PRECISION_HINT": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        }
        if target == "CPU":
            config |= cpu
        elif target.partition(":")[0] in {"AUTO", "HETERO", "MULTI"}:
            config["DEVICE_PROPERTIES"] = {"CPU": cpu}
        try:
            core = openvino.Core()
            # The bytes that were checked, not the files again.
            model = core.read_model(artifact.model, artifact.weights)
            _check_outputs(model, artifact)
            self._compiled = core.compile_model(model, target, config)
        except RuntimeError as error:
            reason = next(
                (line for line in reversed(str(error).splitlines()) if line.strip(" ;")), "unknown reason"
            )
            raise ArtifactError(f"{artifact.path}: OpenVINO cannot load it on {target}: {reason}") from None
        self._request = self._compiled.create_infer_request()
        self._logits = self._compiled.output("logits")
        self._probabilities = self._compiled.output("probabilities")
        self.threads = threads or cores()
        self.provider_effective = ",".join(self._compiled.get_property("EXECUTION_DEVICES"))

    def infer(self, images: NDArray[np.uint8]) -> Answer:
        results = self._request.infer({"image": images}, share_inputs=True)
        return Answer(np.array(results[self._logits]), np.array(results[self._probabilities]))


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


def load(artifact: Artifact, target: str, threads: int) -> OpenVinoRuntime:
    """Load `artifact`; `target` is a device string of OpenVINO, such as `CPU`, `GPU.0` or `AUTO`."""
    device = probe(f"openvino:{target}")
    if not device.available:
        raise MissingError(f"{device.name}: {device.reason}", device.install)
    return OpenVinoRuntime(artifact, target, threads)
