"""Going on from a run: what is taken over, what is refused, and that no photograph judges what it has taught."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import toolchain
from tests.conftest import QUICK, Recorder
from toolchain.artifact import read_artifact
from toolchain.backbones.networks import body_of, head_of, load_network
from toolchain.bench.inputs import choose
from toolchain.cli import run as command
from toolchain.datasets.catalogue import open_dataset
from toolchain.datasets.known import keep_known
from toolchain.drawn.pets import draw
from toolchain.errors import BadInputError
from toolchain.runs import Run, read_run, read_splits
from toolchain.system import files
from toolchain.system.progress import Silent
from toolchain.training.finetune import finetune, resume
from toolchain.training.previous import Previous, taught_before, warn_of_seen
from toolchain.training.settings import TrainSettings


def _settings(data: Path, before: Path, **more: Any) -> TrainSettings:
    chosen = {**QUICK, "probe_only": True, **more}
    taken = Previous.read(before).settings(None, None, None, None, {"probe_only": chosen.pop("probe_only")})
    return TrainSettings(data=str(data), **{**chosen, **taken})


@pytest.fixture(scope="module")
def more_photographs(tmp_path_factory: pytest.TempPathFactory, drawn_folder: Path) -> Path:
    """Those of `drawn_folder` but for one class that is gone, a few more of the others, and a new class."""
    root = tmp_path_factory.mktemp("more") / "photos"
    shutil.copytree(drawn_folder, root)
    shutil.rmtree(root / "fish")
    for label, numbers in (("cat", range(2000, 2006)), ("dog", range(2000, 2003)), ("turtle", range(8))):
        (root / label).mkdir(exist_ok=True)
        for index in numbers:
            bgr = cv2.cvtColor(draw(label, index, size=96), cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(root / label / f"{label}-{index:04}.png"), bgr)
    return root


@pytest.fixture(scope="module")
def continued(tmp_path_factory: pytest.TempPathFactory, more_photographs: Path, run_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("continued") / "run"
    finetune(_settings(more_photographs, run_folder), folder)
    return folder


def test_the_new_run_says_what_it_went_on_from_and_how_both_compare(continued: Path, run_folder: Path) -> None:
    run, before = read_run(continued), read_run(run_folder)
    both = run.continuation
    assert both is not None
    assert (both.run, both.sha256) == (str(run_folder), before.model.sha256)
    assert (both.kept, both.added, both.dropped) == (("cat", "dog"), ("turtle",), ("fish",))
    test = read_splits(continued)["test"]
    assert both.n == sum(photo.label != "turtle" for photo in test) > 0
    assert both.added_n == sum(photo.label == "turtle" for photo in test) > 0
    assert run.model.weights_sha256 == before.model.sha256, "its weights are those of the run"
    page = (continued / "report.html").read_text()
    assert "test photographs that have taught neither" in page


def test_what_has_taught_a_network_never_judges_it(continued: Path, run_folder: Path) -> None:
    before = {photo.sha256: split for split, listed in read_splits(run_folder).items() for photo in listed}
    after = {photo.sha256: split for split, listed in read_splits(continued).items() for photo in listed}
    both = before.keys() & after.keys()
    assert len(both) == 16, "cats and dogs"
    assert {one: after[one] for one in both} == {one: before[one] for one in both}
    earlier = json.loads((continued / "earlier_splits.json").read_text())
    assert earlier == {one: before[one] for one in before.keys() - both}, "the next run will know of the fish"
    known = Previous.read(continued).known
    assert known == before | after


@pytest.mark.slow
def test_photographs_that_come_back_stay_where_they_were(
    tmp_path: Path, continued: Path, drawn_folder: Path, run_folder: Path
) -> None:
    """Fish are known to the run before the run before."""
    finetune(_settings(drawn_folder, continued), tmp_path / "run")
    again, first = read_splits(tmp_path / "run"), read_splits(run_folder)
    assert {split: {photo.sha256 for photo in listed} for split, listed in again.items()} == {
        split: {photo.sha256 for photo in listed} for split, listed in first.items()
    }


def test_validation_that_a_refit_has_taught_trains_from_now_on(tmp_path: Path, run_folder: Path) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    document = json.loads((tmp_path / "run/run.json").read_text())
    document["model"]["refit"] = True
    (tmp_path / "run/run.json").write_text(json.dumps(document))
    known = Previous.read(tmp_path / "run").known
    assert [known[photo.sha256] for photo in read_splits(run_folder)["val"]] == ["train"] * 3
    assert Previous.read(tmp_path / "run").taught > Previous.read(run_folder).taught


def test_a_given_test_folder_loses_what_has_taught_the_run(
    tmp_path: Path, run_folder: Path, drawn_folder: Path
) -> None:
    taught = next(photo for photo in read_splits(run_folder)["train"] if photo.label == "cat")
    for side in ("train", "test"):
        shutil.copytree(drawn_folder, tmp_path / "data" / side)
    for path in (tmp_path / "data/test").rglob("*.jpg"):
        if path.name != Path(taught.name).name:
            path.write_bytes(path.read_bytes() + side.encode())  # other contents
    (tmp_path / "data/train" / taught.name).unlink()
    known = Previous.read(run_folder).known
    dataset = keep_known(open_dataset(str(tmp_path / "data")), known)
    held = {photo.sha256 for split in ("val", "test") for photo in dataset.splits[split]}
    assert taught.sha256 not in held
    assert any("1 photographs of val and test are left out" in line for line in dataset.warnings)
    assert any(one.name == f"test/{taught.name}" for one in dataset.left_out)


def test_rows_of_classes_that_stay_are_the_old_ones(continued: Path, run_folder: Path) -> None:
    """The probe is pulled towards where it started: towards the row of its own name, not of its place."""
    networks = [load_network(folder, read_run(folder)) for folder in (run_folder, continued)]
    bodies = [body_of(network).state_dict() for network in networks]
    assert all((bodies[0][name] == bodies[1][name]).all() for name in bodies[0]), "features stay as they are"
    old, new = (head_of(network).weight.detach().numpy() for network in networks)
    rows = [one - one.mean(0) for one in (old, new)]
    likeness = rows[1] @ rows[0].T / np.outer(*(np.linalg.norm(one, axis=1) for one in rows[::-1]))
    assert likeness[0].argmax() == 0
    assert likeness[1].argmax() == 1
    assert min(likeness[0, 0], likeness[1, 1]) > 0.6


def test_bench_judges_the_new_run_on_its_own_splits(continued: Path) -> None:
    chosen = choose([read_artifact(continued / "model.onnx")], None, "test", 0, Silent())
    assert chosen is not None
    assert sorted(chosen.sha256) == sorted(photo.sha256 for photo in read_splits(continued)["test"])
    assert chosen.split_sha256 == read_run(continued).data.split_sha256["test"]


def test_fine_tuning_goes_on_from_fine_tuned_weights_and_is_resumed(
    tmp_path: Path,
    more_photographs: Path,
    run_folder: Path,
) -> None:
    settings = _settings(more_photographs, run_folder, probe_only=False, epochs=1)
    finetune(settings, tmp_path / "run", deployable=False)
    run = read_run(tmp_path / "run")
    (tmp_path / "run/run.json").unlink()
    again = resume(tmp_path / "run", deployable=False)
    assert again.continuation == run.continuation
    assert run.settings["from_run"] == str(run_folder)


@pytest.mark.slow
def test_a_program_goes_on_too(tmp_path: Path, more_photographs: Path, continued: Path) -> None:
    run = toolchain.finetune(more_photographs, tmp_path / "run", from_run=continued, device="cpu")
    assert run.settings["probe_only"], "as the run before"
    assert run.model.name == "mobilenet_v3_small"
    assert run.continuation is not None
    assert run.continuation.added == ()


def test_photographs_that_are_gone_are_told(tmp_path: Path, continued: Path, more_photographs: Path) -> None:
    shutil.copytree(more_photographs, tmp_path / "data")
    for path in (tmp_path / "data").rglob("*.jpg"):
        path.unlink()
    for label in ("cat", "dog", "turtle"):
        for index in range(3000, 3008):
            bgr = cv2.cvtColor(draw(label, index, size=96), cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(tmp_path / "data" / label / f"{index}.png"), bgr)
    recorder = Recorder()
    Previous.read(continued).check(open_dataset(str(tmp_path / "data")), recorder)
    assert [line for line in recorder.warned if "Teach with the old and the new ones together" in line]


def _logits(answers: list[int], classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[answers]


@pytest.mark.parametrize(
    ("old", "new", "verdict", "n"),
    [
        ([0] * 40, [0] * 40, "not told apart", 40),
        ([2] * 40, [0] * 40, "better", 40),
        ([0] * 40, [1] * 40, "worse", 40),
        ([2] + [0] * 39, [0] * 40, "not told apart", 40),
    ],
)
def test_the_verdict_is_as_sure_as_the_photographs_allow(
    run_folder: Path, drawn_folder: Path, old: list[int], new: list[int], verdict: str, n: int
) -> None:
    before = Previous.read(run_folder)
    dataset = open_dataset(str(drawn_folder))
    both = before.compared(dataset, _logits(old, 3), _logits(new, 3), np.zeros(n, np.int64))
    assert (both.n, both.verdict) == (n, verdict)


def test_without_a_shared_photograph_nothing_is_claimed(run_folder: Path, drawn_folder: Path) -> None:
    dataset = replace(open_dataset(str(drawn_folder)), classes=("ant", "bee", "cat"))
    both = Previous.read(run_folder).compared(dataset, _logits([0], 3), _logits([1], 3), np.array([1]))
    assert (both.n, both.old_top1, both.new_top1, both.verdict) == (0, None, None, "not told apart")
    assert (both.added_n, both.added_top1) == (1, 1.0)


Told = Callable[..., tuple[int, str]]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """The command's exit code and all that it has said, on one line."""

    def run(*words: object) -> tuple[int, str]:
        code = command(["finetune", *map(str, words)])
        return code, " ".join("".join(capsys.readouterr()).split())

    return run


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--model", "mobilenet_v2"], "is a mobilenet_v3_small, and cannot go on as a mobilenet_v2"),
        (["--size", "128"], "sees 64 x 64 pixels (shortest-edge), and cannot go on with others"),
        (["--resize", "squash"], "cannot go on with others"),
        (["--weights", "imagenet"], "--weights imagenet cannot be given beside it"),
        (["--probe-only", "--recipe", "own.toml"], "--recipe does nothing with --probe-only"),
    ],
)
def test_another_network_or_size_is_refused(
    tmp_path: Path, run_folder: Path, drawn_folder: Path, told: Told, more: list[str], said: str
) -> None:
    code, output = told(drawn_folder, "--from", run_folder, "--out", tmp_path / "run", *more)
    assert code == 2
    assert said in output
    assert not (tmp_path / "run").exists()


