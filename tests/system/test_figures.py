from __future__ import annotations

import pytest

from toolchain.system.figures import fixed, percent


@pytest.mark.parametrize(
    ("value", "digits", "plain", "signed"),
    [
        (-0.0, 2, "0.00", "0.00"),
        (-0.0004, 3, "0.000", "0.000"),
        (0.0004, 3, "0.000", "0.000"),
        (-0.0006, 3, "-0.001", "-0.001"),
        (1.25, 1, "1.2", "+1.2"),
        (-12.0, 0, "-12", "-12"),
    ],
)
def test_what_rounds_to_zero_has_no_sign(value: float, digits: int, plain: str, signed: str) -> None:
    assert (fixed(value, digits), fixed(value, digits, plus=True)) == (plain, signed)


def test_shares_in_percent() -> None:
    shown = [percent(-0.0001, 1, plus=True), percent(0.031, 1, plus=True), percent(0.5, 0)]
    assert shown == ["0.0%", "+3.1%", "50%"]
