"""Which int8 file serves which device, and what the photographs that judge are asked: no files, no clocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from toolchain.artifact.card import Accuracy, Speed
from toolchain.evaluation import metrics
from toolchain.export.int8.choosing import Choice, Entry
from toolchain.export.int8.quantisers import Candidate
from toolchain.export.int8.shortlist import far_spellings, to_time
from toolchain.export.measure import NEAR_TIE, measured
from toolchain.export.results import Attempt, Measurement, Nearness, QuantizationSettings

ORT, OPENVINO = "ort:cpu", "openvino:CPU"
SETTINGS = QuantizationSettings()


def measurement(device: str, drop_pp: float, expected_pp: float | None = None, look: int = 1) -> Measurement:
    accuracy = Accuracy(device, "int8", "val", "0" * 64, 226, 0.9, 0.9, 0.99)
    return Measurement(device, accuracy, drop_pp, drop_pp + 0.6, drop_pp - 0.6, expected_pp, 0.03, look)


def entry(label: str, divergence: float, **ratios: float) -> Entry:
    """`ratios`: how many times as fast as float it is, on the devices that it is meant for."""
    devices = {{"ort": ORT, "openvino": OPENVINO}[name]: ratio for name, ratio in ratios.items()}
    nearness = tuple(Nearness(device, 512, 0.99, divergence) for device in devices)
    speeds = tuple(Speed(device, 1, 10.0, 10.0 / ratio) for device, ratio in devices.items())
    process_ms = {
        ("local", device, 1): (10.0 / ratio, 10.1 / ratio, 9.9 / ratio) for device, ratio in devices.items()
    }
    attempt = Attempt(label, "edgetl", {}, (), 1.0, speeds, nearness=nearness)
    return Entry(Candidate("edgetl", label, {}, onnx.ModelProto()), attempt, process_ms)


def choose(
    *entries: Entry, lost: dict[str, float] | None = None, devices: tuple[str, ...] = (ORT, OPENVINO)
) -> tuple[Choice, list[tuple[str, str]]]:
    """The choice, and what was looked at. `lost`: points by label; others lose nothing."""
    looked: list[tuple[str, str]] = []

    def look(one: Entry, device: str) -> Measurement:
        looked.append((one.attempt.label, device))
        drop = (lost or {}).get(one.attempt.label, 0.0)
        return measurement(device, drop, max(drop / 2, 0.0))

    return Choice(entries, devices, SETTINGS, look), looked


def names(choice: Choice) -> dict[str, str]:
    return {device: found.attempt.label for device, found in choice.winners.items()}


def test_labels_are_looked_at_for_the_chosen_file_only() -> None:
    choice, looked = choose(
        entry("far", 3e-3, ort=2.0, openvino=2.0),
        entry("near", 1e-3, ort=1.95, openvino=2.0),
        entry("slow", 1e-4, ort=1.2, openvino=1.2),
    )
    assert names(choice) == {ORT: "near", OPENVINO: "near"}
    assert looked == [("near", ORT), ("near", OPENVINO)]


def test_what_is_near_and_spelt_for_a_device_is_timed_once() -> None:
    far, near = entry("far", 3e-3, ort=1.0, openvino=1.0), entry("near", 2e-3, ort=1.0, openvino=1.0)
    spelt = entry("for ort", 1e-3, ort=1.0)
    spelt.candidate = replace(spelt.candidate, runtime="ort")
    timed = to_time([far, near, spelt], (ORT, OPENVINO))
    assert [one.attempt.label for one in timed] == ["for ort", "near", "far"]


def test_what_training_began_with_is_timed_too() -> None:
    """Labels may turn down what was trained, however near it is."""
    spelt = [
        entry(name, nats, ort=1.0) for name, nats in (("trained", 1e-3), ("slow layers", 2e-3), ("first", 3e-3))
    ]
    for one in spelt:
        one.candidate = replace(one.candidate, runtime="ort")
    assert [one.attempt.label for one in to_time(spelt, (ORT,))] == ["trained", "slow layers"]
    for made in ("qat_epochs", "more_float_layers"):
        spelt[0].attempt = replace(spelt[0].attempt, settings={made: 4})
        assert [one.attempt.label for one in to_time(spelt, (ORT,))] == ["trained", "slow layers", "first"]


@pytest.mark.parametrize(
    ("divergence", "ratio", "chosen"),
    [(5e-3, 1.2, "nearer"), (5e-3, 1.1, "fast"), (3.5e-3, 1.2, "fast"), (3.5e-3, 1.35, "nearer")],
)
def test_where_the_fastest_is_far_a_nearer_one_may_be_somewhat_slower(
    divergence: float, ratio: float, chosen: str
) -> None:
    fast, nearer = entry("fast", divergence, ort=1.4), entry("nearer", 0.7 * divergence, ort=ratio)
    choice, looked = choose(fast, nearer, devices=(ORT,))
    assert names(choice) == {ORT: chosen}
    assert looked == [(chosen, ORT)]


def test_what_is_far_in_the_spelling_of_its_device_is_trained() -> None:
    plain, spelt = entry("plain", 2e-3, ort=1.0, openvino=1.0), entry("for ort", 4e-3, ort=1.0)
    spelt.candidate = replace(spelt.candidate, runtime="ort")
    assert far_spellings([plain, spelt], (ORT, OPENVINO)) == {"ort"}, "the plain file is near, and slow there"
    assert far_spellings([plain, spelt], (OPENVINO,)) == set()
    assert far_spellings([entry("plain", 4e-3, ort=1.0, openvino=1.0), spelt], (ORT, OPENVINO)) == {None, "ort"}
    assert far_spellings([entry("nearer", 1e-3, ort=1.0), entry("far", 4e-3, ort=1.0)], (ORT,)) == set()
    assert far_spellings([entry("ruined", 3.0, ort=1.0)], (ORT,)) == set()
    assert far_spellings([], (ORT,)) == set()


def test_one_device_has_a_file_of_its_own_where_that_is_surely_faster() -> None:
    common, other = entry("common", 1e-3, ort=1.9, openvino=2.2), entry("for ort", 1e-3, ort=2.5)
    choice, _ = choose(common, other)
    assert names(choice) == {ORT: "for ort", OPENVINO: "common"}
    assert choice.common is common
    assert other.least_gain(common, ORT) == pytest.approx(2.5 / 1.9, rel=1e-3)


@pytest.mark.parametrize("ratio", [1.85, 1.95])
def test_a_file_for_all_devices_stays_where_the_gain_is_small_or_unsure(ratio: float) -> None:
    choice, _ = choose(entry("common", 1e-3, ort=1.9, openvino=2.2), entry("for ort", 1e-3, ort=ratio))
    assert names(choice) == {ORT: "common", OPENVINO: "common"}
    distant = entry("for ort", 5e-3, ort=2.15)
    choice, _ = choose(entry("common", 4.5e-3, ort=1.9, openvino=2.2), distant)
    assert names(choice) == {ORT: "common", OPENVINO: "common"}
    unsteady = entry("for ort", 1e-3, ort=2.5)
    unsteady.process_ms["local", ORT, 1] = (4.0, 9.0, 3.0)
    choice, _ = choose(entry("common", 1e-3, ort=1.9, openvino=2.2), unsteady)
    assert names(choice) == {ORT: "common", OPENVINO: "common"}


def test_more_is_asked_of_the_next_file_after_one_has_failed() -> None:
    first, second = entry("first", 1e-3, ort=2.0), entry("second", 2e-3, ort=1.8)
    choice, looked = choose(first, second, lost={"first": 3.0}, devices=(ORT,))
    assert names(choice) == {ORT: "second"}
    assert looked == [("first", ORT), ("second", ORT)]
    judged = second.attempt.on(ORT)
    assert judged is not None
    assert judged.look == 2
    assert judged.most_lost_pp > replace(judged, look=1).most_lost_pp


def test_where_nothing_is_kept_the_nearest_is_named_with_its_reason() -> None:
    choice, _ = choose(
        entry("worse", 1e-3, ort=2.0), entry("bad", 2e-3, ort=1.8), lost={"worse": 4.0, "bad": 3.0}, devices=(ORT,)
    )
    assert not choice.winners
    nearest = choice.nearest(ORT)
    assert nearest is not None
    assert nearest.attempt.label == "bad"
    assert "3.00 on 226 photographs" in (nearest.attempt.broken(ORT, SETTINGS) or "")
    slow = entry("slow", 1e-3, ort=0.9)
    choice, looked = choose(slow, entry("slower", 1e-3, ort=0.8), devices=(ORT,))
    assert not choice.winners
    assert not looked
    assert choice.nearest(ORT) is slow
    assert "0.90 times as fast" in (slow.attempt.broken(ORT, SETTINGS) or "")
    assert choice.nearest(OPENVINO) is None


def test_what_is_far_from_the_nearest_is_not_looked_at() -> None:
    far, near = entry("far", 8e-3, ort=2.0), entry("near", 5e-3, ort=1.2)
    choice, looked = choose(far, near, lost={"near": 4.0}, devices=(ORT,))
    assert looked == [("near", ORT)]
    assert not choice.winners


def test_what_kept_its_accuracy_on_a_device_serves_it_though_a_nearer_one_fails() -> None:
    """It was looked at for all devices, and failed on another one."""
    both, spelt = entry("both", 4e-3, ort=2.0, openvino=2.0), entry("for ort", 1e-3, ort=2.0)
    looked = []

    def look(one: Entry, device: str) -> Measurement:
        looked.append((one.attempt.label, device))
        return measurement(device, 4.0 if one is spelt or device == OPENVINO else 0.0, 0.0)

    choice = Choice((both, spelt), (ORT, OPENVINO), SETTINGS, look)
    assert looked == [("both", ORT), ("both", OPENVINO), ("for ort", ORT)]
    assert names(choice) == {ORT: "both"}


@pytest.mark.parametrize(
    ("drop_pp", "expected_pp", "most"),
    [
        (0.4, None, 0.4),  # a file that was not compared by probabilities goes by its labels
        (0.0, 0.0, 0.05),
        (0.4, 0.1, 0.33),  # labels alone are known to 0.36 pp
        (0.9, 0.1, 0.39),
        (0.4, 0.3, 0.78),
    ],
)
def test_labels_and_probabilities_together(drop_pp: float, expected_pp: float | None, most: float) -> None:
    assert measurement(ORT, drop_pp, expected_pp).most_lost_pp == pytest.approx(most, abs=0.015)


def test_labels_that_surely_say_otherwise_outweigh_the_probabilities() -> None:
    attempt = replace(entry("one", 1e-3, ort=2.0).attempt, hops=(measurement(ORT, 1.2, 0.05),))
    assert "more than --max-drop 0.5" in (attempt.broken_accuracy(ORT, SETTINGS) or "")
    assert replace(attempt, hops=(measurement(ORT, 1.0, 0.05),)).broken_accuracy(ORT, SETTINGS) is None


def test_as_many_right_answers_prove_nothing_where_most_are_others() -> None:
    found = measurement(ORT, 0.0, 0.0)
    attempt = Attempt("one", "edgetl", {}, (replace(found, accuracy=replace(found.accuracy, agreement=0.03)),), 1.0)
    assert "as float does to 3% of 226 photographs on ort:cpu" in (attempt.broken_accuracy(ORT, SETTINGS) or "")
    assert attempt.broken_accuracy(ORT, replace(SETTINGS, max_drop_pp=100)) is None, "it was asked for"


def test_what_probabilities_expect_is_what_is_lost_where_they_are_right() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(20_000, 5)).astype(np.float32)
    logits = base + 0.2 * rng.normal(size=base.shape).astype(np.float32)
    shares = metrics.softmax(base.astype(np.float64), 0.7)
    labels = (shares.cumsum(1) < rng.random((len(base), 1))).sum(1).clip(0, 4)
    expected, error = metrics.expected_drop(base, logits, len(base), 0.7)
    lost, upper = metrics.accuracy_drop(base, logits, labels)
    assert lost == pytest.approx(expected, abs=2 * (upper - lost))
    assert error < 0.2 * (upper - lost)
    assert metrics.expected_drop(base, base, len(base), 0.7) == (0.0, 0.0)


def test_few_photographs_whose_answers_stay_prove_little() -> None:
    accuracy = Accuracy(ORT, "int8", "val", "0" * 64, 12, 1.0, 1.0, 1.0)
    most = {}
    for n in (12, 226):
        logits = np.eye(3, dtype=np.float32)[np.arange(6 * n) % 3]
        labels = np.zeros(n, np.int64)
        most[n] = measured(accuracy, logits, logits, labels, 1.0).most_lost_pp
    assert most[12] == pytest.approx(1.645 * 100 * NEAR_TIE / 72, rel=0.02)
    assert most[226] < 0.1 * most[12]


def test_divergence_is_that_of_the_probabilities() -> None:
    logits = np.array([[0.0, np.log(3)], [1.0, 1.0]], np.float32)
    reference = np.zeros((2, 2), np.float32)
    expected = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    np.testing.assert_allclose(metrics.divergence(logits, reference, 1.0), [expected, 0.0], atol=1e-6)
