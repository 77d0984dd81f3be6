"""Are published networks still what they were? Breeds of the pets that ImageNet has, over all 1000 classes.

    edgetl adopt timm:tf_efficientnet_lite0 --weights FILE --out RUN
    edgetl export RUN --int8 --data PHOTOS
    EDGETL_DATA=FOLDER python benchmarks/adopt/breeds.py RUN [RUN ...] --out benchmarks/adopt/results/breeds.csv

Each file of a run answers the test photographs of these breeds. Nothing was trained. A line of the results for each
file, with the machine; `breeds` is the top-1 of each, `named_top1` that of the breeds in NAMED together.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import toolchain
from toolchain.artifact import find_artifacts, read_artifact
from toolchain.datasets.catalogue import open_dataset
from toolchain.evaluation.statistics import wilson_ci95
from toolchain.runtimes.devices import cpu_name

BREEDS = {
    "Egyptian_Mau": "Egyptian cat",
    "Persian": "Persian cat",
    "Siamese": "Siamese cat",
    "basset_hound": "basset",
    "beagle": "beagle",
    "boxer": "boxer",
    "chihuahua": "Chihuahua",
    "english_cocker_spaniel": "cocker spaniel",
    "english_setter": "English setter",
    "german_shorthaired": "German short-haired pointer",
    "great_pyrenees": "Great Pyrenees",
    "japanese_chin": "Japanese spaniel",
    "keeshond": "keeshond",
    "leonberger": "Leonberg",
    "miniature_pinscher": "miniature pinscher",
    "newfoundland": "Newfoundland",
    "pomeranian": "Pomeranian",
    "pug": "pug",
    "saint_bernard": "Saint Bernard",
    "samoyed": "Samoyed",
    "scottish_terrier": "Scotch terrier",
    "staffordshire_bull_terrier": "Staffordshire bullterrier",
    "american_pit_bull_terrier": "American Staffordshire terrier",
    "wheaten_terrier": "soft-coated wheaten terrier",
    "yorkshire_terrier": "Yorkshire terrier",
}
"""What ImageNet calls them."""

OTHER_NAMES = frozenset({"Egyptian_Mau", "german_shorthaired", "japanese_chin", "leonberger"})
NAMED = frozenset(BREEDS) - OTHER_NAMES
"""The 21 breeds whose names in the data set are part of the names that WordNet, and so ImageNet, has for them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    dataset = open_dataset("pets")
    wanted = {dataset.classes.index(name): name for name in dataset.classes if name in BREEDS}
    photos = [photo for photo in dataset.splits["test"] if photo.label in wanted]
    rows = []
    for file in [file for run in options.runs for file in find_artifacts(run)]:
        card = read_artifact(file).card
        for device in [one for one in ("ort:cpu", "openvino:CPU") if card.proven_on(one)]:
            classifier = toolchain.load(file, device)
            right: dict[str, list[bool]] = {}
            for photo in photos:
                breed = wanted[photo.label]
                right.setdefault(breed, []).append(classifier.predict(photo.path).label == BREEDS[breed])
            every = [one for answers in right.values() for one in answers]
            named = [one for breed in sorted(NAMED) for one in right[breed]]
            low, high = wilson_ci95(sum(every), len(every))
            breeds = {breed: round(sum(answers) / len(answers), 3) for breed, answers in sorted(right.items())}
            rows.append(
                {
                    "network": card.source.model,
                    "weights_sha256": card.source.weights_sha256,
                    "precision": card.precision,
                    "device": device,
                    "named_n": len(named),
                    "named_top1": round(sum(named) / len(named), 4),
                    "breeds_n": len(right),
                    "n": len(every),
                    "top1": round(sum(every) / len(every), 4),
                    "top1_low": round(low, 4),
                    "top1_high": round(high, 4),
                    "cpu": cpu_name(),
                    "breeds": "; ".join(f"{breed} {top1}" for breed, top1 in breeds.items()),
                }
            )
            print(rows[-1])
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with options.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
