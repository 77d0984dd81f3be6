"""Latencies of a few artifacts side by side, each on each device in a process of its own, taking turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolchain.artifact import Artifact
from toolchain.system.folders import scratch_folder
from toolchain.system.progress import Reporter
from toolchain.timing.arm import Arm
from toolchain.timing.process import WorkerProcess
from toolchain.timing.protocol import Prepared
from toolchain.timing.scheduler import Pace, TimeLimits, load_arms, take_turns

ROUNDS = 4


@dataclass(frozen=True)
class Timed:
    """Median latency of one photograph in milliseconds, None with the `reason` where it could not be measured."""

    artifact: Artifact
    device: str
    threads: int
    p50_ms: float | None
    reason: str = ""


def time_artifacts(
    artifacts: Sequence[Artifact],
    devices: Sequence[str],
    threads: Sequence[int],
    pixels: NDArray[np.uint8],
    reporter: Reporter,
) -> list[Timed]:
    """Measure every artifact on every device with every number of threads, in rounds.

    `pixels` are preprocessed photographs, uint8 [n, height, width, 3], which all artifacts take. The artifacts must
    be files: each process reads its own.
    """
    arms = [Arm(artifact, device, count, 1) for artifact in artifacts for device in devices for count in threads]
    with scratch_folder("edgetl-timing-") as folder:
        path = folder / "pictures"
        path.write_bytes(pixels.tobytes())
        prepared = Prepared({artifact.card.preprocess: path for artifact in artifacts}, tuple(range(len(pixels))))
        try:
            load_arms(arms, prepared, [], reporter, TimeLimits(), WorkerProcess)
            take_turns(arms, Pace(ROUNDS, ROUNDS), reporter, TimeLimits())
        finally:
            for arm in arms:
                arm.close()
    return [
        Timed(
            arm.artifact,
            arm.device,
            arm.threads,
            float(np.median(np.concatenate(arm.rounds))) if arm.rounds and not arm.reason else None,
            arm.reason,
        )
        for arm in arms
    ]
