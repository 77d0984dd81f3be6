"""Some of many photographs: a fair share of each class, and of each part of a class."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

from toolchain.datasets.splits import stratified


@pytest.mark.parametrize("with_keys", [True, False])
@pytest.mark.parametrize("n", [3, 16, 64, 96])
def test_the_first_few_are_of_all_classes_alike(n: int, with_keys: bool) -> None:
    labels = ["cat"] * 200 + ["dog"] * 100 + ["fish"] * 50
    keys = [hashlib.sha256(str(place).encode()).hexdigest() for place in range(len(labels))]
    order = stratified(labels, keys if with_keys else None)
    assert sorted(order) == list(range(len(labels)))
    counts = Counter(labels[place] for place in order[:n])
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len(counts) == 3


def test_a_class_that_runs_out_leaves_its_turns_to_the_others() -> None:
    labels = [0] * 2 + [1] * 20
    assert Counter(labels[place] for place in stratified(labels)[:10]) == {0: 2, 1: 8}


def test_what_lies_first_in_a_class_is_not_preferred() -> None:
    """With dark photographs first, ranges were calibrated on darkness."""
    labels, dark = [0, 1] * 100, 60
    taken = stratified(labels)[:32]
    assert 2 <= sum(place < dark for place in taken) <= 18, "of 32, ten are dark by chance"
    assert taken == stratified(labels)[:32], "the same each time"


def test_none_and_one() -> None:
    assert stratified([]) == []
    assert stratified(["cat"]) == [0]
