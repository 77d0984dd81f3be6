from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_report import FAILED, FLOAT, INT8, MACHINE, latency, report

from toolchain.bench.compare import Tolerance, compare, read_report, version_changes
from toolchain.bench.report import change_row, verdict
from toolchain.bench.results import ArmAccuracy, ArmResult, BenchReport
from toolchain.cli import run
from toolchain.errors import BadInputError, ExitCode
from toolchain.system import files


def answers(right: str) -> ArmAccuracy:
    return ArmAccuracy(right.count("1") / len(right), 0.9, len(right), None, (0.8, 1.0), right)


def timed(arm: ArmResult, p50: float, half: float = 0.05) -> ArmResult:
    return replace(arm, latency_ms=latency(p50, half))


def test_a_slower_arm_is_a_regression_and_a_faster_one_is_not() -> None:
    old = report(timed(FLOAT, 8), timed(INT8, 4))
    found = compare(old, report(timed(FLOAT, 8.8), timed(INT8, 3)), "old.json", Tolerance())
    assert [change.latency for change in found.changes] == ["slower", "faster"]
    assert found.changes[0].ratio == pytest.approx(1.1)
    assert found.changes[0].ratio_ci95[0] < 1.1 < found.changes[0].ratio_ci95[1]
    assert found.regressions == ("model.onnx on ort:cpu, 2 threads, batch 1: 8.00 → 8.80 ms, +10.0%",)
    assert verdict(found) == [f"Worse than old.json: {found.regressions[0]}"]


def test_what_is_within_the_tolerance_or_not_certain_is_no_regression() -> None:
    old = report(timed(FLOAT, 8), timed(INT8, 4))
    found = compare(old, report(timed(FLOAT, 8.3), timed(INT8, 4.4, half=1)), "old.json", Tolerance())
    assert [change.latency for change in found.changes] == ["same", "uncertain"]
    assert found.regressions == ()
    assert compare(old, report(timed(FLOAT, 8.3), timed(INT8, 4)), "old.json", Tolerance(2)).regressions


def test_answers_that_became_wrong_are_a_regression() -> None:
    old = report(replace(FLOAT, accuracy=answers("1" * 90 + "0" * 10)))
    new = report(replace(FLOAT, accuracy=answers("1" * 80 + "0" * 20)))
    (change,) = compare(old, new, "old.json", Tolerance()).changes
    assert change.drop_pp == pytest.approx(10)
    assert change.drop_pp_ci95
    assert 0 < change.drop_pp_ci95[0] < 10 < change.drop_pp_ci95[1]
    assert change.accuracy_lost
    swapped = report(replace(FLOAT, accuracy=answers("0" * 5 + "1" * 85 + "0" * 5 + "1" * 5)))
    (change,) = compare(old, swapped, "old.json", Tolerance()).changes
    assert (change.drop_pp, change.accuracy_lost) == (0, False)
    assert not compare(old, new, "old.json", Tolerance(top1_pp=20)).regressions


def test_an_arm_that_fails_now_is_a_regression() -> None:
    working = replace(INT8, device="openvino:CPU")
    found = compare(
        report(FLOAT, working), report(FLOAT, replace(FAILED, precision="int8")), "old.json", Tolerance()
    )
    assert found.regressions == ("model.int8.onnx (int8) on openvino:CPU, 2 threads, batch 1 failed: it\ndied",)


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (replace(report(FLOAT), environment=replace(MACHINE, cpu="B CPU")), "cpu: A CPU before, B CPU now"),
        (
            replace(report(FLOAT), environment=replace(MACHINE, quota_cores=0.5)),
            r"quota_cores: none before, 0\.5 now",
        ),
        (replace(report(FLOAT), environment=replace(MACHINE, governor="powersave")), "governor: unknown before"),
        (report(replace(FLOAT, threads=1)), r"only in the old run: model.onnx \(float32\) on ort:cpu, 2 threads"),
        (report(replace(FLOAT, batch=8)), "batch 8"),
        (report(replace(FLOAT, device="openvino:CPU")), "only in the new run: .* on openvino:CPU"),
        (report(replace(FLOAT, precision="int8", sha256="1" * 64)), r"model.onnx \(int8\)"),
        (replace(report(FLOAT), data=None), "data: pets before, none now"),
        (report(FLOAT, INT8), "only in the new run: model.int8.onnx"),
    ],
)
def test_unlike_runs_are_refused_with_what_differs(new: BenchReport, told: str) -> None:
    with pytest.raises(BadInputError, match=told):
        compare(report(FLOAT), new, "old.json", Tolerance())


