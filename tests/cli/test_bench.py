from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from artifacts import tiny_ir
from bench_support import colour_artifact, write_photographs

from toolchain.bench import benchmark
from toolchain.cli import COMMANDS, run
from toolchain.cli.bench import command
from toolchain.errors import ExitCode
from toolchain.timing import scheduler as turns

QUICK = ("--rounds", "1", "--threads", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a float and an int8 file, and photographs beside it. Not to be written to."""
    root = tmp_path_factory.mktemp("bench")
    write_photographs(root / "colours")
    colour_artifact(root / "run" / "model.onnx")
    colour_artifact(root / "run" / "model.int8.onnx", int8_on=["ort:cpu"])
    return root


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr(turns, "THROUGHPUT_S", 0.05)
    # Where benchmarks of loose files are written.
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_help_is_the_text_of_the_command_list() -> None:
    assert command.get_short_help_str(limit=100) == COMMANDS["bench"]


@pytest.mark.parametrize("as_json", [True, False])
def test_what_was_measured_is_shown_where_it_cannot_be_written(
    as_json: bool, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(report: object, folder: Path, reporter: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(benchmark, "write", full)
    words = ["bench", str(folder / "run" / "model.onnx"), "--device", "ort:cpu", *QUICK]
    words += ["--data", str(folder / "colours"), "--out", str(tmp_path / "out"), *["--json"] * as_json]
    assert run(words) == ExitCode.BAD_INPUT
    shown = capsys.readouterr()
    assert "error: No space left on device" in shown.err
    if as_json:
        assert [arm["status"] for arm in json.loads(shown.out)["arms"]] == ["ok"]
    else:
        assert "model.onnx" in shown.out


def test_run_folder_for_people_and_as_files(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", str(folder / "run"), "--data", str(folder / "colours"), "--device", "ort:cpu", *QUICK]
    assert run([*words, "--out", str(tmp_path / "out")]) == ExitCode.DONE
    assert not list((folder / "run").glob("bench-*"))
    shown = capsys.readouterr()
    rows = [line.split() for line in shown.out.splitlines() if line.startswith("model.")]
    assert [row[:5] for row in rows] == [
        ["model.onnx", "float32", "ort:cpu", "1", "1"],
        ["model.int8.onnx", "int8", "ort:cpu", "1", "1"],
    ]
    assert "Fastest: model." in shown.out
    assert "times as fast on ort:cpu" in shown.out
    assert shown.out.splitlines()[-1].startswith(f"Written: {tmp_path / 'out' / 'bench.json'}")
    written = json.loads((tmp_path / "out" / "bench.json").read_bytes())
    assert [arm["status"] for arm in written["arms"]] == ["ok", "ok"]
    assert written["arms"][1]["accuracy"]["agreement"] == 1.0
    assert (tmp_path / "out" / "bench.md").read_text(encoding="utf-8").startswith("# Benchmark")


def test_json_is_one_document_and_names_the_folder_that_was_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["bench", str(folder / "run" / "model.onnx"), "--device", "ort:cpu", "--json", "--quiet", *QUICK]
    assert run([*words, "--batch", "2", "--limit", "4", "--data", str(folder / "colours")]) == ExitCode.DONE
    found = document(capsys)
    assert (found["schema"], found["data"]["n"], found["arms"][0]["batch"]) == ("edgetl.bench/1", 4, 2)
    # A file that is in no run's folder: the current folder is the one that a person looks into.
    assert (found["out"], [path.name for path in tmp_path.iterdir()]) == ("bench-1", ["bench-1"])
    assert {path.name for path in (tmp_path / "bench-1").iterdir()} >= {"bench.json", "bench.md"}
    written = json.loads((tmp_path / "bench-1" / "bench.json").read_bytes())
    assert written == {key: value for key, value in found.items() if key != "out"}


def test_device_that_is_not_here_exits_with_3(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", str(folder / "run" / "model.int8.onnx"), "--json", *QUICK]
    assert run([*words, "--device", "openvino:NPU"]) == ExitCode.MISSING
    (arm,) = document(capsys)["arms"]
    assert (arm["status"], arm["latency_ms"]) == ("unavailable", None)
    assert "NPU" in arm["reason"]
    assert run([*words, "--device", "openvino:NPU", "--device", "ort:cpu"]) == ExitCode.DONE


@pytest.mark.slow
def test_torch_is_unavailable_without_its_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    words = ["bench", str(folder / "run" / "model.onnx"), "--device", "torch:cpu", "--json", *QUICK]
    assert run(words) == ExitCode.MISSING
    assert "run" in document(capsys)["arms"][0]["reason"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Missing argument"),
        (["nowhere.onnx"], "nowhere.onnx does not exist"),
        (["{run}/model.onnx", "--device", "gpu"], "unknown device 'gpu'"),
        (["{run}/model.onnx", "--split", "exam"], "unknown split 'exam'"),
        (["{run}/model.onnx", "--data", "no-such-data"], "'no-such-data' is neither"),
        (["{run}/model.onnx", "--rounds", "0"], "--rounds"),
        (["{run}/model.onnx", "--threads", "1,x"], "'1,x' is no list of numbers"),
        (["{run}/model.onnx", "--batch", "0"], "'0' is no list of numbers"),
        (["{run}/model.onnx", "--batch", ""], "'' is no list of numbers"),
        (["{run}/model.onnx", "--device", "torch:cpu+fast"], "in no way called fast"),
        (["{run}/model.onnx", "--compare", "nowhere.json"], "nowhere.json cannot be read"),
        (["{run}/model.onnx", "--compare", "{run}/model.onnx"], "is no bench.json"),
        (["{run}/model.onnx", "--out", "{run}/model.onnx"], "is not a folder"),
        (["{run}/.."], "holds no model.onnx"),
    ],
)
def test_wrong_use_is_told_in_one_line(
    folder: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [word.replace("{run}", str(folder / "run")) for word in words]
    assert run(["bench", *filled]) == ExitCode.BAD_INPUT
    shown = capsys.readouterr()
    assert told in shown.err
    assert shown.out == ""
    assert len(shown.err.splitlines()) <= 3


def test_truncated_artifact(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_bytes((folder / "run" / "model.onnx").read_bytes()[:200])
    assert run(["bench", str(broken)]) == ExitCode.BAD_INPUT
    assert "not a whole ONNX file" in capsys.readouterr().err


@pytest.mark.slow
def test_openvino_file_is_measured_on_openvino_and_unavailable_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_ir(tmp_path / "model.xml")
    assert run(["bench", str(tmp_path / "model.xml"), "--json", "--quiet", *QUICK]) == ExitCode.DONE
    arms = {arm["device"]: arm for arm in document(capsys)["arms"]}
    assert arms["openvino:CPU"]["status"] == "ok"
    assert arms["openvino:CPU"]["provider_effective"] == "CPU"
    for device in ("ort:cpu", "torch:cpu"):
        assert arms[device]["status"] == "unavailable"
        assert "runs .onnx files" in arms[device]["reason"]
    assert {arm["status"] for arm in arms.values()} == {"ok", "unavailable"}
