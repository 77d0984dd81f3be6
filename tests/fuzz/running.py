"""Running many inputs: each worker is a process that gives one after the other to the command line.

What a library ends, or leaves behind, costs that worker and not the corpus: the next one goes on after the input.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[2]
LIMIT_S = 20.0
"""Seconds of a core that a command may take. On a busy machine they last longer."""
LAST_S = 120.0
MAX_PEAK_MB = 2048
GRACE_S = 300.0
"""A worker that says nothing for so long hangs where its own limit does not reach."""


@dataclass(frozen=True)
class Case:
    """How one input ended. `wrong` is empty if it ended as it must; `code` is None where it did not. `seconds` are
    those of all cores."""

    kind: str
    seed: int
    words: tuple[str, ...]
    code: int | None
    seconds: float
    peak_mb: float
    wrong: str


HEAVY = {"checkpoint": 0.25, "run": 0.5, "video": 0.5}
"""Kinds whose commands take longer get a smaller share."""


def shares(count: int) -> list[tuple[str, int]]:
    """How many of `count` inputs each kind gets."""
    from tests.fuzz.kinds import KINDS

    whole = sum(HEAVY.get(kind, 1.0) for kind in KINDS)
    found = {kind: int(count * HEAVY.get(kind, 1.0) / whole) for kind in KINDS}
    found["card"] += count - sum(found.values())
    return list(found.items())


def run_all(kind_counts: Sequence[tuple[str, int]], stock: Path, workers: int, first: int = 0) -> Iterator[Case]:
    """Give so many inputs of each kind to commands; cases come in no order."""
    chunk = 50
    jobs = [
        (kind, start, min(chunk, first + count - start))
        for kind, count in kind_counts
        for start in range(first, first + count, chunk)
    ]
    # Those that take long come first.
    jobs.sort(key=lambda job: job[0] not in ("checkpoint", "video", "run"))
    with ThreadPoolExecutor(workers) as pool:
        for cases in pool.map(lambda job: _job(*job, stock), jobs):
            yield from cases


def _job(kind: str, first: int, count: int, stock: Path) -> list[Case]:
    cases: list[Case] = []
    while len(cases) < count:
        found, ended = _worker(kind, first + len(cases), count - len(cases), stock)
        cases += found
        if len(cases) < count:
            cases.append(Case(kind, first + len(cases), (), None, 0.0, 0.0, f"the process ended: {ended}"))
    return cases


def _worker(kind: str, first: int, count: int, stock: Path) -> tuple[list[Case], str]:
    with tempfile.TemporaryDirectory(prefix="edgetl-fuzz-") as folder:
        told = Path(folder) / "told.jsonl"
        words = [sys.executable, "-m", "tests.fuzz.running", kind, str(first), str(count), str(stock), folder]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "EDGETL_CACHE": folder}
        with (Path(folder) / "stderr").open("w+") as err:
            worker = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=err)
            heard, size = time.monotonic(), 0
            while worker.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    worker.wait(1)
                now = told.stat().st_size if told.exists() else 0
                if now > size:
                    heard, size = time.monotonic(), now
                if time.monotonic() - heard > GRACE_S:
                    worker.kill()
            err.seek(max(0, err.seek(0, os.SEEK_END) - 500))
            ended = f"{worker.returncode} {err.read()}"
        lines = told.read_text().splitlines() if told.exists() else []
        return [Case(**{**json.loads(line), "words": tuple(json.loads(line)["words"])}) for line in lines], ended


def one(kind: str, seed: int, stock: Path, above: Path) -> Case:
    """Lay input number `seed` into a new folder below `above`, give it to its command, and judge how that ends."""
    from tests.bad_inputs.entry import Entry
    from tests.bad_inputs.trial import Outcome, attempt, judge, lost, snapshot
    from tests.fuzz.kinds import KINDS

    place = above / "place"
    for folder in (place, above / "tmp", above / "home", above / "data"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    os.chdir(place)
    tempfile.tempdir = str(above / "tmp")
    folders = {"HOME": "home", "EDGETL_DATA": "data", "EDGETL_CACHE": "tmp"}
    os.environ |= {name: str(above / folder) for name, folder in folders.items()}
    for name in ("tiny.onnx", "good.png"):
        shutil.copyfile(stock / name, place / name)
    words = KINDS[kind](Random(f"{kind}-{seed}"), stock, place)
    before = snapshot(above)
    _forget_peak()
    begun = time.process_time()
    entry = Entry("fuzz", (), codes=(0, 1, 2, 3, 4), limit_s=LAST_S, told_by_error=False)
    if words[0].startswith("-"):
        code, raised = _directly(words, place)
        outcome = Outcome(words, code, raised, "", "")
    else:
        outcome = attempt(entry, words)
    seconds, peak = time.process_time() - begun, _peak_mb()
    wrong = outcome.raised
    try:
        judge(entry, outcome)
    except AssertionError as error:
        wrong = str(error)[:1500]
    gone = [path for path in lost(before, snapshot(above)) if not _may_change(kind, path)]
    if gone and not wrong:
        wrong = f"lost or changed: {gone[:3]}"
    if seconds > LIMIT_S:
        wrong = f"{seconds:.0f} s; {wrong}"
    if peak > MAX_PEAK_MB:
        wrong = f"{peak:.0f} MB; {wrong}"
    return Case(kind, seed, tuple(words), outcome.code, round(seconds, 3), round(peak, 1), wrong)


def _may_change(kind: str, path: bytes) -> bool:
    """What the command is there to change: the cache, the unfinished run, and what was set aside."""
    own = {
        "cache": b"place/cache",
        "checkpoint": b"place/run",
        "record": b"place/photos",
        "journal": b"place/photos",
        "album": b"place/things/teach.json",
    }
    return path == b"told.jsonl" or path.startswith(own.get(kind, b"\0"))


def _directly(words: list[str], place: Path) -> tuple[int | None, str]:
    """What no command reaches without a network, a camera or a page: the reader of photographs, and more."""
    from toolchain.datasets.unpack import unpack
    from toolchain.errors import EdgetlError
    from toolchain.images.preprocess import Preprocess
    from toolchain.images.reader import Photograph, Reader
    from toolchain.system import files
    from toolchain.system.progress import Silent

    try:
        if words[0] == "-unpack":
            unpack(place / words[1], place / "into", max_bytes=1 << 24, max_files=1000)
        elif words[0] == "-review":
            from toolchain.review.items import collected
            from toolchain.review.session import Review

            review = Review(place / words[1], collected(place / words[1], Silent()), place / "into", Silent())
            files.to_json(review.state())
            review.close()
        elif words[0] == "-album":
            from toolchain.teach.album import Album
            from toolchain.teach.lesson import Lesson, headline

            state = Lesson(Album(place / words[1]), lambda: None, Silent()).state()  # type: ignore[arg-type, return-value]
            assert headline(state)
            files.to_json(state)
        else:
            reader = Reader(Preprocess(64, 64, shortest_edge=64), Path(os.environ["EDGETL_CACHE"]), Silent())
            for path in sorted(Path(words[1]).rglob("*.jpg")):
                photo = Photograph(path.name, path, 0, files.sha256_of(path))
                assert reader.input(photo).shape == (64, 64, 3)
                reader.larger(photo)
                reader.thumbnail(photo)
            reader.tidy()
    except EdgetlError as error:
        return int(error.exit_code), ""
    except Exception as error:
        return 70, repr(error)
    return 0, ""


def _forget_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind in (("kind", str), ("first", int), ("count", int), ("stock", Path), ("folder", Path)):
        parser.add_argument(name, type=kind)
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    with (asked.folder / "told.jsonl").open("a") as told:
        for seed in range(asked.first, asked.first + asked.count):
            told.write(json.dumps(asdict(one(asked.kind, seed, asked.stock, asked.folder))) + "\n")
            told.flush()


if __name__ == "__main__":
    main()