def test_unlike_runs_are_compared_by_force_as_far_as_they_have_arms_in_common() -> None:
    new = replace(report(FLOAT, INT8), environment=replace(MACHINE, cpu="B CPU"))
    found = compare(report(FLOAT), new, "old.json", Tolerance(), force=True)
    assert [line.partition(":")[0] for line in found.differences] == ["cpu", "only in the new run"]
    assert [change.artifact for change in found.changes] == ["model.onnx"]


def test_other_versions_are_told_and_compared() -> None:
    newer = replace(MACHINE, versions={"edgetl": "1", "torch": "2"})
    assert version_changes(MACHINE, newer) == ["edgetl 0 → 1", "torch absent → 2"]
    assert compare(report(FLOAT), replace(report(FLOAT), environment=newer), "old.json", Tolerance()).changes


def test_noisy_runs_are_shown_and_not_judged() -> None:
    quiet, slow = report(timed(FLOAT, 8)), report(timed(FLOAT, 16))
    for old, new, noisy in (
        (replace(quiet, noisy=True), slow, ("old.json",)),
        (quiet, replace(slow, noisy=True), ("this run",)),
        (replace(quiet, noisy=True), replace(quiet, noisy=True), ("old.json", "this run")),
    ):
        found = compare(old, new, "old.json", Tolerance())
        assert [change.latency for change in found.changes] == ["undecided"]
        assert (found.noisy, found.regressions) == (noisy, ())
        assert change_row(found.changes[0])[-1] == "undecided (noisy)"
        assert f"not at rest in {' and '.join(noisy)}, so latencies are not judged" in verdict(found)[0]


def test_noise_hides_neither_wrong_answers_nor_failures() -> None:
    old = replace(report(replace(FLOAT, accuracy=answers("1" * 90 + "0" * 10)), INT8), noisy=True)
    new = report(replace(FLOAT, accuracy=answers("1" * 80 + "0" * 20)), replace(INT8, status="failed"))
    found = compare(old, new, "old.json", Tolerance())
    assert "model.int8.onnx (int8) on ort:cpu, 2 threads, batch 1 failed" in found.regressions[0]
    assert "top-1 fell by 10.00 pp" in found.regressions[1]
    assert [line.partition(" ")[0] for line in verdict(found)] == ["Worse", "Worse", "Undecided"]


RENAMED = replace(FLOAT, artifact="elsewhere/flowers.onnx")
CHANGED = {"sha256": "1" * 64}


@pytest.mark.parametrize(
    ("old", "new", "pairs"),
    [
        ([FLOAT], [RENAMED], {"flowers.onnx": "model.onnx"}),
        ([FLOAT], [replace(RENAMED, **CHANGED)], {"flowers.onnx": "model.onnx"}),
        ([FLOAT, RENAMED], [RENAMED, FLOAT], {"flowers.onnx": "", "model.onnx": ""}),
        # The file that was copied away is the old one, and the new one of its name is another.
        ([FLOAT], [replace(FLOAT, **CHANGED), RENAMED], {"flowers.onnx": "model.onnx"}),
        ([FLOAT, INT8], [replace(FLOAT, **CHANGED), replace(INT8, **CHANGED)],
         {"model.onnx": "", "model.int8.onnx": ""}),
        ([FLOAT, INT8], [replace(INT8, artifact="b.onnx", **CHANGED), replace(RENAMED, **CHANGED)],
         {"b.onnx": "model.int8.onnx", "flowers.onnx": "model.onnx"}),
        # Which of two files this was, nobody knows.
        ([FLOAT, replace(FLOAT, artifact="a.onnx", sha256="2" * 64)], [replace(RENAMED, **CHANGED)], {}),
        ([FLOAT], [replace(FLOAT, artifact="run/model.xml", **CHANGED)], {}),
    ],
    ids=["renamed", "renamed and changed", "another order", "copied away", "changed", "all", "either", "xml"],
)  # fmt: skip
def test_renamed_files_are_found_by_content_then_by_what_they_are(
    old: list[ArmResult], new: list[ArmResult], pairs: dict[str, str]
) -> None:
    if not pairs:
        with pytest.raises(BadInputError, match="no arm in common"):
            compare(report(*old), report(*new), "old.json", Tolerance(), force=True)
        return
    found = compare(report(*old), report(*new), "old.json", Tolerance(), force=True)
    assert {change.artifact: change.old_artifact for change in found.changes} == pairs
    told = {row[0] for row in map(change_row, found.changes)}
    assert told == {name + (f" (was {was})" if was else "") for name, was in pairs.items()}


