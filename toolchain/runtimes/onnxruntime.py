"""Artifacts on ONNX Runtime."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from toolchain import telemetry
from toolchain.artifact import Artifact
from toolchain.errors import ArtifactError, FallbackError, MissingError
from toolchain.runtimes import Answer, Execution, Infer
from toolchain.runtimes.devices import ORT_PROVIDERS, cores, probe

with telemetry.off():
    import onnxruntime

_RECORD_NODES = "session.record_ep_graph_assignment_info"
"""Makes a session (of ONNX Runtime 1.24 or newer) tell which provider was given which node."""


class OrtRuntime:
    """An ONNX Runtime session. `provider_effective` is the provider that the session really has."""

    def __init__(self, artifact: Artifact, target: str, threads: int, *, spin: bool = True) -> None:
        self.device = f"ort:{target}"
        self._spin = spin
        self.threads = threads or cores()
        self._artifact = artifact
        self._provider = ORT_PROVIDERS[target]
        self._session = self._open(self.threads)
        # A session falls back to the CPU without an error; the answer would be right and the latency a lie.
        self.provider_effective = str(self._session.get_providers()[0])
        nodes = _nodes(self._session)
        if self.provider_effective != self._provider or (nodes and self._provider not in nodes):
            really = ", ".join(nodes) or self.provider_effective
            raise FallbackError(
                f"ONNX Runtime fell back to {really}; {self._provider} runs nothing",
                "Look at the driver, CUDA and cuDNN that this onnxruntime was built for.",
            )
        self.execution = Execution(streams=1, nodes=nodes)

    def infer(self, images: NDArray[np.uint8]) -> Answer:
        return _infer(self._session, images)

    def streams(self, count: int, batch: int) -> list[Infer]:
        # A session may be run by several threads at once; what it computes with is then theirs.
        session = self._open(max(1, self.threads // count))
        return [lambda images: _infer(session, images)] * count

    def _open(self, threads: int) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry(_RECORD_NODES, "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(self._spin)))
        try:
            return onnxruntime.InferenceSession(self._artifact.model, options, providers=[self._provider])
        except Exception as error:  # ONNX Runtime's exceptions have no common public base
            reason = str(error).splitlines()[0]
            raise ArtifactError(f"{self._artifact.path}: ONNX Runtime cannot load it: {reason}") from None


def _infer(session: onnxruntime.InferenceSession, images: NDArray[np.uint8]) -> Answer:
    logits, probabilities = session.run(["logits", "probabilities"], {"image": images})
    return Answer(logits, probabilities)


def _nodes(session: onnxruntime.InferenceSession) -> dict[str, int]:
    """How many nodes each provider was given; empty where this ONNX Runtime does not tell."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    given: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        given[part.ep_name] += len(part.get_nodes())
    return dict(given)


def load(artifact: Artifact, target: str, threads: int, batch: int, *, spin: bool = True) -> OrtRuntime:
    """Load `artifact`; `target` is `cpu`, `cuda` or `tensorrt`. A session is the same for every `batch`."""
    device = probe(f"ort:{target}")
    if not device.available:
        raise MissingError(f"{device.name}: {device.reason}", device.install)
    return OrtRuntime(artifact, target, threads, spin=spin)
