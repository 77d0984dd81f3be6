"""`edgetl finetune` as it is typed."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from toolchain.artifact.card import Reject
from toolchain.backbones import recipes
from toolchain.cli import run
from toolchain.cli.finetune import _next, rejection_line
from toolchain.runs import Rejection


def _typed(*words: object) -> int:
    return run(["finetune", *map(str, words)])


def test_a_run_from_the_command_line(
    tmp_path: Path, drawn_folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[finetune]\nepochs = 3\nbatch_size = 8\ntrained_blocks = 2\n")
    out = tmp_path / "run"
    arguments = ("--model", "mobilenet_v3_small", "--weights", weights, "--recipe", recipe, "--size", 64)
    arguments += ("--resize", "squash")
    assert _typed(drawn_folder, *arguments, "--epochs", 1, "--device", "cpu", "--out", out, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["settings"]["epochs"] == 1
    assert document["settings"]["batch_size"] == 8
    assert document["preprocess"]["height"] == document["preprocess"]["shortest_edge"] == 64
    assert document["preprocess"]["resize"] == "squash"
    assert document == json.loads((out / "run.json").read_text())
    with (out / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    test = [row for row in rows if row["split"] == "test"]
    right = sum(row["label"] == row["answer"] for row in test)
    assert right / len(test) == pytest.approx(document["metrics"]["test"]["top1"])
    assert "<html" in (out / "report.html").read_text()


def test_tricks_are_recorded_and_stand_under_a_heading(
    tmp_path: Path, drawn_folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tricks = {
        "--head-init": "random",
        "--batch-norm": "trained",
        "--dropout": 0.5,
        "--optimizer": "sgd",
        "--schedule": "step",
        "--warm-up": 0.2,
        "--max-grad-norm": 0.5,
        "--weight-decay": 0.001,
        "--ema-decay": 0.5,
        "--label-smoothing": 0.1,
        "--augmentation": 0.5,
        "--min-crop-area": 0.4,
        "--balance": "none",
        "--trained-blocks": 2,
        "--batch-size": 8,
        "--learning-rate": 0.01,
    }
    arguments = ("--model", "mobilenet_v3_small", "--weights", weights, "--size", 64, "--epochs", 1)
    given = [word for pair in tricks.items() for word in pair]
    assert _typed(drawn_folder, *arguments, *given, "--out", tmp_path / "run", "--json") == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert {name: settings[name[2:].replace("-", "_")] for name in tricks} == tricks
    assert _typed("--help") == 0
    first, heading, tail = capsys.readouterr().out.partition("Training tricks")
    assert heading
    assert all(name in tail and name not in first for name in tricks)
    assert "--epochs" in first


def test_list_models_names_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert _typed("--list-models") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in recipes.names())
    assert _typed("--list-models", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["models"]["resnet50"]["network"]["features"] == 2048
    assert document["models"]["vgg16"]["network"]["imagenet_top1"] == 0.71592
    assert all(f"{model['network']['imagenet_top1']:.3f}" in shown for model in document["models"].values())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "no photographs were named"),
        (("DATA", "--model", "alexnet"), "unknown model"),
        (("DATA", "--epochs", "many"), "neither a number nor auto"),
        (("DATA", "--epochs", "0"), "at least 1"),
        (("DATA", "--recipe", "absent.toml"), "absent.toml"),
        (("DATA", "--max-minutes", "0"), "--max-minutes"),
        (("DATA", "--balance", "oversampling"), "oversampling"),
        (("DATA", "--size", "7"), "--size"),
        (("DATA", "--dropout", "1"), "--dropout"),
        (("DATA", "--optimizer", "lion"), "lion"),
        (("--resume", "RUN", "--schedule", "step"), "--schedule cannot be given"),
        (("DATA", "--weights", "absent.pth"), "do not exist"),
        (("DATA", "--outliers", "absent"), "is no folder"),
        (("--resume", "RUN", "--epochs", "3"), "--epochs cannot be given"),
        (("nowhere/at/all",), "does not exist"),
    ],
)
def test_wrong_words_are_refused(
    tmp_path: Path,
    drawn_folder: Path,
    words: tuple[str, ...],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(drawn_folder) if word == "DATA" else word for word in words]
    weights = [] if {"--weights", "--resume"} & set(given) else ["--weights", "none"]
    assert _typed(*given, *weights) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_to_resume_what_is_finished_says_so(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run_folder / "run.json").read_bytes()
    assert _typed("--resume", run_folder) == 0
    assert "is finished already" in " ".join(capsys.readouterr().err.split())
    assert (run_folder / "run.json").read_bytes() == before


def test_the_line_on_what_is_not_sure_says_whether_other_things_were_seen() -> None:
    chosen = Rejection(Reject("energy", 1.0), {"test": 0.98})
    assert str(rejection_line(chosen, 50)) == (
        "Not sure of 1 of 50 test photographs (2%); of other things: not known (--outliers)."
    )
    seen = replace(chosen, outliers=20, outliers_rejected=0.9)
    assert str(rejection_line(seen, 50)) == (
        "Not sure of 1 of 50 test photographs (2%), and of 90% of 20 pictures of other things."
    )


@pytest.mark.parametrize(
    "words",
    [
        ("--epochs", "3"),
        ("--max-minutes", "2"),
        ("--teacher", "a run"),
        ("--learning-rate", "0.1"),
        ("--optimizer", "sgd"),
        ("--label-smoothing", "0.1"),
        ("--crop-size", "160"),
    ],
)
def test_a_linear_probe_is_not_fine_tuned(
    words: tuple[str, str], drawn_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _typed(drawn_folder, "--probe-only", *words) == 2
    assert f"{words[0]} does nothing with --probe-only" in capsys.readouterr().err


def test_a_run_that_stays_a_linear_probe_ignores_nothing(
    tmp_path: Path, drawn_folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probe = tmp_path / "probe é"
    arguments = ("--model", "mobilenet_v3_small", "--weights", weights, "--size", 64, "--probe-only", "--quiet")
    assert _typed(drawn_folder, *arguments, "--out", probe) == 0
    for words in (("--learning-rate", "1e-4"), ("--max-minutes", "5"), ("--teacher", "big")):
        capsys.readouterr()
        assert _typed(drawn_folder, "--from", probe, *words, "--out", tmp_path / "new") == 2
        told = " ".join(capsys.readouterr().err.split())
        assert f"{words[0]} does nothing with {probe}, a linear probe that stays one" in told
        assert "Add --epochs N" in told
    assert not (tmp_path / "new").exists()


def test_other_things_are_rejected(
    tmp_path: Path, drawn_folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--model", "mobilenet_v3_small", "--weights", weights, "--size", 64, "--probe-only")
    outliers = drawn_folder / "fish"
    two = tmp_path / "two"
    for label in ("cat", "dog"):
        (two / label).mkdir(parents=True)
        for path in (drawn_folder / label).iterdir():
            (two / label / path.name).write_bytes(path.read_bytes())
    assert _typed(two, *arguments, "--outliers", outliers, "--out", tmp_path / "run", "--json") == 0
    rejection = json.loads(capsys.readouterr().out)["rejection"]
    assert rejection["outliers"] == 4
    assert 0 <= rejection["outliers_rejected"] <= 1
    # Pictures of the classes themselves are no other things.
    assert _typed(two, *arguments, "--outliers", two / "cat", "--out", tmp_path / "other") == 2
    assert "one of the photographs of the classes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "everywhere"), [("mobilenet_v2", True), ("resnet18", True), ("mobilenet_v3_small", True),
                              ("mobilenet_v3_large", False), ("somebody_elses", True)]
)  # fmt: skip
def test_what_comes_next_is_int8_for_the_devices_on_which_it_pays(model: str, everywhere: bool) -> None:
    first, *more = _next(model, Path("my run"))
    assert first.startswith("Next: edgetl export 'my run' --int8")
    assert first.endswith("--target openvino:CPU") == (not everywhere)
    assert bool(more) == (not everywhere)
    for line in more:
        assert line == f"int8 of {model} is not surely faster than float on other devices than openvino:CPU."


def test_next_command_is_what_must_be_typed(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets in a folder's name are no markup, and the shell would take them for a pattern."""
    from toolchain.cli.console import Console
    from toolchain.cli.finetune import _summary
    from toolchain.runs import read_run

    folder = Path("runs/[red]of :cat:[/red] 2")
    Console().result(None, *_summary(read_run(run_folder), folder))
    shown = capsys.readouterr().out
    assert f"Run: {folder}. Look at {folder}/report.html" in shown
    assert f"edgetl export '{folder}' --int8" in shown
