"""The head that L-BFGS finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from toolchain.training import probe
from toolchain.training.probe import balancing, fit_head, start_from
from toolchain.training.settings import Balance


def _blobs(counts: tuple[int, ...], spread: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(len(counts), 8))
    labels = np.repeat(np.arange(len(counts)), counts)
    return (centres[labels] + spread * rng.normal(size=(len(labels), 8))).astype(np.float32), labels


def test_separable_classes_are_separated() -> None:
    features, labels = _blobs((50, 50, 50), 0.3)
    weight, bias = fit_head(features, labels, 3)
    assert weight.shape == (3, 8)
    assert ((features @ weight.T + bias).argmax(1) == labels).mean() > 0.97


def test_scale_of_the_features_does_not_matter() -> None:
    features, labels = _blobs((50, 50, 50), 1.0)
    weight, bias = fit_head(features, labels, 3)
    tiny, tiny_bias = fit_head(features * 1e-4, labels, 3)
    np.testing.assert_allclose(features @ weight.T + bias, features * 1e-4 @ tiny.T + tiny_bias, atol=2e-3)


def test_rare_classes_are_answered_more_often_than_without_adjustment(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = _blobs((500, 20), 1.5)

    def answered_rare() -> int:
        weight, bias = fit_head(features, labels, 2)
        return int((features @ weight.T + bias).argmax(1).sum())

    adjusted = answered_rare()
    monkeypatch.setattr(probe, "PRIOR_STRENGTH", 0.0)
    assert adjusted > answered_rare()


def test_the_start_is_the_rows_that_answer_a_class() -> None:
    features, labels = _blobs((30, 30), 0.2)
    means = [features[labels == label].mean(0) for label in range(2)]
    # Row 0 answers class 1; rows 1 and 2 share class 0.
    old = 20 * np.stack([means[1], means[0], means[0]]).astype(np.float32)
    bias = -(old**2).sum(1) / 40
    start = start_from((torch.from_numpy(old), torch.from_numpy(bias)), features, labels, 2)
    rows = np.concatenate([old, bias[:, None]], axis=1)
    np.testing.assert_allclose(start, (rows - rows.mean(0))[[1, 0]], rtol=1e-2, atol=1e-2)


def test_a_class_that_stays_starts_from_its_own_row() -> None:
    """Whatever the old head answers to its photographs: the name decides."""
    features, labels = _blobs((50, 50), 0.3)
    old = (torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(3))
    rows = np.concatenate([old[0].numpy(), old[1].numpy()[:, None]], axis=1)
    rows -= rows.mean(0)
    start = start_from(old, features, labels, 2, {1: 2})
    np.testing.assert_allclose(start[1], rows[2], atol=1e-6)
    np.testing.assert_allclose(start[0], start_from(old, features, labels, 2)[0])


@pytest.mark.parametrize("balance", ["logit-adjustment", "weights", "none"])
def test_balance_says_how_much_rare_classes_count(balance: Balance) -> None:
    """Two overlapping clouds of 180 and 20: where they meet, the common class wins least by `weights`."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [180, 20])
    features = (rng.normal(size=(200, 8)) + labels[:, None] * 0.6).astype(np.float32)
    weight, bias = fit_head(features, labels, 2, balance=balance)
    rare = ((features @ weight.T + bias).argmax(1) == 1).mean()
    expected = {"none": (0.0, 0.06), "logit-adjustment": (0.06, 0.16), "weights": (0.16, 0.5)}[balance]
    assert expected[0] <= rare < expected[1], rare
    adjustment, weights = balancing(labels, 2, balance)
    assert (adjustment[0] > adjustment[1]) == (balance == "logit-adjustment")
    np.testing.assert_allclose(weights, [200 / 360, 200 / 40] if balance == "weights" else [1, 1])
