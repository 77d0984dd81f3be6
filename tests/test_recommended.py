"""Which file is recommended on a device, and in which way, and who follows it."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.artifacts import tiny_artifact
from tests.bench.test_compare import answers
from tests.bench.test_report import FLOAT, INT8, report
from toolchain import recommended
from toolchain.artifact import read_artifact
from toolchain.artifact.card import Precision
from toolchain.bench import benchmark
from toolchain.bench import report as reports
from toolchain.bench.candidates import candidates
from toolchain.bench.results import ArmResult
from toolchain.bench.runner import Plan
from toolchain.cli import run
from toolchain.evaluation.statistics import min_ratio
from toolchain.recommended import Candidate, Record, advice, first_of, recommend
from toolchain.runtimes import machine
from toolchain.runtimes.devices import cores
from toolchain.system.progress import Silent

NOISE = (0.99, 1.0, 1.01)


def candidate(
    ms: float, device: str = "openvino:CPU", precision: Precision = "float32", **fields: object
) -> Candidate:
    file, size_mb = ("model.int8.onnx", 2.6) if precision == "int8" else ("model.onnx", 9.0)
    process_ms = tuple(ms * noise for noise in NOISE)
    made = Candidate(file, "0" * 64, precision, device, 2, ms, process_ms, size_mb)
    return replace(made, **fields)  # type: ignore[arg-type]


BF16 = "openvino:CPU+bf16"


@pytest.mark.parametrize(
    ("bf16", "int8", "way", "file", "said"),
    [
        (
            1.67,
            1.40,
            "openvino:CPU",
            "model.int8.onnx",
            "int8 1.40, 1.19 times as fast as bfloat16 (1.15 at least)",
        ),
        (
            1.67,
            1.66,
            BF16,
            "model.onnx",
            "it is for size here (2.6 MB against 9.0) and for devices without bfloat16",
        ),
        (1.67, 2.00, BF16, "model.onnx", "int8 2.00, 0.83 times as fast as bfloat16"),
        (2.88, 1.40, "openvino:CPU", "model.int8.onnx", "int8 1.40, 2.06 times as fast as float32"),
        (3.20, 2.90, "openvino:CPU", "model.onnx", "it is for size here (2.6 MB against 9.0)."),
        (1.67, None, BF16, "model.onnx", "float32 takes 2.88 ms; bfloat16 1.67, 1.72 times as fast as float32"),
        (None, 1.40, "openvino:CPU", "model.int8.onnx", "float32 takes 2.88 ms; int8 1.40, 2.06 times as fast"),
    ],
)
def test_int8_must_beat_the_best_float_way(
    bf16: float | None, int8: float | None, way: str, file: str, said: str
) -> None:
    found = [candidate(2.88)]
    found += [candidate(int8, precision="int8", process_ms=(int8 * 1.01, int8, int8 * 0.99))] if int8 else []
    found += [candidate(bf16, BF16)] if bf16 else []
    (one,) = recommend(found)
    assert (one.device, one.way, one.file) == ("openvino:CPU", way, file)
    assert said in one.why
    assert one.sentence().startswith(f"Recommended on openvino:CPU: {file} on {way}, ")
    assert "int8" not in one.why or int8


def test_a_mean_that_is_faster_is_not_enough() -> None:
    shaky = candidate(1.60, precision="int8", process_ms=(1.50, 1.60, 1.75))
    (one,) = recommend([candidate(2.88), candidate(1.67, BF16), shaky])
    assert one.way == BF16
    assert min_ratio((2.0, 2.0), (1.0, 1.0, 9.0)) == pytest.approx(2.0), "the third has no partner"


def test_int8_whose_floats_are_bfloat16() -> None:
    arms = [candidate(2.88), candidate(1.67, BF16), candidate(1.40, precision="int8")]
    (one,) = recommend([*arms, candidate(1.30, BF16, "int8")])
    assert (one.way, one.file) == (BF16, "model.int8.onnx")
    assert "int8 with bfloat16 1.30" in one.why


@pytest.mark.parametrize(
    "arms",
    [
        [candidate(2.88)],
        [candidate(1.4, precision="int8")],
        [candidate(1.67, BF16), candidate(1.4, precision="int8")],
        [candidate(2.88, process_ms=(2.88,)), candidate(1.4, precision="int8", process_ms=(1.4,))],
    ],
)
def test_nothing_is_recommended_where_nothing_is_compared(arms: list[Candidate]) -> None:
    assert recommend(arms) == ()
    assert recommended.record("edgetl bench", arms) is None


@pytest.mark.parametrize(("openvino_ms", "first"), [(1.2, "openvino:CPU"), (1.5, "ort:cpu"), (2.0, "ort:cpu")])
def test_the_usual_device_stays_unless_another_is_surely_faster(openvino_ms: float, first: str) -> None:
    arms = [
        candidate(2.9),
        candidate(openvino_ms, precision="int8"),
        candidate(3.0, "ort:cpu"),
        candidate(1.5, "ort:cpu", "int8"),
    ]
    assert first_of(recommend(arms), arms) == first


@pytest.mark.parametrize(("openvino_ms", "first"), [(0.7, "openvino:CPU"), (1.3, "ort:cpu")])
def test_the_usual_device_stays_where_its_float_file_has_no_rival(openvino_ms: float, first: str) -> None:
    arms = [candidate(2.9), candidate(openvino_ms, precision="int8"), candidate(1.1, "ort:cpu")]
    assert first_of(recommend(arms), arms) == first


def test_bench_recommends_a_way_only_where_it_answers_alike() -> None:
    exact = replace(FLOAT, device="openvino:CPU", process_p50_ms=(8.0, 8.1, 7.9))
    way = replace(FLOAT, device=BF16, process_p50_ms=(5.0, 5.1, 4.9), latency_ms=INT8.latency_ms)
    assert way.accuracy
    arms = [exact, replace(way, accuracy=replace(way.accuracy, agreement=0.995))]
    assert f"model.onnx on {BF16}, 4.00 ms on 2 threads" in reports.conclusions(report(*arms))[-1]
    for other in (replace(way.accuracy, agreement=0.99), None):
        assert len(reports.conclusions(report(exact, replace(way, accuracy=other)))) == 1
    proven = report(exact, replace(way, accuracy=None, proven=True))
    assert len(reports.conclusions(proven)) == 2
    assert len(reports.conclusions(replace(proven, noisy=True))) == 1, "nothing is recommended from a noisy run"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder with a float and an int8 file, in which the float file is recommended on openvino:CPU."""
    tiny_artifact(tmp_path / "model.int8.onnx", precision="int8")
    made = tiny_artifact(tmp_path / "model.onnx")
    arms = [
        candidate(1.0, sha256=made.sha256, threads=cores()),
        candidate(2.0, precision="int8", threads=cores()),
        candidate(3.0, "ort:cpu", threads=cores()),
        candidate(2.5, "ort:cpu", "int8", threads=cores()),
    ]
    found = recommended.record("edgetl export", arms)
    assert found is not None
    assert found.first == "openvino:CPU"
    recommended.write(tmp_path, found)
    cv2.imwrite(str(tmp_path / "red.png"), np.full((40, 40, 3), (0, 0, 255), np.uint8))
    return tmp_path


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[Path]]:
    """Two run folders, each with a float and a faster int8 file, that are measured on so many threads."""
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        for precision in ("float32", "int8"):
            tiny_artifact(folder / f"model{'.int8' if precision == 'int8' else ''}.onnx", precision=precision)
        shutil.copy(folder / "model.onnx", folder / "run.json")

    def measured(threads: int) -> list[Path]:
        arms = []
        for folder in folders:
            for like, ms in ((FLOAT, 8.0), (INT8, 4.0)):
                file = folder / Path(like.artifact).name
                times = (ms, 1.01 * ms, 0.99 * ms)
                arms.append(replace(like, artifact=str(file), threads=threads, process_p50_ms=times))
        monkeypatch.setattr(benchmark, "bench", lambda *_, **__: report(*arms))
        artifacts = benchmark.read_artifacts([Path(arm.artifact) for arm in arms])
        benchmark.measure(Plan(artifacts, ("ort:cpu",), (threads,), distinct=True), None, Silent())
        return folders

    return measured


