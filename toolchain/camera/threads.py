"""The camera's threads."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread


class Worker(Thread):
    """A thread that may hang in a driver for ever, and does not keep the process from ending.

    Python ends such a thread in the middle of the driver's C++, which may abort the process: `toolchain.cli.main`
    leaves without waiting for Python's own end where one of them is left.
    """

    def __init__(self, target: Callable[[], object], name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)
