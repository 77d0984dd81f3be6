"""Kill commands at random moments, start them again, and look for what was lost or left behind.

    python benchmarks/hostile/kills.py 100

Each round takes a command and a moment within the time that it usually takes, kills its process with SIGKILL, and
starts the command again as a person would. Then no photograph, run or model file may be missing or changed, the
command must have ended well, and neither hidden files, locks, temporary folders nor processes may be left.
Appends a line for each command to benchmarks/results/hostile-kills.csv.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psutil

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tests.fuzz.stock import make_stock  # noqa: E402
from toolchain._version import __version__  # noqa: E402

TARGET = Path(os.environ.get("KILLS", ROOT / "benchmarks" / "results" / "hostile-kills.csv"))
COLUMNS = ("date", "edgetl", "python", "command", "kills", "before_its_end", "lost", "left_behind", "not_done")
LEFT = re.compile(r"\..*\.[0-9a-f]{12}(\..*)?|.*\.edgetl-lock|.*\.part|edgetl-.*|\.edgetl-downloads")
TRAIN = ["--model", "mobilenet_v3_small", "--weights", "none", "--size", "64", "--epochs", "2", "--device", "cpu"]
MARK = "EDGETL_KILLED"


@dataclass(frozen=True)
class Command:
    """`words` are killed, and `again` is what a person types then."""

    words: tuple[str, ...]
    again: tuple[str, ...] = ()
    codes: tuple[int, ...] = (0,)


COMMANDS = {
    "finetune": Command(("finetune", "photos", *TRAIN, "--out", "new"), ("finetune", "--resume", "new")),
    "finetune --resume": Command(("finetune", "--resume", "unfinished")),
    "export": Command(("export", "run")),
    "bench": Command(("bench", "tiny.onnx", "--device", "ort:cpu", "--rounds", "1", "--out", "measured")),
    "explain why": Command(("explain", "why", "run", "good.png", "--out", "why")),
    "explain features": Command(("explain", "features", "run", "good.png", "--out", "features")),
    "predict": Command(("predict", "tiny.onnx", "photos")),
    "data check --fix": Command(("data", "check", "broken", "--fix")),
    "data restore": Command(("data", "restore", "aside.set-aside/1.json")),
    "camera": Command(
        ("camera", "tiny.onnx", "--source", "clip.mp4", "--headless", "--record", "seen.mp4", "--log", "log.jsonl")
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng, found = Random(asked.seed), defaultdict[str, list[tuple[bool, str, str, str]]](list)
    with tempfile.TemporaryDirectory(prefix="killed-") as folder:
        stock, usual = Path(folder, "stock"), {}
        stock.mkdir()
        make_stock(stock)
        names = list(COMMANDS)
        for number in range(asked.kills):
            name = names[number % len(names)]
            place = Path(folder, "round")
            if name not in usual:
                usual[name] = _whole(COMMANDS[name], _laid(stock, place))
            moment = rng.uniform(0, usual[name])
            ended = _killed(COMMANDS[name], _laid(stock, place), moment)
            found[name].append(ended)
            if any(ended[1:]):
                print(f"{name} at {moment:.2f} s of {usual[name]:.2f}: {ended}", flush=True)
    new = not TARGET.exists()
    with TARGET.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(COLUMNS)
        for name, rounds in found.items():
            counts = [sum(bool(one[index]) for one in rounds) for index in range(4)]
            today = time.strftime("%Y-%m-%d")
            writer.writerow((today, __version__, platform.python_version(), name, len(rounds), *counts))
    print(f"{asked.kills} kills: {TARGET}")


def _laid(stock: Path, place: Path) -> Path:
    """A new folder with whole things, in which the data set and what was set aside have broken files too."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(stock, place / "work", ignore=shutil.ignore_patterns("cache", "whole.*"))
    for name in ("tmp", "home", "data", "cache"):
        (place / name).mkdir()
    work = place / "work"
    shutil.copytree(work / "photos", work / "broken")
    shutil.copytree(work / "photos", work / "aside")
    names = [f"cat/broken-{number}.jpg" for number in range(300)]
    for name in names:
        (work / "broken" / name).write_bytes(name.encode())
        (work / "aside.set-aside" / "1" / name).parent.mkdir(parents=True, exist_ok=True)
        (work / "aside.set-aside" / "1" / name).write_bytes(b"aside " + name.encode())
    moved = ", ".join(f'{{"name": "{name}", "reason": "?"}}' for name in names)
    record = f'{{"schema": "edgetl.set-aside/1", "data": "aside", "moved": [{moved}]}}'
    (work / "aside.set-aside" / "1.json").write_text(record)
    # The settings of the unfinished run name the stock's photographs, which are the same.
    return place


def _start(words: tuple[str, ...], place: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "TMPDIR": str(place / "tmp"), "HOME": str(place / "home"), MARK: str(place),
        "EDGETL_DATA": str(place / "data"), "EDGETL_CACHE": str(place / "cache"),
    }  # fmt: skip
    command = [sys.executable, "-m", "toolchain", *words]
    with (place / "told").open("wb") as told:
        return subprocess.Popen(command, cwd=place / "work", env=environment, stdout=told, stderr=told)


def _whole(command: Command, place: Path) -> float:
    begun = time.monotonic()
    code = _start(command.words, place).wait()
    assert code in (*command.codes, 1), (place / "told").read_text()
    return time.monotonic() - begun


def _killed(command: Command, place: Path, moment: float) -> tuple[bool, str, str, str]:
    before = _contents(place / "work")
    process = _start(command.words, place)
    time.sleep(moment)
    running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    lost = _lost(before, place)
    begun = command.again and (place / "work" / command.again[-1] / "checkpoint" / "settings.json").exists()
    code = _start(command.again if begun else command.words, place).wait()
    told = (place / "told").read_text(errors="replace")
    # What the first one has finished needs nothing more: it is there, or moved already.
    done = code in command.codes or "is there already" in told or "cannot be read: No such file" in told
    return running, lost or _lost(before, place), _left(place), "" if done else told[-300:]


def _contents(folder: Path) -> dict[str, str]:
    """Hashes of all files, and where each is."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _lost(before: dict[str, str], place: Path) -> str:
    """Files whose content is nowhere any more, but for those that the commands are there to replace."""
    there = set(_contents(place / "work").values())
    own = ("unfinished/", "run/model.onnx", "run/recommended.json", "aside.set-aside/1.json")
    gone = [name for name, content in before.items() if content not in there and not name.startswith(own)]
    return " ".join(gone[:3])


def _left(place: Path) -> str:
    """Hidden files, locks, temporary folders and processes."""
    names = [
        path for folder in ("work", "tmp") for path in (place / folder).rglob("*") if LEFT.fullmatch(path.name)
    ]
    found = [str(path.relative_to(place)) for path in names]
    found += [command for process in psutil.process_iter() if (command := _command_in(process, place))]
    return " ".join(found[:3])


def _command_in(process: psutil.Process, place: Path) -> str:
    """The command line of a process of this round; empty for others."""
    try:
        return " ".join(process.cmdline())[-80:] if process.environ().get(MARK) == str(place) else ""
    except psutil.Error:
        return ""


if __name__ == "__main__":
    main()
