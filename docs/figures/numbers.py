"""Single figures of the documents by their names, each from a results file."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from figures.results import (
    CAMERA,
    EXPLAIN,
    NEAR,
    PETS,
    RESULTS,
    ROOT,
    TEACH,
    Row,
    first,
    json_of,
    rows_of,
    span,
    where,
)


def tutorial_of(arm: str, column: str, form: str = ".3f") -> Callable[[], str]:
    return lambda: format(float(where(RESULTS / "tutorial.csv", arm=arm)[0][column]), form)


def finetune_of(tool: str, column: str, form: str = ".3f") -> Callable[[], str]:
    """A range over seeds."""
    rows = RESULTS / "finetune-pets-mobilenet_v2.csv"
    return lambda: span([format(float(row[column]), form) for row in where(rows, tool=tool)])


def road_of(model: str, step: str) -> Callable[[], str]:
    """Top-1 on the pets without a teacher: a range over seeds."""
    rows = RESULTS / "road-pets.csv"
    return lambda: span([f"{float(row['top1']):.3f}" for row in where(rows, model=model, teachers="", step=step)])


def _workers(device: str, kind: str, processes: int, threads: int, users: int, key: str) -> Callable[[], str]:
    def figure() -> str:
        (one,) = (
            arm
            for arm in json_of(ROOT / "benchmarks" / "serve" / "workers.json")["found"]
            if (arm["device"], arm["kind"], arm["processes"], arm["threads"], arm["users"])
            == (device, kind, processes, threads, users)
        )
        return f"{one[key]:,.0f}" if key == "per_second" else f"{one[key]:.2f}"

    return figure


def _pets_file(precision: str, device: str) -> dict[str, Any]:
    (arm,) = (arm for arm in json_of(PETS)["arms"] if (arm["precision"], arm["device"]) == (precision, device))
    found: dict[str, Any] = arm
    return found


def _near(measure: str, what: str, distance: int) -> Callable[[], str]:
    """How many of the pets' pairs or groups there are up to a distance in bits."""
    rows = partial(where, NEAR, measure=measure, data="pets", what=what)
    return lambda: str(sum(int(row["value"]) for row in rows() if int(row["distance"]) <= distance))


def _small(column: str) -> list[float]:
    return [float(row[column]) for row in rows_of(RESULTS / "small-5x20.csv")]


def _small_nll() -> list[float]:
    return [mine / best for mine, best in zip(_small("nll"), _small("best_nll"), strict=True)]


def _small_int8() -> str:
    drops = (
        float(part.split()[1])
        for row in rows_of(RESULTS / "small-5x20.csv")
        for part in row["int8_drop_pp"].split("; ")
    )
    return f"{max(drops):.2f}"


def _stability(key: str) -> Callable[[], str]:
    return lambda: str(json_of(RESULTS / "stability-mobilenet_v2.json")[key])


def _moved() -> list[float]:
    """By how many percent the median of the same file moved, each time."""
    tries = json_of(RESULTS / "stability-mobilenet_v2.json")["tries"]
    same = (ratio for one in tries if one["kind"] == "same" for ratio, _ in one["changes"].values())
    return [100 * abs(ratio - 1) for ratio in same]


def _interval(method: str, processes: int) -> Callable[[], str]:
    """In how many of 100 simulated runs the interval of the median holds that of the next run."""

    def figure() -> str:
        (row,) = where(RESULTS / "interval-coverage.csv", method=method, processes=str(processes))
        return f"{100 * float(row['holds_rerun']):.0f}"

    return figure


def _back() -> list[Row]:
    """The phases in which receivers of answers are back."""
    return [row for row in rows_of(AWAY) if row["phase"] in {"there again", "there at last"}]


STEADY, SLOWED = {"what": "steady"}, {"what": "slowed 40 times"}
PRESENT, CUTS, WHY = CAMERA / "present.csv", CAMERA / "cuts.csv", EXPLAIN / "why.csv"
AWAY = CAMERA / "away.csv"
GRAD_CAM = {"network": "float32", "method": "grad-cam"}

