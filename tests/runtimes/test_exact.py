"""float32 stays float32 on GPUs, and what these use is not the processor's energy: as far as a CPU can tell."""

from __future__ import annotations

import pytest
import torch

from toolchain.runtimes.devices import is_cpu
from toolchain.runtimes.torch import without_tf32


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("ort:cpu", True),
        ("openvino:CPU", True),
        ("torch:cpu", True),
        ("torch:cpu+bf16+compile", True),
        ("ort:cuda", False),
        ("ort:cuda:1", False),
        ("ort:tensorrt", False),
        ("openvino:GPU.0", False),
        ("openvino:NPU", False),
        ("openvino:AUTO:GPU,CPU", False),
        ("torch:cuda+graph", False),
        ("torch:mps", False),
    ],
)
def test_energy_is_counted_where_the_processor_computes(device: str, expected: bool) -> None:
    assert is_cpu(device) == expected


def test_convolutions_on_a_gpu_are_not_rounded_to_tf32() -> None:
    before = torch.backends.cudnn.allow_tf32
    with without_tf32(torch.device("cuda")):
        assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.enabled
    assert torch.backends.cudnn.allow_tf32 == before
    assert not torch.backends.cuda.matmul.allow_tf32, "the default of matrix products"
