"""The search for int8: which file is written for which device, and which promise is said to be broken."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from tests.artifacts import tiny_artifact
from tests.conftest import Recorder
from toolchain.artifact import Artifact, find_artifact, read_artifact
from toolchain.artifact.card import Accuracy, Speed
from toolchain.cli import run as run_cli
from toolchain.errors import ArtifactError, BadInputError, PromiseBrokenError
from toolchain.evaluation import metrics
from toolchain.export import older, recommending
from toolchain.export.exporting import export
from toolchain.export.int8 import choosing, search, shortlist, speed
from toolchain.export.int8.quantisers import Candidate, Recipe, Task, recipes
from toolchain.export.photographs import RunPhotographs
from toolchain.export.results import Attempt, Measurement, QuantizationSettings, Variants
from toolchain.runs import SplitFile
from toolchain.runtimes import machine, open_runtime
from toolchain.timing import Timed

DEVICES = ("ort:cpu", "openvino:CPU")


@pytest.fixture
def folder(run_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(run_folder, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def two_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ways of edgetl's own quantiser that all runtimes may run, both near enough to be looked at."""
    monkeypatch.setattr(choosing, "AS_NEAR", 10.0)
    monkeypatch.setattr(choosing, "DISTANT", 1.0)  # random weights are far from all integers
    monkeypatch.setattr(search, "recipes", lambda task: [one for one in recipes(task) if one.runtime is None][:2])


def _speeds(monkeypatch: pytest.MonkeyPatch, ratios: dict[tuple[int, str], float | None]) -> None:
    """Let the clock say so: candidate (by number, from 1) and device to how many times as fast as float it is."""

    def timed(pairs, threads, pixels, reporter, *rest):  # type: ignore[no-untyped-def]
        assert pixels.dtype == np.uint8
        found = []
        numbers: dict[Path, int] = {}
        for artifact, device in pairs:
            assert read_artifact(artifact.path).sha256 == artifact.sha256
            number = numbers.setdefault(artifact.path, len(numbers))
            ratio = 1.0 if number == 0 else ratios.get((number, device), 2.0)
            p50_ms = None if ratio is None else 10 / ratio
            process_ms = () if p50_ms is None else (p50_ms, 1.01 * p50_ms, 0.99 * p50_ms)
            found += [Timed(artifact, device, count, p50_ms, "", process_ms) for count in threads]
        return found

    def in_turns(pairs, threads, pixels, reporter, *, in_order):  # type: ignore[no-untyped-def]
        return [Timed(artifact, device, count, 10.0) for artifact, device in pairs for count in threads]

    monkeypatch.setattr(speed, "time_pairs", timed)
    monkeypatch.setattr(recommending, "time_pairs", in_turns)


def _attempt(drop_pp: float, ratio: float | None) -> Attempt:
    accuracy = Accuracy("ort:cpu", "int8", "val", "0" * 64, 10, 0.9, 0.9, 0.99)
    speeds = () if ratio is None else (Speed("ort:cpu", 1, 10.0, 10.0 / ratio),)
    return Attempt("way", "edgetl", {}, (Measurement("ort:cpu", accuracy, drop_pp, drop_pp + 1),), 1.0, speeds)


@pytest.mark.parametrize(
    ("drop_pp", "ratio", "said"),
    [
        (0.5, 1.5, None),
        (-0.2, None, "int8 could not be timed on ort:cpu"),
        (0.75, 1.5, "int8 loses 0.75 pp of top-1 on ort:cpu, 0.25 pp more than --max-drop 0.5"),
        (
            0.0,
            0.5,
            "int8 is 0.50 times as fast as float on ort:cpu, not more than 1 times: 20.00 ms against",
        ),
        (0.0, 1.0, "int8 is 1.00 times as fast"),
    ],
)
def test_promises(drop_pp: float, ratio: float | None, said: str | None) -> None:
    broken = _attempt(drop_pp, ratio).broken("ort:cpu", QuantizationSettings())
    assert broken is None if said is None else broken is not None and broken.startswith(said)


