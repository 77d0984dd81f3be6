"""From a frame to its answer: resize, infer, smooth, name. Measures each step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from toolchain.camera.engine import Engine, Network
from toolchain.camera.frames import BgrImage, Clock, Frame
from toolchain.camera.regions import Box, Region
from toolchain.camera.smoothing import Debouncer, Smoother, is_uniform, thumbnail
from toolchain.classifier import Classifier, Prediction
from toolchain.evaluation.statistics import MIN_FOR_P99
from toolchain.runtimes import Answer
from toolchain.system import files

NOT_SURE = "not sure"
"""What people read if the answer is rejected."""
KEPT = 1 << 16
"""How many values percentiles are taken of: the last 36 minutes at 30 frames per second."""


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of the last values, at most `KEPT`; None if there are none, `p99` also below MIN_FOR_P99."""

    p50: float | None
    p95: float | None
    p99: float | None


class Series:
    """The last values of one quantity, in memory that does not grow."""

    def __init__(self, kept: int = KEPT) -> None:
        self._values = np.empty(kept, np.float64)
        self._seen = 0

    def add(self, value: float) -> None:
        self._values[self._seen % len(self._values)] = value
        self._seen += 1

    def percentiles(self) -> Percentiles:
        values = self._values[: self._seen]
        if not len(values):
            return Percentiles(None, None, None)
        p50, p95, p99 = (round(float(value), 3) for value in np.percentile(values, (50, 95, 99)))
        return Percentiles(p50, p95, p99 if len(values) >= MIN_FOR_P99 else None)


class Rate:
    """Events per second, over the last second or so."""

    TIME_CONSTANT_S = 1.0

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._interval_s: float | None = None

    def event(self, now_s: float) -> float:
        """Count an event at `now_s`, and return the rate; 0 while it is unknown."""
        if self._last_s is not None:
            interval = max(now_s - self._last_s, 1e-6)
            share = 1 - np.exp(-interval / self.TIME_CONSTANT_S)
            before = interval if self._interval_s is None else self._interval_s
            self._interval_s = float(before + share * (interval - before))
        self._last_s = now_s
        return 1 / self._interval_s if self._interval_s else 0.0


@dataclass(frozen=True)
class ComparedAnswer:
    """What another network answers for the same frame, not smoothed."""

    name: str
    prediction: Prediction
    infer_ms: float


@dataclass(frozen=True)
class RegionAnswer:
    """The smoothed answer to a part of the picture. `uniform`: it shows nothing."""

    name: str
    box: Box
    prediction: Prediction
    uniform: bool

    def line(self) -> dict[str, object]:
        """What `edgetl camera --json` prints of it."""
        prediction = self.prediction
        return {
            "answer": prediction.answer,
            "label": prediction.label,
            "probability": round(prediction.probability, 6),
            "rejected": prediction.rejected,
        }


@dataclass(frozen=True)
class Answered:
    """A frame with its smoothed answer. `age_ms` is the time from its capture to this answer.

    Of the age, `wait_ms` passed before the loop took the frame, `resize_ms` in resizing, `infer_ms` in inference.
    `fps` is the rate of answers. `network` names the precision and the device that answered. `uniform`: the frame
    shows nothing, such as a lens cap. If parts of the picture were asked for, `regions` has an answer to each, and
    `prediction` is that of the first. `region` names the part that `frame` shows, where `each` made it.
    """

    frame: Frame
    prediction: Prediction
    age_ms: float
    infer_ms: float
    fps: float
    wait_ms: float = 0.0
    resize_ms: float = 0.0
    network: str = ""
    uniform: bool = False
    compared: ComparedAnswer | None = None
    regions: tuple[RegionAnswer, ...] = ()
    region: str = ""

    def each(self) -> Iterator[Answered]:
        """One for each region, with its part of the frame and its answer; without regions, this one."""
        if not self.regions:
            yield self
        for one in self.regions:
            frame = replace(self.frame, bgr=_part(self.frame.bgr, one.box))
            prediction, uniform = one.prediction, one.uniform
            yield replace(self, frame=frame, prediction=prediction, uniform=uniform, regions=(), region=one.name)

    def line(self) -> dict[str, object]:
        """What `edgetl camera --json` prints. `answer` is null if the label is rejected."""
        line: dict[str, object] = {
            "frame": self.frame.number,
            "time_s": round(self.frame.time_s, 4),
            "label": self.prediction.label,
            "probability": round(self.prediction.probability, 6),
            "rejected": self.prediction.rejected,
            "age_ms": round(self.age_ms, 3),
            "infer_ms": round(self.infer_ms, 3),
            "answer": self.prediction.answer,
        }
        if self.region:
            line["region"] = self.region
        if self.regions:
            line["regions"] = {one.name: one.line() for one in self.regions}
        return line

    def json_line(self) -> str:
        """The same as one line of JSON."""
        return files.to_json(self.line(), indent=0).decode().strip()


