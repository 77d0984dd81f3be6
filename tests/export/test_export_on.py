"""int8 that is proven on other machines: timed there, and named in the card."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from ssh_server import Server

import toolchain
from tests.artifacts import tiny_artifact
from toolchain.artifact import read_artifact
from toolchain.artifact.card import Accuracy, ProvenOn, QuantizationRecipe, Speed
from toolchain.cli import run
from toolchain.errors import BadInputError, ExitCode, MissingError
from toolchain.export.exporting import export
from toolchain.export.int8 import search
from toolchain.export.int8.quantisers import recipes
from toolchain.export.results import Attempt, Exported, Measurement, QuantizationSettings, recommendation
from toolchain.runtimes import machine
from toolchain.system.progress import Silent

BOTH = QuantizationSettings(on=("local", "pi"))
ACCURACY = Accuracy("ort:cpu", "int8", "val", "0" * 64, 200, 0.9, 0.9, 0.99)
HERE, THERE = Speed("ort:cpu", 1, 10.0, 5.0), Speed("ort:cpu", 4, 40.0, 30.0, on="pi")


def _attempt(*speeds: Speed, top1_there: float | None = None) -> Attempt:
    there = {} if top1_there is None else {"pi": {"ort:cpu": top1_there}}
    measured = (Measurement("ort:cpu", ACCURACY, 0.25, 1.0),)
    return Attempt("way", "edgetl", {}, measured, 1.0, speeds, top1_there=there)


@pytest.mark.parametrize(
    ("attempt", "said"),
    [
        (_attempt(HERE, THERE), None),
        (_attempt(HERE, THERE, top1_there=0.9), None),
        (_attempt(HERE, THERE, top1_there=0.95), None),
        (_attempt(HERE), "int8 could not be timed on ort:cpu at pi"),
        (_attempt(THERE), "int8 could not be timed on ort:cpu"),
        (
            replace(_attempt(HERE), untimed={"pi": {"ort:cpu": "the connection was lost"}}),
            "int8 could not be timed on ort:cpu at pi: the connection was lost",
        ),
        (_attempt(replace(HERE, int8_ms=20.0)), "int8 is 0.50 times as fast as float on ort:cpu, not"),
        (_attempt(HERE, replace(THERE, int8_ms=50.0)), "int8 is 0.80 times as fast as float on ort:cpu at pi"),
        (
            _attempt(HERE, THERE, top1_there=0.89),
            "int8 loses 1.25 pp of top-1 on ort:cpu at pi, 0.75 pp more than --max-drop 0.5",
        ),
    ],
)
def test_promises_must_be_kept_on_every_machine(attempt: Attempt, said: str | None) -> None:
    broken = attempt.broken("ort:cpu", BOTH)
    assert broken is None if said is None else broken is not None and broken.startswith(said)


def test_a_lost_machine_breaks_no_promise() -> None:
    assert _attempt(HERE).undecided("ort:cpu", BOTH)
    assert not _attempt(HERE, THERE).undecided("ort:cpu", BOTH)
    assert not _attempt(replace(HERE, int8_ms=20.0)).undecided("ort:cpu", BOTH), "it is slow here"


def test_the_file_to_use_is_named_with_its_machine() -> None:
    attempt = replace(_attempt(HERE, THERE), chosen_for=("ort:cpu",))
    done = Exported(
        "run", "val", 9, "run/model.onnx", 9.0, (), attempts=(attempt,), int8_files={"ort:cpu": "i.onnx"}
    )
    compare, here, there = recommendation(replace(done, on=("local", "pi")))
    assert compare.endswith("edgetl bench run --on local --on pi")
    assert here.startswith("Use i.onnx, on ort:cpu: 5.00 ms on 1 thread (float on ort:cpu 10.00).")
    assert there == "Use i.onnx, on ort:cpu at pi: 30.00 ms on 4 threads (float on ort:cpu at pi 40.00)."


def test_other_machines_are_for_timing() -> None:
    with pytest.raises(BadInputError, match="times nothing"):
        QuantizationSettings(min_speed_up=0, on=("pi",))


PI = ProvenOn("pi", "Cortex-A76", "aarch64", ("asimddp",), {"ort:cpu": 0.9})
XEON = ProvenOn("local", "A Xeon", "x86_64", ("avx2", "avx512_vnni", "amx_int8"))


@pytest.mark.parametrize(
    ("proven", "flags", "said"),
    [
        (
            (PI,),
            ("avx2", "avx_vnni"),
            "proven on Cortex-A76 (dot products); this one is another kind of CPU (VNNI)",
        ),
        ((XEON,), ("avx2", "avx_vnni"), "proven on A Xeon (AMX, VNNI); this one is another kind of CPU (VNNI)"),
        ((XEON, PI), ("avx2", "avx512_vnni", "amx_int8"), ""),
        ((PI,), ("asimddp", "i8mm"), ""),  # all that it was proven with, and more
        ((XEON, replace(XEON, flags=())), ("avx2", "avx_vnni", "amx_int8"), ""),
        ((XEON, replace(PI, cpu=XEON.cpu)), ("asimddp",), ""),  # of one name, as virtual CPUs are
        ((replace(PI, cpu=XEON.cpu), XEON), ("asimddp",), ""),
        ((PI,), ("avx2",), "proven on Cortex-A76 (dot products); this one is another kind of CPU (no such"),
        ((PI,), (), ""),  # not known
        ((), ("asimddp",), ""),  # a card of old that names no CPU
    ],
)
def test_another_kind_of_cpu_is_said(
    tmp_path: Path, proven: tuple[ProvenOn, ...], flags: tuple[str, ...], said: str
) -> None:
    recipe = QuantizationRecipe("edgetl", {}, "0" * 64, 1, proven=proven)
    artifact = tiny_artifact(tmp_path / "model.int8.onnx", precision="int8", recipe=recipe)
    found = machine.int8_speed_caution(artifact, "ort:cpu", machine.Processor("this one", "x86_64", flags))
    assert said in found
    assert bool(found) == bool(said)
    assert machine.int8_speed_caution(artifact, "ort:cuda", machine.Processor("this one", "x86_64", flags)) == ""


def test_predict_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = QuantizationRecipe("edgetl", {}, "0" * 64, 1, proven=(PI,), speeds=(THERE,))
    path = tmp_path / "model.int8.onnx"
    tiny_artifact(path, precision="int8", recipe=recipe)
    monkeypatch.setattr(machine, "processor", lambda: machine.Processor("this one", "x86_64", ("avx2", "avx_vnni")))
    shutil.copy(Path(__file__).parents[2] / "docs" / "images" / "demo.svg", tmp_path / "no.svg")
    run(["predict", str(path), str(tmp_path / "no.svg"), "--quiet"])
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("warning: model.int8.onnx was proven on Cortex-A76") == 1
    assert run(["card", str(path)]) == 0
    assert "Cortex-A76 (pi): 1.33x on ort:cpu (4t)" in " ".join(capsys.readouterr().out.split())


def test_command_refuses_what_it_could_not_do(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, code, said in (
        (["--on", "pi"], ExitCode.BAD_INPUT, "int8 was not asked for"),
        (["--int8", "--on", "-oProxyCommand=x"], ExitCode.BAD_INPUT, "no machine to connect to"),
        (["--int8", "--on", "pi", "--min-speed-up", "0"], ExitCode.BAD_INPUT, "times nothing"),
        (["--int8", "--qat-epochs", "3"], ExitCode.BAD_INPUT, "--qat-epochs does nothing without --qat"),
        (["--fp16", "--max-drop", "1"], ExitCode.BAD_INPUT, "--max-drop does nothing without --int8"),
        (["--min-speed-up", "2"], ExitCode.BAD_INPUT, "--min-speed-up does nothing without --int8"),
        (["--int8-weights", "--max-minutes", "2"], ExitCode.BAD_INPUT, "--max-minutes does nothing without --int8"),
    ):
        assert run(["export", str(run_folder), *words]) == code
        assert said in capsys.readouterr().err


def test_a_machine_that_cannot_be_used_is_told_before_the_search(
    board: Server, run_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    with pytest.raises(MissingError, match="edgetl was not found on bare"):
        export(tmp_path / "run", int8=QuantizationSettings(on=("bare",)), target="ort:cpu")


LENIENT = QuantizationSettings(max_drop_pp=100, min_speed_up=0.001)


class _Told(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.mark.slow
def test_int8_is_timed_and_answers_there(
    board: Server, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "recipes", lambda task: recipes(task)[:1])
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    settings = QuantizationSettings(max_drop_pp=100, min_speed_up=0.001, on=("board",))
    done = export(folder, int8=settings, target="ort:cpu")
    (attempt,) = done.attempts
    assert {(speed.on, speed.device) for speed in attempt.speeds} == {("board", "ort:cpu")}
    assert attempt.top1_there["board"]["ort:cpu"] == pytest.approx(attempt.on("ort:cpu").accuracy.top1)
    assert done.broken == {}
    recipe = read_artifact(folder / "model.int8.onnx").card.recipe
    assert recipe is not None
    (proven,) = recipe.proven
    assert (proven.name, proven.cpu) == ("board", machine.processor().name)
    assert proven.top1 == attempt.top1_there["board"]
    assert recipe.speeds == attempt.speeds


@pytest.mark.slow
def test_a_board_that_has_gone_leaves_the_promise_open_and_not_the_export(
    board: Server,
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It was there when the export began; what was measured of accuracy is told all the same."""
    path = os.environ["PATH"]

    def recipes_and_then_cut(task):  # type: ignore[no-untyped-def]
        monkeypatch.setenv("PATH", str(tmp_path))  # no ssh any more
        return recipes(task)[:1]

    monkeypatch.setattr(search, "recipes", recipes_and_then_cut)
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    export(folder, int8=replace(LENIENT, on=("local",)), target="ort:cpu")
    proven = folder / "model.int8.onnx"
    before = proven.read_bytes()
    monkeypatch.setenv("PATH", path)
    told = _Told()
    done = export(folder, int8=replace(LENIENT, on=("board",)), target="ort:cpu", reporter=told)
    assert list(done.broken) == ["ort:cpu"]
    assert done.broken["ort:cpu"].startswith("int8 could not be timed on ort:cpu at board: ssh is not installed")
    assert done.undecided == ("ort:cpu",)
    assert len(done.attempts) == 1
    assert any("ssh is not installed here" in line for line in told.warnings)
    assert proven.read_bytes() == before, "nothing speaks against the file that was proven before"
    monkeypatch.setenv("PATH", path)
    words = ["--int8", "--max-drop", "100", "--target", "ort:cpu", "--on", "board"]
    assert run(["export", str(folder), *words]) == ExitCode.UNDECIDED
    assert "could not be timed on ort:cpu at board: ssh" in " ".join(capsys.readouterr().err.split())
    tiny_artifact(proven, precision="int8")  # another network's
    monkeypatch.setenv("PATH", path)
    export(folder, int8=replace(LENIENT, on=("board",)), target="ort:cpu", reporter=told)
    assert (folder / "model.int8.onnx.older").is_file()
    assert not proven.exists()


def test_other_machines_without_int8_are_refused_in_programs_too(run_folder: Path) -> None:
    with pytest.raises(BadInputError, match="int8 was not asked for"):
        toolchain.export(run_folder, on=["me@board"])
