from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from toolchain.bench import report as reports
from toolchain.bench.results import ArmAccuracy, ArmResult, BenchReport, Data, names_of
from toolchain.evaluation.statistics import Latency
from toolchain.runtimes.machine import Environment, LoadBefore

MACHINE = Environment(
    "A CPU", "x86_64", ("avx2",), 2, 4, 8000.0, None, "Linux", {"edgetl": "0"}, LoadBefore(0.1, None)
)


def latency(p50: float, half: float = 0.1) -> Latency:
    return Latency(10, p50, 0.1, p50 - 1, p50, p50 + 1, p50 + 2, p50 + 3, p50 + 4, (p50 - half, p50 + half))


FLOAT = ArmResult(
    artifact="run/model.onnx",
    sha256="0" * 64,
    precision="float32",
    device="ort:cpu",
    provider_effective="CPUExecutionProvider",
    threads=2,
    batch=1,
    status="ok",
    reason="",
    latency_ms=latency(8),
    throughput_ips=130.0,
    load_ms=20.0,
    first_ms=9.0,
    end_to_end_ms=11.0,
    peak_rss_mb=90.0,
    file_mb=9.05,
    accuracy=ArmAccuracy(0.9, 0.88, 100, 1.0, (0.83, 0.94)),
)
INT8 = replace(FLOAT, artifact="run/model.int8.onnx", precision="int8", latency_ms=latency(4), file_mb=2.5)
ABSENT = replace(
    FLOAT, device="ort:cuda", status="unavailable", reason="no such provider", latency_ms=None, accuracy=None,
    throughput_ips=None, load_ms=None, first_ms=None, end_to_end_ms=None, peak_rss_mb=None,
)  # fmt: skip
FAILED = replace(ABSENT, artifact="run/model.int8.onnx", device="openvino:CPU", status="failed", reason="it\ndied")


def report(*arms: ArmResult) -> BenchReport:
    data = Data("pets", "test", "a" * 64, 100, 1)
    return BenchReport("edgetl.bench/1", MACHINE, data, arms, ("the machine is busy",))


def test_files_are_written_and_read_back(tmp_path: Path) -> None:
    whole = report(FLOAT, INT8, ABSENT, FAILED)
    reports.write(whole, tmp_path / "new" / "folder")
    text = (tmp_path / "new" / "folder" / "bench.json").read_bytes()
    assert msgspec.json.decode(text, type=BenchReport) == whole
    assert json.loads(text)["arms"][2]["latency_ms"] is None
    markdown = (tmp_path / "new" / "folder" / "bench.md").read_text(encoding="utf-8")
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 2
    assert {line.count("|") for line in table} == {len(reports.COLUMNS) + 1}
    for text in ("model.int8.onnx", "no such provider", "it died", "the machine is busy", "A CPU", "split test"):
        assert text in markdown


def test_names_are_no_html_and_no_columns_of_the_markdown() -> None:
    evil = "a<script>|](http://there) & \x1b[2J`b"
    whole = report(replace(FLOAT, artifact=f"run/{evil}.onnx"), replace(FAILED, reason=evil))
    whole = replace(whole, command=f"edgetl bench {evil}", data=replace(whole.data, name=evil), remarks=(evil,))  # type: ignore[type-var]
    markdown = reports.to_markdown(whole)
    before, _, after = markdown.partition("Measured by: `")
    command, _, after = after.partition("\n")
    assert command.endswith("'b`")
    assert command.count("`") == 1
    assert "<" not in before + after
    assert "](" not in before + after
    assert "\x1b" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {len(reports.COLUMNS) + 1}