@pytest.mark.parametrize(("min_ratio", "kept"), [(None, True), (1.01, True), (1.0, False), (0.97, False)])
def test_a_gain_must_be_larger_than_its_uncertainty(min_ratio: float | None, kept: bool) -> None:
    attempt = replace(_attempt(0.0, 1.0), speeds=(Speed("ort:cpu", 1, 10.0, 9.8, min_ratio),))
    broken = attempt.broken("ort:cpu", QuantizationSettings())
    assert (broken is None) == kept
    if broken:
        assert f"({min_ratio:.2f} at least, with 95 % confidence)" in broken


def test_a_ratio_is_known_by_its_processes(tmp_path: Path) -> None:
    artifact = tiny_artifact(tmp_path / "model.onnx")

    def timed(*process_ms: float) -> Timed:
        return Timed(artifact, "ort:cpu", 1, process_ms[0], "", process_ms)

    steady = timed(2.0, 2.0, 2.0).min_ratio(timed(1.0, 1.0, 1.0))
    assert steady == pytest.approx(2.0)
    shaky = timed(2.0, 2.05, 1.95).min_ratio(timed(1.98, 1.95, 2.0))
    assert shaky is not None
    assert shaky < 1.0, "its mean is 1.01"
    assert timed(2.0).min_ratio(timed(1.0)) is None


def test_what_is_gained_at_least_is_never_more_than_the_gain(tmp_path: Path) -> None:
    artifact = tiny_artifact(tmp_path / "model.onnx")
    slow = Timed(artifact, "ort:cpu", 1, 0.0504, "", (0.0504,) * 3)
    fast = Timed(artifact, "ort:cpu", 1, 0.0496, "", (0.0496,) * 3)
    said = speed.compare(slow, fast, "local")
    assert said.min_ratio is not None
    assert said.min_ratio <= said.ratio


def test_speed_can_be_asked_for_or_left_alone() -> None:
    assert _attempt(0.0, 1.4).broken("ort:cpu", QuantizationSettings(min_speed_up=1.5)) is not None
    assert _attempt(0.0, 0.1).broken("ort:cpu", QuantizationSettings(min_speed_up=0)) is None


@pytest.mark.slow
@pytest.mark.usefixtures("two_recipes")
def test_one_file_where_one_serves_all_and_the_faster_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _speeds(monkeypatch, {(1, "ort:cpu"): 1.5, (2, "ort:cpu"): 1.9})
    for name in ("model.int8.xml", "model.int8.bin", "model.int8.frame.onnx"):
        (folder / name).write_text("made of an int8 file of before")
    frames = Variants(raw_frame=True)
    done = export(folder, int8=QuantizationSettings(max_drop_pp=100), further=frames)
    assert done.broken == {}
    assert sorted(path.name for path in folder.glob("*.older")) == ["model.int8.bin.older", "model.int8.xml.older"]
    assert read_artifact(folder / "model.int8.frame.onnx").card.precision == "int8"
    assert set(done.int8_files.values()) == {str(folder / "model.int8.onnx")}
    (chosen,) = [attempt for attempt in done.attempts if attempt.chosen_for]
    assert chosen.speed_up("ort:cpu") == pytest.approx(1.9, rel=1e-3)
    card = read_artifact(folder / "model.int8.onnx").card
    assert card.runtimes[:2] == DEVICES
    assert card.recipe is not None
    assert card.recipe.cpu
    assert {(speed.device, speed.float_ms) for speed in card.recipe.speeds} == {(name, 10.0) for name in DEVICES}
    assert [(one.device, one.look) for one in card.recipe.tried] == [(device, 1) for device in DEVICES]
    assert len(card.recipe.compared) == 2 * len(done.attempts) == 4
    assert [attempt for attempt in done.attempts if attempt.hops] == [chosen], "only the chosen file is judged"
    for device in DEVICES:
        open_runtime(read_artifact(folder / "model.int8.onnx"), device)


