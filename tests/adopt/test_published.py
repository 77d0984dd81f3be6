"""A published network as it is: the same answers, its own names, and a run that every command takes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import models

import toolchain
from tests.adopt.conftest import NAME, settled
from tests.conftest import Recorder
from toolchain.adopt.labels import read_labels
from toolchain.artifact import read_artifact
from toolchain.backbones import find
from toolchain.backbones.networks import normalised
from toolchain.backbones.published import open_published
from toolchain.backbones.timm import _short
from toolchain.bench.inputs import check_labels, choose
from toolchain.cli import run
from toolchain.drawn.pets import draw
from toolchain.errors import BadInputError
from toolchain.export.onnx_writer import _Deployed
from toolchain.export.photographs import RunPhotographs, _divided
from toolchain.images.preprocess import Preprocess
from toolchain.runs import read_run, read_splits
from toolchain.system.progress import Silent

CATEGORIES = models.MobileNet_V3_Small_Weights.IMAGENET1K_V1.meta["categories"]


def test_the_file_answers_as_the_publishers_own_network(adopted: Path, original: nn.Module) -> None:
    classifier = toolchain.load(adopted / "model.onnx")
    pictures = np.stack([classifier.preprocess(draw("cat", index, size=300)) for index in range(3)])
    with torch.inference_mode():
        expected = original(normalised(torch.from_numpy(pictures)))
    found = classifier.infer(list(pictures))
    np.testing.assert_allclose(found.logits, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    np.testing.assert_allclose(found.probabilities, expected.softmax(1), atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v2",
        "mobilenet_v3_large",
        "resnet18",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet50", "vgg16", "vgg19")),
    ],
)
def test_every_network_takes_the_head_of_its_publisher(name: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    theirs = settled(getattr(models, name)(weights=None))
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    opened = open_published(name, str(tmp_path / "theirs.safetensors"))
    (tmp_path / "theirs.safetensors").unlink()  # VGG's have half a gigabyte
    assert len(opened.told.labels) == 1000
    assert opened.pretrained.unused == ()
    pixels = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = theirs(normalised(pixels))
        found = {"network": opened.network(normalised(pixels)), "graph": _Deployed(opened.network, 1.0)(pixels)[0]}
    for answers in found.values():
        torch.testing.assert_close(answers, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_the_run_says_that_it_has_names_and_no_photographs(adopted: Path) -> None:
    told, card = read_run(adopted), read_artifact(adopted / "model.onnx").card
    assert told.model.kept == "published"
    assert told.model.taught == card.source.taught == ()
    assert told.data.classes == card.labels == tuple(CATEGORIES)
    assert (told.data.counts, told.data.path, told.metrics, read_splits(adopted)) == ({}, "", {}, {})
    assert (card.splits, card.accuracy, card.temperature, card.reject) == ({}, (), 1.0, None)
    assert card.preprocess == Preprocess(224, 224, shortest_edge=256)


@pytest.mark.parametrize(
    ("network", "weights", "edge"),
    [("mobilenet_v2", "imagenet", 232), ("mobilenet_v2", "imagenet-v1", 256), ("resnet18", "a.pth", 256)],
)
def test_photographs_are_prepared_as_the_publisher_judged(network: str, weights: str, edge: int) -> None:
    told = find(network).published
    assert told is not None
    assert told(weights).preprocess.shortest_edge == edge
    assert len(told(weights).labels) == 1000


def test_names_of_timm_are_short_and_each_is_there_once() -> None:
    described = ["tabby, tabby cat", "crane", "zebra", "crane", "drake, male duck", "drake, dragon"]
    assert _short(described) == ("tabby", "crane (1)", "zebra", "crane (3)", "drake, male duck", "drake, dragon")
    pytest.importorskip("timm")
    told = find("timm:tf_efficientnet_lite0").published
    assert told is not None
    found = told("imagenet")
    assert (found.labels[340], found.labels[281], len(set(found.labels))) == ("zebra", "tabby", 1000)
    assert (found.preprocess.shortest_edge, found.preprocess.interpolation) == (256, "cubic")


def _without_head(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith("classifier.3")}


def _of_five(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name: tensor[:5].clone() if name.startswith("classifier.3") else tensor for name, tensor in state.items()
    }


@pytest.mark.parametrize(
    ("change", "error"),
    [(_without_head, "bring no head that fits"), (_of_five, "has 5 classes, and there are 1000 names")],
)
def test_weights_without_the_head_are_refused(
    change: object, error: str, tmp_path: Path, published_file: Path
) -> None:
    assert callable(change)
    save_file(change(load_file(published_file)), tmp_path / "other.safetensors")
    with pytest.raises(BadInputError, match=error):
        open_published(NAME, str(tmp_path / "other.safetensors"))


def test_own_classes_are_named_by_a_file(tmp_path: Path, published_file: Path) -> None:
    save_file(_of_five(load_file(published_file)), tmp_path / "own.safetensors")
    (tmp_path / "labels.txt").write_text("cat\ndog\nfish\nbird\nturtle\n\n", encoding="utf-8")
    opened = open_published(NAME, str(tmp_path / "own.safetensors"), read_labels(tmp_path / "labels.txt"))
    assert opened.told.labels == ("cat", "dog", "fish", "bird", "turtle")
    assert opened.network(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"cat\n", "holds 1 names"),
        (b"", "holds 0 names"),
        (b"cat\n\ndog\n", "line 2 is empty"),
        (b"cat\ndog\ncat\n", "'cat' is there 2 times"),
        (b"cat\n\xff\xfe\n", "is not UTF-8 text"),
        (b"0\tcat\n1\tdog\n", "line 1 holds a tab or another control character"),
        (b"a" * 300 + b"\ndog", "line 1 has more than 256 characters"),
    ],
)
def test_bad_lists_of_names(content: bytes, error: str, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(BadInputError, match=error):
        read_labels(tmp_path / "labels.txt")


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        ("mobilenetv2", 2, "Did you mean mobilenet_v2?"),
        ("mobilenet_v2 --weights missing.pth", 2, "weights missing.pth do not exist"),
        ("mobilenet_v2 --weights none", 2, "the weights none bring no head"),
        ("mobilenet_v2 --weights ready-made", 2, "has 37 classes, and there are 1000 names"),
        ("mobilenet_v2 --labels missing.txt", 2, "missing.txt cannot be read"),
        ("vgg16 --weights none", 2, "edgetl finetune PHOTOS --model vgg16"),
        ("mobilenet_v2 --weights none --data missing", 2, "missing is not a folder"),
        ("mobilenet_v2 --weights none --out full", 2, "full is there already and not empty"),
    ],
)
def test_bad_words(
    words: str,
    code: int,
    error: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full/something").touch()
    assert run(["adopt", *words.split()]) == code
    assert error in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adopted: Path, photographs: Path) -> Path:
    """The current folder, with the adopted run/ and photos/."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(adopted, "run")
    Path("photos").symlink_to(photographs)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("predict run photos", 0, ""),
        pytest.param("predict run photos --device torch:cpu", 0, "", marks=pytest.mark.slow),
        ("card run", 0, "1000 labels: tench, goldfish"),
        ("camera run --source photos --headless --duration 1", 0, ""),
        ("explain why run photos/00.jpg --method grad-cam", 0, ""),
        ("explain features run photos/00.jpg", 0, ""),
        ("explain ideal run --class zebra --steps 2", 0, "zebra"),
        ("explain attack run photos/00.jpg --target tabby --steps 2", 0, ""),
        pytest.param("doctor run", 0, "", marks=pytest.mark.slow),
        ("export run", 2, "run was adopted, and brings no photographs to measure on"),
        ("export run --data photos/00.jpg", 2, "photos/00.jpg is not a folder"),
        ("finetune --resume run", 2, "run was adopted, not trained"),
        ("finetune drawn --teacher run --weights none --out x", 2, "run does not know cat, dog, fish"),
    ],
)
def test_every_reader_of_a_run_takes_it(
    words: str, code: int, told: str, place: Path, drawn_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "drawn").symlink_to(drawn_folder)
    assert run(words.split()) == code
    said = capsys.readouterr()
    assert told in said.out + said.err
    assert "Traceback" not in said.err


