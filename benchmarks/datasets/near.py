"""How near are near-duplicates? The perceptual hash of real photographs, and what `data check` finds by it.

    EDGETL_DATA=FOLDER python benchmarks/datasets/near.py [--pictures SHEET.png]

`pairs`: of how many pairs of photographs so many bits differ, within a class and across classes. The latter show
two animals of two kinds: near ones are mistakes. `changed`: which share of photographs is still found after a
change that a burst, a crop or another camera program makes. `split`: groups of near-duplicates on two sides of the
official split, and the photographs of val and test among them. `compared`: seconds for that many hashes.

`--pictures` draws the nearest pairs side by side, to be looked at. Writes benchmarks/results/near-duplicates.csv.
"""

from __future__ import annotations

import argparse
import csv
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from toolchain.datasets.catalogue import list_data
from toolchain.datasets.check import check
from toolchain.datasets.index import ImageEntry
from toolchain.images.perceptual_hash import NEAR, near_groups, perceptual_hash
from toolchain.images.preprocess import Image, read
from toolchain.runtimes.devices import cores, cpu_name

TARGET = Path(__file__).parents[1] / "results" / "near-duplicates.csv"
DATA = ("pets", "cats-vs-dogs")
FARTHEST = 14
CHANGED = 500
COMPARED = 10_000
SHOWN, SIDE = 48, 120


def _jpeg(image: Image) -> Image:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_COLOR)  # type: ignore[return-value]


def _half(image: Image) -> Image:
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _shifted(share: float) -> Callable[[Image], Image]:
    return lambda image: image[round(share * len(image)) :, round(share * len(image[0])) :]


def _turned(degrees: float) -> Callable[[Image], Image]:
    def turn(image: Image) -> Image:
        height, width = image.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
        return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)  # type: ignore[return-value]

    return turn


CHANGES: dict[str, Callable[[Image], Image]] = {
    "JPEG of quality 30": _jpeg,
    "half the size": _half,
    "30 % darker": lambda image: (image * 0.7).astype(np.uint8),
    "gamma 0.7": lambda image: (255 * (image / 255) ** 0.7).astype(np.uint8),
    **{f"shifted by {share:.0%}": _shifted(share) for share in (0.01, 0.02, 0.03, 0.05, 0.08)},
    **{f"turned by {degrees} degrees": _turned(degrees) for degrees in (1, 2, 4)},
}


def hashed(photos: list[ImageEntry]) -> NDArray[np.uint64]:
    with ThreadPoolExecutor(cores()) as pool:
        return np.array(list(pool.map(lambda photo: perceptual_hash(read(photo.path)), photos)), np.uint64)


def near_pairs(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Places of `hashes`, uint64 [n], of which at most FARTHEST bits differ: int64 [2, pairs], the lower first."""
    found = [np.empty((2, 0), np.int64)]
    for place, one in enumerate(hashes):
        others = place + 1 + np.flatnonzero(np.bitwise_count(hashes[place + 1 :] ^ one) <= FARTHEST)
        found.append(np.stack([np.full_like(others, place), others]))
    return np.concatenate(found, axis=1)


def pairs(photos: list[ImageEntry], hashes: NDArray[np.uint64], data: str) -> list[dict[str, object]]:
    labels = np.array([photo.label for photo in photos])
    all_within = sum(count * (count - 1) // 2 for count in np.bincount(labels))
    total = {"within": all_within, "across": len(labels) * (len(labels) - 1) // 2 - all_within}
    first, second = near_pairs(hashes)
    bits = np.bitwise_count(hashes[first] ^ hashes[second])
    within = labels[first] == labels[second]
    return [
        {
            "measure": "pairs",
            "data": data,
            "what": what,
            "distance": distance,
            "value": int(((bits == distance) & chosen).sum()),
            "of": int(total[what]),
        }
        for what, chosen in (("within", within), ("across", ~within))
        for distance in range(FARTHEST + 1)
    ]


def changed(photos: list[ImageEntry]) -> list[dict[str, object]]:
    chosen = [photos[place] for place in np.random.default_rng(0).permutation(len(photos))[:CHANGED]]
    images = [read(photo.path) for photo in chosen]
    before = [perceptual_hash(image) for image in images]
    rows: list[dict[str, object]] = []
    for name, change in CHANGES.items():
        bits = [
            (old ^ perceptual_hash(change(image))).bit_count() for old, image in zip(before, images, strict=True)
        ]
        found = round(float(np.mean(np.array(bits) <= NEAR)), 3)
        rows.append(
            {
                "measure": "changed",
                "data": "pets",
                "what": name,
                "distance": NEAR,
                "value": found,
                "of": len(chosen),
            }
        )
    return rows


def split(data: str) -> list[dict[str, object]]:
    findings = check(list_data(data))
    counts = {"groups": len(findings.near_across_splits), "photographs of val and test": findings.near_held_back}
    return [
        {
            "measure": "split",
            "data": data,
            "what": what,
            "distance": NEAR,
            "value": value,
            "of": findings.photographs,
        }
        for what, value in counts.items()
    ]


def compared() -> dict[str, object]:
    hashes = np.random.default_rng(0).integers(0, 2**64, COMPARED, dtype=np.uint64)
    start_s = time.perf_counter()
    near_groups(hashes)
    seconds = round(time.perf_counter() - start_s, 2)
    return {"measure": "compared", "what": "seconds", "distance": NEAR, "value": seconds, "of": COMPARED}


def draw(photos: list[ImageEntry], hashes: NDArray[np.uint64], path: Path) -> None:
    first, second = near_pairs(hashes)
    bits = np.bitwise_count(hashes[first] ^ hashes[second])
    tiles = []
    for place in np.argsort(bits, kind="stable")[:SHOWN]:
        both = [cv2.resize(read(photos[one[place]].path), (SIDE, SIDE)) for one in (first, second)]
        tile = cv2.copyMakeBorder(np.hstack(both), 18, 4, 4, 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))
        tiles.append(cv2.putText(tile, f"{bits[place]} bits", (6, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0)))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % 6)
    sheet = np.vstack([np.hstack(tiles[start : start + 6]) for start in range(0, len(tiles), 6)])
    cv2.imwrite(str(path), sheet[..., ::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path)
    asked = parser.parse_args()
    rows: list[dict[str, object]] = []
    for data in DATA:
        photos = list(list_data(data).photographs)
        hashes = hashed(photos)
        rows += pairs(photos, hashes, data) + split(data)
        if data == "pets":
            rows += changed(photos)
            if asked.pictures:
                draw(photos, hashes, asked.pictures)
    rows.append(compared())
    machine = f"{cpu_name()}; Python {platform.python_version()}, OpenCV {cv2.__version__}"
    with TARGET.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["measure", "data", "what", "distance", "value", "of", "machine"])
        writer.writeheader()
        writer.writerows(row | {"machine": machine} for row in rows)
    print(TARGET.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