def test_what_is_no_run_has_no_weights_or_no_class_in_common_is_refused(
    tmp_path: Path, run_folder: Path, drawn_folder: Path, told: Told
) -> None:
    shutil.copytree(run_folder, tmp_path / "bare")
    (tmp_path / "bare/model.safetensors").unlink()
    others = tmp_path / "others"
    for old, new in (("cat", "ant"), ("dog", "bee"), ("fish", "crab")):
        shutil.copytree(drawn_folder / old, others / new)
    for data, before, said in (
        (drawn_folder, tmp_path, "is not a run folder"),
        (drawn_folder, tmp_path / "bare", "model.safetensors is missing"),
        (others, run_folder, "has none of the classes of"),
    ):
        code, output = told(data, "--from", before, "--out", tmp_path / "run")
        assert code == 2
        assert said in output


def test_the_command_compares_and_leaves_the_run_as_it_was(
    tmp_path: Path, continued: Path, more_photographs: Path, told: Told
) -> None:
    before = {path: path.read_bytes() for path in continued.rglob("*") if path.is_file()}
    code, output = told(more_photographs, "--from", continued, "--out", tmp_path / "run", "--device", "cpu")
    assert code == 0, output
    assert "that have taught neither, of 3 classes that both know: before" in output
    assert f"{continued.name} stays as it was." in output
    assert {path: path.read_bytes() for path in continued.rglob("*") if path.is_file()} == before
    run: Run = read_run(tmp_path / "run")
    assert run.model.kept == "probe"


