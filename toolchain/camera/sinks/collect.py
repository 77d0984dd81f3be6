"""Frames worth a person's look, kept as pictures: those that the network was unsure of, or that show a change.

Each is a JPEG in a folder, and a line of JSON in `collected.jsonl` beside it that says what was answered, when, why
it was kept, and by which model file. The picture comes first and the line after it, each whole or not at all, so
that a process that is killed leaves at most one picture without a line.
"""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import cv2

from toolchain.camera.answering import Answered
from toolchain.camera.frames import BgrImage
from toolchain.camera.regions import MAX_REGIONS
from toolchain.camera.sinks import AnswerLostError, Delivery, Sink, SinkContext, SinkReport
from toolchain.camera.sinks.log import Log
from toolchain.camera.sinks.messages import Changes, moment, rfc3339
from toolchain.camera.smoothing import Thumbnail, thumbnail
from toolchain.camera.threads import DropOldestQueue, Worker
from toolchain.classifier import Prediction
from toolchain.errors import BadInputError
from toolchain.system import files
from toolchain.system.progress import Reporter

LINES = "collected.jsonl"
MARK = b'{"file":'
"""How each line of it begins."""
KINDS = ("uncertain", "rejected", "changed")
MARGIN = 0.3
"""An answer is uncertain if its best class is ahead of the second by less than this probability."""
INTERVAL_S = 1.0
"""The least time between two pictures, by the time of the frames."""
SAME = 4.0
"""Two thumbnails that differ by less (mean over pixels and colours, of 255) show the same: one is enough."""
REMEMBERED = 32
"""A picture is compared with so many that were kept before it."""
QUALITY = 95
MAX_WAITING = 4 + MAX_REGIONS
"""How many pictures wait to be written: all regions may change in one frame."""
POLL_S = 0.2
AGAIN_S = 10.0
"""How long nothing is tried where there is no room."""
CLOSE_LIMIT_S = 5.0

_PICTURE = re.compile(r"\d{8}T\d{6}Z-\d+\.jpg")
_UNFINISHED = re.compile(r"\.\d{8}T\d{6}Z-\d+\.jpg\.[0-9a-f]{12}\.jpg")


@dataclass(frozen=True)
class When:
    """Which frames are kept: those of some `kinds`, and one in `every_s` seconds."""

    kinds: frozenset[str] = frozenset({"uncertain"})
    every_s: float | None = None


def parse_when(words: Sequence[str]) -> When:
    """Read words such as `uncertain` and `every=60`. Raises BadInputError for others."""
    kinds: set[str] = set()
    every_s: float | None = None
    for word in words:
        name, _, value = word.partition("=")
        if name == "every":
            every_s = _seconds(value)
        elif word in KINDS:
            kinds.add(word)
        else:
            raise BadInputError(
                f"{word!r} says not when to collect", f"It may be {', '.join(KINDS)}, or every=SECONDS."
            )
    return When(frozenset(kinds), every_s)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not INTERVAL_S <= seconds <= 86400:
        raise BadInputError(f"every={value}: a number of seconds from 1 to 86400", "Write every=60.")
    return seconds


@dataclass(frozen=True)
class CollectOptions:
    """Frames are kept in the folder `path`, which holds `max_pictures` and `max_mb` (10^6 bytes) at most."""

    path: Path
    when: When = field(default_factory=When)
    max_pictures: int = 1000
    max_mb: float = 500.0
    role = "the folder of collected pictures"

    def open(self, context: SinkContext) -> Collector:
        return Collector(self, context)


def from_text(value: str) -> CollectOptions:
    """The options that `--sink collect=DIR` stands for."""
    if not value:
        raise BadInputError("the sink `collect` needs a folder", "Write --sink collect=DIR.")
    return CollectOptions(Path(value))


@dataclass(frozen=True)
class _Found:
    answered: Answered
    why: str
    at: datetime
    artifact: str


