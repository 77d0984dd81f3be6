from __future__ import annotations

import pytest

from toolchain.doctor.report import fastest

CPU = ("ort:cpu", "openvino:CPU")


@pytest.mark.parametrize(
    ("flags", "devices", "expected"),
    [
        (("avx2", "avx512f", "avx512_vnni"), CPU, ("int8", "openvino:CPU")),
        (("avx2",), CPU, ("int8", "openvino:CPU")),
        (("avx2",), ("ort:cpu",), ("float32", "ort:cpu")),
        (("asimddp", "i8mm"), ("ort:cpu",), ("int8", "ort:cpu")),
        (("asimddp",), CPU, ("int8", "ort:cpu")),  # OpenVINO refuses int8 files on Arm
        ((), CPU, ("float32", "openvino:CPU")),
        (("avx512_vnni",), (*CPU, "ort:cuda", "torch:cuda"), ("float32", "ort:cuda")),
        (("avx512_vnni",), (*CPU, "openvino:GPU"), ("int8", "openvino:GPU")),
    ],
)
def test_guess(flags: tuple[str, ...], devices: tuple[str, ...], expected: tuple[str, str]) -> None:
    found = fastest(flags, devices)
    assert (found.precision, found.device) == expected
    assert found.why
