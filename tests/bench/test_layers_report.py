"""Layers in a benchmark: which files stand side by side, what is said of them, and where it is written."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import pytest
from test_report import FLOAT, INT8, report

from tests.artifacts import tiny_artifact, tiny_ir
from tests.layered import layered_artifact
from toolchain.artifact.card import Source
from toolchain.bench import layers, page, runner
from toolchain.bench import report as reports
from toolchain.bench.results import LayersOf
from toolchain.cli import run
from toolchain.cli.bench import _tables
from toolchain.cli.console import Console
from toolchain.errors import ExitCode
from toolchain.timing import layers as timing
from toolchain.timing.layers import LayerRow, LayerTime, time_layers


def layer(name: str, before: float, after: float, converting: float = 0, *, slower: bool = False) -> LayerRow:
    times = (
        LayerTime(before, before / 100, (before,) * 3, 0.0, ("Conv NCHWc",)),
        LayerTime(after, after / 100, (after,) * 3, converting, ("QLinearConv NHWC", "Mul")),
    )
    return LayerRow(name, "Conv 1x1", (16, 8, 8), (name,), times, slower)


BOTH = LayersOf(
    ("run/model.onnx", "run/model.int8.onnx"),
    ("float32", "int8"),
    "ort:cpu",
    1,
    1,
    (100.0, 60.0),
    (layer("node_first", 60, 20), layer("node_second", 20, 30, 12, slower=True), layer("node_third", 20, 10)),
)
ALONE = replace(
    BOTH,
    artifacts=BOTH.artifacts[:1],
    precisions=("float32",),
    us=(100.0,),
    rows=tuple(replace(row, times=row.times[:1], slower=False) for row in BOTH.rows),
)


def test_names_of_kernels_and_layers_are_no_html_and_steer_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "a<img src=x>|b\x1b[2J"
    found = replace(BOTH, artifacts=("run/model.onnx", f"run/{evil}.onnx"), rows=(layer(evil, 1, 2, slower=True),))
    whole = replace(report(FLOAT, INT8), layers=(found,))
    markdown = reports.to_markdown(whole).partition("## Layers")[2]
    assert "<img" not in markdown
    assert "\x1b" not in markdown
    heads = len(layers.columns(found)) + 1
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in table} == {heads}
    Console().result(None, *_tables(whole, devices_named=True))
    assert "\x1b" not in capsys.readouterr().out


def test_columns_of_kernels_hold_words_whatever_the_precision() -> None:
    for precision in ("int8", "float16", "int8-weights"):
        columns = layers.columns(replace(BOTH, precisions=("float32", precision)))
        assert {name for name in columns if name.endswith("kernel")} <= layers.WORDS


def test_the_layers_that_int8_made_slower_are_named() -> None:
    assert layers.title(BOTH) == "Layers of model.onnx and model.int8.onnx on ort:cpu, 1 thread, microseconds"
    assert layers.sentences(BOTH) == [
        "All layers: float 100 µs, int8 60 µs.",
        "int8 made 1 of 3 layers slower, conversions included, by 10 µs together: "
        "second (20 to 30, 12 of them converting).",
    ]
    kept = replace(BOTH, rows=BOTH.rows[:1])
    assert layers.sentences(kept)[-1] == "int8 made no layer slower."
    assert layers.sentences(ALONE) == ["All layers: 100 µs."]


@pytest.mark.parametrize("found", [BOTH, ALONE], ids=["both", "alone"])
def test_each_row_fills_the_columns(found: LayersOf) -> None:
    row = dict(zip(layers.columns(found), layers.row(found.rows[1]), strict=True))
    assert (row["layer"], row["type"], row["shape"]) == ("second", "Conv 1x1", "16x8x8")
    if found is BOTH:
        figures = {key: row[key] for key in ("float µs", "int8 µs", "%", "converting", "int8 kernel")}
        assert list(figures.values()) == ["20", "30", "30%", "12", "QLinearConv NHWC"]
    else:
        assert (row["µs"], row["%"], row["kernel"]) == ("20", "20%", "Conv NCHWc")


def test_files_hold_the_layers(tmp_path: Path) -> None:
    whole = replace(report(FLOAT, INT8), layers=(BOTH, ALONE))
    reports.write(whole, tmp_path)
    assert msgspec.json.decode((tmp_path / "bench.json").read_bytes(), type=reports.BenchReport) == whole
    assert "second (20 to 30" in (tmp_path / "bench.md").read_text(encoding="utf-8")
    html = page.write(whole, tmp_path).read_text(encoding="utf-8")
    assert html.count('id="layers-0-title"') == html.count('id="layers-1-title"') == 1
    assert ">+10<" in html
    assert "<strong>second</strong>" in html
    assert "<strong>first</strong>" not in html


def test_which_files_stand_side_by_side(tmp_path: Path) -> None:
    base = tiny_artifact(tmp_path / "model.onnx")
    small = tiny_artifact(tmp_path / "model.int8.onnx", precision="int8")
    other = tiny_artifact(tmp_path / "other.onnx", source=Source("colours", "another", "by hand", None, "none", {}))
    pair = tiny_ir(tmp_path / "model.xml")
    assert layers.grouped([base, small]) == [(base, small)]
    assert layers.grouped([small]) == [(base, small)], "the float file beside it"
    assert layers.grouped([other, small]) == [(other,), (base, small)], "not that of another run"
    assert layers.grouped([pair, small]) == [(pair,), (base, small)], "not that of another format"
    base.path.unlink()
    assert layers.grouped([small]) == [(small,)]


@pytest.mark.slow
def test_a_run_tells_its_layers_on_eighty_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layered_artifact(tmp_path / "run" / "model.onnx")
    layered_artifact(tmp_path / "run" / "model.int8.onnx", integers=True)
    monkeypatch.setattr(timing, "SECONDS", 0.05)
    monkeypatch.setattr(layers, "time_layers", partial(time_layers, processes=2))
    monkeypatch.setenv("COLUMNS", "80")
    words = ["bench", str(tmp_path / "run" / "model.int8.onnx"), "--device", "ort:cpu", "--rounds", "1", "--layers"]
    assert run([*words, "--threads", "1", "--out", str(tmp_path / "out")]) == ExitCode.DONE
    shown = capsys.readouterr().out
    start = shown.index("Layers of model.onnx and model.int8.onnx on ort:cpu, 1 thread")
    table = shown[start:].splitlines()
    assert table[1].split()[:2] == ["layer", "type"]
    assert "int8 kernel" in table[1]
    assert max(map(len, table[: table.index(next(line for line in table if line.startswith("All ")))])) <= 80
    assert [line.split()[0] for line in table[2:5]] == ["input", "wide", "deep"]
    written = json.loads((tmp_path / "out" / "bench.json").read_bytes())
    assert written["command"].endswith("--layers")
    (found,) = written["layers"]
    assert [Path(path).name for path in found["artifacts"]] == ["model.onnx", "model.int8.onnx"]
    assert {row["name"] for row in found["rows"]} >= {"input", "wide", "deep", "narrow"}
    assert all(len(row["times"]) == 2 for row in found["rows"])


def test_devices_that_are_not_here_are_not_asked_for_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layered_artifact(tmp_path / "model.onnx")
    path = layered_artifact(tmp_path / "model.int8.onnx", integers=True).path
    monkeypatch.setattr(timing, "SECONDS", 0.05)
    asked: list[str] = []

    def time(pairs, *rest, **more):  # type: ignore[no-untyped-def]
        asked.extend(device for _, device in pairs)
        return time_layers(pairs, *rest, processes=1)

    monkeypatch.setattr(layers, "time_layers", time)
    words = ["--device", "ort:cpu", "--device", "ort:cuda", "--device", "openvino:NPU", "--rounds", "1", "--layers"]
    assert run(["bench", str(path), *words, "--threads", "1", "--out", str(tmp_path / "out")]) == 0
    assert set(asked) == {"ort:cpu"}
    assert "layers of" not in capsys.readouterr().err


def test_a_profile_that_cannot_be_read_costs_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_artifact(tmp_path / "model.onnx")

    def fails(*_: object) -> None:
        raise KeyError("a kernel of tomorrow")

    monkeypatch.setattr(runner, "measure_layers", fails)
    words = ["--device", "ort:cpu", "--rounds", "1", "--layers", "--out", str(tmp_path / "out")]
    assert run(["bench", str(tmp_path / "model.onnx"), *words]) == 0
    assert "layers could not be told apart: KeyError" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "out" / "bench.json").is_file()


def test_a_file_of_another_format_costs_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_artifact(tmp_path / "model.onnx")
    tiny_ir(tmp_path / "model.xml")
    files = [str(tmp_path / "model.onnx"), str(tmp_path / "model.xml")]
    words = [
        "--device",
        "openvino:CPU",
        "--layers",
        "--rounds",
        "1",
        "--threads",
        "1",
        "--out",
        str(tmp_path / "out"),
    ]
    assert run(["bench", *files, *words]) == 0
    assert "layers of model.xml are not timed" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "out" / "bench.json").is_file()
