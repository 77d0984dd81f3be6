"""Answers that do not flicker, and follow a cut at once."""

from __future__ import annotations

import numpy as np
import pytest

from tests.clips import plain
from toolchain.camera.smoothing import HOLD_S, Debouncer, Smoother, is_uniform, thumbnail


def test_smoothed_answer_follows_a_lasting_change_and_not_a_single_frame() -> None:
    smooth = Smoother(time_constant_s=0.2)
    red, green = np.array([5, 0], np.float32), np.array([0, 5], np.float32)
    for number in range(30):
        steady = smooth(red, 1, number / 30)
    assert steady.logits[0] == pytest.approx(red)
    flicker = smooth(green, 1, 1.0)
    assert flicker.logits[0].argmax() == 0
    for number in range(31, 60):
        answer = smooth(green, 1, number / 30)
    assert answer.logits[0].argmax() == 1
    assert answer.probabilities.sum() == pytest.approx(1)


def test_smoothing_depends_on_time_and_not_on_the_number_of_frames() -> None:
    """Where half the frames are dropped, the answer after half a second is nearly the same."""
    ends = []
    for step in (1, 2):
        smooth = Smoother(time_constant_s=0.2)
        smooth(np.array([1, 0], np.float32), 1, 0.0)
        for number in range(step, 31, step):
            answer = smooth(np.array([0, 1], np.float32), 1, number / 60)
        ends.append(answer.logits[0])
    assert ends[0] == pytest.approx(ends[1], abs=1e-5)


def test_smoothing_uses_the_cards_temperature() -> None:
    logits = np.array([2, 0], np.float32)
    answer = Smoother(time_constant_s=0)(logits, 2.0, 0)
    assert answer.probabilities[0, 0] == pytest.approx(1 / (1 + np.exp(-1)))
    assert answer.logits.dtype == answer.probabilities.dtype == np.float32


def test_an_average_does_not_reach_over_a_cut() -> None:
    smooth = Smoother(time_constant_s=0.2)
    red, green = np.array([5, 0], np.float32), np.array([0, 5], np.float32)
    for number in range(30):
        smooth(red, 1, number / 30, thumbnail(plain("red")))
    assert smooth(green, 1, 1.0, thumbnail(plain("red"))).logits[0].argmax() == 0, (
        "the same scene: a single odd answer"
    )
    assert smooth(green, 1, 31 / 30, thumbnail(plain("green"))).logits[0] == pytest.approx(green)


def test_noise_and_a_slow_pan_are_no_cuts() -> None:
    smooth = Smoother(time_constant_s=0.2)
    generator = np.random.default_rng(0)
    scene = generator.integers(0, 256, (48, 640, 3), np.uint8)
    scene = np.repeat(np.repeat(scene[::8, ::16], 8, axis=0), 16, axis=1)
    for number in range(60):
        noisy = np.clip(scene[:, number : number + 480] + generator.normal(0, 8, (48, 480, 3)), 0, 255)
        answer = smooth(np.array([5, 0], np.float32), 1, number / 30, thumbnail(noisy.astype(np.uint8)))
    assert smooth(np.array([0, 5], np.float32), 1, 2.0, thumbnail(scene[:, 60:540])).logits[0].argmax() == 0
    assert answer.logits[0].argmax() == 0


def test_a_label_is_held_until_another_one_has_led_for_a_while() -> None:
    hold = Debouncer(hold_s=0.09)
    shown = [hold("cat", False, number / 30) for number in range(10)]
    shown += [hold("dog", False, 10 / 30), hold("cat", False, 11 / 30)]
    assert set(shown) == {("cat", False)}
    after = [hold("dog", False, number / 30)[0] for number in range(12, 20)]
    assert after == ["cat"] * 3 + ["dog"] * 5
    assert hold.changes == 1


def test_where_answers_are_far_apart_nothing_is_held() -> None:
    hold = Debouncer(hold_s=HOLD_S)
    assert [hold(label, False, number)[0] for number, label in enumerate("abcb")] == list("abcb")


def test_rejection_is_held_like_a_label() -> None:
    hold = Debouncer(hold_s=0.1)
    hold("cat", False, 0.0)
    assert hold("cat", True, 0.03) == ("cat", False)
    assert hold("cat", True, 0.14) == ("cat", True)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (0, 135, 0)])
def test_pictures_of_one_colour_show_nothing(colour: tuple[int, int, int]) -> None:
    picture = np.full((48, 64, 3), colour, np.uint8)
    noise = np.random.default_rng(0).integers(0, 4, picture.shape, np.uint8)
    assert is_uniform(thumbnail(picture))
    assert is_uniform(thumbnail(picture // 2 + noise)), "a sensor in the dark"
    assert not is_uniform(thumbnail(plain("green")))


def test_at_a_cut_the_new_label_is_shown_at_once_and_held_from_then_on() -> None:
    hold = Debouncer(hold_s=0.1)
    hold("cat", False, 0.0)
    assert hold("dog", False, 0.03, new_scene=True) == ("dog", False)
    assert hold("cat", False, 0.06) == ("dog", False)


def test_another_label_beneath_not_sure_is_no_change() -> None:
    hold = Debouncer(hold_s=0.01)
    for number, label in enumerate(("cat", "dog", "cow")):
        hold(label, True, number)
    assert hold.changes == 0
    hold("cow", False, 4)
    assert hold.changes == 1
