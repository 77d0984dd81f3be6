from __future__ import annotations

import numpy as np
import pytest

from toolchain.evaluation.statistics import (
    median_ci95,
    paired_drop_ci95,
    paired_ratio_ci95,
    ratio_ci95,
    summarise,
    wilson_ci95,
)


def test_figures_are_those_of_numpy() -> None:
    rng = np.random.default_rng(1)
    rounds = [rng.exponential(5, 100).tolist() for _ in range(3)]
    every = np.concatenate(rounds)
    found = summarise(rounds)
    assert found.n == 300
    assert (found.mean, found.std) == pytest.approx((every.mean(), every.std(ddof=1)))
    assert (found.min, found.max) == (every.min(), every.max())
    assert [found.p50, found.p90, found.p95, found.p99] == pytest.approx(np.percentile(every, (50, 90, 95, 99)))
    assert found.p50_ci95[0] <= found.p50 <= found.p50_ci95[1]


def test_rounds_that_disagree_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    slow, fast = rng.normal(12, 0.1, 100), rng.normal(8, 0.1, 100)
    steady = np.concatenate([slow, fast])
    rng.shuffle(steady)
    low, high = summarise([slow.tolist(), fast.tolist()]).p50_ci95
    assert low < 8.5
    assert high > 11.5
    narrow = summarise([rng.normal(10, 0.1, 100).tolist() for _ in range(2)]).p50_ci95
    assert narrow[1] - narrow[0] < 0.2


def test_interval_holds_the_true_median_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    truth = 4 * np.log(2)
    held = 0
    for _ in range(60):
        low, high = summarise([rng.exponential(4, 20).tolist() for _ in range(6)]).p50_ci95
        held += low <= truth <= high
    assert held >= 52


def _run(rng: np.random.Generator, count: int, slower: float = 1.0) -> list[list[list[float]]]:
    """Samples of a run in `count` processes, each with an offset of its own, which its own rounds do not show."""
    offsets = 10 * slower * np.exp(rng.normal(0, 0.02, count))
    return [[rng.normal(offset, 0.1, 20).tolist() for _ in range(3)] for offset in offsets]


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_another_run_has_its_median_within_the_interval(count: int) -> None:
    rng = np.random.default_rng(4)
    held = alone = 0
    for _ in range(200):
        one, other = (_run(rng, count) for _ in range(2))
        low, high = summarise(*one).p50_ci95
        held += low <= summarise(*other).p50 <= high
        alone += (found := median_ci95([[np.array(one[0][0])]], 0, 50))[0] <= summarise(*other).p50 <= found[1]
    assert held >= 180, "95 % are stated"
    assert alone < 80, "one process knows nothing of others"


def test_processes_that_agree_do_not_speak_for_another_run() -> None:
    """The machine itself is a percent faster or slower some minutes later, in each process of that run."""
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(200):
        one, other = (
            [rng.normal(10 * state, 0.01, 20).tolist() for _ in range(3)] for state in rng.normal(1, 0.006, 2)
        )
        low, high = summarise(*([rounds] for rounds in one)).p50_ci95
        held += low <= summarise(*([rounds] for rounds in other)).p50 <= high
    assert held >= 180, "95 % are stated"


def test_the_same_file_is_rarely_called_another() -> None:
    """At the tolerance of 5 %, in runs whose processes differ by 2 %; a file that is 15 % slower mostly is."""
    rng = np.random.default_rng(5)
    called = {1.0: 0, 1.15: 0}
    for slower in called:
        for _ in range(100):
            one, other = _run(rng, 3), _run(rng, 3, slower)
            medians = [[float(np.median(np.concatenate(rounds))) for rounds in run] for run in (one, other)]
            low, high = ratio_ci95(summarise(*one), summarise(*other), *medians)
            called[slower] += low > 1.05 or high < 1 / 1.05
    assert called[1.0] <= 2
    assert called[1.15] >= 90


def test_arms_that_ran_side_by_side_share_what_disturbed_them() -> None:
    rng = np.random.default_rng(6)
    state = np.array([1.0, 1.02, 1.45, 0.99, 1.01])  # the machine was slower for one turn
    fast, slow = (state * base * np.exp(rng.normal(0, 0.005, 5)) for base in (2.0, 2.2))
    low, high = paired_ratio_ci95(slow.tolist(), fast.tolist()) or (0.0, 0.0)
    assert 1.08 < low < 1.1 < high < 1.12
    assert paired_ratio_ci95([1.0, 2.0], [1.0]) is None


def test_the_99th_percentile_is_told_of_samples_that_hold_it() -> None:
    rng = np.random.default_rng(5)
    few, enough = rng.exponential(1, 298).tolist(), rng.exponential(1, 299).tolist()
    assert summarise([few]).p99 is None
    assert summarise([enough]).p99 == pytest.approx(np.percentile(enough, 99))


def test_the_same_seed_gives_the_same_interval() -> None:
    rounds = [[1.0, 2.0, 3.0, 7.0], [2.0, 4.0]]
    assert summarise(rounds, seed=5) == summarise(rounds, seed=5)


def test_a_single_sample_and_none() -> None:
    found = summarise([[2.5], []])
    assert (found.n, found.std, found.p50, found.p50_ci95) == (1, 0.0, 2.5, (2.5, 2.5))
    assert found.p99 is None
    with pytest.raises(ValueError, match="no samples"):
        summarise([[]])


@pytest.mark.parametrize(
    ("successes", "n", "expected"),
    [
        (8, 10, (0.4901625, 0.9433178)),
        (0, 20, (0.0, 0.1611252)),
        (20, 20, (0.8388748, 1.0)),
        (500, 1000, (0.4690694, 0.5309306)),
    ],
)
def test_wilson_interval(successes: int, n: int, expected: tuple[float, float]) -> None:
    assert wilson_ci95(successes, n) == pytest.approx(expected, abs=2e-6)


def test_wilson_refuses_what_is_no_share() -> None:
    with pytest.raises(ValueError, match="3 of 2"):
        wilson_ci95(3, 2)


@pytest.mark.slow
def test_interval_of_a_ratio_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(60):
        one, two = (summarise([rng.gamma(4, scale, 40).tolist() for _ in range(8)]) for scale in (1.0, 1.1))
        low, high = ratio_ci95(one, two)
        held += low <= 1.1 <= high
    assert held >= 52


def test_interval_of_a_drop_is_that_of_paired_answers() -> None:
    drop, (low, high) = paired_drop_ci95([True] * 3 + [False] * 7, [False] * 3 + [True] + [False] * 6)
    assert drop == pytest.approx(0.2)
    # Bonett and Price: (4 - 2) / 12, and the root of (4 / 12 + 2 / 12 - (2 / 12) ** 2) / 12.
    assert (low, high) == pytest.approx((2 / 12 - 0.388804, 2 / 12 + 0.388804), abs=1e-5)
    assert paired_drop_ci95([True] * 400, [True] * 400)[0] == 0
