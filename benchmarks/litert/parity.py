"""Does a LiteRT file answer as the ONNX file that it is made of, and is int8 faster there than float?

    python benchmarks/litert/parity.py RUN... --data FOLDER [--every 20] [--out FILE.csv]

Each RUN holds model.onnx, and perhaps model.int8.onnx; FOLDER photographs. Files are translated here, and ONNX
files asked on ONNX Runtime. Of the files of a run, which take turns on one thread, the processor time for one
photograph is compared with that of float: other work on the machine does not count in it.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolchain.artifact import Artifact, read_artifact
from toolchain.export.litert import make_tflite
from toolchain.images.preprocess import read
from toolchain.runtimes import Runtime, open_runtime
from toolchain.runtimes.devices import cpu_name

BATCH = 8
ROUNDS = 60
WARM_UP = 5


def pairs(run: Path) -> list[tuple[Artifact, Artifact]]:
    """The float and the int8 file, each with its LiteRT file."""
    paths = [path for name in ("model.onnx", "model.int8.onnx") if (path := run / name).is_file()]
    found = [read_artifact(path) for path in paths]
    return [(one, make_tflite(one.model, one.card, one.path.with_suffix(".tflite"))) for one in found]


def logits(runtime: Runtime, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    starts = range(0, len(pixels), BATCH)
    return np.concatenate([runtime.infer(pixels[start : start + BATCH]).logits for start in starts])


def in_turns(runtimes: list[Runtime], picture: NDArray[np.uint8]) -> list[float]:
    """The median processor time of each in ms."""
    taken: list[list[float]] = [[] for _ in runtimes]
    for _ in range(WARM_UP + ROUNDS):
        for runtime, times in zip(runtimes, taken, strict=True):
            started = time.process_time()
            runtime.infer(picture)
            times.append((time.process_time() - started) * 1e3)
    return [statistics.median(times[WARM_UP:]) for times in taken]


def compare(run: Path, photographs: list[Path]) -> list[dict[str, object]]:
    found = pairs(run)
    spec = found[0][0].card.preprocess
    pixels = np.stack([read(path, spec) for path in photographs])
    on_litert = [open_runtime(tflite, "litert:cpu", threads=1, unproven=True) for _, tflite in found]
    medians = in_turns(on_litert, pixels[:1])
    rows = []
    for (source, tflite), runtime, median in zip(found, on_litert, medians, strict=True):
        theirs = logits(open_runtime(source, "ort:cpu", threads=1, unproven=True), pixels)
        ours = logits(runtime, pixels)
        rows.append(
            {
                "network": source.card.source.model,
                "file": tflite.path.name,
                "photographs": len(pixels),
                "same_label": int((ours.argmax(1) == theirs.argmax(1)).sum()),
                "relative_difference": f"{np.abs(ours - theirs).max() / np.abs(theirs).max():.1e}",
                "onnx_mb": round(source.size_mb, 2),
                "litert_mb": round(tflite.size_mb, 2),
                "times_as_fast_as_float": round(medians[0] / median, 2),
                "cpu": cpu_name(),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--out", type=Path)
    words = parser.parse_args()
    photographs = sorted(words.data.glob("*.jpg"))[:: words.every]
    rows = [row for run in words.runs for row in compare(run, photographs)]
    for row in rows:
        print(row)
    if words.out:
        with words.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
