"""Convolutions that leave autocast give the same answers, and are put back afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.conftest import QUICK, lively
from toolchain.backbones.networks import normalised
from toolchain.training import trainer
from toolchain.training.finetune import finetune
from toolchain.training.settings import TrainSettings
from toolchain.training.trainer import strided_depthwise_in_float32


def test_only_strided_depthwise_convolutions_compute_in_float32() -> None:
    network = lively("mobilenet_v2", 5, seed=0)
    seen: dict[str, torch.dtype] = {}
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda _, __, answer, name=name: seen.update({name: answer.dtype}))  # type: ignore[misc]
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    outputs = []
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            outputs.append(network(normalised(images)))
    assert torch.equal(*outputs)
    with strided_depthwise_in_float32(network), torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        within = network(normalised(images))
    assert torch.allclose(within.float(), outputs[0].float(), atol=0.2 * float(outputs[0].abs().max()))
    strided = [
        n for n, m in network.named_modules() if isinstance(m, torch.nn.Conv2d) and m.groups > 1 and m.stride[0] > 1
    ]
    assert len(strided) == 4
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert torch.equal(network(normalised(images)), outputs[0])
    assert not any("forward" in vars(module) for module in network.modules())


def test_gradients_reach_the_weights() -> None:
    conv = torch.nn.Conv2d(4, 4, 3, 2, 1, groups=4)
    maps = torch.randn(1, 4, 8, 8)
    expected = torch.autograd.grad(conv(maps).square().sum(), conv.weight)[0]
    with strided_depthwise_in_float32(conv), torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(conv(maps).square().sum(), conv.weight)[0]
    torch.testing.assert_close(found, expected)


def test_frozen_blocks_compute_in_bfloat16_too(
    tmp_path: Path, drawn_folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU they are most of a step."""
    monkeypatch.setattr(trainer, "has_fast_bfloat16", lambda device: True)
    real, low = trainer.Trainer._maps, []

    def maps(self: trainer.Trainer, images: torch.Tensor) -> torch.Tensor:
        low.append(torch.is_autocast_enabled("cpu"))
        return real(self, images)

    monkeypatch.setattr(trainer.Trainer, "_maps", maps)
    settings = TrainSettings(str(drawn_folder), weights=str(weights), **{**QUICK, "epochs": 1})  # type: ignore[arg-type]
    finetune(settings, tmp_path / "run")
    assert set(low) == {True}
