"""The report of a run: right figures, safe from what users call their classes, and in need of nothing else."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from toolchain.artifact.card import Reject
from toolchain.datasets import Photograph
from toolchain.evaluation.metrics import measure
from toolchain.images.preprocess import Preprocess
from toolchain.images.reader import Reader
from toolchain.runs import DataRecord, Metrics, ModelRecord, Rejection, Run
from toolchain.system.progress import Silent
from toolchain.training.report import (
    Answers,
    confused_pairs,
    duration,
    misclassified,
    number,
    per_class,
    percent,
    thumbnail,
    uncertain,
    write_report,
)
from toolchain.training.report_plots import curves

EPOCHS = [
    {
        "epoch": epoch,
        "loss": 1 / epoch,
        "learning_rate": 1e-4 / epoch,
        "val_top1": 0.5,
        "val_per_class_top1": 0.4,
        "val_nll": 1.0,
        "seconds": 2.0,
    }
    for epoch in (1, 2, 3)
]
READER = Reader(Preprocess(), None, Silent())
VOID = {"meta", "img", "link", "br"}


class Page(HTMLParser):
    """What a browser would make of a page, as far as the tests ask."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(self.source)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in {"script", "style"}:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]

    def images(self) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag == "img"]


def photographs(folder: Path, labels: Sequence[int], names: Sequence[str] = ()) -> tuple[Photograph, ...]:
    """Pictures of 240 x 120 pixels, each of another grey."""
    photos = []
    for index, label in enumerate(labels):
        path = folder / "photographs" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((120, 240, 3), 20 + 5 * index, np.uint8))
        photos.append(Photograph(names[index] if names else path.name, path, label))
    return tuple(photos)


def probabilities_of(labels: Sequence[int], called: Sequence[int], classes: int) -> NDArray[np.float32]:
    """Answers `called`, each with 0.6 for it, and 0.3 for the true class where that is another."""
    rows = np.full((len(labels), classes), 1e-3, np.float32)
    rows[np.arange(len(labels)), labels] = 0.3
    rows[np.arange(len(labels)), called] = 0.6
    return np.asarray(rows / rows.sum(1, keepdims=True), np.float32)


def run_of(classes: Sequence[str], answers: Answers, kept: str = "finetune") -> Run:
    """A run that answered `answers` on val and on test."""
    labels = np.array([photo.label for photo in answers.photos])
    metrics = measure(np.log(answers.probabilities), labels, 1.0)
    n, zeros = len(labels), "0" * 64
    counts = {"train": 5 * n, "val": n, "calibration": n, "test": n}
    return Run(
        schema="edgetl.run/1",
        edgetl_version="1.2.3",
        command="edgetl finetune pictures --out 'a <b>'",
        data=DataRecord(
            "pictures", "/pictures", tuple(classes), counts, 2, zeros, dict.fromkeys(counts, zeros), {}
        ),
        model=ModelRecord(
            name="mobilenet_v2",
            parameters=1234567,
            weights="imagenet",
            weights_sha256=None,
            weights_licence="BSD-3-Clause",
            sha256=zeros,
            kept="finetune" if kept == "finetune" else "probe",
            best_epoch=2 if kept == "finetune" else 0,
        ),
        preprocess=Preprocess(),
        temperature=1.25,
        reject=None,
        settings={"epochs": 3, "preprocess": {"width": 224}, "outliers": None},
        environment={"cpu": "a fast one"},
        timings_s={"probe": 1.0, "total": 83.0},
        metrics={"val": metrics, "test": metrics},
        probe_metrics={"val": replace(metrics, top1=0.125), "test": replace(metrics, top1=0.125)},
    )


def written(folder: Path, run: Run, answers: Answers, epochs: Sequence[dict[str, float]] = ()) -> Page:
    """The page of a run; nothing else may be left in the folder, and nothing may have been warned of."""
    out = folder / "run"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = write_report(out, run, epochs, {"val": answers, "test": answers}, READER)
    assert [path] == list(out.iterdir())
    return Page(path)


def simple(folder: Path, classes: Sequence[str] = ("cat", "dog", "fish"), **names: Sequence[str]) -> Answers:
    """Five photographs: cats answered cat, cat and dog, a dog answered dog, a fish answered cat."""
    labels = (0, 0, 0, 1, 2)
    return Answers(photographs(folder, labels, **names), probabilities_of(labels, (0, 0, 1, 1, 0), len(classes)))


