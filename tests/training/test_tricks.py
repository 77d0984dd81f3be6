"""The training tricks: each does what its name says, and none of them changes a run that does not ask for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.conftest import QUICK
from toolchain.backbones import recipes
from toolchain.backbones.networks import build, head_of
from toolchain.errors import BadInputError
from toolchain.runs import read_run
from toolchain.training import loop, trainer
from toolchain.training.crops import draw_view, make_view
from toolchain.training.finetune import finetune, resume
from toolchain.training.settings import GENTLE_RATES, TrainSettings, settings_for
from toolchain.training.trainer import optimiser_for, share_of_rate, start_head


def _trained(folder: Path, data: Path, weights: Path, **more: object) -> dict[str, Tensor]:
    """The network after one epoch, as training left it (not its average), by torchvision's names."""
    settings = TrainSettings(str(data), weights=str(weights), **{**QUICK, "epochs": 1, **more})  # type: ignore[arg-type]
    finetune(settings, folder)
    state = load_file(folder / "checkpoint" / "state.safetensors")
    return {name.removeprefix("network/"): t for name, t in state.items() if name.startswith("network/")}


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("cosine", [1.0, 0.75, 0.5, 0.25, 0.0]),
        ("linear", [1.0, 2 / 3, 0.5, 1 / 3, 0.0]),
        ("step", [1.0, 0.1, 0.1, 0.01, 0.01]),
        ("constant", [1.0] * 5),
    ],
)
def test_schedules(schedule: str, shares: list[float]) -> None:
    places = [0.0, 1 / 3 + 1e-9, 0.5, 2 / 3 + 1e-9, 1.0]
    found = [share_of_rate(schedule, at, 0.0) for at in places]  # type: ignore[arg-type]
    assert found == pytest.approx(shares, abs=1e-6)
    # With a warm-up, the rate rises to the whole and then does the same in what is left.
    assert share_of_rate(schedule, 0.1, 0.2) == pytest.approx(0.5)  # type: ignore[arg-type]
    later = [share_of_rate(schedule, 0.2 + 0.8 * at, 0.2) for at in places]  # type: ignore[arg-type]
    assert later == pytest.approx(shares, abs=1e-6)


