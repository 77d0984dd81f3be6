"""Does it know a take that it was not shown, does it refuse other things, and how soon does the camera run?

    EDGETL_DATA=FOLDER python benchmarks/teach/teach.py [--rounds 3] [--weights FILE] [--things alike]

In each round five breeds are the things, with other photographs each time: three takes of each and of "nothing of
these" (three other pictures) are recorded from clips through the lesson that the camera's window and page use,
then taught. With `--things fifty` there are fifty things, as many as a lesson takes; each is one photograph, all
takes of which move it and light it otherwise. A fourth take of each thing, and takes of ten others (five other
breeds, five of not-pets), are answered by the network that runs. Beside it stands what a split by frame of the same
photographs claims.

`seconds` is from the last recorded frame to the first answer; it is left out unless the machine does nothing else
(`--alone`). Appends a line for each round to results/teach.csv.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import clips
import numpy as np

from toolchain.camera.sources.opening import CaptureOptions, open_source
from toolchain.datasets.catalogue import data_root
from toolchain.runtimes.devices import cores, cpu_name
from toolchain.system.progress import Silent
from toolchain.teach.album import NOTHING
from toolchain.teach.learning import Learner
from toolchain.teach.script import Watched, shown
from toolchain.teach.session import Classroom, TeachSettings

RESULTS = Path(__file__).parent / "results" / "teach.csv"
TAKES = 3
OTHERS = 5
ALIKE = ("Birman", "Ragdoll", "Siamese", "British_Shorthair", "Russian_Blue")
SETS = {"distinct": clips.THINGS, "alike": ALIKE, "fifty": tuple(f"thing {number}" for number in range(1, 51))}


def make_clips(folder: Path, data: Path, things: Sequence[str], seed: int) -> dict[str, list[Path]]:
    """Clips by what they show: four takes of each thing, three of nothing, one of each of the others."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[Path]] = {}

    def film(name: str, photographs: Sequence[Path], count: int, taught: int = 0) -> None:
        chosen = [photographs[place] for place in np.resize(rng.permutation(len(photographs)), count)]
        seeds = rng.integers(1 << 30, size=count)
        found[name] = [
            clips.write(folder / f"{name}-{take}.mp4", photograph, int(seeds[take - 1]), covered=take <= taught)
            for take, photograph in enumerate(chosen, 1)
        ]

    everything = clips.all_photographs(data)
    places = np.random.default_rng((seed, 1)).permutation(len(everything))
    for thing, place in zip(things, places, strict=False):
        film(thing, clips.photographs(data, thing) or [everything[place]], TAKES + 1, TAKES)
    for breed in clips.OTHERS:
        film(f"breed {breed}", clips.photographs(data, breed), 1)
    not_pets = sorted((data / "not-pets").glob("*.jpg"))
    film("not-pets", not_pets[::2], OTHERS)
    film(NOTHING, not_pets[1::2], TAKES, TAKES)
    return found


def one_round(things: Sequence[str], weights: str, seed: int, *, alone: bool) -> dict[str, object]:
    """Teach, watch, and say how that went."""
    with tempfile.TemporaryDirectory(prefix="edgetl-teach-") as name:
        folder = Path(name)
        filmed = make_clips(folder, data_root(), things, seed)
        room = Classroom(TeachSettings(folder / "out", tuple(things), weights=weights), Silent())
        taught = [*things, NOTHING]
        with room.lesson as lesson:
            for take in range(TAKES):
                for thing in taught:
                    lesson.start_take(thing)
                    shown(room, str(filmed[thing][take]), Silent())
                    lesson.stop_take()
            seconds = _until_it_answers(room, str(filmed[things[0]][TAKES]))
            state = lesson.state()
            learner = Learner(room.album, Silent(), weights=weights)
            assert state.learnt is not None, state.trouble

            def watched(path: Path) -> Watched:
                return shown(room, str(path), Silent())

            fourth = [watched(filmed[thing][TAKES]).share_of(thing) for thing in things]
            breeds = [watched(filmed[f"breed {breed}"][0]).refused for breed in clips.OTHERS]
            others = [watched(path).refused for path in filmed["not-pets"]]
        return {
            "cpu": cpu_name(),
            "cores": cores(),
            "weights": Path(weights).stem,
            "seed": seed,
            "pictures": state.learnt.pictures,
            "fourth_take": round(mean(fourth), 4),
            "other_things_refused": round(mean(others), 4),
            "other_breeds_refused": round(mean(breeds), 4),
            "told_by_take": round(state.learnt.top1 or 0.0, 4),
            "claimed_by_frame": round(learner.judged_by_frame() or 0.0, 4),
            "seconds": round(seconds, 2) if alone else "",
            "lesson_seconds": state.learnt.seconds if alone else "",
        }


def _until_it_answers(room: Classroom, clip: str) -> float:
    """Seconds from the end of the last take to the first answer of the network that was taught."""
    started = time.perf_counter()
    room.lesson.teach()
    source = open_source(clip, CaptureOptions())
    try:
        while (frame := source.read()) is not None or room.lesson.state().phase == "teaching":
            if frame is None:  # the clip is over: as if a camera went on
                source.close()
                source = open_source(clip, CaptureOptions())
            elif room.see(frame).network:
                return time.perf_counter() - started
    finally:
        source.close()
    raise RuntimeError(room.lesson.state().trouble)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="seed of the first round")
    parser.add_argument("--weights", default="ready-made")
    parser.add_argument("--things", choices=sorted(SETS), default="distinct")
    parser.add_argument("--alone", action="store_true", help="the machine does nothing else: times count")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    for seed in range(options.first, options.first + options.rounds):
        row = {"things": options.things} | one_round(
            SETS[options.things], options.weights, seed, alone=options.alone
        )
        print(row, flush=True)
        options.out.parent.mkdir(exist_ok=True)
        new = not options.out.exists()
        with options.out.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)


if __name__ == "__main__":
    main()