def test_page_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    answers = simple(tmp_path)
    page = written(tmp_path, run_of(("cat", "dog", "fish"), answers), answers, EPOCHS)
    (policy,) = [given["content"] for _, given in page.elements if "Policy" in given.get("http-equiv", "")]
    assert policy.startswith("default-src 'none'; img-src data:;")
    links = page.values("src") + page.values("href") + page.values("xlink:href")
    assert all(link.startswith(("data:image/", "#")) for link in links)
    assert "link" not in {tag for tag, _ in page.elements}
    assert not re.search(r"@import|url\((?!#)|https?:", page.source)


def test_ids_are_unique_and_all_that_is_referred_to_is_there(tmp_path: Path) -> None:
    answers = simple(tmp_path)
    page = written(tmp_path, run_of(("cat", "dog", "fish"), answers), answers, EPOCHS)
    assert sum(tag == "svg" for tag, _ in page.elements) == 5
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    wanted = {link[1:] for link in page.values("href") if link.startswith("#")}
    wanted |= set(re.findall(r"url\(#([^)]*)\)", page.source)) | set(page.values("aria-labelledby"))
    assert wanted <= set(ids)


def test_plots_take_their_colours_and_letters_from_the_page(tmp_path: Path) -> None:
    answers = simple(tmp_path)
    page = written(tmp_path, run_of(("cat", "dog", "fish"), answers), answers, EPOCHS)
    plots = "".join(re.findall(r"<svg.*?</svg>", page.source, re.DOTALL))
    assert "currentColor" in plots
    assert {"var(--first)", "var(--second)", "var(--line)", "var(--muted)"} <= set(re.findall(r"var\(.*?\)", plots))
    assert not re.search("(fill|stroke): #|font-family|DejaVu", plots)


def test_headline_and_results(tmp_path: Path) -> None:
    answers = simple(tmp_path)
    run = replace(
        run_of(("cat", "dog", "fish"), answers),
        rejection=Rejection(Reject("max_probability", 0.5), {"val": 0.95, "test": 0.9}, 40, 0.75),
    )
    text = written(tmp_path, run, answers, EPOCHS).text
    # Wilson's interval of 3 of 5, by hand: (0.6 + z^2/10 ± z sqrt(0.24/5 + z^2/100)) / (1 + z^2/5), z = 1.96.
    assert "Of 5 test photographs in 3 classes, 60.0 % were classified correctly" in text
    assert "(95 % interval 23.1 % to 88.2 %)" in text
    assert "55.6 % as the mean over classes" in text  # (2/3 + 1 + 0) / 3
    assert "The fine-tuned network of epoch 2 of 3 was kept. The run took 1 min 23 s." in text
    assert re.search(r"test linear probe\s*12.5 %", re.sub(r"(?<=test)", " ", text))
    assert "of 40 pictures of other things, 75.0 % are rejected" in text
    assert "edgetl finetune pictures --out 'a <b>'" in text


def test_confused_pairs_are_counted() -> None:
    confusion = np.array([[5, 2, 0], [3, 1, 2], [0, 0, 9]])
    found = [(pair.true, pair.predicted, pair.count, pair.total) for pair in confused_pairs(confusion)]
    assert found == [(1, 0, 3, 6), (1, 2, 2, 6), (0, 1, 2, 7)]


def test_classes_are_rated_and_one_without_photographs_is_last() -> None:
    bad, good, absent = per_class(np.array([[9, 1, 0], [2, 2, 0], [0, 0, 0]]))
    assert (bad.label, bad.n, bad.top1, bad.commonly, bad.mistaken) == (1, 4, 0.5, 0, 2)
    assert (bad.predicted, bad.precision) == (3, 2 / 3)
    assert (good.label, good.top1, good.commonly) == (0, 0.9, 1)
    assert (absent.label, absent.n, absent.top1, absent.top1_ci95, absent.precision) == (2, 0, None, None, None)