def test_bench_keeps_it_in_the_folder_of_each_run(runs: Callable[[int], list[Path]]) -> None:
    for folder in runs(cores()):
        found = recommended.read(folder)
        assert found is not None
        assert [one.file for one in found.devices] == ["model.int8.onnx"]


def test_a_run_without_its_own_files_costs_no_benchmark(runs: Callable[[int], list[Path]]) -> None:
    """Such as one whose file got another name, or that holds LiteRT's alone."""
    folders = runs(cores())
    for folder in folders:
        (folder / recommended.FILE).unlink()
        for file in folder.glob("model*.onnx"):
            file.rename(folder / file.name.replace("model", "flowers"))
    artifacts = benchmark.read_artifacts(sorted(folders[0].glob("flowers*.onnx")))
    benchmark.measure(Plan(artifacts, ("ort:cpu",), (cores(),), distinct=True), None, Silent())
    assert not (folders[0] / recommended.FILE).exists()


def test_bench_keeps_nothing_that_nobody_would_follow(runs: Callable[[int], list[Path]]) -> None:
    for folder in runs(cores() + 1):
        assert not (folder / recommended.FILE).exists()


def test_another_form_of_a_file_is_no_candidate_beside_it() -> None:
    arms = [
        replace(FLOAT, artifact=f"run/{name}", device="openvino:CPU", process_p50_ms=(8.0, 8.1, 7.9))
        for name in ("model.frame.onnx", "model.xml", "model.onnx", "model.w8.onnx")
    ]
    found = candidates(report(*arms), Path("run"))
    assert [one.file for one in found] == ["model.onnx", "model.w8.onnx"]
    found = candidates(report(*arms[:2]), Path("run"))
    assert [one.file for one in found] == ["model.frame.onnx", "model.xml"], "nothing else was measured"


