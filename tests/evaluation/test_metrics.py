"""Metrics against cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from toolchain.evaluation.metrics import (
    accuracy,
    accuracy_drop,
    agreement,
    calibration_bins,
    log_odds,
    log_softmax,
    log_sum_exp,
    measure,
    relative_difference,
    softmax,
)
from toolchain.evaluation.statistics import wilson_ci95
from toolchain.runs import CONFUSION_CLASSES
from toolchain.system.files import to_json


@pytest.mark.parametrize("temperature", [0.3, 1.0, 7.0])
def test_probabilities_are_those_of_scipy(temperature: float) -> None:
    logits = (300 * np.random.default_rng(0).normal(size=(50, 7))).astype(np.float32)
    scaled = logits / temperature
    np.testing.assert_array_equal(softmax(logits, temperature), special.softmax(scaled, axis=1))
    np.testing.assert_array_equal(log_softmax(logits, temperature), special.log_softmax(scaled, axis=1))
    np.testing.assert_allclose(log_sum_exp(logits.astype(np.float64)), special.logsumexp(logits, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(softmax(logits[0]), special.softmax(logits[0]))
    assert softmax(logits).dtype == log_softmax(logits).dtype == np.float32


def test_log_odds_are_those_of_one_class_against_all_others() -> None:
    logits = np.array([[1.0, 0.0, 0.0], [200.0, 0.0, 0.0]], np.float32)
    assert log_odds(logits, 0) == pytest.approx([1 - np.log(2), 200 - np.log(2)])


def test_accuracy_weighs_classes_and_not_photographs_per_class() -> None:
    labels = np.array([0] * 9 + [2])
    found = accuracy(np.zeros(10, np.int64), labels)
    assert (found.n, found.top1, found.per_class_top1) == (10, 0.9, 0.5)
    assert found.top1_ci95 == wilson_ci95(9, 10)
    assert found.right.tolist() == [True] * 9 + [False]
    names = np.array(["cat", "dog"])
    assert accuracy(names[[0, 0, 1]], names[[0, 1, 1]]).top1 == pytest.approx(2 / 3)
    assert agreement(names[[0, 0, 1]], names[[0, 1, 1]]) == pytest.approx(2 / 3)


def test_a_difference_is_relative_to_the_largest_logit() -> None:
    reference = np.array([[1.0, -4.0]], np.float32)
    assert relative_difference(reference + np.float32(0.5), reference) == pytest.approx(0.125)
    assert relative_difference(reference, np.zeros((1, 2), np.float32)) == pytest.approx(4e6)
    for bad in (np.nan, np.inf):
        broken = np.array([[1.0, bad]], np.float32)
        pairs = ((broken, reference), (reference, broken), (broken, broken))
        assert all(relative_difference(*pair) == np.inf for pair in pairs)


def test_drop_is_paired_and_in_percentage_points() -> None:
    labels = np.array([0, 0, 0, 0])
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    base = np.array([right] * 8, np.float32)
    logits = np.array([wrong, *[right] * 7], np.float32)
    drop, upper = accuracy_drop(base, logits, labels)
    assert drop == pytest.approx(100 / 8)
    assert upper > drop


def test_bins_hold_answers_by_their_confidence() -> None:
    probabilities = np.array([[0.95, 0.05], [0.99, 0.01], [0.45, 0.55], [1.0, 0.0]], np.float32)
    bins = calibration_bins(probabilities, np.array([0, 1, 1, 0]))
    assert bins.counts.tolist() == [0] * 8 + [1] + [0] * 5 + [3]
    assert bins.accuracy[[8, 14]] == pytest.approx([1, 2 / 3])
    assert bins.confidence[14] == pytest.approx(2.94 / 3)
    assert bins.error == pytest.approx((0.45 + 3 * (2.94 / 3 - 2 / 3)) / 4)
    assert np.isnan(bins.accuracy[0])


def test_accuracies_are_counted() -> None:
    logits = np.array([[3, 1, 0], [3, 1, 0], [0, 1, 0], [0, 2, 1]], np.float32)
    labels = np.array([0, 1, 1, 2])
    metrics = measure(logits, labels, 1.0)
    assert metrics.n == 4
    assert metrics.top1 == pytest.approx(2 / 4)
    assert metrics.per_class_top1 == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert metrics.top5 == 1
    assert metrics.confusion == [[1, 0, 0], [1, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize(("classes", "rows"), [(CONFUSION_CLASSES, CONFUSION_CLASSES), (1000, 0)])
def test_run_json_of_many_classes_has_no_matrix(classes: int, rows: int) -> None:
    """A million numbers in each of four matrices made it 52 MB."""
    metrics = measure(np.eye(classes, dtype=np.float32)[:7], np.arange(7), 1.0)
    assert len(metrics.confusion) == rows
    assert len(to_json(metrics)) < 1_000_000
    assert metrics.top1 == metrics.per_class_top1 == 1


def test_classes_without_photographs_do_not_count() -> None:
    metrics = measure(np.eye(5, dtype=np.float32)[:2], np.array([0, 1]), 1.0)
    assert metrics.per_class_top1 == 1


def test_no_change_on_few_photographs_is_no_proof_that_there_is_none() -> None:
    labels = np.zeros(229, np.int64)
    base = np.tile(np.array([1.0, 0.0], np.float32), (229, 1))
    drop, upper = accuracy_drop(base, base, labels)
    assert drop == 0.0
    assert upper == pytest.approx(100 * (1 - 0.05 ** (1 / 229)), abs=0.01), "exact: 1.30 pp"
    assert accuracy_drop(base[:3], base[:3], labels[:3])[1] <= 100


@pytest.mark.parametrize(("lost", "gained"), [(0.003, 0.0), (0.01, 0.01), (0.03, 0.01), (0.1, 0.1)])
def test_the_bound_of_the_drop_holds_in_95_of_100_samples(lost: float, gained: float) -> None:
    rng, n, held = np.random.default_rng(4), 229, 0
    labels = np.zeros(n, np.int64)
    for _ in range(400):
        chance = rng.random(n)
        base, logits = (np.tile(np.array([1.0, 0.0], np.float32), (n, 1)) for _ in range(2))
        logits[chance < lost] = [0, 1]
        base[chance > 1 - gained] = [0, 1]
        held += accuracy_drop(base, logits, labels)[1] >= 100 * (lost - gained) - 1e-9
    assert held / 400 >= 0.93  # 0.95 less two standard errors
