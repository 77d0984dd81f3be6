"""The float run itself in PyTorch, as the baseline that an artifact is compared with.

The one module of the device half that needs the workshop; it is loaded only when a torch device is asked for.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from toolchain import files
from toolchain.artifact import Artifact
from toolchain.backbones import build, normalised
from toolchain.errors import BadInputError, MissingError
from toolchain.runs import WEIGHTS_FILE, read_run
from toolchain.runtimes import Answer
from toolchain.runtimes.devices import cores, probe


class TorchRuntime:
    """The network of the run that `artifact` was exported from: eager, float32, channels last."""

    def __init__(self, artifact: Artifact, target: str, threads: int) -> None:
        folder = artifact.path.parent
        weights = folder / WEIGHTS_FILE
        if artifact.card.precision != "float32":
            raise BadInputError(
                f"PyTorch runs the float32 run, not a file of {artifact.card.precision}", "Name the float artifact."
            )
        if not weights.is_file() or files.sha256_of(weights) != artifact.card.source.run_sha256:
            raise MissingError(
                f"{folder} does not hold the run that {artifact.path.name} was exported from",
                f"PyTorch needs the run folder: run.json and {WEIGHTS_FILE} beside the artifact.",
            )
        run = read_run(folder)
        self.device = f"torch:{target}"
        self.threads = threads or cores()
        self._device = torch.device(target)
        if self._device.type == "cpu":
            torch.set_num_threads(self.threads)
        network = build(run.model.name, len(run.data.classes))
        network.load_state_dict(load_file(weights))
        self._network = network.eval().to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._temperature = run.temperature
        name = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else self._device.type
        self.provider_effective = f"torch {torch.__version__} eager on {name}"

    @torch.inference_mode()
    def infer(self, images: NDArray[np.uint8]) -> Answer:
        logits = self._network(normalised(torch.from_numpy(images).to(self._device)))
        probabilities = torch.softmax(logits / self._temperature, dim=1)
        return Answer(logits.cpu().numpy(), probabilities.cpu().numpy())


def load(artifact: Artifact, target: str, threads: int) -> TorchRuntime:
    """Load the run beside `artifact`; `target` is `cpu`, `cuda`, `cuda:1` or `mps`."""
    device = probe(f"torch:{target}")
    if not device.available:
        raise MissingError(f"{device.name}: {device.reason}", device.install)
    return TorchRuntime(artifact, target, threads)