@pytest.mark.parametrize("name", ["adamw", "adam", "rmsprop", "sgd"])
def test_every_optimiser_finds_the_bottom_of_a_bowl(name: str) -> None:
    settings = TrainSettings("unused", optimizer=name, learning_rate=0.05, weight_decay=0.0)  # type: ignore[arg-type]
    weight = nn.Parameter(torch.tensor([3.0, -2.0]))
    optimiser = optimiser_for([weight], settings)
    for _ in range(200):
        optimiser.zero_grad()
        torch.autograd.backward((weight**2).sum())
        optimiser.step()
    assert weight.abs().max() < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_a_run_with_another_optimiser_resumes_to_the_same_bytes(
    tmp_path: Path, drawn_folder: Path, weights: Path, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrainSettings(str(drawn_folder), weights=str(weights), optimizer=optimizer, **QUICK)  # type: ignore[arg-type]
    whole = finetune(settings, tmp_path / "whole")
    original = loop.save_state

    def killed(*arguments: object) -> None:
        original(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_state", killed)
        with pytest.raises(KeyboardInterrupt):
            finetune(settings, tmp_path / "broken")
    resumed = resume(tmp_path / "broken")
    assert resumed.settings == whole.settings
    assert resumed.metrics == whole.metrics
    first, second = (
        load_file(tmp_path / name / "checkpoint" / "state.safetensors") for name in ("whole", "broken")
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_rate_is_made_for_one_optimiser() -> None:
    recipe = recipes.load("mobilenet_v2")
    assert settings_for("photos", "mobilenet_v2", recipe, optimizer="adamw").learning_rate == 1e-4
    assert settings_for("photos", "mobilenet_v2", recipe, optimizer="sgd").learning_rate == GENTLE_RATES["sgd"]
    assert settings_for("photos", "mobilenet_v2", recipe, optimizer="sgd", learning_rate=0.5).learning_rate == 0.5
    assert TrainSettings("photos", weights="none", optimizer="sgd").learning_rate == 5e-2


def test_statistics_of_batch_norm_are_learned_where_asked(
    tmp_path: Path, drawn_folder: Path, weights: Path
) -> None:
    before = load_file(weights)
    after = _trained(tmp_path / "run", drawn_folder, weights, batch_norm="trained", trained_blocks=2)
    changed = {
        name for name, tensor in before.items() if "running" in name and not torch.equal(after[name], tensor)
    }
    # Of the last two blocks only: what stands before them is frozen whole.
    assert changed == {name for name in before if "running" in name and int(name.split(".")[1]) >= 11}


@pytest.mark.parametrize("kind", ["random", "zeros"])
def test_fine_tuning_can_start_from_a_head_without_knowledge(kind: str) -> None:
    network = build("mobilenet_v3_small", 3)
    head = head_of(network)
    nn.init.constant_(head.weight, 7.0)
    start_head(head, TrainSettings("unused", head_init="probe"))
    assert (head.weight == 7).all()
    start_head(head, TrainSettings("unused", head_init=kind))  # type: ignore[arg-type]
    if kind == "zeros":
        assert not head.weight.any()
        assert not head.bias.any()
    else:
        first = head.weight.detach().clone()
        assert first.abs().max() <= 576**-0.5
        assert first.std().item() == pytest.approx((576 * 3) ** -0.5, rel=0.05)
        start_head(head, TrainSettings("unused", head_init="random"))
        assert torch.equal(head.weight, first)
        start_head(head, TrainSettings("unused", head_init="random", seed=1))
        assert not torch.equal(head.weight, first)


def test_what_is_kept_where_no_epoch_is_better_is_the_probe_and_not_the_head_training_began_with(
    tmp_path: Path, drawn_folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "score_of", lambda metrics, probe: (1.0, 0.0))
    after = _trained(tmp_path / "run", drawn_folder, weights, head_init="zeros", learning_rate=1e-9)
    assert after["classifier.1.weight"].abs().max() < 1e-6
    assert read_run(tmp_path / "run").model.kept == "probe"
    kept = load_file(tmp_path / "run" / "model.safetensors")
    assert kept["classifier.1.weight"].abs().max() > 1e-3


@pytest.mark.slow
def test_gradients_are_clipped_to_the_norm_that_is_asked_for(
    tmp_path: Path, drawn_folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: dict[float, list[float]] = {}
    original = torch.optim.SGD.step

    for clip in (0.0, 0.01):
        seen = norms.setdefault(clip, [])

        def step(self: torch.optim.SGD, *rest: object, seen: list[float] = seen) -> object:
            gradients = [p.grad.flatten() for group in self.param_groups for p in group["params"]]
            seen.append(float(torch.cat(gradients).norm()))
            return original(self, *rest)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(torch.optim.SGD, "step", step)
            _trained(tmp_path / str(clip), drawn_folder, weights, max_grad_norm=clip, optimizer="sgd")
    assert max(norms[0.0]) > 0.1
    assert max(norms[0.01]) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.slow
def test_dropout_drops_the_share_that_is_asked_for(
    tmp_path: Path, drawn_folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks: list[Tensor] = []
    original = trainer.Trainer._mask

    def kept(self: trainer.Trainer, *arguments: object) -> Tensor:
        masks.append(original(self, *arguments))  # type: ignore[arg-type]
        return masks[-1]

    monkeypatch.setattr(trainer.Trainer, "_mask", kept)
    for dropout, expected in ((0.75, 0.75), (0.0, 0.0), (None, 0.2)):
        masks.clear()
        _trained(tmp_path / str(dropout), drawn_folder, weights, dropout=dropout)
        mask = torch.cat(masks)
        assert (mask == 0).float().mean().item() == pytest.approx(expected, abs=0.02)
        # What is kept is scaled up, so that the head sees as much as without.
        assert mask.max().item() == pytest.approx(1 / (1 - expected))


def test_augmentation_of_none_shows_what_the_network_is_judged_on() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    view = draw_view(40, 60, np.random.default_rng(1), 0.25, 0.0)
    np.testing.assert_array_equal(make_view(image, view, 40, 40), image[:, 10:50])
    view = draw_view(40, 60, np.random.default_rng(1), 0.25, 0.0, shown=0.5)
    np.testing.assert_array_equal(make_view(image, view, 20, 20), image[10:30, 20:40])
    view = draw_view(40, 60, np.random.default_rng(1), 0.25, 0.0, "squash")
    np.testing.assert_array_equal(make_view(image, view, 40, 60), image)


def test_stronger_augmentation_shows_less_in_stranger_light() -> None:
    def drawn(strength: float) -> tuple[float, float, float]:
        views = [draw_view(200, 300, np.random.default_rng(seed), 0.5, strength) for seed in range(300)]
        areas = [view.height * view.width / 60_000 for view in views]
        return min(areas), float(np.std([view.shift for view in views])), float(np.std([v.gain[0] for v in views]))

    gentle, usual, strong = drawn(0.5), drawn(1.0), drawn(2.0)
    assert gentle[0] > 0.6 > usual[0] > 0.45 > strong[0] > 0.2
    assert gentle[1] < usual[1] < strong[1]
    assert gentle[2] < usual[2] < strong[2]


def test_the_usual_augmentation_is_what_it_always_was() -> None:
    """Recorded before `--augmentation` was there: older runs can be repeated bit for bit."""
    view = draw_view(300, 400, np.random.default_rng(5), 0.25)
    assert (view.top, view.left, view.height, view.width, view.mirrored) == (3, 26, 293, 350, True)
    assert [*view.gain, view.shift] == [
        0.764278783800792,
        0.7670095104576372,
        0.7275025925777607,
        -22.5621144636416,
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dropout": 1.0}, "--dropout must be at least 0 and below 1"),
        ({"warm_up": -0.1}, "--warm-up"),
        ({"max_grad_norm": -1.0}, "--max-grad-norm"),
        ({"max_grad_norm": float("nan")}, "--max-grad-norm"),
        ({"weight_decay": -1.0}, "--weight-decay"),
        ({"augmentation": 3.0}, "--augmentation must be at least 0 and at most 2, not 3"),
        ({"label_smoothing": 1.0}, "--label-smoothing"),
        ({"batch_norm": "frozen", "weights": "none"}, "no statistics"),
    ],
)
def test_tricks_that_make_no_sense(change: dict[str, object], says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        TrainSettings("unused", **change)  # type: ignore[arg-type]


def test_a_batch_of_one_photograph_has_no_statistics_to_learn(tmp_path: Path, drawn_folder: Path) -> None:
    """A hidden layer normalises after the pooling, where one picture is one value."""
    more = {"model": "timm:mobilenetv4_conv_small_050", "weights": "none", "epochs": 1, "batch_size": 1}
    finetune(TrainSettings(str(drawn_folder), **{**QUICK, **more}), tmp_path / "run")  # type: ignore[arg-type]
    assert read_run(tmp_path / "run").model.name.startswith("timm:mobilenetv4_conv_small_050")
