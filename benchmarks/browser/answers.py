"""Does every device name the same photographs alike: ONNX Runtime, OpenVINO, LiteRT, ncnn, and a browser?

The browser is headless Chromium on the page of `edgetl export --browser`, the others are asked as `edgetl predict`.

    EDGETL_DATA=FOLDER python benchmarks/browser/answers.py --out benchmarks/browser/results

The network is that of models/pets: its int8 file, and float and int8-weights files written here from its weights.
Each is opened in a Chromium of its own, and every photograph is answered by each in turn, in one thread and (from
the second visit on) in several. `answers.csv` has a line for each photograph and file, `summary.csv` one for each
file, and `agreement.csv` one for each two devices. ncnn has no integers, and no other device than the browser was
made for int8 weights alone. `camera.csv`: what the page names, by the float file, while its camera shows a
photograph.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import csv
import json
import random
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import toolchain
from toolchain.artifact import Artifact, read_artifact, write_artifact
from toolchain.artifact.card import QuantizationRecipe
from toolchain.backbones.networks import load_ready_made
from toolchain.browser import write_page
from toolchain.browser.runtime import find_runtime
from toolchain.datasets.catalogue import open_dataset
from toolchain.export.int8.quantize import int8_weights
from toolchain.export.litert import make_tflite
from toolchain.export.onnx_writer import to_onnx
from toolchain.images.preprocess import Preprocess, read
from toolchain.runs.ready_made import ready_made_artifact
from toolchain.runtimes.devices import cpu_name
from toolchain.system.progress import Silent

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.page_support import ASKED, CAMERA, LABEL, LOADED, NAMED, OFFLINE, PIXELS, chromium, film, served
from tests.web_support import BROWSER, Chromium

DEVICES = {
    "ort:cpu": ("float32", "int8", "int8-weights"),
    "openvino:CPU": ("float32", "int8", "int8-weights"),
    "litert:cpu": ("float32", "int8"),
    "ncnn:cpu": ("float32",),
}
"""And the precisions of the files that each takes."""
THREADS = "document.querySelector('#about div:last-child dd').innerText"
ANSWERED = f"{LOADED} && document.getElementById('age').textContent !== '–'"
FRAME = (480, 640)
AGAIN = 8
"""How many photographs of a call are answered in several threads, too."""


def files(folder: Path) -> list[Artifact]:
    """The ready-made network as float32, int8 and int8 weights."""
    int8 = read_artifact(ready_made_artifact())
    card = replace(int8.card, precision="float32", recipe=None, accuracy=(), runtimes=())
    model = to_onnx(load_ready_made(card), card.preprocess, card.temperature)
    stored = replace(
        card,
        precision="int8-weights",
        recipe=QuantizationRecipe("none", {}),
        runtimes=("ort:cpu", "openvino:CPU"),
    )
    return [
        write_artifact(model, card, folder / "model.onnx"),
        int8,
        write_artifact(int8_weights(model), stored, folder / "model.w8.onnx"),
    ]


def classifiers(artifact: Artifact) -> dict[str, toolchain.Classifier]:
    """By device; a LiteRT file of the same network for LiteRT."""
    found = {}
    for device, precisions in DEVICES.items():
        if artifact.card.precision in precisions:
            file = artifact
            if device == "litert:cpu":
                card = replace(artifact.card, runtimes=(device,))
                file = make_tflite(artifact.model, card, artifact.path.with_suffix(".tflite"))
            found[device] = toolchain.load(file, device)
    return found


@contextlib.contextmanager
def visited(artifacts: list[Artifact], photographs: list[Path], folder: Path) -> Iterator[list[Chromium]]:
    """A browser for each file, with its page loaded, and the photographs beside it."""
    with contextlib.ExitStack() as stack:
        browsers = []
        for number, artifact in enumerate(artifacts):
            page = folder / f"page{number}"
            write_page(artifact, "", page, find_runtime(None, Silent()))
            for index, path in enumerate(photographs):
                shutil.copy(path, page / f"{index}.jpg")
            url = stack.enter_context(served(page))
            browser = stack.enter_context(chromium(folder / f"browser{number}"))
            browser.open(url)
            browser.until(f"{LOADED} && {OFFLINE}")
            browsers.append(browser)
        yield browsers


def compare(photographs: list[Path], folder: Path) -> Iterator[dict[str, Any]]:
    """A line for each number of threads, photograph and file."""
    artifacts = files(folder)
    asked = [classifiers(one) for one in artifacts]
    expected = [[{on: one.predict(path) for on, one in each.items()} for each in asked] for path in photographs]
    with visited(artifacts, photographs, folder) as browsers:
        spec = artifacts[0].card.preprocess
        pixels = [pixels_apart(browsers[0], f"{i}.jpg", path, spec) for i, path in enumerate(photographs)]
        for visited_again, seen in ((False, photographs), (True, photographs[:AGAIN])):
            if visited_again:
                for browser in browsers:
                    browser.value("window.old = true")
                    browser.tell("Page.reload")
                    browser.until(f"!window.old && {LOADED}")
            threads = int(browsers[0].value(THREADS))
            for index, path in enumerate(seen):
                for number, (artifact, browser) in enumerate(zip(artifacts, browsers, strict=True)):
                    found = browser.value(NAMED.format(url=json.dumps(f"{index}.jpg")))
                    same, apart, named = {}, {}, {}
                    for device in DEVICES:
                        one = expected[index][number].get(device)
                        named[device] = one and (one.answer or f"? {one.label}")
                        same[f"same_as_{device}"] = one and (found["label"], found["rejected"]) == (
                            one.label,
                            one.rejected,
                        )
                        apart[f"probability_apart_{device}"] = one and round(
                            abs(found["probability"] - one.probability), 6
                        )
                    yield {
                        "photograph": path.name,
                        "precision": artifact.card.precision,
                        "threads": threads,
                        "label": found["label"],
                        "rejected": found["rejected"],
                        "probability": round(found["probability"], 6),
                        **named,
                        **same,
                        **apart,
                        "pixels_apart": pixels[index],
                        "infer_ms": round(found["infer_ms"], 2),
                    }


def pixels_apart(browser: Chromium, url: str, path: Path, spec: Preprocess) -> int:
    """How far the network's input of the browser is from that of `predict`, of 255."""
    expected = read(path, spec)
    found = np.frombuffer(base64.b64decode(browser.value(f"{PIXELS}({json.dumps(url)})")), np.uint8)
    return int(np.abs(found.reshape(expected.shape).astype(int) - expected).max())


