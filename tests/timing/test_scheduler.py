"""The order in which arms are measured, and what is made of their processes; workers are scripted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.artifacts import tiny_artifact
from toolchain.system.progress import Silent
from toolchain.timing.arm import DOUBTFUL, Arm
from toolchain.timing.process import WorkerError
from toolchain.timing.protocol import Flood, Samples, Span, Throughput
from toolchain.timing.scheduler import Pace, TimeLimits, answer, measure


class Scripted:
    """Answers as a worker would, and writes down what it was asked. Each process is 10 % slower than the last."""

    def __init__(self, name: str, number: int, asked: list[tuple[str, str]]) -> None:
        self._name, self._number, self._asked = name, number, asked

    def ask(self, do: str, argument: Any, answer: type, limit_s: float) -> Any:
        self._asked.append((self._name, do))
        longer = 1.1**self._number
        if do == "peak_rss_mb":
            return 100.0 - self._number
        if do == "throughput":
            assert isinstance(argument, Flood)
            assert (argument.way is None) == (self._number == 0), "the way is searched for once"
            return Throughput(50 / longer, 8, 2)
        return Samples((10 * longer,) * 5)

    def close(self) -> None:
        self._asked.append((self._name, "close"))


@pytest.fixture
def arms(tmp_path: Path) -> list[Arm]:
    artifact = tiny_artifact(tmp_path / "model.onnx")
    return [Arm(artifact, device, 1, 1) for device in ("a", "b")]


def _measured(arms: list[Arm], processes: int, *, whole: bool) -> list[tuple[str, str]]:
    asked: list[tuple[str, str]] = []
    started = dict.fromkeys(("a", "b"), 0)

    def load(waiting: Sequence[Arm]) -> None:
        for arm in waiting:
            arm.worker = Scripted(arm.device, started[arm.device], asked)  # type: ignore[assignment]
            started[arm.device] += 1

    pace = Pace(processes, processes, precision=None, budget_s=None, processes=processes)
    measure(arms, load, pace, Silent(), TimeLimits(), whole=whole)
    return asked


def test_whole_answers_and_throughput_take_turns_in_each_process(arms: list[Arm]) -> None:
    asked = _measured(arms, 2, whole=True)
    whole = [(name, do) for name in "ab" for do in ("end_to_end", "from_frame", "peak_rss_mb")]
    turn = [("a", "round"), ("b", "round"), *whole, ("a", "throughput"), ("b", "throughput")]
    assert asked == [*turn, ("a", "close"), ("b", "close"), *turn]
    for arm in arms:
        assert arm.end_to_end_ms == arm.frame_to_answer_ms == pytest.approx(10.5)
        assert arm.peak_rss_mb == 100.0
        found = arm.throughput
        assert found is not None
        assert (found.batch, found.requests) == (8, 2)
        assert found.ips_ci95 is not None
        assert found.ips_ci95[0] < 50 / 1.1 < found.ips < 50 < found.ips_ci95[1]


def test_a_single_process_has_no_interval_of_throughput(arms: list[Arm]) -> None:
    _measured(arms, 1, whole=True)
    assert arms[0].throughput == Throughput(50.0, 8, 2, None)


def test_latencies_alone(arms: list[Arm]) -> None:
    asked = _measured(arms, 3, whole=False)
    assert {do for _, do in asked} == {"round", "close"}
    assert arms[0].throughput is None
    assert arms[0].end_to_end_ms is None


@pytest.mark.parametrize(("processes", "doubted"), [(2, False), (3, True)])
def test_processes_that_differ_more_than_those_of_a_machine_at_rest_are_doubted(
    arms: list[Arm], processes: int, doubted: bool
) -> None:
    _measured(arms, processes, whole=False)
    assert (1.1 ** (processes - 1) - 1 > DOUBTFUL) == doubted
    assert arms[0].noise() == (
        [f"one of its {processes} processes took 21% longer than another"] if doubted else []
    )


class Answering:
    """A worker that takes its time for each photograph, or is ended."""

    def __init__(self, image_s: float) -> None:
        self._image_s = image_s

    def ask(self, do: str, argument: Any, answer: type, limit_s: float) -> Any:
        assert do == "answers"
        assert isinstance(argument, Span)
        span = range(argument.start, argument.stop)
        if len(span) * self._image_s > limit_s:
            raise WorkerError(f"no answer within {limit_s:g} s")
        return list(span)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("image_s", [0.001, 0.6, 4.0, 70.0])
def test_a_slow_device_has_the_time_for_all_its_answers(arms: list[Arm], image_s: float) -> None:
    for arm in arms:
        arm.worker = Answering(image_s)  # type: ignore[assignment]
        arm.inference_ms = image_s * 1e3
    answer(arms, 300, Silent(), TimeLimits())
    for arm in arms:
        assert arm.reason == ""
        assert arm.answers == list(range(300))


def test_devices_that_compile_for_minutes_have_the_time() -> None:
    limits = TimeLimits()
    assert limits.to_load("ort:cpu") == limits.to_load("openvino:CPU") < 300
    assert limits.to_load("ort:tensorrt") == limits.to_load("openvino:NPU") > 1200
