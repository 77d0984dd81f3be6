"""`bench --on`: arms of several machines in one report, the other one over a real OpenSSH server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from bench_support import colour_artifact
from jsonschema import Draft202012Validator
from ssh_server import Server
from test_report import FLOAT, INT8, MACHINE, report

from toolchain.artifact import Artifact
from toolchain.bench import compare, page, runner
from toolchain.bench import report as reports
from toolchain.bench.candidates import candidates
from toolchain.bench.compare import Tolerance
from toolchain.bench.results import BenchReport, MeasuredMachine
from toolchain.bench.runner import Plan, bench
from toolchain.cli import run
from toolchain.errors import BadInputError, ExitCode
from toolchain.system.files import to_json
from toolchain.system.progress import Silent, Task

BOARD = replace(MACHINE, cpu="A small CPU", cores=4, threads=4)
TWO = replace(
    report(FLOAT, INT8, replace(FLOAT, on="board"), replace(INT8, on="board")),
    machines=(MeasuredMachine("local", MACHINE, None), MeasuredMachine("board", BOARD, None)),
)


@pytest.mark.slow
def test_every_machine_measures_every_arm_into_one_report(board: Server, photographs: Path, tmp_path: Path) -> None:
    artifacts = (
        colour_artifact(tmp_path / "model.onnx"),
        colour_artifact(tmp_path / "model.int8.onnx", int8_on=["ort:cpu"]),
    )
    both = bench(Plan(artifacts, ("ort:cpu",), (1,), rounds=1, data=str(photographs), on=("local", "board")))
    assert [(Path(arm.artifact).name, arm.on, arm.status) for arm in both.arms] == [
        (name, on, "ok") for on in ("local", "board") for name in ("model.onnx", "model.int8.onnx")
    ]
    for arm in both.arms:
        assert arm.accuracy is not None
        assert (arm.accuracy.top1, arm.accuracy.agreement) == (1.0, 1.0)
        assert arm.peak_rss_mb is not None
        assert arm.end_to_end_ms is not None
    assert list(both.environments) == ["local", "board"]
    assert all(one.during is not None and one.during.seconds > 0 for one in both.machines)
    assert (both.environment, both.during) == (both.machines[0].environment, both.machines[0].during)
    schema = json.loads(Path(runner.__file__).with_name("bench.schema.json").read_bytes())
    Draft202012Validator(schema).validate(json.loads(to_json(both)))
    assert page.write(both, tmp_path).read_text().count("<h3>On <bdi>board</bdi></h3>") == 2  # a plot of each kind


def test_machines_stand_side_by_side_and_are_not_compared(tmp_path: Path) -> None:
    """However much slower one of them is."""
    slow = replace(
        TWO,
        arms=tuple(
            replace(arm, latency_ms=replace(arm.latency_ms, p50=900.0, p50_ci95=(890.0, 910.0)))
            if arm.latency_ms and arm.on == "board" and arm.precision == "int8"
            else arm
            for arm in TWO.arms
        ),
    )
    said = reports.conclusions(slow)
    fastest = [line for line in said if "Fastest" in line]
    assert [line.split(":")[0] for line in fastest] == ["local", "board"]
    assert "900" not in fastest[0]
    assert any(line.startswith("board: int8 against float: 0.0") for line in said)
    # What is recommended for this machine comes from this machine.
    assert [one.ms for one in candidates(slow, Path("run"))] == [8, 4]
    assert [one.ms for one in candidates(slow, Path("run"), "board")] == [8, 900]
    assert reports.columns(slow)[:2] == ("machine", "artifact")
    assert [row[0] for row in reports.rows(slow)][-1] == "board"
    text = reports.to_markdown(slow)
    assert "Machine: local, " in text
    assert "Machine: board, " in text
    html = page.write(slow, tmp_path).read_text()
    assert "<h3>Machine <bdi>board</bdi></h3>" in html
    assert "A small CPU" in html


@contextmanager
def _cutting(server: Server, description: str, number: int) -> Iterator[Silent]:
    """A reporter that cuts the connection at the given step of a task, the second time that it comes."""
    seen = 0

    class Cutting(Silent):
        @contextmanager
        def task(self, name: str, total: int) -> Iterator[Task]:
            nonlocal seen
            seen += name == description
            with super().task(name, total) as task:
                yield _Cut(task, server, number) if name == description and seen == 2 else task

    yield Cutting()


class _Cut:
    def __init__(self, task: Task, server: Server, left: int) -> None:
        self._task, self._server, self._left = task, server, left

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._task.advance(steps, note)
        self._left -= steps
        if self._left <= 0:
            for session in self._server.sessions():
                session.kill()


@pytest.mark.slow
@pytest.mark.parametrize(("task", "step"), [("measuring", 1), ("loading", 1)])
def test_a_connection_that_is_cut_costs_its_arms_and_not_the_report(
    board: Server, artifact: Artifact, task: str, step: int
) -> None:
    plan = Plan((artifact,), ("ort:cpu", "openvino:CPU"), (1,), rounds=2, on=("local", "board"))
    with _cutting(board, task, step) as reporter:
        found = bench(plan, reporter)
    assert [(arm.on, arm.status) for arm in found.arms] == [("local", "ok")] * 2 + [("board", "failed")] * 2
    assert all(arm.reason.startswith("board: the connection was lost") for arm in found.arms[2:])
    assert found.machines[1].during is None
    assert reports.conclusions(found)[-1] == "board: No arm could be measured."
    assert any(
        line.startswith("failed: ort:cpu at board, openvino:CPU at board: ") for line in reports.absences(found)
    )
    json.loads(to_json(found))


@pytest.mark.slow
def test_command(board: Server, artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", str(artifact.path), "--device", "ort:cpu", "--rounds", "1", "--limit", "2", "--on", "board"]
    assert run([*words, "--json", "--out", str(tmp_path)]) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert [arm["on"] for arm in found["arms"]] == ["board"]
    assert "--on board" in found["command"]
    assert found["machines"][0]["environment"] == found["environment"]


def test_machine_that_cannot_be_used_is_told_before_anything_is_measured(
    board: Server, artifact: Artifact, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", str(artifact.path), "--on", "local", "--on", "bare"]) == ExitCode.MISSING
    told = capsys.readouterr().err
    assert "error: edgetl was not found on bare" in told
    assert run(["bench", str(artifact.path), "--on", "-oProxyCommand=reboot"]) == ExitCode.BAD_INPUT


def test_comparison_with_the_same_machine_under_another_name() -> None:
    """A board that measured itself is `local` in its own report; two machines are told apart by name."""

    def only(report: BenchReport, name: str) -> BenchReport:
        machines = tuple(one for one in report.machines if one.name == name)
        return replace(
            report,
            machines=machines if name != "local" else (),
            arms=tuple(arm for arm in report.arms if arm.on == name),
        )

    there = replace(TWO, machines=(TWO.machines[0], replace(TWO.machines[1], environment=MACHINE)))
    old, new = only(there, "local"), only(there, "board")
    found = compare.compare(old, new, "old", Tolerance())
    assert [change.on for change in found.changes] == ["board", "board"]
    assert not found.differences
    assert len(compare.compare(TWO, TWO, "old", Tolerance()).changes) == 4
    with pytest.raises(BadInputError, match=r"only in the old run: model.onnx .* at board"):
        compare.compare(TWO, only(TWO, "local"), "old", Tolerance())
    with pytest.raises(BadInputError, match=r"cpu: A CPU before, A small CPU now"):
        compare.compare(old, only(TWO, "board"), "old", Tolerance())


def test_python_interface_refuses_what_is_no_machine(artifact: Artifact) -> None:
    import toolchain

    with pytest.raises(BadInputError):
        toolchain.bench(artifact.path, devices=["ort:cpu"], on=["-F"])
