"""Metrics against cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from toolchain.training.metrics import expected_calibration_error, fit_rejection, fit_temperature, measure


def test_accuracies_are_counted() -> None:
    logits = np.array([[3, 1, 0], [3, 1, 0], [0, 1, 0], [0, 2, 1]], np.float32)
    labels = np.array([0, 1, 1, 2])
    metrics = measure(logits, labels, 1.0)
    assert metrics.n == 4
    assert metrics.top1 == pytest.approx(2 / 4)
    assert metrics.per_class_top1 == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert metrics.top5 == 1
    assert metrics.confusion == [[1, 0, 0], [1, 1, 0], [0, 1, 0]]


def test_classes_without_photographs_do_not_count() -> None:
    metrics = measure(np.eye(5, dtype=np.float32)[:2], np.array([0, 1]), 1.0)
    assert metrics.per_class_top1 == 1


def test_temperature_of_overconfident_logits_is_found() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(4000, 5)).astype(np.float32)
    probabilities = np.exp(true) / np.exp(true).sum(1, keepdims=True)
    labels = np.array([rng.choice(5, p=row) for row in probabilities])
    assert fit_temperature(true * 3, labels) == pytest.approx(3, rel=0.1)
    assert expected_calibration_error(true, labels) < 0.03 < expected_calibration_error(true * 3, labels)


def test_rejection_accepts_the_share_it_promises() -> None:
    logits = np.random.default_rng(1).normal(size=(1000, 4)).astype(np.float32)
    reject = fit_rejection(logits, 0.5)
    confidence = np.exp(logits / 0.5).max(1) / np.exp(logits / 0.5).sum(1)
    assert (confidence >= reject.threshold).mean() == pytest.approx(0.95, abs=0.002)
