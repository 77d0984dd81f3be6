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
from typing import Literal

from toolchain.camera.answering import AbandonedError, Answered, Answering, Percentiles
from toolchain.camera.engine import Engine
from toolchain.camera.frames import SYSTEM_CLOCK, Clock, SourceLostError
from toolchain.camera.regions import Region
from toolchain.camera.sinks import Sink
from toolchain.camera.sources.capture import Capture
from toolchain.camera.threads import DropOldestQueue, Worker
from toolchain.errors import StoppedError
from toolchain.runtimes import LOADING_LIMIT_S

SLICE_S = 0.02
"""How often keys and signals are checked, at least."""
INFERENCE_LIMIT_S = 10.0
"""A device that takes longer for one frame counts as hanging."""
LEAVE_S = 3.0
"""How long the end waits for the last answer."""
ASLEEP_S = 1.0
"""If the loop did not run for so long, the process was stopped or the machine slept."""

Ending = Literal["end", "duration", "frames", "quit", "interrupted", "terminated", "lost"]


class Control:
    """What a person wants while the loop runs; set by keys and signals."""

    def __init__(self) -> None:
        self.ending: Ending | None = None
        """Why the loop should end; None: it should not. The first reason counts."""
        self.paused = False
        self.begun = False
        """Whether the loop has begun."""
        self.regions: tuple[Region, ...] = ()
        """The parts of the picture that are answered instead of the whole."""

    def end(self, why: Ending) -> None:
        if self.ending is None:
            self.ending = why


@dataclass(frozen=True)
class StopConditions:
    """When to stop; None means never. Answers below `min_probability` are rejected."""

    duration_s: float | None = None
    frames: int | None = None
    min_probability: float = 0.0
    inference_s: float = INFERENCE_LIMIT_S


@dataclass(frozen=True)
class Summary:
    """What the loop did. `frames_dropped` were captured but not answered, mostly because a newer frame had come.

    `changes` counts how often the answer changed. `own_ms` is the time for a frame besides inference: resizing,
    smoothing, passing on.
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
    *,
    limits: StopConditions | None = None,
    control: Control | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Summary:
    """Answer the newest frame of `capture`, not yet started, until it, a limit or `control` ends the loop.

    Sinks whose delivery is `main` are called by this thread, all others by the thread that answers (those that take
    their time need `BackgroundSink` around them).
    A source that is lost for good ends the loop; the summary says so. Any other error of the source is raised, and
    so is the error of the runtime when no other device can go on.
    """
    limits, control = limits or StopConditions(), control or Control()
    loop = _Loop(engine, capture, sinks, limits, control, clock)
    control.begun = True
    with capture:
        return loop.run()


class _Loop:
    def __init__(
        self,
        engine: Engine,
        capture: Capture,
        sinks: Sequence[Sink],
        limits: StopConditions,
        control: Control,
        clock: Clock,
    ) -> None:
        self._engine, self._capture = engine, capture
        self._shown_here = [sink for sink in sinks if sink.delivery == "main"]
        self._sinks = [sink for sink in sinks if sink.delivery != "main"]
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
            self._answering.abandon(self._answering.running)
            worker.join(SLICE_S)
        if self._error is not None:
            raise self._error
        return self._summary()

    def _show_next(self) -> None:
        answered = self._to_show.take(SLICE_S)
        for sink in self._shown_here:
            if answered is not None:
                sink.show(answered)
            else:
                sink.idle(self._state())

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
        """Answer until the loop ends; runs in a thread of its own."""
        never = Event()
        try:
            while self._control.ending is None and not self._capture.ended:
                if self._control.paused:
                    for sink in self._sinks:
                        sink.idle(self._state())
                    self._clock.wait(never, SLICE_S)
                    continue
                frame = self._capture.take(SLICE_S)
                if frame is None:
                    for sink in self._sinks:
                        sink.idle(self._state())
                    continue
                self._answering.regions = self._control.regions
                answered = self._answering.answer(frame)
                for sink in self._sinks:
                    sink.show(answered)
                if self._shown_here:
                    self._to_show.put(answered)
                self._look_at_limits()
        except AbandonedError:
            return  # another thread answers now
        except Exception as error:
            self._error = error
        self._to_show.close()

    def _late(self) -> bool:
        """Whether the loop should have ended and did not, because a device hangs."""
        if self._control.ending is None:
            return False
        if self._ending_since_s is None:
            self._ending_since_s = self._clock.now()
        return self._clock.now() - self._ending_since_s > LEAVE_S

    def _left_behind(self) -> bool:
        """Whether the device hangs and was given up. Its thread cannot be stopped, so another one has to answer."""
        now = self._clock.now()
        if now - self._looked_s > ASLEEP_S:
            self._awake_since_s = now  # no device could answer in that time
        self._looked_s = now
        running = self._answering.running
        limit_s = self._limits.inference_s
        if running is not None and running.is_new:
            limit_s = max(limit_s, LOADING_LIMIT_S)
        if running is None or now - max(running.since_s, self._awake_since_s) <= limit_s:
            return False
        if not self._answering.abandon(running):
            return False  # it has just answered
        self._engine.fall_back(running.network, f"gave no answer for {limit_s:g} s")
        return True

    def _summary(self) -> Summary:
        seconds = self._clock.now() - self._start_s
        runtime = self._engine.network.classifier.runtime
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
            **self._answering.times_ms(),
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
    """While the block runs, SIGINT, SIGTERM and SIGHUP make the loop end in order: files closed, summary printed.

    Before the loop has begun, SIGINT raises KeyboardInterrupt and the others StoppedError. A second signal raises
    KeyboardInterrupt. A SIGHUP that was ignored before (by `nohup`) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only
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
