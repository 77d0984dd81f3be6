"""How long all of a command will take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from toolchain.system.progress import EtaReporter, PlannedTask, Silent, Task, span


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Notes(Silent):
    """Remembers what tasks were told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        notes = self.notes

        class Noting:
            def advance(self, steps: int = 1, note: str = "") -> None:
                notes.append(note)

        yield Noting()


def _spend(whole: EtaReporter, clock: Clock, description: str, steps: int, each_s: float) -> None:
    with whole.task(description, steps) as task:
        for _ in range(steps):
            clock.now += each_s
            task.advance(note="loss 1")


def test_what_was_measured_is_believed_and_the_rest_is_scaled_to_it() -> None:
    clock, notes = Clock(), Notes()
    works = [
        PlannedTask("features", 10, 1.0),
        PlannedTask("epoch */*", 30, 2.0),
        PlannedTask("epoch * on *", 3, 1.0),
    ]
    whole = EtaReporter(notes, works, clock)
    assert whole.left_s() is None
    _spend(whole, clock, "features", 10, 3.0)
    assert whole.left_s() == pytest.approx(30 * 2 * 3 + 3 * 3), "twice as much a step, it was said"
    _spend(whole, clock, "epoch 1/3", 10, 1.0)
    assert whole.left_s() == pytest.approx(20 * 1 + 3 * 40 / 30), "and was measured: it costs less"
    _spend(whole, clock, "epoch 1 on val", 1, 5.0)
    assert whole.left_s() == pytest.approx(20 * 1 + 2 * 5)
    _spend(whole, clock, "something else", 4, 100.0)
    assert whole.left_s() == pytest.approx(30), "what is not planned is not part of it"
    assert notes.notes[-5] == "loss 1, all of it: about 30 s left"
    assert notes.notes[-1] == "loss 1"
    whole.remaining("epoch */*", 0)  # stopped early
    assert whole.left_s() == pytest.approx(10)


def test_the_end_is_not_counted_down_to_the_second() -> None:
    clock, notes = Clock(), Notes()
    whole = EtaReporter(notes, [PlannedTask("writing", 2, 1.0)], clock)
    _spend(whole, clock, "writing", 4, 2.0)
    assert notes.notes == [
        "loss 1, all of it: about 5 s left",
        "loss 1",
        "loss 1",
        "loss 1",
    ], "its task knows that it has four steps; under five seconds nothing is said"


def test_what_begins_within_another_has_one_plan() -> None:
    clock = Clock()
    outer = EtaReporter(Notes(), [PlannedTask("writing", 2, 100.0)], clock)
    assert EtaReporter.of(outer, [PlannedTask("features", 10, 1.0), PlannedTask("writing", 1, 0.5)]) is outer
    _spend(outer, clock, "features", 10, 0.5)
    assert outer.left_s() == pytest.approx(50), "the outer one's cost, the inner one's number"


@pytest.mark.parametrize(
    ("seconds", "said"), [(2, "5 s"), (42, "40 s"), (100, "2 min"), (3540, "59 min"), (4800, "1 h 20 min")]
)
def test_spans(seconds: float, said: str) -> None:
    assert span(seconds) == f"about {said}"
