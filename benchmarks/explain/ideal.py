"""Do ideal pictures of published networks hold when they are moved and cropped?

    python benchmarks/explain/ideal.py mobilenet_v2=FILE timm:tf_efficientnet_lite0=FILE --pictures FOLDER \\
        --out benchmarks/explain/results/ideal.csv

`edgetl explain ideal` draws each class with its defaults; a picture that lies in FOLDER already is not drawn
again. For each picture and each kind of view, a line says the least and the mean probability of the class over `n`
views of the saved file. `moved`: by up to 22 of 224 pixels each way, edges repeated; `cropped`: to so much of the
side, anywhere, and scaled up again. `classes` is how many the network tells apart.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from toolchain.cli.console import Console
from toolchain.cli.model_argument import class_index
from toolchain.explain.ideal import IdealSettings, ideals, shifted
from toolchain.explain.pictures import as_jpeg, as_png, contact_sheet
from toolchain.explain.torch_model import published_model
from toolchain.images.preprocess import Image, decode
from toolchain.runtimes.machine import describe

VIEWS = 64
FARTHEST = 0.1
CROPS = ((0.85, 1.0), (0.7, 0.85))


def views(picture: Image, seed: int) -> Iterator[tuple[str, list[Image]]]:
    """The views of each kind, uint8 RGB in the size of `picture`."""
    draws = np.random.default_rng(seed)
    height, width = picture.shape[:2]
    yield "as it is", [picture]
    farthest = round(FARTHEST * height)
    yield "moved", [shifted(picture, *draws.integers(-farthest, farthest + 1, 2).tolist()) for _ in range(VIEWS)]
    for least, most in CROPS:
        crops = []
        for share in draws.uniform(least, most, VIEWS):
            down, across = round(share * height), round(share * width)
            top, left = draws.integers(0, height - down + 1), draws.integers(0, width - across + 1)
            part = picture[top : top + down, left : left + across]
            crops.append(cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR))
        yield f"cropped to {least:.0%} to {most:.0%}", crops
    yield "JPEG 75", [as_jpeg(picture, 75)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="NETWORK=WEIGHTS")
    parser.add_argument("--classes", default="zebra,tabby,tiger")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=IdealSettings().steps)
    parser.add_argument(
        "--pictures",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="for the pictures, and a sheet of each network's",
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    settings = IdealSettings(steps=options.steps, seed=options.seed)
    versions = describe().versions
    options.pictures.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, _, weights in (word.partition("=") for word in options.networks):
        model = published_model(name, weights)
        seen = []
        for label in options.classes.split(","):
            index = class_index(model.labels, label)
            path = options.pictures / f"{name.rpartition(':')[2]}-{label}.png"
            if not path.is_file():
                (drawn,) = ideals(model, [index], settings, Console())
                path.write_bytes(as_png(drawn.saved))
            seen.append(model.preprocess(decode(path.read_bytes())))
            for kind, pictures in views(seen[-1], options.seed):
                with torch.inference_mode():
                    sure = model.probabilities(torch.from_numpy(np.stack(pictures)))[:, index].numpy()
                row = {"network": name, "classes": len(model.labels), "class": label, "steps": settings.steps}
                row |= {
                    "view": kind,
                    "n": len(pictures),
                    "least": f"{sure.min():.4f}",
                    "mean": f"{sure.mean():.4f}",
                }
                rows.append(row | {"torch": versions["torch"]})
                print(rows[-1])
        sheet = options.pictures / f"{name.rpartition(':')[2]}.png"
        sheet.write_bytes(as_png(contact_sheet(seen)))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with options.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
