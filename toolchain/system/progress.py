"""How long-running code tells what it is doing and how long it will take, without knowing about terminals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

MIN_TOLD_S = 5.0
"""A shorter time left is not mentioned."""


class Task(Protocol):
    """One piece of planned with a known length."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """`steps` more are done; `note` is a short running value, such as `loss 0.41`."""


class Reporter(Protocol):
    """Where progress goes. The command line draws bars (`cli/console.py`); a library call stays silent."""

    def task(self, description: str, total: int) -> AbstractContextManager[Task]: ...

    def say(self, message: str) -> None:
        """Tell a fact."""

    def warn(self, message: str) -> None:
        """Tell something the user should look at."""


class _SilentTask:
    def advance(self, steps: int = 1, note: str = "") -> None:
        pass


class Silent:
    """A reporter that says nothing."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        yield _SilentTask()

    def say(self, message: str) -> None:
        pass

    def warn(self, message: str) -> None:
        pass


@dataclass
class PlannedTask:
    """A task that will come, known by its description: `pattern` is matched as patterns of file names are.

    It has `units` steps. `cost` is how long a step takes compared with those of other tasks; it counts until the
    first steps have been timed.
    """

    pattern: str
    units: int
    cost: float
    done: int = 0
    seconds: float = 0.0

    @property
    def left(self) -> int:
        return max(0, self.units - self.done)


class EtaReporter:
    """A reporter that adds to each task how long all planned tasks together will still take."""

    def __init__(
        self, reporter: Reporter, tasks: Sequence[PlannedTask], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._reporter = reporter
        self._planned = list(tasks)
        self._clock = clock

    @classmethod
    def of(cls, reporter: Reporter, tasks: Sequence[PlannedTask]) -> EtaReporter:
        """`reporter` itself, with `tasks` added to its plan, if it is an EtaReporter; else a new one around it."""
        if not isinstance(reporter, EtaReporter):
            return cls(reporter, tasks)
        for planned in tasks:
            same = next((one for one in reporter._planned if one.pattern == planned.pattern), None)
            if same is None:
                reporter._planned.append(planned)
            else:
                same.units = same.done + planned.units
        return reporter

    def remaining(self, pattern: str, units: int) -> None:
        """Correct the plan: the tasks of `pattern` have exactly so many more `units`."""
        for planned in self._planned:
            if planned.pattern == pattern:
                planned.units = planned.done + units

    def left_s(self) -> float | None:
        """Seconds that the planned tasks will still take; None until a step was timed."""
        measured = [planned for planned in self._planned if planned.done]
        effort = sum(planned.done * planned.cost for planned in measured)
        if not effort:
            return None
        pace = sum(planned.seconds for planned in measured) / effort
        return sum(
            planned.left * (planned.seconds / planned.done if planned.done else planned.cost * pace)
            for planned in self._planned
        )

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        planned = next((planned for planned in self._planned if fnmatchcase(description, planned.pattern)), None)
        if planned is not None and planned.pattern == description:  # a single task tells its own length
            planned.units = planned.done + total
        with self._reporter.task(description, total) as task:
            yield _TimedTask(self, task, planned, self._clock) if planned else task

    def say(self, message: str) -> None:
        self._reporter.say(message)

    def warn(self, message: str) -> None:
        self._reporter.warn(message)


class _TimedTask:
    def __init__(self, reporter: EtaReporter, task: Task, planned: PlannedTask, clock: Callable[[], float]) -> None:
        self._reporter, self._task, self._plan, self._clock = reporter, task, planned, clock
        self._last = clock()

    def advance(self, steps: int = 1, note: str = "") -> None:
        now = self._clock()
        self._plan.seconds += now - self._last
        self._plan.done += steps
        self._last = now
        left = self._reporter.left_s()
        told = f"all of it: {span(left)} left" if left is not None and left >= MIN_TOLD_S else ""
        self._task.advance(steps, ", ".join(part for part in (note, told) if part))


def span(seconds: float) -> str:
    """A duration as exactly as it can be known: `about 40 s`, `about 3 min`, `about 1 h 20 min`."""
    if seconds < 90:
        return f"about {max(5, round(seconds / 5) * 5)} s"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 60 else f"about {minutes // 60} h {minutes % 60} min"
