"""Does it learn from what it was unsure of? Uncertain frames of a long clip, reviewed by script, and taught again.

    EDGETL_DATA=FOLDER python benchmarks/teach/learning.py --weights mobilenet_v2.safetensors --work FOLDER

A probe is taught with few photographs of a few breeds. `edgetl camera --collect` watches a long clip of others; its
uncertain frames are named on the page of `edgetl review`, by requests, in the order in which it shows them; then
`edgetl finetune --from` goes on. Another clip, of photographs of the official test split, judges. As a control,
frames of the same clip that are taken at regular times (`--when every=S`) are named as often. Each seed has
photographs and clips of its own.

Results, with the machine: `learning.csv`, a line for each seed and number of pictures that were named.
"""

from __future__ import annotations

import argparse
import csv
import http.client
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

import toolchain
from toolchain.datasets import Photograph
from toolchain.datasets.catalogue import open_dataset
from toolchain.runs import read_run
from toolchain.runtimes.devices import cpu_name

Picture = NDArray[np.uint8]

RESULTS = Path(__file__).with_name("results")
BREEDS = (
    "Abyssinian", "Bengal", "Egyptian_Mau", "Birman", "British_Shorthair", "american_bulldog",
    "american_pit_bull_terrier", "boxer", "beagle", "basset_hound",
)  # fmt: skip
"""Some of them resemble each other."""
WIDTH, HEIGHT, FPS = 480, 360, 15
SECONDS = 1.0
"""Of the clip, for each photograph."""
NAMED = (20, 40, 80)


@dataclass(frozen=True)
class Clip:
    """A clip, and the breed that each of its photographs shows; each takes as many frames."""

    path: Path
    labels: tuple[str, ...]

    @property
    def frames_each(self) -> int:
        return round(SECONDS * FPS)


def moved(bgr: Picture, seed: int) -> Iterator[Picture]:
    """A photograph before a camera that moves, turns and finds other light, uint8 BGR [HEIGHT, WIDTH, 3]."""
    rng = np.random.default_rng(seed)
    high, wide = bgr.shape[:2]
    cover = max(WIDTH / wide, HEIGHT / high)
    waves, light = rng.uniform(0, 2 * math.pi, 4), rng.uniform(0.6, 1.2)
    for number in range(round(SECONDS * FPS)):
        turn = 2 * math.pi * number / (SECONDS * FPS)
        x = wide / 2 + 0.08 * wide * math.sin(turn + waves[0])
        y = high / 2 + 0.08 * high * math.sin(turn + waves[1])
        zoom = cover * (1.25 + 0.15 * math.sin(turn + waves[2]))
        way = cv2.getRotationMatrix2D((x, y), 8 * math.sin(turn + waves[3]), zoom)
        way[:, 2] += (WIDTH / 2 - x, HEIGHT / 2 - y)
        frame = cv2.warpAffine(bgr, way, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
        yield np.asarray(cv2.convertScaleAbs(frame, alpha=light * (1 + 0.15 * math.sin(turn))), np.uint8)


def made(path: Path, photos: list[Photograph], classes: tuple[str, ...], seed: int) -> Clip:
    """A clip of `photos` in any order."""
    order = np.random.default_rng(seed).permutation(len(photos))
    shown = [photos[place] for place in order]
    clip = Clip(path, tuple(classes[photo.label] for photo in shown))
    if path.exists():
        return clip
    half = path.with_name(f"half-{path.name}")
    writer = cv2.VideoWriter(str(half), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), FPS, (WIDTH, HEIGHT))
    for number, photo in enumerate(shown):
        for frame in moved(np.asarray(cv2.imread(str(photo.path)), np.uint8), seed + number):
            writer.write(frame)
    writer.release()
    half.rename(path)
    return clip


