"""Answers out of fold: nobody is answered by a head that has seen them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax

from toolchain.datasets import Photograph
from toolchain.evaluation.calibration import HeldOut, fit_temperature
from toolchain.training.probe import assign, cross_validation, fit_head, folds_for, out_of_fold, parts_of


def _photos(each: int, classes: int, copies: int = 1) -> list[Photograph]:
    names = [(f"{label}-{number}", label) for label in range(classes) for number in range(each)]
    return [
        Photograph(
            name,
            Path(name),
            label,
            hashlib.sha256(f"{label} {int(name.split('-')[1]) // copies}".encode()).hexdigest(),
        )
        for name, label in names
    ]


def _clouds(labels: np.ndarray, width: int, distance: float, seed: int) -> np.ndarray:
    centres = np.random.default_rng(0).normal(size=(int(labels.max()) + 1, width)) * distance
    noise = np.random.default_rng(seed).normal(size=(len(labels), width))
    return (centres[labels] + noise).astype(np.float32)


@pytest.mark.parametrize(("each", "classes"), [(3, 2), (20, 5), (3, 37)])
def test_folds_are_of_one_size_and_spread_each_class(each: int, classes: int) -> None:
    photos = _photos(each, classes)
    folds = assign(photos, 10)
    assert np.ptp(np.bincount(folds, minlength=10)) <= 1
    for label in range(classes):
        own = folds[[photo.label == label for photo in photos]]
        assert np.bincount(own).max() <= -(-each // 10)
    assert (folds == assign(photos, 10)).all()


def test_copies_are_in_one_fold() -> None:
    photos = _photos(12, 3, copies=2)
    folds = dict(zip([photo.name for photo in photos], assign(photos, 5), strict=True))
    assert all(folds[f"{label}-{n}"] == folds[f"{label}-{n + 1}"] for label in range(3) for n in range(0, 12, 2))


def test_groups_are_in_one_fold_and_spread_each_class() -> None:
    photos = [replace(photo, group=f"{photo.label} {int(photo.name[2:]) // 4}") for photo in _photos(48, 3)]
    found = assign(photos, 6)
    folds: dict[str, set[int]] = {}
    for photo, fold in zip(photos, found, strict=True):
        folds.setdefault(photo.group, set()).add(int(fold))
    assert all(len(those) == 1 for those in folds.values())
    for label in range(3):
        assert set(np.bincount(found[[photo.label == label for photo in photos]])) == {8}
    assert parts_of(photos) == 36


def test_features_that_say_nothing_are_right_by_chance_out_of_fold_only() -> None:
    photos = _photos(30, 2)
    labels = np.array([photo.label for photo in photos])
    features = np.random.default_rng(0).normal(size=(60, 200)).astype(np.float32)
    weight, bias = fit_head(features, labels, 2)
    assert ((features @ weight.T + bias).argmax(1) == labels).mean() == 1
    held = out_of_fold(features, photos, 2, None, 10)
    assert held is not None
    assert 0.3 < (held.logits.argmax(1) == held.labels).mean() < 0.7


def test_a_class_of_one_photograph_cannot_be_answered_and_is_left_out() -> None:
    photos = [*_photos(10, 2), Photograph("only", Path("only"), 2, hashlib.sha256(b"only").hexdigest())]
    labels = np.array([photo.label for photo in photos])
    held = out_of_fold(_clouds(labels, 16, 1.0, 1), photos, 3, None, 10)
    assert held is not None
    assert 2 not in held.labels
    assert len(held) == 20, "all others are answered"
    assert out_of_fold(_clouds(labels[[0, -1]], 16, 1.0, 1), [photos[0], photos[-1]], 3, None, 2) is None


def test_photographs_that_have_taught_the_start_do_not_count() -> None:
    photos = _photos(10, 2)
    labels = np.array([photo.label for photo in photos])
    features = _clouds(labels, 16, 1.0, 1)
    seen = {photo.sha256 for photo in photos[:12]}
    held = out_of_fold(features, photos, 2, None, 10, seen=seen)
    assert held is not None
    assert held.labels.tolist() == [1] * 8
    assert out_of_fold(features, photos, 2, None, 10, seen={photo.sha256 for photo in photos}) is None


def test_out_of_fold_answers_tell_the_temperature_that_few_validation_photographs_cannot() -> None:
    """Five classes of twenty: the likelihood of unseen photographs is nearly that of the best temperature."""
    photos = _photos(20, 5)
    labels = np.array([photo.label for photo in photos])
    excess = []
    for seed in range(10):
        features = _clouds(labels, 64, 0.22, seed)
        unseen_labels = np.arange(2000) % 5
        unseen = _clouds(unseen_labels, 64, 0.22, 100 + seed)
        weight, bias = fit_head(features, labels, 5)
        val = HeldOut(_clouds(labels[::20], 64, 0.22, 50 + seed) @ weight.T + bias, labels[::20])
        held = val.and_(out_of_fold(features, photos, 5, None, folds_for(len(photos))))
        assert len(held) == 105
        logits = unseen @ weight.T + bias

        def nll(temperature: float, logits: np.ndarray = logits, labels: np.ndarray = unseen_labels) -> float:
            return float(-log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels].mean())

        best = min(nll(temperature) for temperature in np.geomspace(0.1, 10, 100))
        excess.append(nll(fit_temperature(held).value) / best)
    assert np.mean(excess) < 1.05


def test_cross_validation_says_how_far_it_is_known() -> None:
    labels = np.arange(100) % 4
    logits = (5 * np.eye(4)[labels]).astype(np.float32)
    logits[:10] = -logits[:10]
    found = cross_validation(HeldOut(logits, labels), 5, 1.0)
    assert (found.folds, found.metrics.n, found.metrics.top1) == (5, 100, 0.9)
    assert found.top1_ci95 == pytest.approx((0.826, 0.945), abs=0.001)