@pytest.mark.slow
@pytest.mark.usefixtures("two_recipes")
def test_a_faster_file_for_one_device_beside_the_one_for_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _speeds(
        monkeypatch, {(1, "ort:cpu"): 3.0, (1, "openvino:CPU"): 1.2, (2, "ort:cpu"): 1.5, (2, "openvino:CPU"): 2.9}
    )
    recorder = Recorder()
    done = export(folder, int8=QuantizationSettings(max_drop_pp=100), reporter=recorder)
    assert done.broken == {}
    assert {device: Path(file).name for device, file in done.int8_files.items()} == {
        "ort:cpu": "model.int8.ort.onnx",
        "openvino:CPU": "model.int8.onnx",
    }
    assert any("model.int8.ort.onnx is for ort:cpu alone: 2.00 times as fast" in line for line in recorder.said)
    common, own = (read_artifact(folder / f"model.int8{name}.onnx").card for name in ("", ".ort"))
    assert common.runtimes[:2] == DEVICES
    assert own.runtimes == ("ort:cpu",)
    assert find_artifact(folder).name == "model.int8.onnx"
    assert [one.file for one in done.recommended if one.precision == "int8"] == []  # all take 10 ms there


@pytest.mark.slow
def test_the_file_for_all_devices_is_written_where_each_has_a_faster_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "AS_NEAR", 10.0)
    monkeypatch.setattr(shortlist, "MAX_TIMED", 3)
    monkeypatch.setattr(search, "recipes", lambda task: [one for one in recipes(task) if one.runtime is None][:3])
    _speeds(
        monkeypatch,
        {
            **{(1, "ort:cpu"): 3.0, (1, "openvino:CPU"): 0.8},
            **{(2, "ort:cpu"): 0.8, (2, "openvino:CPU"): 3.0},
            **{(3, "ort:cpu"): 1.5, (3, "openvino:CPU"): 1.5},
        },
    )
    done = export(folder, int8=QuantizationSettings(max_drop_pp=100), further=Variants(openvino=True))
    assert {device: Path(file).name for device, file in done.int8_files.items()} == {
        "ort:cpu": "model.int8.ort.onnx",
        "openvino:CPU": "model.int8.openvino.onnx",
    }
    assert read_artifact(folder / "model.int8.onnx").card.runtimes[:2] == DEVICES
    assert (folder / "model.int8.xml").exists()
    assert find_artifact(folder).name == "model.int8.onnx"


@pytest.mark.slow
@pytest.mark.usefixtures("two_recipes")
def test_an_export_for_another_device_leaves_the_file_of_the_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _speeds(monkeypatch, {})
    export(folder, int8=QuantizationSettings(max_drop_pp=100), target="ort:cpu")
    first = (folder / "model.int8.onnx").read_bytes()
    done = export(folder, int8=QuantizationSettings(max_drop_pp=100), target="openvino:CPU")
    assert {device: Path(file).name for device, file in done.int8_files.items()} == {
        "openvino:CPU": "model.int8.openvino.onnx"
    }
    assert (folder / "model.int8.onnx").read_bytes() == first
    assert not list(folder.glob("*.older"))
    again = export(folder, int8=QuantizationSettings(max_drop_pp=100), target="ort:cpu")
    assert set(again.int8_files.values()) == {str(folder / "model.int8.onnx")}


@pytest.mark.slow
@pytest.mark.usefixtures("two_recipes")
def test_a_file_for_each_device_where_none_serves_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _speeds(monkeypatch, {(1, "ort:cpu"): 0.5, (2, "openvino:CPU"): 0.5})
    done = export(folder, int8=QuantizationSettings(max_drop_pp=100))
    assert done.broken == {}
    assert {device: Path(file).name for device, file in done.int8_files.items()} == {
        "ort:cpu": "model.int8.ort.onnx",
        "openvino:CPU": "model.int8.openvino.onnx",
    }
    with pytest.raises(BadInputError, match="proven on ort:cpu, not on openvino:CPU"):
        open_runtime(read_artifact(folder / "model.int8.ort.onnx"), "openvino:CPU")


