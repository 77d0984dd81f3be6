"""The head that L-BFGS finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from toolchain.training import probe
from toolchain.training.probe import fit_head, start_from


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


def test_the_start_is_the_row_that_answers_a_class_best() -> None:
    features, labels = _blobs((30, 30), 0.2)
    old = np.stack([features[labels == 1].mean(0), np.zeros(8), features[labels == 0].mean(0)]).astype(np.float32)
    start = start_from((torch.from_numpy(old), torch.zeros(3)), features, labels, 2)
    np.testing.assert_allclose(start[:, :-1], (old - old.mean(0))[[2, 0]], rtol=1e-5)