def watch(photographs: list[Path], folder: Path) -> Iterator[dict[str, Any]]:
    """What the page names while the camera shows a photograph, and what `predict` names on that frame."""
    artifact = files(folder)[0]
    classifier = toolchain.load(artifact)
    write_page(artifact, "", folder / "page", find_runtime(None, Silent()))
    with served(folder / "page") as url:
        for index, path in enumerate(photographs):
            rgb = read(path, Preprocess(*FRAME, shortest_edge=max(FRAME)))
            shown = film(folder / "film.mjpeg", [rgb] * 2)
            expected = classifier.predict((folder / "film.mjpeg").read_bytes())
            with chromium(folder / f"browser{index}", ASKED, CAMERA, shown) as browser:
                browser.open(url, 390, 844)
                browser.until(ANSWERED)
                label = browser.value(LABEL)
                yield {
                    "photograph": path.name,
                    "label": label,
                    "same_as_predict": label == (expected.answer or "not sure").replace("_", " "),
                    "frame_age_ms": int(browser.value("document.getElementById('age').textContent")),
                }


def summary(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    assert BROWSER
    version = subprocess.run([BROWSER, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    for threads in sorted({row["threads"] for row in rows}):
        medians = {}
        for precision in dict.fromkeys(row["precision"] for row in rows):
            own = [row for row in rows if (row["threads"], row["precision"]) == (threads, precision)]
            medians[precision] = statistics.median(float(row["infer_ms"]) for row in own)
            same = {
                f"same_as_{on}": sum(row[f"same_as_{on}"] == "True" for row in own) if precision in known else ""
                for on, known in DEVICES.items()
            }
            apart = [f"probability_apart_{on}" for on in DEVICES]
            yield {
                "precision": precision,
                "threads": threads,
                "photographs": len(own),
                **same,
                **{name: max((float(row[name]) for row in own if row[name]), default="") for name in apart},
                "pixels_apart": max(int(row["pixels_apart"]) for row in own),
                "infer_ms": round(medians[precision], 1),
                "times_as_fast_as_float": round(medians["float32"] / medians[precision], 2),
                "cpu": cpu_name(),
                "runtime": f"onnxruntime-web {find_runtime(None, Silent()).version}",
                "browser": version.partition(" built")[0],
            }


def agreement(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """How many photographs each two devices name alike, by files of the same precision; "not sure" is a name."""
    first = [row for row in rows if row["threads"] == rows[0]["threads"]]
    for precision in dict.fromkeys(row["precision"] for row in first):
        own = [row for row in first if row["precision"] == precision]
        named = {on: [row[on] for row in own] for on, known in DEVICES.items() if precision in known}
        named["browser"] = [row["label"] if row["rejected"] == "False" else f"? {row['label']}" for row in own]
        for one, other in combinations(named, 2):
            alike = sum(a == b for a, b in zip(named[one], named[other], strict=True))
            yield {"precision": precision, "one": one, "other": other, "photographs": len(own), "alike": alike}


def stored(path: Path) -> list[dict[str, Any]]:
    """The lines of an earlier part."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="go on behind those of earlier calls")
    parser.add_argument("--last", type=int, help="stop here, for a later call to go on")
    parser.add_argument("--out", type=Path, required=True)
    words = parser.parse_args()
    tests = [one.path for one in open_dataset("pets").splits["test"]]
    photographs = random.Random(0).sample(sorted(tests), words.photographs)[words.first : words.last]
    words.out.mkdir(parents=True, exist_ok=True)
    answers, camera = words.out / "answers.csv", words.out / "camera.csv"
    with TemporaryDirectory() as folder:
        write(answers, [*(stored(answers) if words.first else []), *compare(photographs, Path(folder))])
    with TemporaryDirectory() as folder:
        seen = photographs[: max(1, len(photographs) // 10)]
        write(camera, [*(stored(camera) if words.first else []), *watch(seen, Path(folder))])
    write(words.out / "summary.csv", list(summary(stored(answers))))
    write(words.out / "agreement.csv", list(agreement(stored(answers))))
    for name in ("summary.csv", "agreement.csv"):
        print((words.out / name).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
