from __future__ import annotations

from dataclasses import replace

import pytest

from tests.bench.test_report import FLOAT, INT8, MACHINE, latency, report
from toolchain.doctor.recommendation import fastest, was_right

CPU = ("ort:cpu", "openvino:CPU")


@pytest.mark.parametrize(
    ("flags", "devices", "expected"),
    [
        (("avx2", "avx512f", "avx512_vnni"), CPU, ("int8", "openvino:CPU")),
        (("avx2",), CPU, ("int8", "openvino:CPU")),
        (("avx2",), ("ort:cpu",), ("float32", "ort:cpu")),
        (("asimddp", "i8mm"), ("ort:cpu",), ("int8", "ort:cpu")),
        ((), CPU, ("float32", "openvino:CPU")),
        (("avx512_vnni",), (*CPU, "ort:cuda", "torch:cuda"), ("float32", "ort:cuda")),
        (("avx512_vnni",), (*CPU, "openvino:GPU"), ("int8", "openvino:GPU")),
    ],
)
def test_guess(flags: tuple[str, ...], devices: tuple[str, ...], expected: tuple[str, str]) -> None:
    found = fastest(flags, devices)
    assert (found.precision, found.device) == expected
    assert found.why


def test_guess_is_held_against_what_was_measured() -> None:
    vnni = replace(MACHINE, flags=("avx512_vnni",))
    right = replace(report(FLOAT, INT8), environment=vnni)
    assert was_right(right) is True
    slow = replace(INT8, latency_ms=latency(9))
    assert was_right(replace(right, arms=(FLOAT, slow))) is False
    close = replace(INT8, latency_ms=latency(8.05))
    assert was_right(replace(right, arms=(FLOAT, close))) is True
    assert was_right(replace(right, arms=(FLOAT,))) is None
