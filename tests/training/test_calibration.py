"""Temperature and rejection, against cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from toolchain.rejection import scores
from toolchain.training.calibration import fit_rejection, fit_temperature
from toolchain.training.metrics import expected_calibration_error


def _logits(n: int, classes: int, seed: int, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).normal(size=(n, classes))).astype(np.float32)


def test_temperature_of_overconfident_logits_is_found() -> None:
    true = _logits(4000, 5, 0)
    probabilities = np.exp(true) / np.exp(true).sum(1, keepdims=True)
    rng = np.random.default_rng(0)
    labels = np.array([rng.choice(5, p=row) for row in probabilities])
    assert fit_temperature(true * 3, labels) == pytest.approx(3, rel=0.1)
    assert expected_calibration_error(true, labels) < 0.03 < expected_calibration_error(true * 3, labels)


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
    rejection = fit_rejection(val, test, None, 0.5)
    assert rejection.accepted["val"] == pytest.approx(0.95, abs=0.002)
    accepted = scores(rejection.reject.score, test, 0.5) >= rejection.reject.threshold
    assert rejection.accepted["test"] == pytest.approx(accepted.mean())
    assert rejection.outliers == 0
    assert rejection.outliers_rejected is None


def test_the_score_that_rejects_more_is_chosen_and_reported_on_others() -> None:
    rng = np.random.default_rng(3)
    one_hot = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 600)]
    # Photographs of the classes have large logits; other things have small ones that are just as one-sided.
    inside, outside = 20 * one_hot + _logits(600, 4, 4, 0.5), 8 * one_hot - 6 + _logits(600, 4, 5, 0.5)
    rejection = fit_rejection(inside, inside, outside, 1.0)
    assert rejection.reject.score == "energy"
    assert rejection.outliers == 300
    assert rejection.outliers_rejected == pytest.approx(1.0)
    # Other things whose logits are large but undecided are only told apart by their probability.
    undecided = np.full((600, 4), 30, np.float32) + _logits(600, 4, 6, 0.5)
    assert fit_rejection(inside, inside, undecided, 1.0).reject.score == "max_probability"


@pytest.mark.parametrize(("distance", "accepted"), [(40.0, 0.98), (0.0, 0.95)])
def test_more_is_accepted_where_other_things_are_rejected_all_the_same(distance: float, accepted: float) -> None:
    """Where the two lie far apart, few photographs need be turned away; where they mix, one in twenty."""
    val, others = 20 + _logits(1000, 4, 7), 20 - distance + _logits(600, 4, 8)
    rejection = fit_rejection(val, val, others, 1.0)
    assert rejection.accepted["val"] == pytest.approx(accepted, abs=0.002)