@dataclass(frozen=True, eq=False)
class RunningInference:
    """An inference, and when it began by the clock."""

    network: Network
    since_s: float
    is_new: bool = False
    """Whether the device may compile the network first: it meets so many pictures, or such a size, newly."""


def pretty(label: str) -> str:
    """A class name as people write it: `american bulldog` for `american_bulldog`."""
    return " ".join(label.replace("_", " ").split())


def shown_name(prediction: Prediction) -> str:
    """What a person reads as the answer."""
    return NOT_SURE if prediction.rejected else pretty(prediction.label)


def _part(bgr: BgrImage, box: Box) -> BgrImage:
    left, top, right, bottom = box
    return bgr[top:bottom, left:right]


class _Track:
    """What is remembered of one part of the picture, or of the whole."""

    def __init__(self) -> None:
        self.smooth = Smoother()
        self.hold = Debouncer()


class AbandonedError(Exception):
    """The inference took so long that another thread answers now."""


class Answering:
    """Answers one frame after another. Used by one thread at a time."""

    def __init__(self, engine: Engine, min_probability: float, clock: Clock) -> None:
        self.count: int = 0
        self.running: RunningInference | None = None
        """The inference that is running now."""
        self._lock = Lock()
        self._engine = engine
        self._min_probability = min_probability
        self._clock = clock
        self.regions: tuple[Region, ...] = ()
        """The parts of a frame that are answered instead of the whole. Others may be set before each frame."""
        self._tracks: dict[Region | None, _Track] = {None: _Track()}
        self._changes_before = 0
        """Those of regions that were taken away."""
        self._rate = Rate()
        self._times = {name: Series() for name in ("age", "wait", "resize", "infer", "own")}

    @property
    def changes(self) -> int:
        """How often the label or its rejection changed, in all regions together."""
        return self._changes_before + sum(track.hold.changes for track in self._tracks.values())

    def times_ms(self) -> dict[str, Percentiles]:
        """How long each step of a frame takes, as the `Summary` names it. `own`: all that is not inference."""
        return {f"{name}_ms": series.percentiles() for name, series in self._times.items()}

    def abandon(self, inference: RunningInference | None) -> bool:
        """Give up `inference`, and return whether it was still running."""
        with self._lock:
            if inference is None or self.running is not inference:
                return False
            self.running = None
            return True

    def answer(self, frame: Frame) -> Answered:
        """The answer to `frame`. If the device fails, another one answers.

        Raises AbandonedError if the inference was given up, MissingError if no device can answer.
        """
        taken_s = self._clock.now()
        mirrored = self._engine.mirror_average and self.count % 2 == 1
        height, width = frame.bgr.shape[:2]
        tracks = self._tracks = self._tracks_now()
        boxes = [region.box(height, width) if region else None for region in tracks]
        parts = [_part(frame.bgr, box) if box else frame.bgr for box in boxes]
        while True:
            network = self._engine.network
            pixels = network.pixels(parts)
            asked = np.ascontiguousarray(pixels[:, :, ::-1]) if mirrored else pixels
            resized_s = self._clock.now()
            try:
                answer, infer_ms = self._timed(network, asked)
            except AbandonedError:
                raise
            except Exception as error:  # runtimes raise what they like
                self._engine.fall_back(network, f"failed ({_first_line(error)})")
            else:
                network.has_answered = True
                break
        found = [
            self._smoothed(track, network.classifier, logits, one, frame.time_s)
            for track, logits, one in zip(tracks.values(), answer.logits, pixels, strict=True)
        ]
        prediction, uniform = found[0]
        compared = self._compare(parts[0])
        now = self._clock.now()
        self.count += 1
        times_ms = {
            "age": 1000 * (now - frame.captured_s),
            "wait": 1000 * (taken_s - frame.captured_s),
            "resize": 1000 * (resized_s - taken_s),
            "infer": infer_ms,
            "own": 1000 * (now - taken_s) - infer_ms - (compared.infer_ms if compared else 0.0),
        }
        for name, value in times_ms.items():
            self._times[name].add(value)
        return Answered(
            frame,
            prediction,
            age_ms=times_ms["age"],
            infer_ms=infer_ms,
            fps=self._rate.event(now),
            wait_ms=times_ms["wait"],
            resize_ms=times_ms["resize"],
            network=network.name,
            uniform=uniform,
            compared=compared,
            regions=tuple(
                RegionAnswer(region.name, box, *one)
                for region, box, one in zip(tracks, boxes, found, strict=True)
                if region and box
            ),
        )

    def _tracks_now(self) -> dict[Region | None, _Track]:
        """What is remembered of each region that is wanted now; a new one begins with nothing."""
        wanted: tuple[Region | None, ...] = self.regions or (None,)
        if wanted == tuple(self._tracks):
            return self._tracks
        left = [track for region, track in self._tracks.items() if region not in wanted]
        self._changes_before += sum(track.hold.changes for track in left)
        return {region: self._tracks.get(region) or _Track() for region in wanted}

    def _timed(self, network: Network, pixels: NDArray[np.uint8]) -> tuple[Answer, float]:
        before = self._clock.now()
        mine = self.running = RunningInference(network, before, network.compiles_for(pixels))
        try:
            answer = network.infer(pixels)
        finally:
            if not self.abandon(mine):
                raise AbandonedError
        if not np.isfinite(answer.logits).all():
            raise ArithmeticError("its answer is not a number")
        return answer, 1000 * (self._clock.now() - before)

    def _smoothed(
        self,
        track: _Track,
        classifier: Classifier,
        logits: NDArray[np.float32],
        pixels: NDArray[np.uint8],
        time_s: float,
    ) -> tuple[Prediction, bool]:
        """What is shown for a part of the picture, and whether it shows nothing."""
        seen = thumbnail(pixels)
        uniform = is_uniform(seen)
        smoothed = track.smooth(logits, classifier.card.temperature, time_s, seen)
        [prediction] = classifier.interpret(smoothed)
        unsure = uniform or prediction.rejected or prediction.probability < self._min_probability
        label, rejected = track.hold(prediction.label, unsure, time_s, new_scene=track.smooth.restarted)
        probability = prediction.probability
        if label != prediction.label:
            probability = float(smoothed.probabilities[0, classifier.card.labels.index(label)])
        return replace(prediction, label=label, probability=probability, rejected=rejected), uniform

    def _compare(self, bgr: BgrImage) -> ComparedAnswer | None:
        network = self._engine.compared
        if network is None:
            return None
        try:
            answer, infer_ms = self._timed(network, network.preprocess(bgr))
        except AbandonedError:
            raise
        except Exception as error:
            self._engine.fall_back(network, f"failed ({_first_line(error)})")
            return None
        [prediction] = network.classifier.interpret(answer)
        return ComparedAnswer(network.name, prediction, infer_ms)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
