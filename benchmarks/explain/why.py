"""Do the maps of `edgetl explain why` lie on the animal? Grad-CAM and occlusion, float and int8.

    EDGETL_DATA=FOLDER python benchmarks/explain/why.py --out benchmarks/explain/results/why.csv

The pets' trimaps say which pixels are animal, border or background. For test photographs that have one, drawn by
the seed, a row says which share of a map's weight lies on the animal: strictly (border counts as outside) and with
the border. `chance` is the animal's share of the picture: what a map that knows nothing would have. `plain` is the
share before weights are squared (see `toolchain.explain.why`). The class asked about is the network's answer.

    --grid    also tries what was chosen: patch and stride of occlusion; block and enlargement of Grad-CAM
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

import toolchain
from toolchain.cli.console import Console
from toolchain.datasets import pets
from toolchain.datasets.catalogue import data_root
from toolchain.explain.torch_model import open_model
from toolchain.explain.why import Heat, answer_of, grad_cam, inside, occlusion
from toolchain.images.preprocess import Image, read
from toolchain.runs.ready_made import ready_made_artifact
from toolchain.runtimes.machine import describe

COLUMNS = ("network", "method", "n", "animal", "with_border", "chance", "chance_with_border")
MORE_COLUMNS = ("photographs_above_60", "plain_animal", "plain_with_border", "cpu", "torch", "onnxruntime")
ANIMAL, BACKGROUND, BORDER = 1, 2, 3
"""What the pixels of a trimap say."""

Method = Callable[[Image], Heat]


@dataclass(frozen=True)
class Case:
    """`picture` is uint8 RGB of the network's size; `animal` and `border` are float64 [height, width], 0 to 1."""

    picture: Image
    animal: NDArray[np.float64]
    border: NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photographs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--grid", action="store_true")
    options = parser.parse_args()
    console = Console()
    subject = open_model()
    classifier = toolchain.load(str(ready_made_artifact()))
    float_answer = grad_cam.explained(subject).answer
    int8_answer = answer_of(classifier)

    def of_float(method: Callable[..., Heat]) -> Method:
        return lambda picture: method(picture, int(float_answer(picture[None])[0].argmax()))

    def of_int8(method: Callable[..., Heat]) -> Method:
        return lambda picture: method(picture, int(int8_answer(picture[None])[0].argmax()))

    methods: dict[tuple[str, str], Method] = {
        ("float32", "grad-cam"): of_float(partial(grad_cam.grad_cam, subject)),
        ("int8 on ort:cpu", "occlusion"): of_int8(partial(occlusion, int8_answer)),
        ("float32", "occlusion"): of_float(partial(occlusion, float_answer)),
    }
    if options.grid:
        for block in (-1, -2, -3):
            for enlarged in (1, 2):
                name = f"grad-cam, block {block}, enlarged {enlarged}"
                chosen = partial(grad_cam.grad_cam, subject, block=block, enlarged=enlarged)
                methods["float32", name] = of_float(chosen)
        for patch, stride in ((32, 16), (48, 16), (48, 24), (64, 16), (64, 32), (80, 16)):
            name = f"occlusion, patch {patch}, stride {stride}"
            methods["int8 on ort:cpu", name] = of_int8(partial(occlusion, int8_answer, patch=patch, stride=stride))
    cases = read_cases(subject.preprocess, options.photographs, options.seed)
    machine = describe()
    rows = measured(options.out)
    for row in rows:
        methods.pop((row[0], row[1]), None)
    with console.task("looking", len(methods) * len(cases)) as task:
        for (network, method), look in methods.items():
            heats = []
            for case in cases:
                heats.append(look(case.picture))
                task.advance(1, f"{network}, {method}")
            rows.append([network, method, *figures(heats, cases), machine.cpu, torch.__version__])
            rows[-1].append(machine.versions["onnxruntime"])
            write(options.out, rows)
    console.say(f"written: {options.out}")


def measured(path: Path) -> list[list[str]]:
    """The rows that are there already; they are not measured again. Remove the file to begin anew."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def write(path: Path, rows: list[list[str]]) -> None:
    """After each method, so that what was measured is there when the rest is interrupted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow((*COLUMNS, *MORE_COLUMNS))
        writer.writerows(rows)


def figures(heats: list[Heat], cases: list[Case]) -> list[str]:
    """Means over the photographs, in the order of the columns."""
    plain = [np.sqrt(one) for one in heats]
    animal = [inside(one, case.animal) for one, case in zip(heats, cases, strict=True)]
    plain_animal = [inside(one, case.animal) for one, case in zip(plain, cases, strict=True)]
    whole = [inside(one, case.animal + case.border) for one, case in zip(heats, cases, strict=True)]
    plain_whole = [inside(one, case.animal + case.border) for one, case in zip(plain, cases, strict=True)]
    chance = [case.animal.mean() for case in cases]
    chance_whole = [(case.animal + case.border).mean() for case in cases]
    above = [float(share >= 0.6) for share in animal]
    values = (animal, whole, chance, chance_whole, above, plain_animal, plain_whole)
    return [str(len(cases)), *(f"{np.mean(value):.3f}" for value in values)]


def read_cases(preprocess: Callable[[Image], Image], count: int, seed: int) -> list[Case]:
    """Test photographs that have a trimap, drawn by the seed; the trimap goes through the same preprocessing."""
    root = pets.find(data_root())
    assert root is not None, "set EDGETL_DATA to the folder that holds oxford-iiit-pet"
    listed = [one for one in pets.list_pets(root).given["test"] if _trimap(root, one.path).is_file()]
    chosen = np.random.default_rng(seed).permutation(len(listed))[:count]
    cases = []
    for place in chosen:
        path = listed[place].path
        trimap = cv2.imread(str(_trimap(root, path)), cv2.IMREAD_GRAYSCALE)
        photograph = read(path)
        assert trimap is not None
        assert trimap.shape == photograph.shape[:2], path
        kinds = np.stack([trimap == kind for kind in (ANIMAL, BORDER, BACKGROUND)], -1)
        shares = preprocess(255 * kinds.astype(np.uint8)) / 255
        cases.append(Case(preprocess(photograph), shares[..., 0], shares[..., 1]))
    return cases


def _trimap(root: Path, photograph: Path) -> Path:
    return root / "annotations" / "trimaps" / f"{photograph.stem}.png"


if __name__ == "__main__":
    main()