def test_each_device_of_a_runtime_has_a_name_for_its_own_file(tmp_path: Path) -> None:
    made = tiny_artifact(tmp_path / "model.onnx")
    source = made.card.source
    cpu = tmp_path / "model.int8.openvino.onnx"
    assert older.own_int8_file(made.path, "openvino:GPU", source) == cpu, "the name is free"
    tiny_artifact(cpu, precision="int8", runtimes=("openvino:CPU",))
    gpu = older.own_int8_file(made.path, "openvino:GPU", source)
    assert gpu == tmp_path / "model.int8.openvino-gpu.onnx"
    assert older.own_int8_file(made.path, "openvino:CPU", source) == cpu
    assert older.own_int8_file(made.path, "openvino:GPU", replace(source, run_sha256="1" * 64)) == cpu
    tiny_artifact(gpu, precision="int8", runtimes=("openvino:GPU",))
    assert gpu in older.int8_files(made.path, ["openvino:GPU"])
    assert gpu not in older.int8_files(made.path, ["openvino:CPU"])
    for device, path in (("openvino:GPU", gpu), ("openvino:CPU", cpu), ("ort:cpu", made.path)):
        found = machine._made_for(device, tmp_path)
        assert found is not None
        assert found.path == path
    both = tiny_artifact(cpu, precision="int8", runtimes=("openvino:CPU", "openvino:CPU+bf16")).path
    found = machine._made_for("openvino:CPU+bf16", tmp_path)
    assert found is not None
    assert found.path == both