@pytest.mark.slow
def test_bench_without_photographs_measures_no_accuracy(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "run", "--device", "ort:cpu", "--rounds", "1", "--json"]) in {0, 4}
    said = capsys.readouterr()
    assert "the network was adopted, and brings no photographs" in said.err
    (arm,) = json.loads(said.out)["arms"]
    assert (arm["status"], arm["accuracy"]) == ("ok", None)


def _classes(folder: Path, photographs: Path, names: tuple[str, ...]) -> Path:
    """A folder of photographs in folders called `names`."""
    for number, path in enumerate(sorted(photographs.iterdir())):
        below = folder / names[number % len(names)]
        below.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, below)
    return folder


def test_photographs_of_some_classes_tell_the_accuracy(place: Path, photographs: Path) -> None:
    from tests.conftest import Recorder
    from toolchain.datasets.catalogue import open_dataset

    data = _classes(place / "some", photographs, ("zebra", "tabby"))
    artifact, reporter = read_artifact(place / "run" / "model.onnx"), Recorder()
    chosen = choose([artifact], str(data), "train", 0, reporter)
    assert chosen is not None
    assert chosen.classes == ("tabby", "zebra")
    wrong = open_dataset(str(_classes(place / "wrong", photographs, ("zebra", "spaceship"))))
    with pytest.raises(BadInputError, match="only in wrong: spaceship"):
        check_labels(wrong, artifact)


