"""A lesson by script: clips and pictures in the place of a camera, through the same lesson.

Each line is what a person would do; words with spaces stand in quotes, and `#` begins a remark:

    take cup clips/cup-1.mp4       hold the cup before the camera, from the first frame to the last
    train                          teach with all takes
    watch clips/cup-4.mp4          let the taught network answer each frame
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from toolchain.camera.sources.opening import CaptureOptions, open_source
from toolchain.errors import BadInputError
from toolchain.system import claims, files
from toolchain.system.progress import Reporter
from toolchain.teach.album import NOTHING
from toolchain.teach.lesson import State
from toolchain.teach.session import Classroom, TeachSettings

Verb = Literal["take", "train", "watch"]
WORDS: dict[str, int] = {"take": 2, "train": 0, "watch": 1}
"""How many words follow each verb."""
HINT = "Write: take THING SOURCE, train, or watch SOURCE."
MAX_SCRIPT = 1 << 20


@dataclass(frozen=True)
class Step:
    """One line. `thing` and `source` are empty where the verb takes none."""

    verb: str
    thing: str = ""
    source: str = ""


@dataclass(frozen=True)
class Watched:
    """How often each answer was given to the frames of a source; "" counts those that were rejected."""

    source: str
    frames: int
    answers: dict[str, int]

    def share_of(self, thing: str) -> float:
        """Share of the frames that were answered with `thing`."""
        return self.answers.get(thing, 0) / max(self.frames, 1)

    @property
    def refused(self) -> float:
        """Share of the frames of which it said that they show none of the things."""
        return self.share_of("") + self.share_of(NOTHING)


@dataclass(frozen=True)
class ScriptReport:
    """How things stand at the end, and what was watched."""

    state: State
    watched: tuple[Watched, ...] = field(default=())


def read_script(path: Path) -> tuple[Step, ...]:
    """Read a script. Raises BadInputError, naming the line, for one that makes no sense."""
    try:
        text = files.read_regular(path, MAX_SCRIPT).decode()
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise BadInputError(f"{path} is not text", "A script has lines such as: take cup cup-1.mp4") from None
    steps = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise BadInputError(f"{path}, line {number}: {error}", "Close the quotes.") from None
        if not words:
            continue
        verb, *rest = words
        if WORDS.get(verb) != len(rest):
            raise BadInputError(f"{path}, line {number}: {line.strip()!r} is no step", HINT)
        steps.append(Step(verb, rest[0] if verb == "take" else "", rest[-1] if rest else ""))
    return tuple(steps)


def run_script(settings: TeachSettings, steps: Sequence[Step], reporter: Reporter) -> ScriptReport:
    """Do all steps. Raises BadInputError for what cannot be shown or taught, and where a lesson fails."""
    watched = []
    hint = "Wait until it has ended, or choose another --out."
    with claims.working_in(settings.out, "teaching", hint):
        room = Classroom(settings, reporter)
        with room.lesson as lesson:
            for step in steps:
                if step.verb == "train":
                    lesson.teach()
                    lesson.wait()
                elif step.verb == "take":
                    lesson.start_take(lesson.add(step.thing))
                    shown(room, step.source, reporter)
                    lesson.stop_take()
                else:
                    watched.append(shown(room, step.source, reporter))
                if trouble := lesson.state().trouble:
                    raise BadInputError(trouble, "What was recorded before stays.")
            return ScriptReport(lesson.state(), tuple(watched))


def shown(room: Classroom, text: str, reporter: Reporter) -> Watched:
    """Show all frames of a source to the lesson, and count the answers."""
    source = open_source(text, CaptureOptions(every_frame=True), reporter=reporter)
    found: Counter[str] = Counter()
    try:
        while (frame := source.read()) is not None:
            found[room.see(frame).prediction.answer or ""] += 1
    finally:
        source.close()
    return Watched(source.name, found.total(), dict(found))