@pytest.mark.slow
@pytest.mark.usefixtures("two_recipes")
def test_a_device_that_loads_no_int8_costs_that_device_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenVINO on Arm."""
    logits_on = search.logits_on

    def on(artifact: Artifact, device: str, *pixels: Any) -> Any:
        if device == "openvino:CPU" and artifact.card.precision == "int8":
            raise ArtifactError("int8 is not supported")
        return logits_on(artifact, device, *pixels)

    monkeypatch.setattr(search, "logits_on", on)
    _speeds(monkeypatch, {})
    recorder = Recorder()
    done = export(folder, int8=QuantizationSettings(max_drop_pp=100), reporter=recorder)
    assert set(done.broken) == {"openvino:CPU"}
    assert {device: Path(file).name for device, file in done.int8_files.items()} == {
        "ort:cpu": "model.int8.ort.onnx"
    }
    told = [line for line in recorder.warned if "does not load" in line]
    assert told == ["openvino:CPU does not load an int8 file: int8 is not supported"], "once"


@pytest.mark.slow
@pytest.mark.usefixtures("two_recipes")
def test_an_older_int8_file_does_not_stand_in_for_the_new_ones(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    older = tiny_artifact(folder / "model.int8.onnx", precision="int8")
    (folder / "model.int8.xml").write_text("made of it")
    _speeds(monkeypatch, {(1, "ort:cpu"): 0.5, (2, "openvino:CPU"): 0.5})  # one file for each device
    export(folder, int8=QuantizationSettings(max_drop_pp=100), reporter=recorder)
    assert find_artifact(folder).name == "model.onnx"
    assert (folder / "model.int8.onnx.older").read_bytes() == older.model
    assert any("model.int8.onnx was of an earlier export" in line for line in recorder.warned)
    assert (folder / "model.int8.xml.older").is_file()  # what was made of it goes with it
    assert not (folder / "model.int8.xml").exists()
    tiny_artifact(folder / "model.int8.onnx", precision="int8")
    _speeds(monkeypatch, {(number, device): 0.9 for number in (1, 2) for device in DEVICES})  # none at all
    export(folder, int8=QuantizationSettings(max_drop_pp=100))
    assert find_artifact(folder).name == "model.onnx"
    assert not list(folder.glob("model.int8.o*.onnx"))


@pytest.mark.slow
@pytest.mark.usefixtures("two_recipes")
def test_one_device_that_could_not_be_timed_is_not_served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _speeds(monkeypatch, {(number, "openvino:CPU"): None for number in (1, 2)})
    done = export(folder, int8=QuantizationSettings(max_drop_pp=100))
    assert done.broken == {"openvino:CPU": "int8 could not be timed on openvino:CPU"}
    assert set(done.int8_files) == {"ort:cpu"}
    assert read_artifact(folder / "model.int8.ort.onnx").card.runtimes == ("ort:cpu",)


@pytest.mark.parametrize(
    ("undecided", "stays"),
    [
        (
            ("openvino:CPU",),
            ["model.int8.openvino.onnx"],
        ),  # such as where its board is gone
        (DEVICES, ["model.int8.onnx", "model.int8.openvino.onnx", "model.int8.ort.onnx"]),
        ((), []),
    ],
)
def test_an_older_file_stays_where_nothing_is_known_against_it(
    undecided: tuple[str, ...], stays: list[str], tmp_path: Path
) -> None:
    made = tiny_artifact(tmp_path / "model.onnx")
    tiny_artifact(tmp_path / "model.int8.onnx", precision="int8")
    for family, device in (("ort", "ort:cpu"), ("openvino", "openvino:CPU")):
        tiny_artifact(tmp_path / f"model.int8.{family}.onnx", precision="int8", runtimes=(device,))
    context = SimpleNamespace(path=made.path, devices=DEVICES, card=made.card, reporter=Recorder())
    found = search.Found({}, (), dict.fromkeys(DEVICES, "broken"), undecided)
    search._set_aside_older(context, found)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.glob("model.int8*.onnx")) == stays


@pytest.mark.parametrize("undecided", [(), ("openvino:CPU",)])
def test_a_file_for_another_device_than_those_of_the_export_stays(
    undecided: tuple[str, ...], tmp_path: Path
) -> None:
    made = tiny_artifact(tmp_path / "model.onnx")
    tiny_artifact(tmp_path / "model.int8.onnx", precision="int8", runtimes=("ort:cpu",))
    context = SimpleNamespace(path=made.path, devices=DEVICES[1:], card=made.card, reporter=Recorder())
    found = search.Found({}, (), {"openvino:CPU": "it was slow, or not timed"}, undecided)
    search._set_aside_older(context, found)  # type: ignore[arg-type]
    assert (tmp_path / "model.int8.onnx").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("two_recipes")
def test_slow_on_one_device_is_told_and_the_other_served(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _speeds(monkeypatch, {(1, "ort:cpu"): 0.5, (2, "ort:cpu"): 0.8})
    assert run_cli(["export", str(folder), "--int8", "--max-drop", "100"]) == 1
    assert "int8 is 0.80 times as fast as float on ort:cpu" in capsys.readouterr().err.replace("\n", " ")
    assert (folder / "model.int8.openvino.onnx").exists()
    assert not (folder / "model.int8.rejected.onnx").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("two_recipes")
def test_slow_everywhere_is_rejected(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _speeds(monkeypatch, {(number, device): 0.9 for number in (1, 2) for device in DEVICES})
    done = export(folder, int8=QuantizationSettings(max_drop_pp=100))
    assert set(done.broken) == set(DEVICES)
    rejected = read_artifact(folder / "model.int8.rejected.onnx")
    assert rejected.card.runtimes == ()
    with pytest.raises(BadInputError, match="no runtime"):
        open_runtime(rejected, "ort:cpu")


@pytest.mark.slow
@pytest.mark.usefixtures("two_recipes")
def test_what_could_not_be_timed_is_not_promised(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _speeds(monkeypatch, {(number, device): None for number in (1, 2) for device in DEVICES})
    done = export(folder, int8=QuantizationSettings(max_drop_pp=100))
    assert done.broken["ort:cpu"] == "int8 could not be timed on ort:cpu"


def test_accuracy_that_is_lost_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def backwards(task: Task) -> list[Recipe]:
        recipe = recipes(task)[0]

        def spoil() -> Candidate:
            made = recipe.make()
            nodes = made.model.graph.node
            place = next(index for index, node in enumerate(nodes) if "logits" in node.output)
            nodes[place].output[0] = "forwards"
            nodes.insert(place + 1, onnx.helper.make_node("Neg", ["forwards"], ["logits"]))
            return replace(made, quantized=None)

        return [Recipe(recipe.label, spoil)]

    monkeypatch.setattr(search, "recipes", backwards)
    # The network was not trained: float is taken to be right, whatever it answers.
    drop = metrics.accuracy_drop
    monkeypatch.setattr(
        metrics, "accuracy_drop", lambda base, logits, labels: drop(base, logits, base[: len(labels)].argmax(1))
    )
    done = export(folder, int8=QuantizationSettings(max_drop_pp=5.0))
    assert "more than --max-drop 5" in done.broken["ort:cpu"]
    assert not (folder / "model.int8.onnx").exists()
    assert (folder / "model.int8.rejected.onnx").exists()


@pytest.mark.slow
def test_recipes_that_fail_are_told_and_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> Candidate:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(search, "recipes", lambda task: [Recipe("other", failing), *recipes(task)[:1]])
    recorder = Recorder()
    done = export(folder, int8=QuantizationSettings(max_drop_pp=100, min_speed_up=0), reporter=recorder)
    assert [attempt.label for attempt in done.attempts] == ["edgetl, hard-swish within layers"]
    assert any("other failed: no such operator" in warning for warning in recorder.warned)
    monkeypatch.setattr(search, "recipes", lambda task: [Recipe("other", failing)])
    with pytest.raises(PromiseBrokenError, match="no quantiser could"):
        export(folder, int8=QuantizationSettings())


@pytest.mark.usefixtures("two_recipes")
def test_time_limit_leaves_out_recipes_and_says_so(folder: Path) -> None:
    recorder = Recorder()
    done = export(folder, int8=QuantizationSettings(100, min_speed_up=0, max_minutes=1e-6), reporter=recorder)
    assert len(done.attempts) == 1
    assert any("not tried, for --max-minutes" in line for line in recorder.said)


@pytest.mark.slow
def test_trained_integers_come_nearer_to_the_teacher(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(search, "recipes", lambda task: recipes(task)[:1])
    done = export(folder, int8=QuantizationSettings(max_drop_pp=100, min_speed_up=0, qat_epochs=12))
    plain, trained = done.attempts
    assert trained.label == "edgetl, hard-swish within layers, trained (QAT)"
    assert trained.settings["qat_epochs"] == 12
    for device in DEVICES:
        ours, before = (attempt.divergence(device) for attempt in (trained, plain))
        assert ours < 1.5 * before


@pytest.mark.slow
@pytest.mark.usefixtures("two_recipes")
def test_real_clock_times_each_device_and_thread_count(folder: Path) -> None:
    done = export(folder, int8=QuantizationSettings(max_drop_pp=100, min_speed_up=0.01))
    from toolchain.runtimes.devices import cores

    for attempt in done.attempts:
        assert {(speed.device, speed.threads) for speed in attempt.speeds} == {
            (device, count) for device in DEVICES for count in {1, cores()}
        }
        assert all(speed.float_ms > 0 and speed.int8_ms > 0 for speed in attempt.speeds)
        assert all(speed.min_ratio and speed.min_ratio <= speed.ratio for speed in attempt.speeds)


@pytest.mark.parametrize(("photographs", "trains"), [(1023, False), (1024, True)])
def test_training_comes_unasked_only_where_enough_is_left_beside_what_recipes_are_compared_on(
    photographs: int, trains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = object.__new__(RunPhotographs)
    taught = tuple(SplitFile(f"{number}.jpg", str(number), "cat") for number in range(photographs))
    kept._splits = {"train": taught, "calibration": ()}
    searched = object.__new__(search._Search)
    searched._context = SimpleNamespace(photographs=kept, devices=DEVICES)  # type: ignore[assignment]
    searched.entries = []
    monkeypatch.setattr(search, "far_spellings", lambda entries, devices: {"ort"})
    assert searched.far() == ({"ort"} if trains else set())