def edgetl(*words: object) -> None:
    done = subprocess.run([sys.executable, "-m", "toolchain", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}")


def trained(photos: Path, run: Path, **settings: Any) -> None:
    if not (run / "run.json").exists():
        shutil.rmtree(run, ignore_errors=True)
        toolchain.finetune(photos, run, **settings)


def truths(clip: Clip, folder: Path) -> dict[str, str]:
    """The breed of each collected picture: that of the frame of the clip that it is nearest to."""

    def small(bgr: Picture) -> np.ndarray:
        return cv2.resize(bgr, (32, 24), interpolation=cv2.INTER_AREA).astype(np.int16).ravel()

    capture = cv2.VideoCapture(str(clip.path))
    thumbnails = []
    while (read := capture.read())[0]:
        thumbnails.append(small(read[1]))
    every = np.stack(thumbnails)
    found = {}
    for path in sorted(folder.glob("*.jpg")):
        nearest = int(np.abs(every - small(cv2.imread(str(path)))).sum(1).argmin())
        found[path.name] = clip.labels[nearest // clip.frames_each]
    return found


def review(collected: Path, into: Path, named: int, truth: dict[str, str]) -> None:
    """Name the first `named` pictures that the page shows."""
    words = [
        sys.executable,
        "-m",
        "toolchain",
        "review",
        str(collected),
        "--into",
        str(into),
        "--web",
        "127.0.0.1:0",
    ]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr
    url = next(found[1] for line in process.stderr if (found := re.search(r"review at (\S+)", line)))

    def ask(path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        data = None if body is None else json.dumps(body)
        connection.request("GET" if data is None else "POST", path, data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return json.loads(answer.read())

    items = ask("/items")["items"]
    for item in items[:named]:
        ask("/decide", {"do": "move", "numbers": [item["number"]], "label": truth[item["name"]]})
    ask("/decide", {"do": "finish"})
    process.communicate()


def accuracy(run: Path, clip: Clip) -> tuple[float, int]:
    """Share of frames of `clip` that the run's file names right, of three for each photograph."""
    classifier = toolchain.load(run / "model.onnx", "ort:cpu")
    capture = cv2.VideoCapture(str(clip.path))
    wanted = {clip.frames_each * share // 4 for share in (1, 2, 3)}
    right = count = number = 0
    while (read := capture.read())[0]:
        if number % clip.frames_each in wanted:
            count += 1
            right += classifier.predict(read[1]).label == clip.labels[number // clip.frames_each]
        number += 1
    return right / count, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--work", type=Path, required=True, help="a folder; what it holds is not made again")
    parser.add_argument("--first", type=int, default=8, help="photographs of each breed to begin with")
    parser.add_argument("--then", type=int, default=12, help="photographs of each breed in the long clip")
    parser.add_argument("--judge", type=int, default=8, help="photographs of each breed in the other clip")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    for seed in options.seeds:
        for row in curve(options, seed):
            rows.append(row)
            print(row, flush=True)
            _write(rows)


def curve(options: argparse.Namespace, seed: int) -> Iterator[dict[str, object]]:
    """The lines of one seed."""
    rng = np.random.default_rng(seed)
    pets = open_dataset("pets")
    train: dict[str, list[Photograph]] = {breed: [] for breed in BREEDS}
    test: dict[str, list[Photograph]] = {breed: [] for breed in BREEDS}
    for split, into in (("train", train), ("val", train), ("calibration", train), ("test", test)):
        listed = sorted(pets.splits[split], key=lambda one: one.name)
        for photo in (listed[place] for place in rng.permutation(len(listed))):
            if pets.classes[photo.label] in into:
                into[pets.classes[photo.label]].append(photo)
    work = options.work / str(seed)
    photos = work / "photos"
    later, judges = [], []
    for breed, taken in train.items():
        (photos / breed).mkdir(parents=True, exist_ok=True)
        for photo in taken[: options.first]:
            shutil.copy(photo.path, photos / breed)
        later += taken[options.first :][: options.then]
        judges += test[breed][: options.judge]
    long = made(work / "long.mp4", later, pets.classes, seed)
    other = made(work / "other.mp4", judges, pets.classes, seed + 10_000)
    first = work / "run-0"
    trained(photos, first, model=options.model, weights=options.weights, probe_only=True)

    def line(run: Path, **told: object) -> dict[str, object]:
        top1, n = accuracy(run, other)
        return {
            "model": options.model,
            "seed": seed,
            "breeds": len(BREEDS),
            "first_each": options.first,
            "clip_photographs": len(later),
            "frames": f"{WIDTH}x{HEIGHT} at {FPS}",
            "arm": "",
            "collected": 0,
            "asked": 0,
            "named": 0,
            "top1_other_clip": round(top1, 4),
            "judged_frames": n,
            "verdict": "",
            "cpu": cpu_name(),
        } | told

    yield line(first)
    for arm, when in (("uncertain", "uncertain"), ("regular", f"every={SECONDS}")):
        collected = work / arm
        if not collected.exists():
            words = ("--source", long.path, "--headless", "--as-fast-as-possible", "--device", "ort:cpu")
            shutil.rmtree(work / "half", ignore_errors=True)
            edgetl("camera", first, *words, "--collect", work / "half", "--when", when)
            (work / "half").rename(collected)
        truth = truths(long, collected)
        for named in NAMED:
            into = work / f"{arm}-{named}"
            if not into.exists():
                for rest in ("half", "copy", "copy.set-aside"):
                    shutil.rmtree(work / rest, ignore_errors=True)
                shutil.copytree(photos, work / "half")
                shutil.copytree(collected, work / "copy")
                if arm == "regular":
                    _at_regular_times(work / "copy", named)
                review(work / "copy", work / "half", named, truth)
                shutil.rmtree(work / "copy")
                shutil.rmtree(work / "copy.set-aside")
                (work / "half").rename(into)
            run = work / f"run-{arm}-{named}"
            trained(into, run, from_run=first)
            both = read_run(run).continuation
            assert both
            done = len(list(into.rglob("*.jpg"))) - len(list(photos.rglob("*.jpg")))
            told = {"collected": len(truth), "asked": named, "named": done, "verdict": both.verdict}
            yield line(run, arm=arm, **told)
            if done < named:
                break


def _write(rows: list[dict[str, object]]) -> None:
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "learning.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _at_regular_times(folder: Path, named: int) -> None:
    """Leave `named` pictures, evenly spread over the clip: the page would show the least sure ones first."""
    pictures = sorted(folder.glob("*.jpg"), key=lambda path: int(path.stem.rpartition("-")[2]))
    kept = {int(place) for place in np.linspace(0, len(pictures) - 1, min(named, len(pictures))).round()}
    for place, path in enumerate(pictures):
        if place not in kept:
            path.unlink()


if __name__ == "__main__":
    main()
