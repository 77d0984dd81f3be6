"""How long all of a command will take, from how long its parts took so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

from toolchain.system.progress import Reporter, Task

LONGER_S = 5.0
"""Less than this is not worth a word."""


@dataclass
class Work:
    """`units` steps of the tasks whose description fits `pattern` (as of file names); each costs `cost` at first.

    Costs are relative: what matters is how many times as long a step takes in one task as in another, until it has
    been measured.
    """

    pattern: str
    units: int
    cost: float
    done: int = 0
    seconds: float = 0.0

    @property
    def left(self) -> int:
        return max(0, self.units - self.done)


class Whole:
    """A reporter that adds to each task how long everything that is planned will still take.

    What is begun within another (`of`) adds its works to the other's plan.
    """

    def __init__(
        self, reporter: Reporter, works: Sequence[Work], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._reporter = reporter
        self._works = list(works)
        self._clock = clock

    @classmethod
    def of(cls, reporter: Reporter, works: Sequence[Work]) -> Whole:
        """`reporter` itself, with `works` in its plan, where it plans already; else one that does."""
        if not isinstance(reporter, Whole):
            return cls(reporter, works)
        for work in works:
            same = next((one for one in reporter._works if one.pattern == work.pattern), None)
            if same is None:
                reporter._works.append(work)
            else:
                same.units = same.done + work.units
        return reporter

    def remaining(self, pattern: str, units: int) -> None:
        """Say that so many more `units` of a work are all that will come, now that it is known."""
        for work in self._works:
            if work.pattern == pattern:
                work.units = work.done + units

    def left_s(self) -> float | None:
        """Seconds that what is planned will still take; None before anything was done."""
        measured = [work for work in self._works if work.done]
        effort = sum(work.done * work.cost for work in measured)
        if not effort:
            return None
        pace = sum(work.seconds for work in measured) / effort
        return sum(
            work.left * (work.seconds / work.done if work.done else work.cost * pace) for work in self._works
        )

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        work = next((work for work in self._works if fnmatchcase(description, work.pattern)), None)
        if work is not None and work.pattern == description:  # the only task of its kind knows its length
            work.units = work.done + total
        with self._reporter.task(description, total) as task:
            yield _Planned(self, task, work, self._clock) if work else task

    def say(self, message: str) -> None:
        self._reporter.say(message)

    def warn(self, message: str) -> None:
        self._reporter.warn(message)


class _Planned:
    def __init__(self, whole: Whole, task: Task, work: Work, clock: Callable[[], float]) -> None:
        self._whole, self._task, self._work, self._clock = whole, task, work, clock
        self._last = clock()

    def advance(self, steps: int = 1, note: str = "") -> None:
        now = self._clock()
        self._work.seconds += now - self._last
        self._work.done += steps
        self._last = now
        left = self._whole.left_s()
        told = f"all of it: {span(left)} left" if left is not None and left >= LONGER_S else ""
        self._task.advance(steps, ", ".join(part for part in (note, told) if part))


def span(seconds: float) -> str:
    """A time to come, as exact as one can know it: `about 40 s`, `about 3 min`, `about 1 h 20 min`."""
    if seconds < 90:
        return f"about {max(5, round(seconds / 5) * 5)} s"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 60 else f"about {minutes // 60} h {minutes % 60} min"
