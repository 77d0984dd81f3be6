"""Cuts between pets: how soon the camera names the next one, how often it changes its mind, what it rejects.

    EDGETL_DATA=FOLDER python benchmarks/camera/cuts.py [--pets 150] [--others 100]

Photographs of the official test split, which neither trained nor calibrated the network, are shown for two seconds
each, held by an unsteady hand, one straight after the other, as H.264 at a web camera's rate; then photographs of
other things. `edgetl camera` answers in the clip's own time, every frame. Prints a JSON document, and
appends a line to results/cuts.csv.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from results_file import append_row

from toolchain.datasets.catalogue import data_root, open_dataset
from toolchain.images.preprocess import read
from toolchain.runtimes.devices import cpu_name

WIDTH, HEIGHT, FPS, SECONDS = 640, 480, 30, 2.0
FRAMES = round(FPS * SECONDS)
SETTLED_S = 0.5
RESULTS = Path(__file__).parent / "results" / "cuts.csv"


@dataclass(frozen=True)
class Result:
    """StepTimes are of the cuts, but for `others_rejected_frames`, which is of all frames of other things."""

    artifact: str
    device: str
    pets: int
    right_within_half_a_second: float
    right_and_accepted_within_half_a_second: float
    changes_per_cut: float
    label_changes_per_cut: float
    median_s_to_right: float
    others: int
    others_rejected: float
    others_rejected_frames: float
    machine: str


def shown(path: Path, generator: np.random.Generator) -> list[np.ndarray]:
    """A photograph on 640 x 480 pixels, BGR, wandering, breathing and noisy as from a hand-held camera."""
    bgr = cv2.cvtColor(read(path), cv2.COLOR_RGB2BGR)
    scale = max(WIDTH / bgr.shape[1], HEIGHT / bgr.shape[0]) * 1.06
    wander = np.cumsum(generator.normal(0, 0.7, (FRAMES, 2)), axis=0)
    frames = []
    for number in range(FRAMES):
        zoom = scale * (1 + 0.01 * np.sin(2 * np.pi * number / FRAMES))
        place = (
            np.array([WIDTH, HEIGHT]) / 2 - zoom * np.array(bgr.shape[1::-1]) / 2 + np.clip(wander[number], -8, 8)
        )
        matrix = np.array([[zoom, 0, place[0]], [0, zoom, place[1]]])
        frame = cv2.warpAffine(bgr, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
        noise = generator.normal(0, 3, (HEIGHT, WIDTH, 1)).astype(np.float32)
        frames.append(np.clip(frame + noise, 0, 255).astype(np.uint8))
    return frames


def write_clip(path: Path, photographs: list[Path], seed: int) -> None:
    """All `photographs` after one another."""
    generator = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS), options={"preset": "superfast", "crf": "26"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for photograph in photographs:
            for frame in shown(photograph, generator):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        container.mux(stream.encode(None))


def answers(clip: Path, artifact: str, device: str) -> list[dict[str, object]]:
    """One line for each frame of the clip."""
    words = ["camera", artifact, "--source", str(clip), "--device", device, "--json", "--as-fast-as-possible"]
    done = subprocess.run([sys.executable, "-m", "toolchain", *words], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()[:-1]]


def measure(artifact: str, device: str, pets: int, others: int, seed: int) -> Result:
    dataset = open_dataset("pets")
    generator = np.random.default_rng(seed)
    test = dataset.splits["test"]
    chosen = [test[index] for index in generator.permutation(len(test))[:pets]]
    strangers = sorted((data_root() / "not-pets").iterdir())
    strange = [strangers[index] for index in generator.permutation(len(strangers))[:others]]
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(clip, [photo.path for photo in chosen], seed)
        lines = answers(clip, artifact, device)
        write_clip(clip, strange, seed)
        strange_lines = answers(clip, artifact, device)
    right, accepted, delays = [], [], []
    for index, photo in enumerate(chosen):
        turn = lines[index * FRAMES : (index + 1) * FRAMES]
        named = [line["label"] == dataset.classes[photo.label] for line in turn]
        settled = round(SETTLED_S * FPS)
        right.append(named[settled])
        accepted.append(named[settled] and not turn[settled]["rejected"])
        if named[settled]:
            delays.append(named.index(True) / FPS)
    pairs = list(itertools.pairwise(lines))
    cuts = len(chosen) - 1
    rejected = [line["rejected"] for line in strange_lines]
    ends = [rejected[index * FRAMES + round(SETTLED_S * FPS)] for index in range(len(strange))]
    return Result(
        artifact=Path(artifact).name,
        device=device,
        pets=len(chosen),
        right_within_half_a_second=round(float(np.mean(right)), 4),
        right_and_accepted_within_half_a_second=round(float(np.mean(accepted)), 4),
        changes_per_cut=round(
            sum((a["label"], a["rejected"]) != (b["label"], b["rejected"]) for a, b in pairs) / cuts, 4
        ),
        label_changes_per_cut=round(sum(a["label"] != b["label"] for a, b in pairs) / cuts, 4),
        median_s_to_right=round(float(np.median(delays)), 4),
        others=len(strange),
        others_rejected=round(float(np.mean(ends)), 4),
        others_rejected_frames=round(float(np.mean(rejected)), 4),
        machine=f"{cpu_name()}; Python {platform.python_version()}, OpenCV {cv2.__version__}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifact", default=str(Path(__file__).parents[2] / "models/pets/model.int8.onnx"))
    parser.add_argument("--device", default="ort:cpu")
    parser.add_argument("--pets", type=int, default=150)
    parser.add_argument("--others", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    result = asdict(measure(given.artifact, given.device, given.pets, given.others, given.seed))
    append_row(RESULTS, result, list(result))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
