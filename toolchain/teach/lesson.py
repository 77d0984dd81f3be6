"""The lesson: takes are recorded, the network is taught, and it answers; whatever window or page shows it.

Nothing here knows of windows, pages or cameras. `see` is given each frame; the other methods are what a person may
press, from any thread. A second thread teaches, so that frames go on being seen.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition, Event
from typing import Literal, Protocol

from toolchain.camera.frames import BgrImage, Frame
from toolchain.camera.threads import Worker
from toolchain.classifier import percent
from toolchain.errors import BadInputError, EdgetlError
from toolchain.system import files
from toolchain.system.progress import Reporter
from toolchain.teach.album import MAX_PICTURES, NOTHING, Album
from toolchain.teach.choosing import Chooser
from toolchain.teach.learnt import Learnt, read_learnt

ENOUGH_TAKES = 2
"""Of fewer takes of a thing nothing is known about how well it is recognised."""
GOOD = 0.9
"""A thing that is recognised less often in takes that were not taught wants another one."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
IDLE_S = 0.5
"""How often the second thread looks for new photographs."""

Phase = Literal["collecting", "recording", "teaching"]


class Teacher(Protocol):
    """What teaches: `toolchain.teach.learning.Learner`, which needs torch and seconds to load."""

    def prepare(self) -> None: ...

    def look_ahead(self) -> bool: ...

    def learn(self) -> Learnt: ...


@dataclass(frozen=True)
class Thing:
    """A thing as a person sees it. `right` is how often it was recognised in takes that were not taught; None: not
    known. `wish` says what would help, if anything."""

    name: str
    pictures: int
    takes: int
    right: float | None
    wish: str


@dataclass(frozen=True)
class State:
    """All that a window or page shows. `kept` and `left_out` are of the take that is recorded, or was last.

    `changed`: there are pictures that were not taught yet. `lessons`: how often it was taught since the start.
    """

    phase: Phase
    things: tuple[Thing, ...]
    recording: str
    kept: int
    left_out: dict[str, int]
    learnt: Learnt | None
    lessons: int
    changed: bool
    trouble: str
    said: str