def test_predict_and_camera_follow_it_and_say_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photograph = str(folder / "red.png")
    assert run(["predict", str(folder), photograph, "--json"]) == 0
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert (document["device"], Path(document["artifact"]).name) == ("openvino:CPU", "model.onnx")
    said = " ".join(told.err.split())
    assert (
        f"edgetl export recommends it for this CPU, 1.00 ms: edgetl doctor {shlex.quote(str(folder))} says why"
        in said
    )
    assert run(["doctor", str(folder)]) == 0
    assert "float32 takes 1.00 ms; int8 2.00" in " ".join(capsys.readouterr().out.split())
    assert "--device chooses another." in said
    assert run(["camera", str(folder), "--source", photograph, "--headless", "--frames", "1"]) == 0
    told = capsys.readouterr()
    assert "on openvino:CPU: 1 of" in told.out
    assert "edgetl export recommends it" in " ".join(told.err.split())


@pytest.mark.parametrize("words", [["--device", "ort:cpu"], ["--threads", str(cores() + 1)]])
def test_what_was_chosen_is_not_overruled(
    folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(folder), str(folder / "red.png"), "--json", *words]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["device"], Path(document["artifact"]).name) == ("ort:cpu", "model.int8.onnx")


def test_advice_is_for_such_a_machine_and_these_files(folder: Path) -> None:
    found = recommended.read(folder)
    assert found is not None
    assert advice(folder)
    assert advice(folder / "model.onnx") is None
    others: list[Record] = [
        replace(found, cpu="Another"),
        replace(found, threads=found.threads + 1),
        replace(found, first="openvino:GPU"),
        replace(found, devices=tuple(replace(one, way="openvino:GPU") for one in found.devices)),
        replace(found, devices=tuple(replace(one, file=f"../{folder.name}/{one.file}") for one in found.devices)),
    ]
    for other in others:
        recommended.write(folder, other)
        assert advice(folder) is None
    recommended.write(folder, found)
    tiny_artifact(folder / "model.onnx", scale=0.06)
    assert advice(folder) is None, "the file is another one"
    for broken in (b"{", b"[]", b"\xff"):
        (folder / recommended.FILE).write_bytes(broken)
        assert advice(folder) is None


def test_int8_that_surely_loses_answers_is_no_candidate_however_fast() -> None:
    def arms(right: str) -> list[ArmResult]:
        like = {"artifact": "run/model.onnx", "process_p50_ms": (8.0, 8.1, 7.9)}
        exact = replace(FLOAT, **like, accuracy=answers("1" * 90 + "0" * 10))
        fast = {"artifact": "run/model.int8.onnx", "process_p50_ms": (4.0, 4.1, 3.9)}
        return [exact, replace(INT8, **fast, accuracy=answers(right))]

    for right, file in (
        ("1" * 60 + "0" * 40, "model.onnx"),
        ("1" * 89 + "0" * 11, "model.int8.onnx"),  # which may be chance
    ):
        found = recommended.record("edgetl bench", candidates(report(*arms(right)), Path("run")))
        assert found is not None, "it takes the place of an older record"
        [one] = found.devices
        assert one.file == file
        assert ("int8 (4.00 ms) surely loses more than 0.5 points of top-1." in one.why) == (file == "model.onnx")


def test_what_this_cpu_may_compute_otherwise_is_not_followed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = [
        candidate(1.0, "ort:cpu", threads=cores()),
        candidate(0.5, "ort:cpu", "int8", threads=cores(), sha256=read_artifact(folder / "model.int8.onnx").sha256),
    ]
    found = recommended.record("edgetl bench", arms)
    assert found is not None
    recommended.write(folder, found)
    followed = advice(folder)
    assert followed is not None
    assert followed.artifact.path.name == "model.int8.onnx"
    monkeypatch.setattr(machine, "int8_caution", lambda *_: "its sums may saturate")
    assert advice(folder) is None
