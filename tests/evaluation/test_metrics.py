"""Metrics against cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from toolchain.evaluation.metrics import measure


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
