"""Does int8 of published networks pass the gate?

    edgetl adopt mobilenet_v2 --weights FILE --out RUN
    edgetl export RUN --int8 --data PHOTOS --json > export.json
    python benchmarks/adopt/int8.py export.json [export.json ...] --out benchmarks/adopt/results/int8.csv

Each line is a recipe that was looked at on a device: how many percentage points of top-1 it lost on the
photographs (`lost_pp`), how many by the float network's own probabilities (`expected_pp`), how many times as fast
as float it was at least, and whether it was `kept`. Where no recipe was, `refused` says why.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

from toolchain.runs import read_run
from toolchain.runtimes.devices import cpu_name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exports", type=Path, nargs="+", metavar="EXPORT")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = []
    for path in options.exports:
        done = json.loads(path.read_text(encoding="utf-8"))
        model = read_run(path.parent / done["run"]).model.name
        for attempt in done["attempts"]:
            for hop in attempt["hops"]:
                device = hop["device"]
                ratios = [
                    one["min_ratio"] for one in attempt["speeds"] if one["device"] == device and one["min_ratio"]
                ]
                rows.append(
                    {
                        "network": model,
                        "photographs": done["n"],
                        "labels": done["split"],
                        "max_drop_pp": done["max_drop_pp"],
                        "device": device,
                        "recipe": attempt["label"],
                        "top1": hop["accuracy"]["top1"],
                        "lost_pp": round(hop["drop_pp"], 2),
                        "expected_pp": round(hop["expected_pp"], 2),
                        "times_as_fast_at_least": min(ratios, default=""),
                        "kept": device in attempt["chosen_for"] and device not in done["broken"],
                        "refused": done["broken"].get(device, ""),
                        "cpu": cpu_name(),
                    }
                )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