def test_conclusions() -> None:
    assert reports.conclusions(report(FLOAT, INT8)) == [
        "Fastest: model.int8.onnx on ort:cpu, 4.00 ms.",
        "int8 against float: 2.00 times as fast on ort:cpu.",
    ]
    other = replace(INT8, artifact=INT8.artifact.replace("int8", "int8.ort"), latency_ms=latency(3.2))
    assert reports.conclusions(report(FLOAT, INT8, other))[1] == (
        "int8 against float: model.int8.onnx 2.00 times as fast on ort:cpu; "
        "model.int8.ort.onnx 2.50 times as fast on ort:cpu."
    )
    more = (replace(FLOAT, threads=1), replace(INT8, threads=1, latency_ms=latency(5.0)))
    said = reports.conclusions(report(FLOAT, INT8, *more))[1]
    assert "1.60 times as fast on ort:cpu (threads 1, batch 1)" in said
    assert reports.conclusions(report(ABSENT)) == ["No arm could be measured."]


def test_a_difference_within_the_intervals_is_called_so() -> None:
    near = replace(INT8, latency_ms=latency(7.9, half=0.3))
    first, second = reports.conclusions(report(FLOAT, near))
    assert first.endswith("not told apart from model.onnx on ort:cpu.")
    assert second.endswith("1.01 times as fast on ort:cpu (within the intervals).")


def test_int8_is_compared_only_with_float_of_the_same_run_on_the_same_device() -> None:
    others = [replace(INT8, device="openvino:CPU"), replace(INT8, artifact="other/model.int8.onnx")]
    others.append(replace(INT8, threads=1))
    assert len(reports.conclusions(report(FLOAT, *others))) == 1


def test_the_fastest_is_the_fastest_for_each_image() -> None:
    batched = replace(FLOAT, batch=8, latency_ms=latency(16))
    assert reports.conclusions(report(FLOAT, batched))[0] == (
        "Fastest: model.onnx on ort:cpu, 16.00 ms for 8 images."
    )


def test_absences_are_grouped_by_reason_and_failures_come_first() -> None:
    both = [replace(ABSENT, artifact=name) for name in ("run/model.onnx", "run/model.int8.onnx")]
    assert reports.absences(report(FLOAT, INT8, *both, FAILED)) == [
        "failed: openvino:CPU (model.int8.onnx): it\ndied",
        "unavailable: ort:cuda: no such provider",
    ]


def test_a_terminal_shows_only_what_was_not_measured_and_why_of_devices_that_were_named() -> None:
    both = [replace(ABSENT, artifact=name) for name in ("run/model.onnx", "run/model.int8.onnx")]
    other = replace(ABSENT, device="openvino:CPU", artifact="run/model.int8.onnx", reason="proven on ort:cpu")
    found = report(FLOAT, INT8, *both, other, FAILED)
    failed = "failed: openvino:CPU (model.int8.onnx): it\ndied"
    assert reports.absences_in_brief(found, devices_named=False) == [
        failed,
        "Not measured: ort:cuda; model.int8.onnx on openvino:CPU (bench.md says why).",
    ]
    assert reports.absences_in_brief(found, devices_named=True) == [
        failed,
        "unavailable: ort:cuda: no such provider",
        "Not measured: model.int8.onnx on openvino:CPU (bench.md says why).",
    ]
    assert reports.absences_in_brief(report(*both), devices_named=False) == reports.absences(report(*both))


def test_files_of_the_same_name_are_told_apart() -> None:
    arms = [FLOAT, replace(FLOAT, artifact="old/model.onnx"), INT8]
    assert names_of(arms) == {
        "run/model.onnx": "run/model.onnx",
        "old/model.onnx": "old/model.onnx",
        "run/model.int8.onnx": "model.int8.onnx",
    }


@pytest.mark.parametrize("accuracy", [None, ArmAccuracy(0.9, 0.88, 100, None, (0.83, 0.94))])
def test_what_was_not_measured_is_a_dash(accuracy: ArmAccuracy | None) -> None:
    cells = dict(zip(reports.COLUMNS, reports.row(replace(FLOAT, accuracy=accuracy), "m"), strict=True))
    assert cells["agreement"] == "-"
    assert (cells["top-1 [95 %]"] == "-") == (accuracy is None)
