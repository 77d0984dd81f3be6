"""Give many inputs that are made from whole ones to the commands, and write how each kind ended.

    python benchmarks/hostile/fuzz.py 20000

Appends a line for each kind to benchmarks/results/hostile-fuzz.csv; inputs that ended wrongly are shown.
"""

from __future__ import annotations

import argparse
import csv
import platform
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tests.fuzz.running import Case, run_all, shares  # noqa: E402
from tests.fuzz.stock import make_stock  # noqa: E402
from toolchain._version import __version__  # noqa: E402

TARGET = ROOT / "benchmarks" / "results" / "hostile-fuzz.csv"
COLUMNS = (
    "date",
    "edgetl",
    "python",
    "kind",
    "first",
    "inputs",
    "done",
    "refused",
    "wrong",
    "slowest_s",
    "peak_mb",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", type=int)
    parser.add_argument("--first", type=int, default=10_000, help="The first seed; the tests have those from 0 on.")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    cases: dict[str, list[Case]] = defaultdict(list)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edgetl-stock-") as folder:
        make_stock(Path(folder))
        for case in run_all(shares(asked.inputs), Path(folder), asked.workers, asked.first):
            cases[case.kind].append(case)
            if case.wrong:
                print(case.kind, case.seed, *case.words, case.wrong, sep=" | ", flush=True)
    new = not TARGET.exists()
    with TARGET.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(COLUMNS)
        for kind, found in cases.items():
            done = sum(case.code == 0 for case in found)
            wrong = sum(bool(case.wrong) for case in found)
            figures = len(found), done, sum(case.code in (1, 2, 3, 4) for case in found), wrong
            most = max(case.seconds for case in found), max(case.peak_mb for case in found)
            today = time.strftime("%Y-%m-%d")
            writer.writerow((today, __version__, platform.python_version(), kind, asked.first, *figures, *most))
    wrong = sum(bool(case.wrong) for found in cases.values() for case in found)
    print(f"{sum(map(len, cases.values()))} inputs, {wrong} wrong, {time.monotonic() - begun:.0f} s: {TARGET}")


if __name__ == "__main__":
    main()
