"""Attacks keep to their budget in pixels of bytes, and turn answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.explain.attack_support import drawn, small_subject
from toolchain.backbones.networks import normalised
from toolchain.errors import BadInputError
from toolchain.explain.attack import AttackConfig, attack, largest_budget, length, project, round_within_budget
from toolchain.explain.attack.dataset import _attack_chunk
from toolchain.explain.attack.one import attack_photograph, smallest_budget
from toolchain.explain.pictures import CroppedImage
from toolchain.explain.torch_model import TorchModel


@pytest.fixture(scope="module")
def subject() -> Iterator[TorchModel]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more only get into each other's way on a network this small
    yield small_subject()
    torch.set_num_threads(threads)


def _answers(subject: TorchModel, pixels: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return subject.logits(torch.tensor(pixels)).argmax(1).numpy()


@pytest.mark.parametrize("method", ["fgsm", "pgd"])
@pytest.mark.parametrize(("norm", "budget"), [("linf", 3), ("l2", 90)])
@pytest.mark.parametrize("target", [None, 2])
def test_budget_is_kept_and_used_in_whole_steps(
    subject: TorchModel, method: str, norm: str, budget: int, target: int | None
) -> None:
    pixels = drawn(6)
    done = attack(subject, pixels, budget, target=target, config=AttackConfig(method, norm))  # type: ignore[arg-type]
    assert done.pixels.dtype == np.uint8
    change = done.pixels.astype(int) - pixels
    size = np.abs(change).max((1, 2, 3)) if norm == "linf" else np.sqrt((change**2).sum((1, 2, 3)))
    assert (size <= budget).all()
    moved = (done.pixels != pixels).any((1, 2, 3))
    assert moved.any()
    assert (size[moved] > 0.9 * budget).all(), "rounding must not eat the budget"
    assert (done.largest == np.abs(change).max((1, 2, 3))).all()


def test_what_it_says_is_what_the_network_says(subject: TorchModel) -> None:
    pixels = drawn(6)
    done = attack(subject, pixels, 16, target=1)
    with torch.no_grad():
        again = subject.probabilities(torch.tensor(done.pixels)).numpy()
        before = subject.probabilities(torch.tensor(pixels)).numpy()
    np.testing.assert_allclose(done.after, again, atol=1e-4)
    np.testing.assert_allclose(done.before, before, atol=1e-4)
    assert (done.turned == (_answers(subject, done.pixels) == 1)).all()


def test_pgd_turns_answers_into_the_target_and_away(subject: TorchModel) -> None:
    pixels = drawn(8)
    present = _answers(subject, pixels)
    done = attack(subject, pixels, 24, config=AttackConfig(steps=20))
    assert (_answers(subject, done.pixels) != present).mean() >= 0.75
    targets = (present + 1) % 4
    aimed = attack(subject, pixels, 24, target=targets.tolist(), config=AttackConfig(steps=20))
    assert (_answers(subject, aimed.pixels) == targets).mean() >= 0.75


def test_the_seed_decides_and_the_batch_does_not(subject: TorchModel) -> None:
    pixels = drawn(3)
    first, again = (attack(subject, pixels, 4, config=AttackConfig(steps=1)) for _ in range(2))
    other = attack(subject, pixels, 4, config=AttackConfig(steps=1, seed=1))
    alone = attack(subject, pixels[1:2], 4, config=AttackConfig(steps=1))
    assert (first.pixels == again.pixels).all()
    assert (first.pixels != other.pixels).any()
    # Convolutions of other batches round differently, which may turn a few signs.
    assert (alone.pixels[0] == first.pixels[1]).mean() > 0.95


def test_pictures_are_left_alone_once_the_confidence_is_reached(subject: TorchModel) -> None:
    pixels = drawn(4)
    whole_way = attack(subject, pixels, 24, config=AttackConfig(steps=20))
    barely = attack(subject, pixels, 24, config=AttackConfig(steps=20, confidence=0.1))
    assert (barely.turned == whole_way.turned).all()
    assert barely.margin.sum() < whole_way.margin.sum()


def test_labels_that_are_not_the_answer_already_cost_nothing(subject: TorchModel) -> None:
    pixels = drawn(3)
    others = (_answers(subject, pixels) + 1) % 4
    done = attack(subject, pixels, 4, labels=others.tolist(), config=AttackConfig(confidence=0.0))
    assert done.turned.all()
    assert (done.pixels == pixels).all()


def test_no_budget_no_change(subject: TorchModel) -> None:
    pixels = drawn(2)
    done = attack(subject, pixels, 0, target=0)
    assert (done.pixels == pixels).all()


@pytest.mark.parametrize(
    ("budget", "config"),
    [(-1, AttackConfig()), (256, AttackConfig()), (28_269, AttackConfig(norm="l2")), (4, AttackConfig(steps=0))],
)
def test_budgets_and_steps_that_cannot_be(subject: TorchModel, budget: int, config: AttackConfig) -> None:
    assert largest_budget("l2", 64, 64) == 28_268
    with pytest.raises(BadInputError):
        attack(subject, drawn(1), budget, config=config)


def test_short_changes_in_l2_survive_rounding() -> None:
    rng = torch.Generator().manual_seed(0)
    change = torch.randn((2, 64, 64, 3), generator=rng)
    pixels = torch.full_like(change, 128.0)
    budget = torch.full((2, 1, 1, 1), 10.0)
    inside = project(change, pixels, budget, "l2")
    assert inside.round().abs().sum() == 0, "this is what plain rounding leaves"
    kept = round_within_budget(inside, pixels, budget, "l2")
    assert (length(kept) <= 10).all()
    assert (length(kept) > 9).all()
    assert ((kept == 0) | (kept.sign() == change.sign())).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_smallest_budget_is_where_it_turns(subject: TorchModel, norm: str) -> None:
    picture = drawn(2)[1]
    found = smallest_budget(subject, picture, config=AttackConfig(norm=norm, steps=20))  # type: ignore[arg-type]
    assert found is not None
    assert found.tried[found.budget]
    assert found.budget == 1 or found.tried[found.budget - 1] is False
    assert _answers(subject, found.attacked.pixels)[0] != _answers(subject, picture[None])[0]
    size = found.attacked.largest[0] if norm == "linf" else found.attacked.length[0]
    assert 0 < size <= found.budget


def test_no_budget_turns_a_network_that_looks_at_nothing(subject: TorchModel) -> None:
    class Constant(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[9.0, 0, 0, 0]]).repeat(len(pixels), 1) + 0 * pixels.sum((1, 2, 3))[:, None]

    deaf = replace(subject, network=Constant())
    assert smallest_budget(deaf, drawn(1)[0], config=AttackConfig(steps=1)) is None


class _OnlyALittleBrighter(torch.nn.Module):
    """Takes a picture for the second class while it is brighter than 100 by about 1 to 3, and never otherwise."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        steps = 57  # 255 times the deviation by which pixels were divided
        brighter = steps * (pixels - normalised(torch.full((1, 1, 1, 3), 100))).mean((1, 2, 3))
        none = torch.zeros_like(brighter)
        return 20 * torch.stack([none, 1 - (brighter - 2).abs(), none - 1, none - 1], 1)


