"""Where `edgetl bench` writes, and what it does when two runs cannot be compared."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench_support import colour_artifact, write_photographs

from toolchain.artifact import read_artifact
from toolchain.bench.benchmark import claimed
from toolchain.bench.compare import read_report
from toolchain.bench.results import BenchReport
from toolchain.bench.runner import Plan, bench
from toolchain.cli import run
from toolchain.datasets.catalogue import open_dataset
from toolchain.errors import ExitCode
from toolchain.runtimes import machine
from toolchain.system import files
from toolchain.timing import scheduler as turns

QUICK = ("--rounds", "1", "--threads", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a float file, and photographs beside it. Not to be written to."""
    root = tmp_path_factory.mktemp("compared")
    write_photographs(root / "colours")
    colour_artifact(root / "run" / "model.onnx")
    return root


@pytest.fixture(scope="module")
def older(folder: Path) -> BenchReport:
    """The colours on one thread of ort:cpu, on this machine."""
    artifact = read_artifact(folder / "run" / "model.onnx")
    plan = Plan((artifact,), ("ort:cpu",), threads=(1,), rounds=1, data=str(folder / "colours"))
    return replace(bench(plan), noisy=False)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder to be in."""
    monkeypatch.setattr(turns, "THROUGHPUT_S", 0.05)
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def written(report: BenchReport, folder: Path) -> str:
    files.write_json(folder / "older.json", report)
    return str(folder / "older.json")


def test_each_benchmark_of_a_run_has_a_folder_of_its_own_in_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "[run]"
    shutil.copytree(folder / "run", copy)
    (copy / "run.json").touch()
    (copy / "bench-1").mkdir()
    assert run(["bench", str(copy), "--device", "ort:cpu", "--quiet", *QUICK]) == ExitCode.DONE
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.split(",")[0] == f"Written: {copy}/bench-2/bench.json"
    assert run(["bench", str(copy), "--data", "no-such-data"]) == ExitCode.BAD_INPUT
    assert sorted(path.name for path in copy.glob("bench-*")) == ["bench-1", "bench-2"]


def test_folders_are_claimed_once_and_left_only_with_something_in_them(here: Path) -> None:
    Path("run").mkdir()
    Path("run/run.json").touch()
    Path("loose").mkdir()
    for path, home in (("run", "run"), ("run/model.onnx", "run"), ("loose/model.onnx", "."), ("loose", ".")):
        with claimed(None, Path(path)) as first, claimed(None, Path(path)) as second:
            assert [first, second] == [Path(home) / "bench-1", Path(home) / "bench-2"]
    with ThreadPoolExecutor(8) as pool, ExitStack() as stack:
        got = list(pool.map(lambda _: stack.enter_context(claimed(None, Path("run"))), range(40)))
    assert len(set(got)) == 40
    with claimed(Path("given"), Path("run")) as given:
        assert given == Path("given")
    assert sorted(path.name for path in here.rglob("*")) == ["loose", "run", "run.json"]


def test_a_run_that_cannot_be_written_to_sends_its_benchmark_here(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Path.mkdir
    read_only = [Path("run")]

    def refusing(self: Path, *rest: Any, **more: Any) -> None:
        """As a read-only disk does; permissions do not stop root, whom tests may run as."""
        if self.parent in read_only:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
        made(self, *rest, **more)

    Path("run").mkdir()
    Path("run/run.json").touch()
    monkeypatch.setattr(Path, "mkdir", refusing)
    with claimed(None, Path("run")) as folder:
        assert folder == Path("bench-1")
    read_only.append(Path())
    with claimed(None, Path("run")) as folder:
        assert folder is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--threads", "2"], "only in the old run: model.onnx (float32) on ort:cpu, 1 thread, batch 1"),
        (["--batch", "1,2"], "only in the new run: model.onnx (float32) on ort:cpu, 1 thread, batch 2"),
        (["--device", "openvino:CPU"], "only in the new run: model.onnx (float32) on openvino:CPU"),
        (["--split", "train"], "data, split: test before, train now"),
        (["--limit", "3"], "data, n: 12 before, 3 now"),
        (["--batch", "4", "--force"], "have no arm in common"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_compared_is_refused_before_it_is_measured(
    folder: Path, older: BenchReport, words: list[str], told: str, here: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    base = ["bench", str(folder / "run" / "model.onnx"), "--device", "ort:cpu", "--data", str(folder / "colours")]
    assert run([*base, *QUICK, "--compare", written(older, tmp_path), *words]) == ExitCode.BAD_INPUT
    shown = capsys.readouterr()
    assert told in shown.err
    assert "loading" not in shown.err
    assert (shown.out, list(here.iterdir())) == ("", [])


def test_another_machine_is_refused_before_it_is_measured(
    folder: Path, older: BenchReport, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    another = replace(older, environment=replace(machine.describe(), cpu="another", quota_cores=0.5))
    words = ["bench", str(folder / "run" / "model.onnx"), "--device", "ort:cpu", "--data", str(folder / "colours")]
    assert run([*words, *QUICK, "--compare", written(another, tmp_path)]) == ExitCode.BAD_INPUT
    told = capsys.readouterr().err
    assert "cpu: another before" in told
    assert "quota_cores: 0.5 before" in told
    assert "loading" not in told


def test_what_turns_out_not_to_compare_is_shown_and_written_all_the_same(
    folder: Path, older: BenchReport, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """That a photograph cannot be read turns out when it is."""
    data = tmp_path / "colours"
    shutil.copytree(folder / "colours", data)
    broken = next((data / "test" / "red").iterdir())
    broken.write_bytes(broken.read_bytes()[:90])
    assert older.data
    before = replace(older.data, split_sha256=open_dataset(str(data)).split_sha256("test"))
    compared = ["--compare", written(replace(older, data=before), tmp_path), "--out", str(tmp_path / "out")]
    words = ["bench", str(folder / "run" / "model.onnx"), "--device", "ort:cpu", "--data", str(data), *QUICK]
    assert run([*words, *compared, "--json"]) == ExitCode.BAD_INPUT
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["arms"][0]["status"] == "ok"
    assert "data, n: 12 before, 11 now" in found["not_compared"]
    assert f"error: {found['not_compared']}" in shown.err
    assert read_report(tmp_path / "out" / "bench.json").not_compared == found["not_compared"]
    assert "**Not compared**" in (tmp_path / "out" / "bench.md").read_text(encoding="utf-8")


def test_a_renamed_file_is_compared(
    folder: Path, older: BenchReport, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(folder / "run" / "model.onnx", tmp_path / "flowers.onnx")
    words = ["bench", str(tmp_path / "flowers.onnx"), "--device", "ort:cpu", "--data", str(folder / "colours")]
    code = run([*words, *QUICK, "--compare", written(older, tmp_path), "--json"])
    assert code in {ExitCode.DONE, ExitCode.PROMISE_BROKEN, ExitCode.UNDECIDED}
    found = json.loads(capsys.readouterr().out)
    assert (code == ExitCode.UNDECIDED) == found["noisy"]
    (change,) = found["comparison"]["changes"]
    assert (change["artifact"], change["old_artifact"]) == ("flowers.onnx", "model.onnx")


def test_a_full_folder_of_temporary_files_is_named(folder: Path, tmp_path: Path) -> None:
    """On a small disk of its own, where one can be had."""
    mount = f"mount -t tmpfs -o size=64k tmpfs {shlex.quote(str(tmp_path))}"
    if not shutil.which("unshare") or subprocess.run(["unshare", "-m", "sh", "-c", mount], check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    words = [sys.executable, "-m", "toolchain", "bench", str(folder / "run" / "model.onnx"), "--device", "ort:cpu"]
    script = f"{mount} && TMPDIR={shlex.quote(str(tmp_path))} exec {shlex.join(words)}"
    command = ["unshare", "-m", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.BAD_INPUT
    assert f"error: {tmp_path}, the folder of temporary files, is full" in done.stderr
    assert "TMPDIR=FOLDER" in done.stderr
