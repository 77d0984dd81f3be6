"""What will be fastest here, by the processor's flags and the devices alone, before anything is measured."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from toolchain.artifact.card import Precision
from toolchain.bench.report import measured
from toolchain.bench.results import BenchReport

BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""With these OpenVINO computes float files in bfloat16 (`openvino:CPU+bf16`)."""

INT8_FLAGS = frozenset({"amx_int8", "avx512_vnni", "avx_vnni", "asimddp", "i8mm"})
"""With these a processor multiplies and adds int8 in one instruction."""


@dataclass(frozen=True)
class Recommendation:
    """The arm that ought to have the lowest latency for one photograph, and why."""

    precision: Precision
    device: str
    why: str


def fastest(flags: Collection[str], devices: Collection[str]) -> Recommendation:
    """Guess from the flags (those of `machine.FLAGS` that the processor has) and the devices that were found.

    A rule, not a measurement: `edgetl bench` measures, and `was_right` holds the two against each other.
    """
    for device, precision, why in (
        ("ort:tensorrt", "float32", "TensorRT compiles the network for this GPU"),
        ("ort:cuda", "float32", "a GPU of NVIDIA"),
        ("torch:cuda", "float32", "a GPU of NVIDIA, and no runtime but PyTorch that knows it"),
        ("openvino:NPU", "int8", "an NPU, which computes in int8"),
        ("openvino:GPU", "int8", "a GPU of Intel"),
    ):
        if device in devices:
            return Recommendation("int8" if precision == "int8" else "float32", device, why)
    device = "openvino:CPU" if "openvino:CPU" in devices else "ort:cpu"
    if found := sorted(INT8_FLAGS & set(flags)):
        why = f"the processor has instructions for int8 ({', '.join(found)})"
        if device == "openvino:CPU" and BFLOAT16_FLAGS & set(flags):
            why += ", and for bfloat16: openvino:CPU+bf16 runs the float file, and may be as fast"
        return Recommendation("int8", device, why)
    if "avx2" in flags and device == "openvino:CPU":
        return Recommendation("int8", device, "AVX2 computes more int8 than floats at once, and OpenVINO uses it")
    return Recommendation("float32", device, "no instructions for int8 are known here")


def was_right(report: BenchReport) -> bool | None:
    """Whether the guess for the report's machine is among the arms that measured fastest (batch 1).

    Arms whose interval meets that of the fastest count as fastest too. None when there is nothing to compare, or
    the arm that was guessed is not among them.
    """
    arms = [arm for arm in measured(report) if arm.batch == 1 and arm.latency_ms is not None]
    guess = fastest(report.environment.flags, [arm.device for arm in arms])
    guessed = [arm for arm in arms if (arm.precision, arm.device) == (guess.precision, guess.device)]
    if not guessed or len(arms) < 2:
        return None
    bounds = [arm.latency_ms.p50_ci95 for arm in arms if arm.latency_ms]
    limit = min(high for _, high in bounds)
    return any(arm.latency_ms.p50_ci95[0] <= limit for arm in guessed if arm.latency_ms)