@pytest.fixture
def narrow(subject: TorchModel) -> tuple[TorchModel, np.ndarray]:
    """A network that large steps overshoot, and a picture that a budget of 4 turns and one of 60 alone does not."""
    return replace(subject, network=_OnlyALittleBrighter()), np.full((64, 64, 3), 100, np.uint8)


def test_a_large_budget_never_does_less_than_the_smallest(
    narrow: tuple[TorchModel, np.ndarray], tmp_path: Path
) -> None:
    model, picture = narrow
    config = AttackConfig(steps=1)
    assert not attack(model, picture[None], 60, config=config).turned[0]
    done = attack_photograph(model, tmp_path / "grey.png", picture, 60, tmp_path, [], config=config)
    assert done.least is not None
    assert done.least.budget < 60
    assert done.attacked.turned[0]
    assert _answers(model, done.attacked.pixels)[0] == 1
    assert 0 < done.attacked.largest[0] <= done.least.budget


def test_the_curve_of_pgd_does_not_rise(narrow: tuple[TorchModel, np.ndarray]) -> None:
    model, picture = narrow
    placed = CroppedImage.of(picture, model.preprocess)
    _, examples = _attack_chunk(model, [], [("grey.png", 0, placed)], (0, 4, 60), None, AttackConfig(steps=1))
    assert {one.budget: bool(one.attacked.turned[0]) for one in examples} == {0: False, 4: True, 60: True}
    # FGSM is the one step of its budget: 2 is in the band, 60 beyond it.
    _, examples = _attack_chunk(model, [], [("grey.png", 0, placed)], (0, 2, 60), None, AttackConfig("fgsm"))
    assert {one.budget: bool(one.attacked.turned[0]) for one in examples} == {0: False, 2: True, 60: False}