def test_export_measures_on_any_photographs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "run", "--data", "photos", "--target", "ort:cpu", "--json"]) == 0
    said = capsys.readouterr()
    assert "0 of 12 photographs lie in folders called after a class" in said.err
    done = json.loads(said.out)
    assert (done["split"], done["n"]) == ("unlabelled", 6)
    (entry, *_) = read_artifact(place / "run" / "model.onnx").card.accuracy
    assert (entry.split, entry.n, entry.agreement) == ("unlabelled", 6, 1.0)


@pytest.mark.slow
def test_export_int8_calibrates_on_labelled_photographs(place: Path, photographs: Path) -> None:
    data = _classes(place / "some", photographs, ("Zebra", "tiger-cat"))
    words = f"export run --int8 --data {data} --target ort:cpu --max-drop 100 --min-speed-up 0 --max-minutes 0.01"
    assert run([*words.split(), "--quiet"]) == 0
    card = read_artifact(place / "run" / "model.int8.onnx").card
    assert card.recipe is not None
    assert card.recipe.calibration_n == 6
    assert {entry.split for entry in card.accuracy} == {"val"}


@pytest.mark.parametrize("counts", [(6, 6), (7, 4), (1, 1), (5,), (3, 2, 1, 1)])
def test_both_halves_of_the_photographs_hold_every_class(counts: tuple[int, ...]) -> None:
    classes = [f"class {place}" for place in range(len(counts))]
    listed = zip(classes, counts, strict=True)
    paths = [Path(name) / f"{number}.jpg" for name, count in listed for number in range(count)]
    found = {f"{number * 7919 % 104729:064}": path for number, path in enumerate(paths)}
    val, train = _divided(found, classes, Silent()).values()
    assert len(val) + len(train) == len(paths)
    for name, count in zip(classes, counts, strict=True):
        sides = [sum(one.label == name for one in half) for half in (val, train)]
        assert sorted(sides) == [count // 2, count - count // 2]
    assert val
    assert train


@pytest.mark.parametrize("where", ["{name} photos/00.jpg", "--model {name} photos/00.jpg"])
def test_explain_takes_a_published_network_without_a_folder(
    where: str, place: Path, published_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = where.format(name=NAME).split()
    weights = ["--weights", str(published_file), "--json", "--quiet"]
    assert run(["explain", "why", *words, "--method", "grad-cam", *weights]) == 0
    (image,) = json.loads(capsys.readouterr().out)["images"]
    assert image["label"] in CATEGORIES
    assert run(["explain", "attack", *words, "--steps", "2", *weights]) == 0
    assert run(["explain", "ideal", *words[:-1], "--class", "zebra", "--steps", "2", *weights]) == 0


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("ideal run --weights x.pth --class zebra", "--weights are for a published network"),
        ("ideal run --model mobilenet_v2 --class zebra", "run and --model mobilenet_v2 are two networks"),
        ("attack run photos/00.jpg --model mobilenet_v2", "run and --model mobilenet_v2 are two networks"),
        ("why --model mobilenet_v2", "Missing argument"),
        ("attack --data photos", "Missing argument 'MODEL'"),
        ("ideal mobilenet_v2 --weights none --class zebra", "the weights none bring no head"),
        ("ideal run --class zebbra", "Do you mean 'zebra'?"),
        ("ideal run --class 0123456789", " and 960 more."),
    ],
)
def test_slips_in_explain(words: str, error: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", *words.split()]) == 2
    assert error in capsys.readouterr().err


def test_photographs_that_cannot_be_read_are_told_and_left_out(
    adopted: Path, photographs: Path, tmp_path: Path
) -> None:
    """A network that was adopted has no splits: nobody has looked at its photographs before."""
    folder = tmp_path / "photos"
    shutil.copytree(photographs, folder)
    (folder / "03.jpg").write_bytes((folder / "03.jpg").read_bytes()[:600])
    (folder / "empty.jpg").touch()
    (folder / "scan.jxl").write_bytes(b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99))
    recorder = Recorder()
    found = RunPhotographs(adopted, read_run(adopted), folder, recorder)
    assert len(found.read(found.judged_on).pixels) + len(found.read("train").pixels) == 11
    assert [line for line in recorder.warned if line.startswith("skipped: ") and "03.jpg" in line]
    assert [line for line in recorder.warned if "left out that may be photographs" in line]
    for path in folder.glob("??.jpg"):
        path.write_bytes(b"\xff\xd8\xff\xe0 no more")
    with pytest.raises(BadInputError, match="none of the photographs can be read"):
        RunPhotographs(adopted, read_run(adopted), folder, recorder)
