from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.artifacts import tiny_artifact
from toolchain import doctor
from toolchain.cli import COMMANDS, run
from toolchain.cli.doctor import command
from toolchain.doctor import report as checkup
from toolchain.errors import ExitCode
from toolchain.recommended import SCHEMA, Recommended, Record, write
from toolchain.runtimes import machine
from toolchain.runtimes.devices import cores, cpu_name, known_devices
from toolchain.system.processor import cpu_quota


def test_help_is_the_text_of_the_command_list() -> None:
    assert command.get_short_help_str(limit=100) == COMMANDS["doctor"]


@pytest.mark.slow
def test_this_machine_runs_edgetl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGETL_DATA", str(tmp_path))
    assert run(["doctor", "--json", "--quiet"]) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert found["works"] is True
    assert not any(gap["necessary"] for gap in found["missing"])
    devices = {device["name"]: device for device in found["devices"]}
    assert tuple(devices) == known_devices()
    assert devices["ort:cpu"]["available"]
    assert all(device["available"] or device["reason"] for device in devices.values())
    assert found["data_root"] == str(tmp_path)
    assert {data["name"]: data["path"] for data in found["data_sets"]}["pets"] is None
    assert found["disk_free_mb"] > 0
    assert found["torch_pairing"]["status"] in {"works", "not installed"}
    assert "int8" in found["int8"]
    assert found["environment"]["quota_cores"] == cpu_quota()
    assert devices[found["fastest"]["device"]]["available"]


def test_text_for_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGETL_DATA", str(tmp_path / "[bold]not yet"))
    monkeypatch.setattr(checkup, "check_pairing", lambda: checkup.Pairing("broken", "[red]other versions"))
    monkeypatch.setattr(machine, "cpu_quota", lambda: 0.5)
    why = "float32 takes 2.88 ms; int8 1.40, 2.06 times as fast as float32 (2.01 at least)."
    made = tiny_artifact(tmp_path / "model.int8.onnx", precision="int8")
    found = Recommended("ort:cpu", "model.int8.onnx", made.sha256, "int8", "ort:cpu", 2, 1.4, why)
    record = Record(SCHEMA, "edgetl bench", cpu_name(), machine.cpu_flags(), cores(), "ort:cpu", (found,))
    write(tmp_path, record)
    assert run(["doctor", str(tmp_path)]) == ExitCode.DONE
    shown = capsys.readouterr().out
    assert f"Recommended on ort:cpu: model.int8.onnx on ort:cpu, 1.40 ms on 2 threads. {why}" in " ".join(
        shown.split()
    )
    for text in (
        "ort:cpu",
        "0.5 cores, a limit of the container",
        "edgetl data fetch pets",
        "[bold]not yet",
        "[red]other versions",
        "pip install --force-reinstall",
        "ort, openvino, ncnn",
        "mobilenet_v2, mobilenet_v3_small",
        "drawn-pets",
        "This machine runs edgetl.",
    ):
        assert text in shown


def test_a_recommendation_of_another_machine_and_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkup, "check_pairing", lambda: checkup.Pairing("works"))
    write(tmp_path, Record(SCHEMA, "edgetl bench", "Another CPU", (), 2, "ort:cpu", ()))
    assert run(["doctor", str(tmp_path)]) == ExitCode.DONE
    assert "was measured on Another CPU. Measure it here: edgetl bench" in " ".join(capsys.readouterr().out.split())
    other = cores() + 1
    write(tmp_path, Record(SCHEMA, "edgetl bench", cpu_name(), machine.cpu_flags(), other, "ort:cpu", ()))
    assert run(["doctor", str(tmp_path)]) == ExitCode.DONE
    assert f"was measured on {other} threads, and there " in " ".join(capsys.readouterr().out.split())
    assert run(["doctor", str(tmp_path / "nothing")]) == ExitCode.BAD_INPUT


def test_a_file_that_has_changed_since_is_not_recommended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkup, "check_pairing", lambda: checkup.Pairing("works"))
    here = tiny_artifact(tmp_path / "model.onnx")
    other = tiny_artifact(tmp_path / "model.int8.onnx", precision="int8")
    found = tuple(
        Recommended(device, file, sha256, "float32", device, 2, 1.4, "Why.")
        for device, file, sha256 in (
            ("ort:cpu", "model.onnx", here.sha256),
            ("openvino:CPU", "model.int8.onnx", here.sha256),
            ("openvino:AUTO", "model.int8.ort.onnx", other.sha256),
        )
    )
    write(tmp_path, Record(SCHEMA, "edgetl bench", cpu_name(), machine.cpu_flags(), cores(), "ort:cpu", found))
    assert run(["doctor", str(tmp_path)]) == ExitCode.DONE
    shown = " ".join(capsys.readouterr().out.split())
    assert "Recommended on ort:cpu: model.onnx" in shown
    assert "Recommended on openvino" not in shown
    for file in ("model.int8.onnx", "model.int8.ort.onnx"):
        assert f"{file} was recommended, and has changed since or is gone. Measure again: edgetl bench" in shown


def test_missing_package_exits_with_3_and_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where openvino was never installed: Python does not find the module."""
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "onnx" else object())
    assert run(["doctor"]) == ExitCode.MISSING
    assert "missing: the package onnx. pip install onnx" in capsys.readouterr().out
    assert run(["doctor", "--json"]) == ExitCode.MISSING
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "works": False,
        "missing": [{"what": "the package onnx", "fix": "pip install onnx", "necessary": True}],
    }


def test_package_that_is_there_and_does_not_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where OpenCV is installed without the system library that it is linked to."""

    class Refusing:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "toolchain.doctor.report":
                raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.delitem(sys.modules, "toolchain.doctor.report", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Refusing(), *sys.meta_path])
    assert run(["doctor"]) == ExitCode.MISSING
    assert "missing: libGL.so.1: cannot open shared object file" in capsys.readouterr().out


def test_too_little_memory_is_no_defect(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class OutOfMemoryError(RuntimeError):
        """As PyTorch calls it."""

    for error in (MemoryError(), OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")):

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("toolchain.doctor.report.check_up", fail)
        assert run(["doctor"]) == 3
        assert "too little" in capsys.readouterr().err
