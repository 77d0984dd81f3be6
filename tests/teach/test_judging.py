"""How good a head is: frames of one take are near-copies, and must not judge each other."""

from __future__ import annotations

import numpy as np
import pytest

from toolchain.teach.judging import Shown, judge, order_of_takes

WIDTH, FRAMES = 32, 20


def shown(things: int, takes: int, *, apart: float = 3.0, between: float = 1.0, within: float = 0.05) -> Shown:
    """Features of things that lie `apart`, whose takes differ by `between`, and frames of a take by `within`."""
    rng = np.random.default_rng(0)
    features, labels, numbers = [], [], []
    for label in range(things):
        centre = rng.normal(0, apart, WIDTH)
        for take in range(takes):
            place = centre + rng.normal(0, between, WIDTH)
            features.append(np.abs(place + rng.normal(0, within, (FRAMES, WIDTH))))
            labels += [label] * FRAMES
            numbers += [take] * FRAMES
    return Shown(np.concatenate(features).astype(np.float32), np.array(labels), np.array(numbers))


def test_takes_that_say_nothing_are_right_by_chance_although_frames_know_each_other() -> None:
    lost = shown(4, 5, apart=0.0)
    by_take = judge(lost, 4, None, None)
    assert by_take.top1 is not None
    assert by_take.top1 < 0.5
    # The same, were each frame a take of its own: what splitting by frame claims.
    by_frame = Shown(lost.features, lost.labels, np.tile(np.arange(5 * FRAMES), 4))
    flattering = judge(by_frame, 4, None, None)
    assert flattering.top1 is not None
    assert flattering.top1 > by_take.top1 + 0.3


def test_things_that_differ_are_recognised_and_others_are_refused() -> None:
    found = judge(shown(5, 3), 5, None, None)
    assert found.takes == 15
    assert found.top1 == pytest.approx(1.0)
    assert found.by_class == (1.0,) * 5
    assert found.rejection is not None
    assert found.rejection.accepted["val"] >= 0.8
    assert found.rejection.outliers_rejected is not None
    assert found.rejection.outliers_rejected > 0.9


def test_one_take_of_each_says_nothing_about_how_good_it_is() -> None:
    found = judge(shown(3, 1), 3, None, None)
    assert (found.top1, found.takes, found.by_class) == (None, 0, (None, None, None))
    assert found.held is None
    assert found.temperature == 1.0
    assert found.rejection is not None, "what the things are to each other is known"


def test_a_thing_with_one_take_teaches_and_is_not_judged() -> None:
    both = shown(3, 2)
    found = judge(both.where((both.labels != 2) | (both.takes == 0)), 3, None, None)
    assert found.by_class[2] is None
    assert None not in found.by_class[:2]
    assert found.takes == 4
    assert set(found.held.labels.tolist()) == {0, 1} if found.held else False


def test_two_things_alone() -> None:
    found = judge(shown(2, 2), 2, None, None)
    assert found.takes == 4
    assert found.rejection is not None, "the score that most accepted pictures exceed"
    assert found.rejection.outliers_rejected is None
    assert judge(shown(2, 1), 2, None, None).rejection is None


def test_nothing_of_these_is_no_thing() -> None:
    found = judge(shown(3, 3), 3, None, nothing=2)
    assert found.rejection is not None
    # Pictures of either thing, before a head that knows the other one and nothing of these.
    assert found.rejection.outliers == 2 * 3 * FRAMES


def test_takes_are_numbered_in_their_class() -> None:
    pairs = [(0, "take1"), (1, "take2"), (0, "take3"), (0, "take1"), (1, "take9")]
    assert order_of_takes(pairs).tolist() == [0, 0, 1, 0, 1]
