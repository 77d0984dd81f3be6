"""Artifacts on ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from toolchain.artifact import Artifact
from toolchain.errors import ArtifactError, MissingError
from toolchain.runtimes import Answer
from toolchain.runtimes.devices import ORT_PROVIDERS, cores, probe


class OrtRuntime:
    """An ONNX Runtime session. `provider_effective` is the provider that the session really has."""

    def __init__(self, artifact: Artifact, target: str, threads: int) -> None:
        self.device = f"ort:{target}"
        self.threads = threads or cores()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        provider = ORT_PROVIDERS[target]
        try:
            self._session = onnxruntime.InferenceSession(artifact.model, options, providers=[provider])
        except Exception as error:  # ONNX Runtime's exceptions have no common public base
            reason = str(error).splitlines()[0]
            raise ArtifactError(f"{artifact.path}: ONNX Runtime cannot load it: {reason}") from None
        # A session falls back to the CPU without an error; the answer would be right and the latency a lie.
        self.provider_effective = str(self._session.get_providers()[0])
        if self.provider_effective != provider:
            raise MissingError(f"ONNX Runtime fell back to {self.provider_effective}; {provider} did not start")

    def infer(self, images: NDArray[np.uint8]) -> Answer:
        logits, probabilities = self._session.run(["logits", "probabilities"], {"image": images})
        return Answer(logits, probabilities)


def load(artifact: Artifact, target: str, threads: int) -> OrtRuntime:
    """Load `artifact`; `target` is `cpu`, `cuda` or `tensorrt`."""
    device = probe(f"ort:{target}")
    if not device.available:
        raise MissingError(f"{device.name}: {device.reason}", device.install)
    return OrtRuntime(artifact, target, threads)