FIGURES: dict[str, Callable[[], str]] = {
    "suspects": first(TEACH / "suspects.csv", "found", planted="0"),
    "suspects-n": first(TEACH / "suspects.csv", "photographs", planted="0"),
    "probe-pets": tutorial_of("pets-probe", "test_top1"),
    "probe-pets-n": tutorial_of("pets-probe", "test", ".0f"),
    "probe-pets-error": tutorial_of("pets-probe", "test_error_pp", ".1f"),
    "probe-cats": tutorial_of("cats-vs-dogs-probe", "test_top1"),
    "probe-cats-n": tutorial_of("cats-vs-dogs-probe", "test", ".0f"),
    "probe-cats-error": tutorial_of("cats-vs-dogs-probe", "test_error_pp", ".1f"),
    "digits-probe": tutorial_of("digits-probe", "test_top1"),
    "digits-probe-n": tutorial_of("digits-probe", "test", ".0f"),
    "digits-probe-error": tutorial_of("digits-probe", "test_error_pp", ".1f"),
    "digits-val-n": tutorial_of("digits-usual-views", "val", ".0f"),
    "digits-usual-views": tutorial_of("digits-usual-views", "val_last_top1"),
    "digits-no-views": tutorial_of("digits-no-views", "val_last_top1"),
    "finetune-pets": finetune_of("edgetl", "test_top1"),
    "finetune-pets-seconds": finetune_of("edgetl", "wall_s", ".0f"),
    "throughput": lambda: f"{json_of(RESULTS / 'throughput-mobilenet_v2.json')['median_ratio']['edgetl']:.1f}",
    "throughput-range": lambda: span(
        [f"{ratio:.2f}" for ratio in json_of(RESULTS / "throughput-mobilenet_v2.json")["ratio_to_plain"]["edgetl"]]
    ),
    "small-unseen": lambda: span([f"{value:.0f}" for value in _small("unseen")]),
    "small-nll": lambda: f"{statistics.mean(_small_nll()):.2f}",
    "small-nll-range": lambda: span([f"{value:.2f}" for value in _small_nll()]),
    "small-accepted": lambda: span([f"{value:.3f}" for value in _small("accepted")]),
    "small-rejected": lambda: span([f"{value:.2f}" for value in _small("others_rejected")]),
    "small-int8": _small_int8,
    "near-within": _near("pairs", "within", 8),
    "near-across": _near("pairs", "across", 8),
    "near-across-of": first(NEAR, "of", ",.0f", data="pets", what="across"),
    "near-across-10": _near("pairs", "across", 10),
    "near-compressed": first(NEAR, "value", ".3f", what="JPEG of quality 30"),
    "near-shifted-2": first(NEAR, "value", ".3f", what="shifted by 2%"),
    "near-shifted-5": first(NEAR, "value", ".3f", what="shifted by 5%"),
    "near-groups": _near("split", "groups", 8),
    "near-held-back": _near("split", "photographs of val and test", 8),
    "promises-n": first(RESULTS / "int8-promises.csv", "n"),
    "stability-runs": lambda: str(1 + int(_stability("comparisons")()) // 2),
    "stability-alarms": _stability("false_alarms"),
    "stability-comparisons": _stability("comparisons"),
    "stability-median": lambda: f"{statistics.median(_moved()):.1f}",
    "stability-max": lambda: f"{max(_moved()):.1f}",
    "interval-bootstrap-3": _interval("bootstrap", 3),
    "interval-bootstrap-10": _interval("bootstrap", 10),
    "interval-student-3": _interval("student", 3),
    "interval-student-10": _interval("student", 10),
    "camera-machine": lambda: first(PRESENT, "machine", **STEADY)().split(";")[0],
    "camera-frames": first(PRESENT, "frames_in", ",.0f", **STEADY),
    "camera-answered": first(PRESENT, "answered", ",.0f", **STEADY),
    "camera-age-p50": first(PRESENT, "age_p50_ms", ".1f", **STEADY),
    "camera-age-p95": first(PRESENT, "age_p95_ms", ".1f", **STEADY),
    "camera-infer": first(PRESENT, "infer_p50_ms", ".1f", **STEADY),
    "camera-cores": first(PRESENT, "cores_used", ".2f", **STEADY),
    "camera-memory": first(PRESENT, "memory_grown_mib", ".1f", **STEADY),
    "camera-slow-fps": first(PRESENT, "fps", ".1f", **SLOWED),
    "camera-slow-p50": first(PRESENT, "age_p50_ms", ".0f", **SLOWED),
    "camera-slow-p95": first(PRESENT, "age_p95_ms", ".0f", **SLOWED),
    "camera-resumed": lambda: span(first(PRESENT, "resumed_after_s", what="pulled for 10 s, 3 times")().split()),
    "away-seconds": first(AWAY, "seconds", ".0f"),
    "away-there": lambda: span(
        [f"{float(row['age_p95_ms']):.0f}" for row in rows_of(AWAY) if "there" in row["phase"]]
    ),
    "away-killed": first(AWAY, "age_p95_ms", ".0f", phase="killed"),
    "away-frozen": first(AWAY, "age_p95_ms", ".0f", phase="frozen"),
    "away-broker": lambda: span([row["broker_knows_after_s"] for row in _back()]),
    "away-hook": lambda: span([row["hook_knows_after_s"] for row in _back()]),
    "away-load": first(AWAY, "load", ".1f"),
    "cuts-pets": first(CUTS, "pets"),
    "cuts-right": first(CUTS, "right_within_half_a_second", ".3f"),
    "cuts-others": first(CUTS, "others"),
    "cuts-rejected": lambda: f"{float(first(CUTS, 'others')()) * float(first(CUTS, 'others_rejected')()):.0f}",
    "why-n": first(WHY, "n", **GRAD_CAM),
    "why-grad-cam": first(WHY, "animal", ".2f", **GRAD_CAM),
    "why-area": first(WHY, "chance", ".2f", **GRAD_CAM),
    "why-occlusion": first(WHY, "animal", ".2f", network="float32", method="occlusion"),
    "why-occlusion-int8": first(WHY, "animal", ".2f", network="int8 on ort:cpu", method="occlusion"),
    "attack-dogs": first(EXPLAIN / "attack.csv", "dogs", budget="1"),
    "attack-float-1": first(EXPLAIN / "attack.csv", "float_to_target", ".2f", budget="1"),
    "attack-int8-1": first(EXPLAIN / "attack.csv", "int8_to_target", ".2f", budget="1"),
    "attack-float-4": first(EXPLAIN / "attack.csv", "float_to_target", ".2f", budget="4"),
    "attack-int8-4": first(EXPLAIN / "attack.csv", "int8_to_target", ".2f", budget="4"),
    "serve-ort-two": _workers("ort:cpu", "edgetl", 2, 1, 1, "per_second"),
    "serve-ov-two": _workers("openvino:CPU", "edgetl", 2, 1, 1, "per_second"),
    "serve-ort-one": _workers("ort:cpu", "edgetl", 1, 1, 1, "per_second"),
    "serve-ov-one": _workers("openvino:CPU", "edgetl", 1, 1, 1, "per_second"),
    "serve-ort-shared": _workers("ort:cpu", "edgetl", 1, 2, 8, "of_ideal"),
    "serve-ov-shared": _workers("openvino:CPU", "edgetl", 1, 2, 8, "of_ideal"),
    "int8-mb": lambda: f"{_pets_file('int8', 'ort:cpu')['file_mb']:.1f}",
    "float-mb": lambda: f"{_pets_file('float32', 'ort:cpu')['file_mb']:.1f}",
}
