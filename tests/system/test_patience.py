"""A call that hangs in native code is left behind."""

from __future__ import annotations

from threading import Event

import pytest

from toolchain.system.patience import within


def test_what_it_returns_or_raises_is_the_callers() -> None:
    assert within(60, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(60, lambda: 1 / 0)


def test_what_hangs_is_left_behind() -> None:
    held = Event()
    with pytest.raises(TimeoutError):
        within(0.01, held.wait)
    held.set()
