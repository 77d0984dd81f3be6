"""Are wrong names found? Photographs of the pets, as they are and with a share of them under another breed.

    EDGETL_DATA=FOLDER python benchmarks/teach/suspects.py --weights mobilenet_v2.safetensors

Names are changed in memory only. Results, with the machine: `suspects.csv` has a line for each share that
was planted, `suspects-pets.csv` all that is found among the pets as they are.
"""

from __future__ import annotations

import argparse
import csv
import random
from dataclasses import asdict, replace
from pathlib import Path

from toolchain.runtimes.devices import cpu_name
from toolchain.system.progress import Silent
from toolchain.training.suspects import Seen, judged, look

RESULTS = Path(__file__).with_name("results")
SHARES = (0.0, 0.01, 0.03, 0.1)


def planted(seen: Seen, share: float, seed: int) -> tuple[Seen, set[str]]:
    """`seen` with a share of the photographs under a wrong breed, and the names of those."""
    rng = random.Random(seed)
    classes = range(len(seen.index.classes))
    wrong = set(rng.sample(range(len(seen.photos)), round(share * len(seen.photos))))
    photos = list(seen.photos)
    for place in sorted(wrong):
        other = rng.choice([one for one in classes if one != photos[place].label])
        photos[place] = replace(photos[place], label=other)
    return replace(seen, photos=tuple(photos)), {photos[place].name for place in wrong}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    seen = look("pets", options.model, options.weights, "auto", Silent())
    rows = []
    for share in options.shares:
        changed, wrong = planted(seen, share, options.seed)
        suspects = judged(changed)
        names = [one.name for one in suspects.found]
        rows.append(
            {
                "model": options.model,
                "planted_share": share,
                "photographs": suspects.photographs,
                "planted": len(wrong),
                "found": len(names),
                "planted_found": len(wrong.intersection(names)),
                "of_the_first_as_many": len(wrong.intersection(names[: len(wrong)])),
                "top1": round(suspects.top1, 4),
                "seed": options.seed,
                "cpu": cpu_name(),
            }
        )
        print(rows[-1], flush=True)
        if not wrong:
            _write("suspects-pets.csv", [asdict(one) for one in suspects.found])
    _write("suspects.csv", rows)


def _write(name: str, rows: list[dict[str, object]]) -> None:
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
