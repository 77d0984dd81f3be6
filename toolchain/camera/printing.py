"""Answers as lines: JSON for programs, one line for each change of label for people."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from toolchain.camera.drawing import pretty
from toolchain.camera.loop import Answered

Print = Callable[[str], None]
"""Prints one line at once, without waiting for a full buffer."""


class JsonLines:
    """One JSON object for each answer."""

    def __init__(self, print_line: Print) -> None:
        self._print = print_line

    def show(self, answered: Answered) -> None:
        self._print(msgspec.json.encode(answered.line()).decode())

    def idle(self) -> None:
        pass


class Changes:
    """A line whenever the answer becomes another one."""

    def __init__(self, print_line: Print) -> None:
        self._print = print_line
        self._last: str | None = None

    def show(self, answered: Answered) -> None:
        prediction = answered.prediction
        name = "not sure" if prediction.rejected else pretty(prediction.label)
        if name != self._last:
            figures = f"{prediction.probability:6.1%}  age {answered.age_ms:4.0f} ms"
            self._print(f"{answered.frame.time_s:8.2f} s  {figures}  {name}")
            self._last = name

    def idle(self) -> None:
        pass
