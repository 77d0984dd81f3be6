"""What int8 promises, and what was measured of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from toolchain.artifact.card import Speed
from toolchain.export.context import Measurement


@dataclass(frozen=True)
class QuantizationSettings:
    """What `--int8` promises, and what may be done for it.

    At most `max_drop_pp` points of top-1 are lost, and a photograph takes less than 1 / `min_speed_up` of the time
    that float takes; 0 means that speed does not matter and is not measured.
    """

    max_drop_pp: float = 0.5
    min_speed_up: float = 1.0
    symmetric: bool = False
    qat_epochs: int = 0
    max_minutes: float = 3.0


@dataclass(frozen=True)
class Attempt:
    """One int8 recipe that was tried: what it lost on each target, and how fast it is there.

    `speeds` is empty where it was not timed. `chosen_for` are the devices that it was written for.
    """

    label: str
    quantiser: str
    settings: dict[str, Any]
    hops: tuple[Measurement, ...]
    size_mb: float
    speeds: tuple[Speed, ...] = ()
    chosen_for: tuple[str, ...] = ()

    def hop(self, device: str) -> Measurement:
        """What was measured on `device`."""
        return next(hop for hop in self.hops if hop.device == device)

    def speed_up(self, device: str) -> float | None:
        """How many times as fast as float on `device` (geometric mean over thread counts); None: not timed."""
        ratios = [speed.ratio for speed in self.speeds if speed.device == device]
        return math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios)) if ratios else None

    def broken(self, device: str, settings: QuantizationSettings) -> str | None:
        """Which promise is broken on `device`, and by how much; None when both are kept or speed is not known."""
        max_drop_pp, least = settings.max_drop_pp, settings.min_speed_up
        hop = self.hop(device)
        assert hop.drop_pp is not None
        if hop.drop_pp > max_drop_pp:
            return (
                f"int8 loses {hop.drop_pp:.2f} pp of top-1 on {device}, {hop.drop_pp - max_drop_pp:.2f} pp more "
                f"than --max-drop {max_drop_pp:g}"
            )
        for speed in self.speeds:
            if speed.device == device and speed.ratio <= least:
                return (
                    f"int8 is {speed.ratio:.2f} times as fast as float on {device}, not more than {least:g} times: "
                    f"{speed.int8_ms:.2f} ms against {speed.float_ms:.2f} ms, threads {speed.threads}"
                )
        return None