def test_files_of_the_same_name_are_compared_with_their_own() -> None:
    arms = [
        replace(timed(FLOAT, ms), artifact=f"{run}/model.onnx", sha256=run * 64) for run, ms in (("a", 8), ("b", 4))
    ]
    anew = [replace(arm, sha256="c" * 63 + arm.sha256[0]) for arm in reversed(arms)]
    found = compare(report(*arms), report(*anew), "old.json", Tolerance())
    assert [(change.artifact, change.ratio) for change in found.changes] == [
        ("b/model.onnx", 1),
        ("a/model.onnx", 1),
    ]
    inner = [replace(arm, artifact=arm.artifact.replace("/", "/deploy/")) for arm in arms]
    again = [replace(arm, sha256="d" * 63 + arm.sha256[0]) for arm in reversed(inner)]
    found = compare(report(*inner), report(*again), "old.json", Tolerance())
    assert [change.artifact for change in found.changes] == ["b/deploy/model.onnx", "a/deploy/model.onnx"]
    # Which of them moved to another folder, nobody knows.
    moved = [replace(arm, artifact=arm.artifact.replace("/", "2/")) for arm in anew]
    with pytest.raises(BadInputError, match="no arm in common"):
        compare(report(*arms), report(*moved), "old.json", Tolerance(), force=True)


def test_where_all_arms_fail_now_it_is_a_regression() -> None:
    lost = replace(FAILED, artifact=FLOAT.artifact, precision="float32", device=FLOAT.device)
    found = compare(report(timed(FLOAT, 8)), report(lost), "old.json", Tolerance())
    assert found.changes == ()
    assert "failed" in found.regressions[0]
    assert "Worse than old.json" in verdict(found)[0]