def test_misclassified_photographs_come_first_and_are_24_at_most(tmp_path: Path) -> None:
    own = (np.random.default_rng(0).permutation(30) + 0.5) / 62
    labels = [index % 2 for index in range(30)]
    rows = np.array(
        [(p, 1 - p) if label == 0 else (1 - p, p) for p, label in zip(own, labels, strict=True)], np.float32
    )
    answers = Answers(photographs(tmp_path, labels), rows)
    expected = sorted(range(30), key=lambda place: own[place])[:24]
    assert misclassified(answers) == expected
    assert uncertain(answers) == []
    images = written(tmp_path, run_of(("cat", "dog"), answers), answers).images()
    greys = []
    for image in images:
        data = base64.b64decode(image["src"].removeprefix("data:image/jpeg;base64,"))
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert pixels.shape == (80, 160, 3)
        greys.append(round((pixels.mean() - 20) / 5))
    assert greys == expected
    assert (
        images[0]["alt"]
        == f"Photograph of class {('cat', 'dog')[labels[expected[0]]]}, predicted "
        + (("cat", "dog")[1 - labels[expected[0]]])
    )


def test_photographs_that_are_right_are_not_among_the_misclassified(tmp_path: Path) -> None:
    """One of ten is wrong; of those that are right, the least certain stand under a heading of their own."""
    own = np.array([0.2, 0.55, 0.95, 0.6, 0.65, 0.7, 0.99, 0.75, 0.8, 0.85], np.float32)
    answers = Answers(photographs(tmp_path, [0] * 10), np.stack([own, 1 - own], axis=1))
    assert misclassified(answers) == [0]
    assert uncertain(answers) == [1, 3, 4, 5, 7, 8]
    page = written(tmp_path, run_of(("cat", "dog"), answers), answers)
    wrong, right = page.source.split('id="misclassified"')[1].split('id="uncertain"')
    assert (wrong.count("<img"), right.count("<img")) == (1, 6)
    assert "Correct, and least certain" in page.text
    for word in ("Worst", "Called", "named wrong", "believed"):
        assert word not in page.text
    sure = Answers(answers.photos[:2], np.array([[0.96, 0.04], [0.97, 0.03]], np.float32))
    page = written(tmp_path, run_of(("cat", "dog"), sure), sure)
    assert "Correct, and least certain" not in page.text
    assert page.images() == []


def test_figures_that_round_to_zero_have_no_sign(tmp_path: Path) -> None:
    """The NLL of a network that is sure and right is -0.0."""
    assert (number(-0.0), number(-0.0004), percent(-0.0), percent(-0.00001)) == (
        "0.000",
        "0.000",
        *("0.0\u00a0%",) * 2,
    )


def test_accuracy_ends_at_one() -> None:
    probe = Metrics(9, 1.0, 1.0, 1.0, nll=0.0, ece=0.0, ece_uncalibrated=0.0, confusion=[])
    epochs = [{"epoch": 1, "val_top1": 0.99, "val_per_class_top1": 1.0}, {"epoch": 2, "val_top1": 1.0}]
    (accuracy,) = (svg for svg in curves(epochs, probe, 2) if "Accuracy on validation" in svg)
    shares = [float(value) for value in re.findall(r">([\d.]+)\s%<", accuracy)]
    assert shares
    assert max(shares) == 100


def test_names_of_users_stay_text(tmp_path: Path) -> None:
    classes = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', '{{ 7 * 7 }} $x^2$ ]]> id="a" <!--')
    answers = simple(tmp_path, classes, names=[*"ab", "</li><script>alert(2)</script>.jpg", *"cd"])
    page = written(tmp_path, run_of(classes, answers), answers, EPOCHS)
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert not page.values("onerror")
    assert len(page.images()) == 2
    for name in (*classes, "</li><script>alert(2)</script>.jpg"):
        assert name in page.text
    alts = {image["alt"] for image in page.images()}
    assert f"Photograph of class {classes[2]}, predicted {classes[0]}" in alts


def test_names_in_any_script_and_of_any_length(tmp_path: Path) -> None:
    classes = ("猫と犬", "كلب", "κ\x01ύων" + "ν" * 60)
    answers = simple(tmp_path, classes, names=[*"ab", "caf\udce9.jpg", *"cd"])  # a name that is not valid UTF-8
    page = written(tmp_path, run_of(classes, answers), answers, EPOCHS)
    matrix = re.findall(r"<svg[^>]*confusion-title.*?</svg>", page.source, re.DOTALL)[0]
    assert matrix.count(">猫と犬<") == matrix.count(">كلب<") == 2
    assert re.search(r">κ\ufffdύων+…<", matrix)