def test_damaged_records_are_told(tmp_path: Path, continued: Path) -> None:
    shutil.copytree(continued, tmp_path / "run")
    (tmp_path / "run/earlier_splits.json").write_text("[]")
    with pytest.raises(BadInputError, match=r"earlier_splits\.json is damaged"):
        _ = Previous.read(tmp_path / "run").known


def test_weights_of_a_run_bring_what_they_have_seen(tmp_path: Path, run_folder: Path, drawn_folder: Path) -> None:
    """`--weights RUN/model.safetensors`, as for another size: its features were taught, too."""
    weights = run_folder / "model.safetensors"
    taught = taught_before(str(weights), read_run(run_folder).model.sha256)
    given = read_splits(run_folder)
    assert taught == {one.sha256 for split in ("train", "calibration") for one in given[split]}
    assert taught_before(str(weights), "0" * 64) == frozenset()
    assert taught_before("imagenet", None) == frozenset()
    recorder = Recorder()
    settings = TrainSettings(data=str(drawn_folder), weights=str(weights), probe_only=True, **QUICK)
    run = finetune(settings, tmp_path / "run", reporter=recorder)
    assert run.temperature_fit is not None
    assert run.temperature_fit.out_of_fold == 0, "no photograph is left that did not teach"
    assert not any("flatter" in line for line in recorder.warned)
    (tmp_path / "run" / "splits.json").write_text("{}")
    assert Previous.read(tmp_path / "run").taught == taught, "what it began with"
    dataset = open_dataset(str(drawn_folder), reporter=Silent())
    warn_of_seen(dataset, frozenset(one.sha256 for one in dataset.splits["test"][:1]), str(weights), recorder)
    assert "1 of " in recorder.warned[-1]
    assert "flatter" in recorder.warned[-1]


def test_a_network_may_be_called_without_its_tag(run_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    shutil.copytree(run_folder, tmp_path / "run")
    run = read_run(run_folder)
    name = "timm:tf_efficientnet_lite0.in1k"
    files.write_json(tmp_path / "run/run.json", replace(run, model=replace(run.model, name=name)))
    previous = Previous.read(tmp_path / "run")
    for word in (name, "timm:tf_efficientnet_lite0"):
        assert previous.settings(word, None, None, None, {})["from_run"]
    with pytest.raises(BadInputError, match="cannot go on as a mobilenet_v2"):
        previous.settings("mobilenet_v2", None, None, None, {})
