"""Temperature and rejection, against cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from toolchain.evaluation.calibration import HeldOut, fit_rejection, fit_temperature, lower_limit
from toolchain.evaluation.metrics import calibration_bins, scores, softmax


def _logits(n: int, classes: int, seed: int, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).normal(size=(n, classes))).astype(np.float32)


def _held(logits: np.ndarray) -> HeldOut:
    return HeldOut(logits, np.zeros(len(logits), np.int64))


def _drawn(logits: np.ndarray, seed: int) -> np.ndarray:
    """Labels with the probabilities that `logits` mean."""
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    rng = np.random.default_rng(seed)
    return np.array([rng.choice(logits.shape[1], p=row) for row in probabilities])


def test_temperature_of_overconfident_logits_is_found() -> None:
    true = _logits(4000, 5, 0)
    labels = _drawn(true, 0)
    found = fit_temperature(HeldOut(true * 3, labels))
    assert found.value == pytest.approx(3, rel=0.1)
    assert found.low < 3 < found.high < 1.15 * found.low
    assert found.n == 4000
    sure, surer = (calibration_bins(softmax(logits), labels).error for logits in (true, true * 3))
    assert sure < 0.03 < surer


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    inside = 0
    for seed in range(100):
        true = _logits(150, 4, seed, 2.0)
        found = fit_temperature(HeldOut(true * 1.3, _drawn(true, seed)))
        inside += found.low <= 1.3 <= found.high
    assert inside >= 90


@pytest.mark.parametrize("photographs", [6, 13, 35, 200])
def test_where_all_are_right_nobody_is_surer_than_their_number_shows(photographs: int) -> None:
    labels = np.arange(photographs) % 3
    logits = (12 * np.eye(3)[labels]).astype(np.float32) + _logits(photographs, 3, 1)
    found = fit_temperature(HeldOut(logits, labels))
    assert found.value > 0.5
    assert found.low <= found.value <= found.high
    scaled = logits / found.value
    confidence = (np.exp(scaled) / np.exp(scaled).sum(1, keepdims=True)).max(1)
    assert confidence.mean() <= 1 - 1 / (2 * photographs + 2) + 1e-6


def test_the_prior_weakens_as_photographs_grow() -> None:
    true = _logits(4000, 5, 0)
    labels = _drawn(true, 0)
    found = [fit_temperature(HeldOut(true[:n] * 3, labels[:n])).value for n in (10, 100, 4000)]
    assert 1 < found[0] < found[1] < found[2]


def test_a_limit_is_exceeded_by_the_share_it_promises() -> None:
    rng = np.random.default_rng(0)
    for n in (8, 30, 60, 300):
        limits = np.array([lower_limit(rng.normal(size=n), 0.95) for _ in range(200)])
        beyond = [(rng.normal(size=2000) >= limit).mean() >= 0.95 for limit in limits]
        assert np.mean(beyond) >= 0.83, n  # promised are 0.9, told from 200 draws


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_scores_are_what_their_definitions_say(temperature: float) -> None:
    logits = _logits(50, 7, 1)
    exponentials = np.exp(logits.astype(np.float64) / temperature)
    np.testing.assert_allclose(
        scores("max_probability", logits, temperature), exponentials.max(1) / exponentials.sum(1)
    )
    np.testing.assert_allclose(scores("energy", logits, temperature), temperature * np.log(exponentials.sum(1)))


def test_large_logits_do_not_overflow() -> None:
    assert scores("energy", np.array([[1e4, 0]], np.float32), 1.0) == pytest.approx(1e4)


def test_rejection_accepts_the_share_it_promises() -> None:
    val, test = _logits(1000, 4, 1), _logits(1000, 4, 2)
    rejection = fit_rejection(_held(val), val, test, None, 0.5)
    assert rejection.accepted["val"] == pytest.approx(0.95, abs=0.002)
    few = fit_rejection(_held(val[:100]), val, test, None, 0.5)
    assert few.accepted["val"] > 0.955
    accepted = scores(rejection.reject.score, test, 0.5) >= rejection.reject.threshold
    assert rejection.accepted["test"] == pytest.approx(accepted.mean())
    assert rejection.outliers == 0
    assert rejection.outliers_rejected is None


def test_the_score_that_rejects_more_is_chosen_and_reported_on_others() -> None:
    rng = np.random.default_rng(3)
    one_hot = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 600)]
    # Photographs of the classes have large logits; other things have small ones that are just as one-sided.
    inside, outside = 20 * one_hot + _logits(600, 4, 4, 0.5), 8 * one_hot - 6 + _logits(600, 4, 5, 0.5)
    rejection = fit_rejection(_held(inside), inside, inside, outside, 1.0)
    assert rejection.reject.score == "energy"
    assert rejection.outliers == 300
    assert rejection.outliers_rejected == pytest.approx(1.0)
    # Other things whose logits are large but undecided are only told apart by their probability.
    undecided = np.full((600, 4), 30, np.float32) + _logits(600, 4, 6, 0.5)
    found = fit_rejection(_held(inside), inside, inside, undecided, 1.0)
    assert found.reject.score == "max_probability"


@pytest.mark.parametrize(("distance", "accepted"), [(40.0, 0.98), (0.0, 0.95)])
def test_more_is_accepted_where_other_things_are_rejected_all_the_same(distance: float, accepted: float) -> None:
    """Where the two lie far apart, few photographs need be turned away; where they mix, one in twenty."""
    val, others = 20 + _logits(1000, 4, 7), 20 - distance + _logits(600, 4, 8)
    rejection = fit_rejection(_held(val), val, val, others, 1.0)
    assert rejection.accepted["val"] == pytest.approx(accepted, abs=0.002)
