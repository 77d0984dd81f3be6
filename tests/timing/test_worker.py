from __future__ import annotations

import threading

from toolchain.timing.protocol import spread
from toolchain.timing.worker import Worker


def test_a_worker_that_rests_is_quiet() -> None:
    assert Worker().wait_until_quiet()


def test_a_worker_whose_threads_spin_is_not() -> None:
    done = threading.Event()

    def spin() -> None:
        while not done.is_set():
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        assert not Worker().wait_until_quiet()
    finally:
        done.set()
        thread.join()


def test_spread_reaches_both_ends_and_never_repeats() -> None:
    assert spread(3, 10) == [0, 1, 2]
    assert spread(1, 4) == [0]
    chosen = spread(1000, 16)
    assert len(chosen) == 16
    assert (chosen[0], chosen[-1]) == (0, 999)