class Collector(Sink):
    """Keeps frames as pictures, in a thread of its own. One camera at a time writes into a folder.

    Frames that show nothing are never kept. Of uncertain and rejected ones that look alike, the first is. Where the
    disk or the folder is full, that is told once and nothing is kept until there is room again.
    Raises BadInputError if the folder cannot be written, or another camera collects there.
    """

    delivery: Delivery = "loop"

    def __init__(
        self, options: CollectOptions, context: SinkContext, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name: str = f"collecting into {options.path}"
        self._options = options
        self._context = context
        self._reporter: Reporter = context.reporter
        self._clock = clock
        self._due_s: dict[str, float] = {}
        self._every_due_s: dict[str, float] = {}
        """The time of frames from which on the next one of a region may be kept."""
        self._changes = Changes()
        self._found: DropOldestQueue[_Found] = DropOldestQueue(
            MAX_WAITING, every=context.every_frame, given_up=lambda: context.control.ending is not None
        )
        self._seen: deque[Thumbnail] = deque(maxlen=REMEMBERED)
        self._kept = 0
        self._trouble = ""
        """Why nothing is kept at the moment."""
        self._failure = ""
        self._again_s = -math.inf
        path = options.path
        self._made = not path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInputError(f"{path} cannot be made: {error.strerror}", "Name another folder.") from None
        self._lines = Log(path / LINES, MARK)
        self._tidy()
        self._number = (path / LINES).read_bytes().count(b"\n")
        self._count, self._bytes = self._counted()
        self._thread = Worker(self._run, "collect")
        self._thread.start()

    def show(self, answered: Answered) -> None:
        for one in answered.each():
            self._look(one)

    def close(self) -> None:
        self._found.close()
        self._thread.join(CLOSE_LIMIT_S)
        self._found.discard()
        self._lines.close()
        if self._made and not self._kept:  # then nothing is left behind
            lines = self._options.path / LINES
            if lines.is_file() and not lines.stat().st_size:
                lines.unlink()
            if not any(self._options.path.iterdir()):
                self._options.path.rmdir()

    def report(self) -> SinkReport:
        pictures = f"{self._kept} picture{'' if self._kept == 1 else 's'}"
        unwritten = f"{self.name}: {self._failure}" if self._failure else ""
        return SinkReport(unwritten, note=f"collected: {pictures} in {self._options.path}")

    def _look(self, answered: Answered) -> None:
        """Hand on a frame, or the part of a region, if it should be kept."""
        why, region, time_s = self._why(answered), answered.region, answered.frame.time_s
        if why is None or time_s < self._due_s.get(region, -math.inf):
            return
        self._due_s[region] = time_s + INTERVAL_S
        if why == "every":
            self._every_due_s[region] = time_s + (self._options.when.every_s or 0)
        artifact = self._context.engine.network.artifact or self._context.artifact
        self._found.put(_Found(answered, why, moment(answered), artifact.sha256))

    def _why(self, answered: Answered) -> str | None:
        """Why a frame should be kept; None: it should not."""
        when, prediction = self._options.when, answered.prediction
        changed = self._changes(answered)
        if answered.uniform:
            return None
        # What was asked for by change or time comes first: it is kept also where it looks like another picture.
        if "changed" in when.kinds and changed:
            return "changed"
        if when.every_s is not None and answered.frame.time_s >= self._every_due_s.get(answered.region, -math.inf):
            return "every"
        if prediction.rejected and when.kinds & {"rejected", "uncertain"}:
            return "rejected"
        return "uncertain" if "uncertain" in when.kinds and _margin(prediction) < MARGIN else None

    def _run(self) -> None:
        while not self._found.ended:
            found = self._found.take(POLL_S)
            if found is not None and self._clock() >= self._again_s:
                try:
                    self._keep(found)
                except Exception as error:  # a full disk, mostly; the camera goes on
                    self._failure = getattr(error, "strerror", None) or str(error)
                    self._pause(self._failure)

    def _keep(self, found: _Found) -> None:
        bgr = found.answered.frame.bgr
        small = thumbnail(bgr)
        if found.why in {"uncertain", "rejected"} and any(_alike(small, other) for other in self._seen):
            return
        data = _jpeg(bgr)
        if not self._has_room(len(data)):
            self._pause(f"it holds {self._count} pictures and {self._bytes / 1e6:.0f} MB, as many as it may")
            return
        path = self._next_path(found.at)
        files.write_bytes(path, data)
        try:
            self._lines.write(files.to_json(_line(path.name, found), indent=0).decode().strip())
        except AnswerLostError:
            path.unlink(missing_ok=True)
            raise
        self._count, self._bytes, self._kept = self._count + 1, self._bytes + len(data), self._kept + 1
        self._seen.append(small)
        if self._trouble:
            self._reporter.say(f"{self.name} works again")
            self._trouble = self._failure = ""

    def _has_room(self, size: int) -> bool:
        def fits() -> bool:
            return self._count < self._options.max_pictures and self._bytes + size <= 1e6 * self._options.max_mb

        if not fits():
            self._count, self._bytes = self._counted()  # some may have been taken away
        return fits()

    def _pause(self, reason: str) -> None:
        self._again_s = self._clock() + AGAIN_S
        if not self._trouble:
            self._reporter.warn(f"{self.name} stops: {reason}; the camera goes on, and collects when there is room")
        self._trouble = reason

    def _next_path(self, at: datetime) -> Path:
        while True:
            self._number += 1
            path = self._options.path / f"{at:%Y%m%dT%H%M%SZ}-{self._number}.jpg"
            if not path.exists():
                return path

    def _counted(self) -> tuple[int, int]:
        """How many pictures there are in the folder, and their bytes. Somebody may take them away meanwhile."""
        sizes = []
        for one in self._options.path.iterdir():
            if _PICTURE.fullmatch(one.name):
                with suppress(FileNotFoundError):
                    sizes.append(one.stat().st_size)
        return len(sizes), sum(sizes)

    def _tidy(self) -> None:
        """Remove pictures that a process which was killed had begun to write."""
        for one in self._options.path.iterdir():
            if _UNFINISHED.fullmatch(one.name):
                one.unlink(missing_ok=True)


def _margin(prediction: Prediction) -> float:
    """By how much the most probable class is ahead of the next."""
    best, *others = (probability for _, probability in prediction.top)
    return best - (others[0] if others else 0.0)


def _alike(one: Thumbnail, other: Thumbnail) -> bool:
    return bool(cv2.norm(one, other, cv2.NORM_L1) < SAME * one.size)


def _jpeg(bgr: BgrImage) -> bytes:
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise OSError("OpenCV wrote no JPEG")
    return data.tobytes()


def _line(name: str, found: _Found) -> dict[str, object]:
    prediction, region = found.answered.prediction, found.answered.region
    line: dict[str, object] = {
        "file": name,
        "time": rfc3339(found.at),
        "label": prediction.answer,
        "probabilities": [[label, round(probability, 6)] for label, probability in prediction.top],
        "rejected": prediction.rejected,
        "why": found.why,
        "artifact": found.artifact,
    }
    return line | {"region": region} if region else line