def test_probe_alone_has_no_curves(tmp_path: Path) -> None:
    answers = simple(tmp_path)
    page = written(tmp_path, run_of(("cat", "dog", "fish"), answers, kept="probe"), answers)
    assert "The network is a linear probe, without fine-tuning." in page.text
    assert "fine-tuned" not in page.text
    assert "Course of fine-tuning" not in page.text
    assert sum(tag == "svg" for tag, _ in page.elements) == 2


def test_probe_that_was_not_beaten_keeps_its_curves(tmp_path: Path) -> None:
    answers = simple(tmp_path)
    epochs = [{"epoch": 1, "loss": 0.5, "val_top1": 0.1}]
    page = written(tmp_path, run_of(("cat", "dog", "fish"), answers, kept="probe"), answers, epochs)
    assert "The linear probe was kept: fine-tuning (1 epoch) was no better" in page.text
    assert sum(tag == "svg" for tag, _ in page.elements) == 4


@pytest.mark.parametrize(("classes", "named"), [(2, True), (50, True), (120, False)])
def test_few_and_many_classes(tmp_path: Path, classes: int, named: bool) -> None:
    names = [f"class-{label}" for label in range(classes)]
    labels = [0, 1, classes - 1]
    answers = Answers(photographs(tmp_path, labels), probabilities_of(labels, (0, 0, 0), classes))
    page = written(tmp_path, run_of(names, answers), answers, EPOCHS)
    matrix = re.findall(r"<svg[^>]*confusion-title.*?</svg>", page.source, re.DOTALL)[0]
    assert (">class-1<" in matrix) == named
    assert "Misclassified: 2 of 3 photographs" in page.text, "counted, whether run.json has the matrix or not"
    assert ("The axes count the classes" in page.text) != named
    assert sum(given.get("scope") == "row" for _, given in page.elements) > classes
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', matrix)[0]
    assert 150 < float(width) < 1200
    assert 150 < float(height) < 1200


def test_no_mistakes(tmp_path: Path) -> None:
    answers = Answers(photographs(tmp_path, (0, 1)), np.eye(2, dtype=np.float32) * 0.98 + 0.01)
    assert "No photograph was misclassified." in written(tmp_path, run_of(("cat", "dog"), answers), answers).text


def test_photograph_that_vanished_is_only_named(tmp_path: Path) -> None:
    answers = simple(tmp_path, names=[*"ab", "gone.jpg", "c", "broken.jpg"])
    answers.photos[2].path.unlink()
    answers.photos[4].path.write_bytes(b"no picture")
    page = written(tmp_path, run_of(("cat", "dog", "fish"), answers), answers, EPOCHS)
    assert page.images() == []
    assert page.text.count("not readable any more") == 2
    assert "gone.jpg" in page.text


def test_thumbnail_is_never_larger_than_the_photograph(tmp_path: Path) -> None:
    path = tmp_path / "small.png"
    photo = Photograph(path.name, path, 0)
    cv2.imwrite(str(path), np.zeros((3, 500, 3), np.uint8))
    source = thumbnail(photo, READER)
    assert source is not None
    data = base64.b64decode(source.partition(",")[2])
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (1, 160, 3)
    cv2.imwrite(str(path), np.zeros((8, 9, 3), np.uint8))
    data = base64.b64decode((thumbnail(photo, READER) or "").partition(",")[2])
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (8, 9, 3)


def test_table_of_classes_can_be_sorted(tmp_path: Path) -> None:
    answers = simple(tmp_path)
    page = written(tmp_path, run_of(("cat", "dog", "fish"), answers), answers)
    headings = [given for tag, given in page.elements if tag == "th" and given.get("scope") == "col"]
    assert [given["aria-sort"] for given in headings if "aria-sort" in given] == ["ascending"]
    numbers = sum("data-number" in given for given in headings)
    assert len(page.values("data-value")) == numbers * 3
    assert all(float(value) >= 0 for value in page.values("data-value"))


@pytest.mark.parametrize(
    ("seconds", "said"), [(1.26, "1.3 s"), (59.7, "1 min 0 s"), (83, "1 min 23 s"), (7379.6, "2 h 3 min")]
)
def test_durations_are_for_people(seconds: float, said: str) -> None:
    assert duration(seconds).replace("\u00a0", " ") == said


def test_report_needs_no_torch() -> None:
    code = "import sys, toolchain.training.report as _; print({'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
