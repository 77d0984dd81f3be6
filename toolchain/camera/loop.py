"""The loop: a thread answers the newest frame again and again; the calling thread shows the answers.

Showing never holds back answering: what cannot be shown in time is not shown.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from types import FrameType
from typing import Literal, Protocol

from toolchain.camera.answering import AbandonedError, Answered, Answering, Percentiles
from toolchain.camera.engine import Engine
from toolchain.camera.frames import SYSTEM_CLOCK, Clock, SourceLostError
from toolchain.camera.sources.capture import Capture
from toolchain.camera.threads import DropOldestQueue, Worker
from toolchain.errors import StoppedError

SLICE_S = 0.02
"""The longest that anybody waits before he looks at keys and signals again."""
INFERENCE_LIMIT_S = 10.0
"""A device that takes longer than this for one frame hangs."""
LEAVE_S = 3.0
"""The longest that the end waits for the last answer."""
ASLEEP_S = 1.0
"""Who looks every 20 ms and has not looked for so long was asleep."""

Ending = Literal["end", "duration", "frames", "quit", "interrupted", "terminated", "lost"]


class Sink(Protocol):
    """What is done with an answer: print it, show it, record it, send it on. The frame's pixels stay as they are.

    Called by the thread that answers, so it must come back at once (`toolchain.camera.sinks.background` gives slow
    ones a thread); only the `screen` of the run is called by the thread that called `run`, as windows want it.
    """

    def show(self, answered: Answered) -> None: ...

    def idle(self, state: str) -> None:
        """Called often while there is nothing to show; `state` says what is the matter, if anything is."""


class Control:
    """What a person wants meanwhile; set by keys and signals."""

    def __init__(self) -> None:
        self.ending: Ending | None = None
        """Why the loop is to end, if it is: the first reason that came."""
        self.paused = False
        self.begun = False
        """Whether there is, or was, a loop to obey."""

    def end(self, why: Ending) -> None:
        if self.ending is None:
            self.ending = why


@dataclass(frozen=True)
class StopConditions:
    """When to stop; None is never. Answers below `min_probability` are rejected."""

    duration_s: float | None = None
    frames: int | None = None
    min_probability: float = 0.0
    inference_s: float = INFERENCE_LIMIT_S


@dataclass(frozen=True)
class Summary:
    """What the loop did. `frames_dropped` were captured and never answered, mostly since a newer one was there.

    `changes` counts how often the label or its rejection became another. `own_ms` is what the loop takes for a
    frame besides inference: resizing, smoothing, handing on.
    """

    source: str
    given: str
    device: str
    provider_effective: str
    ended: Ending
    lost: bool
    """Whether the source was lost when it ended."""
    seconds: float
    frames_in: int
    frames_answered: int
    frames_dropped: int
    fps: float
    changes: int
    reconnects: int
    failures: tuple[str, ...]
    """Devices that failed and were replaced."""
    age_ms: Percentiles
    wait_ms: Percentiles
    resize_ms: Percentiles
    infer_ms: Percentiles
    own_ms: Percentiles


def run(
    engine: Engine,
    capture: Capture,
    sinks: Sequence[Sink],
    screen: Sink | None = None,
    *,
    limits: StopConditions | None = None,
    control: Control | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Summary:
    """Answer the newest frame of `capture`, not yet started, until it, a limit or `control` ends the loop.

    A source that is lost for good ends the loop and is told in the summary; what else the source raised is raised,
    and so is what the runtime raises when no other device can go on.
    """
    limits, control = limits or StopConditions(), control or Control()
    loop = _Loop(engine, capture, sinks, screen, limits, control, clock)
    control.begun = True
    with capture:
        return loop.run()


class _Loop:
    def __init__(
        self,
        engine: Engine,
        capture: Capture,
        sinks: Sequence[Sink],
        screen: Sink | None,
        limits: StopConditions,
        control: Control,
        clock: Clock,
    ) -> None:
        self._engine, self._capture, self._sinks, self._screen = engine, capture, sinks, screen
        self._limits, self._control, self._clock = limits, control, clock
        self._answering = Answering(engine, limits.min_probability, clock)
        self._to_show: DropOldestQueue[Answered] = DropOldestQueue(
            every=capture.every, given_up=lambda: control.ending is not None
        )
        self._start_s = clock.now()
        self._error: Exception | None = None
        self._ending_since_s: float | None = None
        self._looked_s = self._awake_since_s = self._start_s

    def run(self) -> Summary:
        """Show answers until there are no more."""
        worker = self._start()
        try:
            while worker.is_alive() or not self._to_show.ended:
                self._show_next()
                self._look_at_limits()
                if self._late():
                    break
                if self._left_behind():
                    worker = self._start()
        finally:
            self._to_show.close()
            self._answering.abandon(self._answering.busy)
            worker.join(SLICE_S)
        if self._error is not None:
            raise self._error
        return self._summary()

    def _show_next(self) -> None:
        answered = self._to_show.take(SLICE_S)
        if self._screen is None:
            return
        if answered is not None:
            self._screen.show(answered)
        else:
            self._screen.idle(self._state())

    def _state(self) -> str:
        if self._control.paused:
            return "paused"
        outage = self._capture.outage
        return f"{outage.reason} ({self._clock.now() - outage.since_s:.0f} s)" if outage else ""

    def _look_at_limits(self) -> None:
        limits = self._limits
        if limits.frames is not None and self._answering.count >= limits.frames:
            self._control.end("frames")
        elif limits.duration_s is not None and self._clock.now() - self._start_s >= limits.duration_s:
            self._control.end("duration")

    def _start(self) -> Thread:
        worker = Worker(self._answer_all, "answer")
        worker.start()
        return worker

    def _answer_all(self) -> None:
        """Answer until something ends the loop; runs in a thread of its own."""
        never = Event()
        try:
            while self._control.ending is None and not self._capture.ended:
                if self._control.paused:
                    self._clock.wait(never, SLICE_S)
                    continue
                frame = self._capture.take(SLICE_S)
                if frame is None:
                    for sink in self._sinks:
                        sink.idle(self._state())
                    continue
                answered = self._answering.answer(frame)
                for sink in self._sinks:
                    sink.show(answered)
                if self._screen is not None:
                    self._to_show.put(answered)
                self._look_at_limits()
        except AbandonedError:
            return  # another thread answers now
        except Exception as error:
            self._error = error
        self._to_show.close()

    def _late(self) -> bool:
        """Whether the end was asked for and does not come, since a device hangs."""
        if self._control.ending is None:
            return False
        if self._ending_since_s is None:
            self._ending_since_s = self._clock.now()
        return self._clock.now() - self._ending_since_s > LEAVE_S

    def _left_behind(self) -> bool:
        """Whether the device hung, and was given up: its thread cannot be ended, and another one has to answer."""
        now = self._clock.now()
        if now - self._looked_s > ASLEEP_S:
            self._awake_since_s = now  # this process was stopped, or the machine slept: nobody could answer
        self._looked_s = now
        busy = self._answering.busy
        limit_s = self._limits.inference_s
        if busy is None or now - max(busy.since_s, self._awake_since_s) <= limit_s:
            return False
        if not self._answering.abandon(busy):
            return False  # the answer came after all
        self._engine.fall_back(busy.network, f"gave no answer for {limit_s:g} s")
        return True

    def _summary(self) -> Summary:
        seconds = self._clock.now() - self._start_s
        runtime = self._engine.network.classifier.runtime
        shares = self._answering.shares()
        count, frames_in = self._answering.count, self._capture.frames_in
        ended = self._control.ending or self._source_ending()
        return Summary(
            source=self._capture.source.name,
            given=self._capture.source.given,
            device=runtime.device,
            provider_effective=runtime.provider_effective,
            ended=ended,
            lost=ended == "lost" or self._capture.outage is not None,
            seconds=round(seconds, 3),
            frames_in=frames_in,
            frames_answered=count,
            frames_dropped=frames_in - count,
            fps=round(count / seconds, 2) if seconds > 0 else 0.0,
            changes=self._answering.changes,
            reconnects=self._capture.reconnects,
            failures=tuple(self._engine.failures),
            age_ms=shares.age,
            wait_ms=shares.wait,
            resize_ms=shares.resize,
            infer_ms=shares.infer,
            own_ms=shares.own,
        )

    def _source_ending(self) -> Ending:
        error = self._capture.error
        if error is None:
            return "end"
        if isinstance(error, SourceLostError):
            return "lost"
        raise error


@contextmanager
def ended_by_signals(control: Control) -> Iterator[None]:
    """While the block runs, SIGINT, SIGTERM and SIGHUP ask the loop to end: a service ends by SIGTERM, which is as
    good an end as any. One that comes before there is a loop raises KeyboardInterrupt (StoppedError, unless it is
    Ctrl-C), and so does a second one. A SIGHUP that was ignored before (by `nohup`) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python hands signals to the main thread only
        return

    once = False

    def asked(number: int, frame: FrameType | None) -> None:
        nonlocal once
        by_hand = number == signal.SIGINT
        if once or not control.begun:
            raise KeyboardInterrupt if once or by_hand else StoppedError
        once = True
        control.end("interrupted" if by_hand else "terminated")

    heard = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        heard.append(signal.SIGHUP)
    before = {number: signal.signal(number, asked) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
