"""Beside IBM's Adversarial Robustness Toolbox."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier

from tests.explain.attack_support import LABELS, SIZE, drawn, small_subject
from toolchain.explain.attack import AttackConfig, attack
from toolchain.explain.torch_model import TorchModel


class _Channels(torch.nn.Module):
    """The network with pixels as the toolbox has them: float32 [batch, 3, height, width], 0 to 255."""

    def __init__(self, subject: TorchModel) -> None:
        super().__init__()
        self.subject = subject

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.subject.logits(pixels.permute(0, 2, 3, 1))


@pytest.fixture(scope="module")
def subject() -> Iterator[TorchModel]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more only get into each other's way on a network this small
    yield small_subject()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def reference(subject: TorchModel) -> PyTorchClassifier:
    return PyTorchClassifier(
        _Channels(subject),
        torch.nn.CrossEntropyLoss(),
        (3, SIZE, SIZE),
        len(LABELS),
        clip_values=(0.0, 255.0),
        device_type="cpu",
    )


def _in(pixels: np.ndarray) -> np.ndarray:
    return pixels.transpose(0, 3, 1, 2).astype(np.float32)


def _out(pixels: np.ndarray) -> np.ndarray:
    return pixels.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("target", [None, 3])
def test_fgsm_is_the_same_to_the_pixel(
    subject: TorchModel, reference: PyTorchClassifier, target: int | None
) -> None:
    pixels = drawn(8)
    ours = attack(subject, pixels, 4, target=target, config=AttackConfig("fgsm"))
    theirs = FastGradientMethod(reference, np.inf, 4.0, targeted=target is not None, batch_size=8)
    wanted = ours.labels if target is None else np.full(8, target)
    expected = _out(theirs.generate(_in(pixels), y=wanted))
    same = (ours.pixels == expected).mean()
    # Where the gradient is nothing but rounding, its sign may be either.
    assert same > 0.999, same


@pytest.mark.parametrize(("norm", "budget"), [("linf", 6), ("l2", 300)])
@pytest.mark.parametrize("targeted", [False, True])
def test_pgd_in_bytes_is_as_strong_as_theirs_once_that_is_rounded(
    subject: TorchModel, reference: PyTorchClassifier, norm: str, budget: int, targeted: bool
) -> None:
    pixels = drawn(24)
    with torch.no_grad():
        present = subject.logits(torch.tensor(pixels)).argmax(1).numpy()
    goal = (present + 1) % len(LABELS) if targeted else present
    ours = attack(
        subject,
        pixels,
        budget,
        target=goal.tolist() if targeted else None,
        config=AttackConfig(norm=norm, steps=20),
    )  # type: ignore[arg-type]
    theirs = ProjectedGradientDescentPyTorch(
        reference,
        norm=np.inf if norm == "linf" else 2,
        eps=float(budget),
        eps_step=budget / 8,
        max_iter=20,
        targeted=targeted,
        batch_size=24,
        verbose=False,
    )
    rounded = _out(theirs.generate(_in(pixels), y=goal)).round().clip(0, 255).astype(np.uint8)
    with torch.no_grad():
        said = subject.logits(torch.tensor(rounded)).argmax(1).numpy()
    their_share = ((said == goal) if targeted else (said != goal)).mean()
    assert ours.turned.mean() >= their_share - 1 / 24, (ours.turned.mean(), their_share)
    assert ours.turned.any()