class Lesson:
    """Takes and lessons in an album. `make` makes the teacher, in the thread that teaches.

    `taught` is called in that thread after each lesson. Use it as a context: leaving ends the take and the thread.
    """

    def __init__(
        self,
        album: Album,
        make: Callable[[], Teacher],
        reporter: Reporter,
        taught: Callable[[Learnt], None] = lambda learnt: None,
    ) -> None:
        self.album = album
        self._make = make
        self._reporter = reporter
        self._taught = taught
        self._changed = Condition()
        self._wanted = False
        self._teaching = False
        self._stopping = Event()
        self._chooser: Chooser | None = None
        self._recording = ""
        self._take = 0
        self._kept = 0
        self._left_out: dict[str, int] = {}
        self._learnt = read_learnt(album.run)
        self._lessons = 0
        self._trouble = ""
        self._said = ""
        self._worker = Worker(self._work, "teach")

    def __enter__(self) -> Lesson:
        self._worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_take()
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()

    def add(self, thing: str) -> str:
        """Add a thing. Raises BadInputError for a name that cannot be one, and where it cannot be saved."""
        with self._changed:
            try:
                return self.album.add(thing)
            except OSError as error:
                raise _refusal(f"{thing} was not added", error) from None

    def start_take(self, thing: str) -> None:
        """Record what is seen from now on as `thing`; a take that runs ends. Raises BadInputError."""
        with self._changed:
            self.stop_take()
            if thing not in self.album.things:
                raise BadInputError(f"there is no thing {thing!r}", "Add it first.")
            if self.album.count(thing).pictures >= MAX_PICTURES:
                raise BadInputError(f"there are {MAX_PICTURES} pictures of {thing}: enough", "Show another thing.")
            self._chooser, self._recording = Chooser(), thing
            self._take, self._kept, self._left_out = self.album.new_take(), 0, {}
            self._trouble = self._said = ""

    def stop_take(self) -> None:
        """End the take that runs, if any."""
        with self._changed:
            if self._chooser is None:
                return
            if (last := self._chooser.end()) is not None:
                self._keep(last)
            if self._chooser is not None:  # a picture that could not be written has ended it
                self._end_take()

    def forget_take(self, thing: str) -> int:
        """Remove the newest take of a thing, and return how many pictures went. Raises BadInputError where they
        cannot be removed."""
        with self._changed:
            self.stop_take()
            if thing not in self.album.things:
                raise BadInputError(f"there is no thing {thing!r}", "Add it first.")
            try:
                gone = self.album.forget_take(thing)
            except OSError as error:
                raise _refusal(f"the last take of {thing} was not removed", error) from None
            self._said = f"{gone} pictures of the last take of {thing} were removed"
            return gone

    def teach(self) -> None:
        """Teach with all pictures that there are, in a thread of its own. Raises BadInputError for too few."""
        with self._changed:
            self.stop_take()
            self.album.check()
            self._wanted = True
            self._trouble, self._said = "", ""
            self._changed.notify_all()

    def wait(self, limit_s: float | None = None) -> bool:
        """Wait until nothing is being taught; False after `limit_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._wanted or self._teaching), limit_s)

    def see(self, frame: Frame) -> None:
        """Look at a frame: while a take is recorded, it may be kept."""
        with self._changed:
            if self._chooser is None:
                return
            chosen = self._chooser.see(frame.bgr, frame.time_s)
            self._left_out = dict(self._chooser.left_out)
            if chosen is not None:
                self._keep(chosen)
            if self._chooser and self.album.count(self._recording).pictures >= MAX_PICTURES:
                self._said = f"{MAX_PICTURES} pictures of {self._recording} are enough"
                self._end_take()

    def state(self) -> State:
        """How things stand now."""
        with self._changed:
            recording = self._chooser is not None
            teaching = self._wanted or self._teaching
            things = tuple(self._thing(name) for name in self.album.things)
            return State(
                "recording" if recording else "teaching" if teaching else "collecting",
                things,
                self._recording if recording else "",
                self._kept,
                self._left_out,
                self._learnt,
                self._lessons,
                self._learnt is None or sum(thing.pictures for thing in things) != self._learnt.pictures,
                self._trouble,
                self._said,
            )

    def _thing(self, name: str) -> Thing:
        counted = self.album.count(name)
        right = self._learnt.by_thing.get(name) if self._learnt else None
        wish = ""
        if counted.pictures and counted.takes < ENOUGH_TAKES:
            wish = "show another take: one is too few to know how well it is recognised"
        elif right is not None and right < GOOD:
            wish = "show another take: it is often mistaken"
        return Thing(name, counted.pictures, counted.takes, right, wish)

    def _keep(self, bgr: BgrImage) -> None:
        try:
            self.album.write(self._recording, self._take, self._kept + 1, bgr)
        except OSError as error:
            self._end_take()
            what = "the disk is full" if error.errno in FULL else "a picture cannot be written"
            self._trouble = f"{what}: recording has stopped"
            self._reporter.warn(f"{self._trouble} ({error.strerror}: {error.filename})")
        else:
            self._kept += 1

    def _end_take(self) -> None:
        assert self._chooser is not None
        self._left_out = dict(self._chooser.left_out)
        self._chooser = None
        # Not here, where the camera waits: a memory card may take seconds.
        pictures = self.album.of_take(self._recording, self._take)
        Worker(lambda: files.settle(pictures), "settle").start()
        left = ", ".join(f"{count} {reason}" for reason, count in sorted(self._left_out.items()))
        kept = f"{self._recording}: {self._kept} pictures kept"
        self._reporter.say(f"{kept}; left out: {left}" if left else kept)

    def _work(self) -> None:
        """Prepare, compute features of new photographs, and teach when asked; in a thread of its own."""
        teacher: Teacher | None = None
        while not self._stopping.is_set():
            teacher = self._next(teacher)

    def _next(self, teacher: Teacher | None) -> Teacher | None:
        """Do the next piece of work with `teacher`, or make one; return it, None where that fails."""
        try:
            if teacher is None:
                if not (self._wanted or self.album.paths()):
                    self._rest(IDLE_S)
                    return None
                teacher = self._make()  # with the first picture: until then nothing is lost by waiting
                teacher.prepare()
            if self._begin():
                self._end(teacher.learn())
            elif not teacher.look_ahead():
                self._rest(IDLE_S)
        except Exception as error:  # the camera goes on with the network that it has
            self._fail(error)
            self._rest(None)
        return teacher

    def _rest(self, limit_s: float | None) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._wanted or self._stopping.is_set(), limit_s)

    def _begin(self) -> bool:
        with self._changed:
            self._teaching, self._wanted = self._wanted, False
            return self._teaching

    def _end(self, learnt: Learnt) -> None:
        self._taught(learnt)
        with self._changed:
            self._learnt = learnt
            self._lessons += 1
            self._teaching = False
            self._changed.notify_all()

    def _fail(self, error: Exception) -> None:
        full = isinstance(error, OSError) and error.errno in FULL
        reason = error.message if isinstance(error, EdgetlError) else str(error) or type(error).__name__
        said = "the disk is full" if full else reason
        with self._changed:
            self._teaching = self._wanted = False
            self._trouble = f"it could not be taught: {said}"
            self._changed.notify_all()
        self._reporter.warn(f"{self._trouble} ({error})" if full else self._trouble)


def _refusal(what: str, error: OSError) -> BadInputError:
    """What a person is told who pressed something that the disk does not take."""
    if error.errno in FULL:
        return BadInputError(f"the disk is full: {what}", "Make room on it.")
    where = f": {error.filename}" if error.filename else ""
    return BadInputError(f"{what} ({error.strerror or error}{where})", "See whether the disk can be written.")


def headline(state: State) -> str:
    """One line that says what happens now, or what to do."""
    shown = [thing for thing in state.things if thing.pictures]
    if state.trouble:
        return state.trouble
    if state.phase == "recording":
        return f"Show {readable(state.recording)}: {state.kept} pictures kept"
    if state.phase == "teaching":
        return "Learning. This takes some seconds."
    if state.said:
        return state.said
    if state.learnt and not state.changed:
        return judged(state.learnt)
    missing = [thing.name for thing in state.things if not thing.pictures and thing.name != NOTHING]
    if missing:
        return f"Hold {readable(missing[0])} before the camera, and record a take."
    return "New pictures: train again." if state.learnt else ("Train." if len(shown) > 1 else "Add a second thing.")


def judged(learnt: Learnt) -> str:
    """How good it is, in a sentence."""
    if learnt.top1 is None or learnt.top1_ci95 is None:
        return "How good it is cannot be known from one take of each thing: show a second one."
    low, high = learnt.top1_ci95
    interval = f"95 %: {percent(low)} to {percent(high)}"
    return f"{percent(learnt.top1)} right on {learnt.takes} takes that it was not taught ({interval})."


def readable(name: str) -> str:
    """A name as people write it."""
    return " ".join(name.replace("_", " ").split())