def test_a_later_comparison_takes_the_place_of_why_there_was_none(tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    files.write_json(old, report(timed(FLOAT, 8)))
    files.write_json(new, replace(report(timed(FLOAT, 8)), not_compared="old.json cannot be compared"))
    assert run(["bench", str(new), "--compare", str(old)]) == ExitCode.DONE


def test_figures_that_round_to_zero_have_no_sign() -> None:
    old = report(replace(timed(FLOAT, 8), accuracy=answers("1" * 100)))
    row = change_row(compare(old, old, "old.json", Tolerance()).changes[0])
    assert row[-2] == "0.00 pp"
    assert "-0.0" not in " ".join(row)
    assert row[6].startswith("0.0% [")


def test_few_photographs_are_no_proof_that_nothing_is_lost() -> None:
    old = replace(timed(FLOAT, 8), accuracy=answers("1" * 24))
    new = replace(old, sha256="1" * 64, accuracy=answers("1" * 22 + "00"))
    said = verdict(compare(report(old), report(new), "old.json", Tolerance()))
    assert said[0].startswith("Nothing is worse than in old.json")
    assert "too few to rule out a loss of" in said[1]
    assert len(verdict(compare(report(old), report(old), "old.json", Tolerance()))) == 1, (
        "the same file loses nothing"
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"process_p50_ms": (0.0, 0.0, 0.0)}, "latency of an arm that ran must be above 0"),
        ({"batch": 0}, "batch must be 1 or more"),
        ({"quantiles_ms": (7.0, 8.0)}, "quantiles_ms must be 101"),
    ],
)
def test_figures_that_nobody_measures_are_refused(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Of zeros, no ratio could be told, and nothing would ever be slower."""
    (tmp_path / "bench.json").write_bytes(files.to_json(report(replace(timed(FLOAT, 8), **changed))))
    with pytest.raises(BadInputError, match=said):
        read_report(tmp_path)


def test_files_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, unlike = tmp_path / "old.json", tmp_path / "new.json", tmp_path / "unlike.json"
    files.write_json(old, report(timed(FLOAT, 8)))
    files.write_json(new, report(timed(FLOAT, 9)))
    files.write_json(unlike, report(timed(replace(FLOAT, threads=1), 8)))
    assert read_report(old) == report(timed(FLOAT, 8))
    assert run(["bench", str(old), "--compare", str(old)]) == ExitCode.DONE
    assert "Nothing is worse" in capsys.readouterr().out
    assert run(["bench", str(new), "--compare", str(old), "--json"]) == ExitCode.PROMISE_BROKEN
    assert json.loads(capsys.readouterr().out)["comparison"]["changes"][0]["latency"] == "slower"
    assert run(["bench", str(new), "--compare", str(old), "--tolerance", "20"]) == ExitCode.DONE
    capsys.readouterr()
    assert run(["bench", str(new), "--compare", str(unlike), "--force"]) == ExitCode.BAD_INPUT
    assert "no arm in common" in capsys.readouterr().err
    assert run(["bench", str(new), "--tolerance", "20"]) == ExitCode.BAD_INPUT
    assert "--tolerance does nothing without --compare" in capsys.readouterr().err
    for words in (["--device", "ort:cpu"], ["--on", "pi"], ["--rounds", "3"], ["--layers"]):
        assert run(["bench", str(new), "--compare", str(old), *words]) == ExitCode.BAD_INPUT
        assert f"{words[0]} does nothing with an older benchmark" in " ".join(capsys.readouterr().err.split())
    assert run(["bench", str(new), "--compare", str(unlike)]) == ExitCode.BAD_INPUT
    shown = capsys.readouterr()
    assert "cannot be compared" in shown.err
    assert "9.00 [8.95, 9.05]" in shown.out
    files.write_json(new, replace(report(timed(FLOAT, 9)), noisy=True))
    assert run(["bench", str(new), "--compare", str(old), "--out", str(tmp_path / "out")]) == ExitCode.UNDECIDED
    shown = capsys.readouterr()
    assert "undecided (noisy)" in shown.out
    assert shown.out.rstrip().endswith("bench.html")
    assert read_report(tmp_path / "out" / "bench.json").comparison


def test_files_of_before_there_were_quotas_still_open(tmp_path: Path) -> None:
    document = json.loads(files.to_json(report(FLOAT)))
    del document["environment"]["quota_cores"]
    (tmp_path / "old.json").write_text(json.dumps(document), encoding="utf-8")
    assert read_report(tmp_path / "old.json").environment.quota_cores is None


@pytest.mark.parametrize("text", ["", "[]", '{"schema": "edgetl.bench/2"}', "\x00\xff"])
def test_files_that_are_no_report_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "old.json").write_text(text, encoding="latin-1")
    with pytest.raises(BadInputError, match=r"is no bench\.json"):
        read_report(tmp_path / "old.json")


def test_answers_are_compared_only_on_the_same_photographs_in_the_same_order() -> None:
    old = report(replace(FLOAT, accuracy=answers("1" * 90 + "0" * 10)))
    new = report(replace(FLOAT, accuracy=answers("1" * 80 + "0" * 20)))
    assert old.data is not None
    for before, now, drop_pp in (("a", "a", 10.0), ("a", "b", None), ("", "b", 10.0)):
        reports = [
            replace(one, data=replace(old.data, order_sha256=order)) for one, order in ((old, before), (new, now))
        ]
        [change] = compare(*reports, "old.json", Tolerance()).changes
        assert change.drop_pp == (None if drop_pp is None else pytest.approx(drop_pp))
        said = " ".join(verdict(compare(*reports, "old.json", Tolerance())))
        assert ("Top-1 was not compared" in said) == (drop_pp is None)
