"""What the camera does, as figures that Prometheus reads: its text format, version 0.0.4."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from toolchain._version import __version__
from toolchain.camera.answering import Answered
from toolchain.camera.sinks.messages import Changes
from toolchain.camera.smoothing import seen_as

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the histograms."""


class _Histogram:
    def __init__(self) -> None:
        self._counts = [0] * (len(SECONDS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(SECONDS, seconds)] += 1
        self._sum += seconds

    def samples(self, name: str) -> Iterator[str]:
        total = 0
        for bound, count in zip((*map(str, SECONDS), "+Inf"), tuple(self._counts), strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self._sum:.6f}"
        yield f"{name}_count {total}"


class Metrics:
    """Counts answers. `count` is called in the thread that answers and takes microseconds; `text` in any."""

    def __init__(self) -> None:
        self._answers: Counter[tuple[str, str]] = Counter()
        """How often, by region and label."""
        self._changed = Changes()
        self._changes = 0
        self._last: Answered | None = None
        self._seen: set[str] = set()
        self._age = _Histogram()
        self._infer = _Histogram()

    def count(self, answered: Answered) -> None:
        for one in answered.each():
            first = one.region not in self._seen
            self._changes += self._changed(one) and not first
            self._answers[one.region, _seen(one)] += 1
            self._seen.add(one.region)
        self._last = answered
        self._age.add(answered.age_ms / 1000)
        self._infer.add(answered.infer_ms / 1000)

    def text(self, about: Mapping[str, str], silent_s: float, state: str) -> bytes:
        """All figures. `silent_s` is how many seconds ago the last answer came; `state` says why there is none."""
        last = self._last
        answers = self._answers.copy()
        lines = [
            *_metric("info", "gauge", "What is running.", [(_labels({**about, "version": __version__}), 1)]),
            *_metric(
                "source_up", "gauge", "0 while the source is lost or the camera is paused.", [("", int(not state))]
            ),
            *_metric(
                "seconds_since_answer", "gauge", "Since the last answer, or the start.", [("", round(silent_s, 3))]
            ),
            *_metric(
                "answers_total",
                "counter",
                "Frames that were answered, by label; rejected ones have none.",
                [
                    (_labels(_of(region) | {"label": label}), count)
                    for (region, label), count in sorted(answers.items())
                ],
            ),
            *_metric("answer_changes_total", "counter", "How often the answer changed.", [("", self._changes)]),
        ]
        if last is not None:
            now = [(one, _of(one.region)) for one in last.each()]
            lines += [
                *_metric(
                    "frames_total", "counter", "Frames that the source has given.", [("", last.frame.number + 1)]
                ),
                *_metric(
                    "answer",
                    "gauge",
                    "The answer now.",
                    [(_labels(of | {"label": _seen(one)}), 1) for one, of in now],
                ),
                *_metric(
                    "probability",
                    "gauge",
                    "Of the most probable label now.",
                    [(_labels(of), round(one.prediction.probability, 6)) for one, of in now],
                ),
            ]
        histograms = (
            ("frame_age_seconds", "From capture to answer.", self._age),
            ("inference_seconds", "Time that the network took for a frame.", self._infer),
        )
        for name, help_text, histogram in histograms:
            lines += [*_head(name, "histogram", help_text), *histogram.samples(f"edgetl_{name}")]
        return ("\n".join(lines) + "\n").encode(errors="replace")


def _of(region: str) -> dict[str, str]:
    return {"region": region} if region else {}


def _seen(answered: Answered) -> str:
    return seen_as(answered.prediction.label, answered.prediction.rejected) or ""


def _metric(name: str, kind: str, help_text: str, samples: Iterable[tuple[str, float]]) -> Iterator[str]:
    yield from _head(name, kind, help_text)
    for labels, value in samples:
        yield f"edgetl_{name}{labels} {value}"


def _head(name: str, kind: str, help_text: str) -> tuple[str, str]:
    return f"# HELP edgetl_{name} {help_text}", f"# TYPE edgetl_{name} {kind}"


def _labels(values: Mapping[str, str]) -> str:
    if not values:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in values.items())
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
