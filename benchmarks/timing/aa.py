"""Does `edgetl bench` find two runs of the same file alike, and does the second keep to what the first one says?

    python benchmarks/timing/aa.py [ARTIFACT] [--pairs 40] [--device ort:cpu ...] [--out FILE.csv]

Each pair is two whole benchmarks, one after the other, with processes of their own, compared as `--compare` does;
the second of a pair is the first of the next one. Pairs are added to those that FILE holds already. Run it on a
machine that does nothing else.
"""

from __future__ import annotations

import argparse
import csv
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from toolchain.artifact import read_artifact
from toolchain.bench.compare import Tolerance, compare
from toolchain.bench.results import ArmResult, BenchReport
from toolchain.bench.runner import Plan, bench
from toolchain.system import files

ROOT = Path(__file__).resolve().parent.parent.parent
DEVICES = ("ort:cpu", "openvino:CPU")

Row = dict[str, str]


def pairs(path: Path, devices: Sequence[str], first: int, count: int) -> Iterator[list[Row]]:
    """Whole runs of the file, each beside the one before it, as a line for each device."""
    plan = Plan((read_artifact(path),), tuple(devices), limit=8)
    before = bench(plan)
    for number in range(first, first + count):
        started = time.monotonic()
        after = bench(plan)
        yield list(_lines(number, before, after, time.monotonic() - started))
        before = after


def _lines(number: int, one: BenchReport, other: BenchReport, seconds: float) -> Iterator[Row]:
    # What is decided of a noisy run is of interest, too; that it was one stands in its line.
    found = compare(replace(one, noisy=False), replace(other, noisy=False), "the first run", Tolerance())
    for change in found.changes:
        first, second = (_on(change.device, report) for report in (one, other))
        assert first.latency_ms is not None
        assert second.latency_ms is not None
        yield {
            "pair": str(number),
            "device": change.device,
            **_numbers("first", first),
            **_numbers("second", second),
            "ratio": f"{change.ratio:.4f}",
            "ratio_low": f"{change.ratio_ci95[0]:.4f}",
            "ratio_high": f"{change.ratio_ci95[1]:.4f}",
            "verdict": change.latency,
            "first_holds_second": str(int(_holds(first.latency_ms.p50_ci95, second.latency_ms.p50))),
            "second_holds_first": str(int(_holds(second.latency_ms.p50_ci95, first.latency_ms.p50))),
            "ips_first_holds_second": _throughput_held(first, second),
            "ips_second_holds_first": _throughput_held(second, first),
            **_throughput("first", first),
            **_throughput("second", second),
            "noisy": f"{int(one.noisy)}{int(other.noisy)}",
            "seconds": f"{seconds:.0f}",
            "machine": f"{one.environment.cpu}; {one.environment.cores} cores",
        }


def _numbers(name: str, arm: ArmResult) -> Row:
    assert arm.latency_ms is not None
    low, high = arm.latency_ms.p50_ci95
    return {
        f"{name}_p50_ms": f"{arm.latency_ms.p50:.4f}",
        f"{name}_low": f"{low:.4f}",
        f"{name}_high": f"{high:.4f}",
        f"{name}_processes": str(len(arm.process_p50_ms)),
    }


def _on(device: str, report: BenchReport) -> ArmResult:
    (found,) = (arm for arm in report.arms if arm.device == device)
    return found


def _holds(interval: tuple[float, float], value: float) -> bool:
    return interval[0] <= value <= interval[1]


def _throughput(name: str, arm: ArmResult) -> Row:
    assert arm.throughput is not None
    assert arm.throughput.ips_ci95 is not None
    low, high = arm.throughput.ips_ci95
    return {
        f"{name}_ips": f"{arm.throughput.ips:.1f}",
        f"{name}_ips_low": f"{low:.1f}",
        f"{name}_ips_high": f"{high:.1f}",
        f"{name}_way": f"{arm.throughput.requests} x {arm.throughput.batch}",
    }


def _throughput_held(one: ArmResult, other: ArmResult) -> str:
    """Whether the throughput of another run is in the interval; empty where the two found other ways faster."""
    mine, its = one.throughput, other.throughput
    if mine is None or its is None or mine.ips_ci95 is None:
        return ""
    if (mine.batch, mine.requests) != (its.batch, its.requests):
        return ""
    return str(int(_holds(mine.ips_ci95, its.ips)))


def summary(rows: Sequence[Row]) -> dict[str, str]:
    """What the pairs came to: counts, and shares of them."""

    def share(values: list[bool]) -> str:
        return f"{sum(values)} of {len(values)} ({sum(values) / max(len(values), 1):.1%})"

    def held(some: Sequence[Row], kind: str) -> list[bool]:
        names = (f"{kind}first_holds_second", f"{kind}second_holds_first")
        return [row[name] == "1" for row in some for name in names if row[name]]

    def different(some: Sequence[Row]) -> str:
        return share([row["verdict"] in ("slower", "faster") for row in some])

    at_rest = [row for row in rows if row["noisy"] == "00"]
    return {
        "pairs": str(len({row["pair"] for row in rows})),
        "called different": different(rows),
        "of them at rest in both runs": different(at_rest),
        "medians of a rerun within the interval": share(held(rows, "")),
        "at rest": share(held(at_rest, "")),
        "throughput of a rerun within the interval": share(held(rows, "ips_")),
        "throughput at rest": share(held(at_rest, "ips_")),
        "runs marked noisy": share([row["noisy"][1] == "1" for row in _one_a_pair(rows)]),
    }


def _one_a_pair(rows: Sequence[Row]) -> list[Row]:
    return list({row["pair"]: row for row in rows}.values())


def read(path: Path) -> list[Row]:
    """The lines of a results file; none where there is no file yet."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: Sequence[Row]) -> None:
    """The whole file. Pairs that were measured before a column came leave it empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[-1]), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_bytes(path, text.getvalue().encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path, nargs="?", default=ROOT / "models" / "pets" / "model.int8.onnx")
    parser.add_argument("--pairs", type=int, default=40, help="as many as FILE is to hold")
    parser.add_argument("--device", action="append", help=f"default: {', '.join(DEVICES)}")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "aa.csv")
    options = parser.parse_args()
    rows = read(options.out)
    done = len(_one_a_pair(rows))
    for fresh in pairs(options.artifact, options.device or DEVICES, done + 1, options.pairs - done):
        rows += fresh
        _write(options.out, rows)
        told = ", ".join(f"{row['device']} {row['ratio']} {row['verdict']}" for row in fresh)
        print(f"pair {fresh[0]['pair']}: {told}; {fresh[0]['seconds']} s", flush=True)
    for name, value in summary(rows).items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
