"""Figures as text: one way to write those that may be negative."""

from __future__ import annotations


def fixed(value: float, digits: int, *, plus: bool = False) -> str:
    """`value` with so many digits after the point. What rounds to zero has no sign.

    `plus`: others always have one.
    """
    text = f"{value:+.{digits}f}" if plus else f"{value:.{digits}f}"
    return text if float(text) else text.lstrip("+-")


def percent(share: float, digits: int, *, plus: bool = False) -> str:
    """A fraction in percent, as `fixed` writes it: "+3.0%"."""
    return f"{fixed(100 * share, digits, plus=plus)}%"
