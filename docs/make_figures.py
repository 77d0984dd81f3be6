"""Write the figures of the documents from what was measured: `python docs/make_figures.py`.

A figure in a document stands between `<!--=NAME-->` and `<!--/-->`, a table between `<!-- table: NAME -->` and
`<!-- end of table -->`. FIGURES and TABLES say what each name is, from the results files of `benchmarks/` and
`models/pets`. A test fails when a document is stale, and when one states an accuracy that has no name.
"""

from __future__ import annotations

import csv
import json
import math
import re
import runpy
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"
CAMERA = ROOT / "benchmarks" / "camera" / "results"
ADOPT = ROOT / "benchmarks" / "adopt" / "results"
BROWSER = ROOT / "benchmarks" / "browser" / "results"
EXPLAIN = ROOT / "benchmarks" / "explain" / "results"
TEACH = ROOT / "benchmarks" / "teach" / "results"
NEAR = RESULTS / "near-duplicates.csv"
PETS = ROOT / "models" / "pets" / "bench.json"

FIGURE = re.compile(r"(?<=<!--=)([a-z0-9.-]+)-->(.*?)(?=<!--/-->)", re.DOTALL)
TABLE = re.compile(r"(?<=<!-- table: )([a-z0-9.-]+) -->\n.*?(?=<!-- end of table -->)", re.DOTALL)

Row = dict[str, str]


def documents() -> list[Path]:
    """The pages that hold figures."""
    pages = (path for path in sorted(DOCS.rglob("*.md")) if "site" not in path.relative_to(DOCS).parts)
    return [ROOT / "README.md", ROOT / "benchmarks" / "finetune" / "README.md", *pages]


def fresh(text: str) -> str:
    """A document's text with the figures that its names stand for now. Raises KeyError for an unknown name."""
    text = FIGURE.sub(lambda found: f"{found[1]}-->{FIGURES[found[1]]()}", text)
    return TABLE.sub(lambda found: f"{found[1]} -->\n{TABLES[found[1]]()}", text)


@cache
def _rows(path: Path) -> tuple[Row, ...]:
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


@cache
def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _where(path: Path, **values: str) -> list[Row]:
    return [row for row in _rows(path) if all(row[name] == value for name, value in values.items())]


def _mean(rows: list[Row], column: str) -> float:
    return statistics.mean(float(row[column]) for row in rows)


def _range(values: list[str]) -> str:
    """`a to b`, or one value."""
    ordered = sorted(values, key=float)
    return ordered[0] if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"


def _tutorial(arm: str, column: str, form: str = ".3f") -> Callable[[], str]:
    return lambda: format(float(_where(RESULTS / "tutorial.csv", arm=arm)[0][column]), form)


def _finetune(tool: str, column: str, form: str = ".3f") -> Callable[[], str]:
    """A range over seeds."""
    rows = RESULTS / "finetune-pets-mobilenet_v2.csv"
    return lambda: _range([format(float(row[column]), form) for row in _where(rows, tool=tool)])


def _tricks(arm: str, column: str) -> Callable[[], str]:
    return lambda: f"{_mean(_where(RESULTS / 'tricks-pets-mobilenet_v3_small.csv', arm=arm), column):.3f}"


def _first(path: Path, column: str, form: str = "", **values: str) -> Callable[[], str]:
    def figure() -> str:
        text = _where(path, **values)[0][column]
        return format(float(text), form) if form else text

    return figure


def _workers(device: str, kind: str, processes: int, threads: int, users: int, key: str) -> Callable[[], str]:
    def figure() -> str:
        (one,) = (
            arm
            for arm in _json(ROOT / "benchmarks" / "serve" / "workers.json")["found"]
            if (arm["device"], arm["kind"], arm["processes"], arm["threads"], arm["users"])
            == (device, kind, processes, threads, users)
        )
        return f"{one[key]:,.0f}" if key == "per_second" else f"{one[key]:.2f}"

    return figure


def _pets_file(precision: str, device: str) -> dict[str, Any]:
    (arm,) = (arm for arm in _json(PETS)["arms"] if (arm["precision"], arm["device"]) == (precision, device))
    found: dict[str, Any] = arm
    return found


def _near(measure: str, what: str, distance: int) -> Callable[[], str]:
    """How many of the pets' pairs or groups there are up to a distance in bits."""
    rows = partial(_where, NEAR, measure=measure, data="pets", what=what)
    return lambda: str(sum(int(row["value"]) for row in rows() if int(row["distance"]) <= distance))


def _small(column: str) -> list[float]:
    return [float(row[column]) for row in _rows(RESULTS / "small-5x20.csv")]


def _small_nll() -> list[float]:
    return [mine / best for mine, best in zip(_small("nll"), _small("best_nll"), strict=True)]


def _small_int8() -> str:
    drops = (
        float(part.split()[1])
        for row in _rows(RESULTS / "small-5x20.csv")
        for part in row["int8_drop_pp"].split("; ")
    )
    return f"{max(drops):.2f}"


def _stability(key: str) -> Callable[[], str]:
    return lambda: str(_json(RESULTS / "stability-mobilenet_v2.json")[key])


def _moved() -> list[float]:
    """By how many percent the median of the same file moved, each time."""
    tries = _json(RESULTS / "stability-mobilenet_v2.json")["tries"]
    same = (ratio for one in tries if one["kind"] == "same" for ratio, _ in one["changes"].values())
    return [100 * abs(ratio - 1) for ratio in same]


def _interval(method: str, processes: int) -> Callable[[], str]:
    """In how many of 100 simulated runs the interval of the median holds that of the next run."""

    def figure() -> str:
        (row,) = _where(RESULTS / "interval-coverage.csv", method=method, processes=str(processes))
        return f"{100 * float(row['holds_rerun']):.0f}"

    return figure


def _back() -> list[Row]:
    """The phases in which receivers of answers are back."""
    return [row for row in _rows(AWAY) if row["phase"] in {"there again", "there at last"}]


STEADY, SLOWED = {"what": "steady"}, {"what": "slowed 40 times"}
PRESENT, CUTS, WHY = CAMERA / "present.csv", CAMERA / "cuts.csv", EXPLAIN / "why.csv"
AWAY = CAMERA / "away.csv"
GRAD_CAM = {"network": "float32", "method": "grad-cam"}

FIGURES: dict[str, Callable[[], str]] = {
    "suspects": _first(TEACH / "suspects.csv", "found", planted="0"),
    "suspects-n": _first(TEACH / "suspects.csv", "photographs", planted="0"),
    "probe-pets": _tutorial("pets-probe", "test_top1"),
    "probe-pets-n": _tutorial("pets-probe", "test", ".0f"),
    "probe-pets-error": _tutorial("pets-probe", "test_error_pp", ".1f"),
    "probe-cats": _tutorial("cats-vs-dogs-probe", "test_top1"),
    "probe-cats-n": _tutorial("cats-vs-dogs-probe", "test", ".0f"),
    "probe-cats-error": _tutorial("cats-vs-dogs-probe", "test_error_pp", ".1f"),
    "digits-probe": _tutorial("digits-probe", "test_top1"),
    "digits-probe-n": _tutorial("digits-probe", "test", ".0f"),
    "digits-probe-error": _tutorial("digits-probe", "test_error_pp", ".1f"),
    "digits-val-n": _tutorial("digits-usual-views", "val", ".0f"),
    "digits-usual-views": _tutorial("digits-usual-views", "val_last_top1"),
    "digits-no-views": _tutorial("digits-no-views", "val_last_top1"),
    "finetune-pets": _finetune("edgetl", "test_top1"),
    "finetune-pets-seconds": _finetune("edgetl", "wall_s", ".0f"),
    "throughput": lambda: f"{_json(RESULTS / 'throughput-mobilenet_v2.json')['median_ratio']['edgetl']:.1f}",
    "throughput-range": lambda: _range(
        [f"{ratio:.2f}" for ratio in _json(RESULTS / "throughput-mobilenet_v2.json")["ratio_to_plain"]["edgetl"]]
    ),
    "small-unseen": lambda: _range([f"{value:.0f}" for value in _small("unseen")]),
    "small-nll": lambda: f"{statistics.mean(_small_nll()):.2f}",
    "small-nll-range": lambda: _range([f"{value:.2f}" for value in _small_nll()]),
    "small-accepted": lambda: _range([f"{value:.3f}" for value in _small("accepted")]),
    "small-rejected": lambda: _range([f"{value:.2f}" for value in _small("others_rejected")]),
    "small-int8": _small_int8,
    "near-within": _near("pairs", "within", 8),
    "near-across": _near("pairs", "across", 8),
    "near-across-of": _first(NEAR, "of", ",.0f", data="pets", what="across"),
    "near-across-10": _near("pairs", "across", 10),
    "near-compressed": _first(NEAR, "value", ".3f", what="JPEG of quality 30"),
    "near-shifted-2": _first(NEAR, "value", ".3f", what="shifted by 2%"),
    "near-shifted-5": _first(NEAR, "value", ".3f", what="shifted by 5%"),
    "near-groups": _near("split", "groups", 8),
    "near-held-back": _near("split", "photographs of val and test", 8),
    "promises-n": _first(RESULTS / "int8-promises.csv", "n"),
    "stability-runs": lambda: str(1 + int(_stability("comparisons")()) // 2),
    "stability-alarms": _stability("false_alarms"),
    "stability-comparisons": _stability("comparisons"),
    "stability-median": lambda: f"{statistics.median(_moved()):.1f}",
    "stability-max": lambda: f"{max(_moved()):.1f}",
    "interval-bootstrap-3": _interval("bootstrap", 3),
    "interval-bootstrap-10": _interval("bootstrap", 10),
    "interval-student-3": _interval("student", 3),
    "interval-student-10": _interval("student", 10),
    "camera-machine": lambda: _first(PRESENT, "machine", **STEADY)().split(";")[0],
    "camera-frames": _first(PRESENT, "frames_in", ",.0f", **STEADY),
    "camera-answered": _first(PRESENT, "answered", ",.0f", **STEADY),
    "camera-age-p50": _first(PRESENT, "age_p50_ms", ".1f", **STEADY),
    "camera-age-p95": _first(PRESENT, "age_p95_ms", ".1f", **STEADY),
    "camera-infer": _first(PRESENT, "infer_p50_ms", ".1f", **STEADY),
    "camera-cores": _first(PRESENT, "cores_used", ".2f", **STEADY),
    "camera-memory": _first(PRESENT, "memory_grown_mib", ".1f", **STEADY),
    "camera-slow-fps": _first(PRESENT, "fps", ".1f", **SLOWED),
    "camera-slow-p50": _first(PRESENT, "age_p50_ms", ".0f", **SLOWED),
    "camera-slow-p95": _first(PRESENT, "age_p95_ms", ".0f", **SLOWED),
    "camera-resumed": lambda: _range(_first(PRESENT, "resumed_after_s", what="pulled for 10 s, 3 times")().split()),
    "away-seconds": _first(AWAY, "seconds", ".0f"),
    "away-there": lambda: _range(
        [f"{float(row['age_p95_ms']):.0f}" for row in _rows(AWAY) if "there" in row["phase"]]
    ),
    "away-killed": _first(AWAY, "age_p95_ms", ".0f", phase="killed"),
    "away-frozen": _first(AWAY, "age_p95_ms", ".0f", phase="frozen"),
    "away-broker": lambda: _range([row["broker_knows_after_s"] for row in _back()]),
    "away-hook": lambda: _range([row["hook_knows_after_s"] for row in _back()]),
    "away-load": _first(AWAY, "load", ".0f"),
    "cuts-pets": _first(CUTS, "pets"),
    "cuts-right": _first(CUTS, "right_within_half_a_second", ".3f"),
    "cuts-others": _first(CUTS, "others"),
    "cuts-rejected": lambda: f"{float(_first(CUTS, 'others')()) * float(_first(CUTS, 'others_rejected')()):.0f}",
    "why-n": _first(WHY, "n", **GRAD_CAM),
    "why-grad-cam": _first(WHY, "animal", ".2f", **GRAD_CAM),
    "why-area": _first(WHY, "chance", ".2f", **GRAD_CAM),
    "why-occlusion": _first(WHY, "animal", ".2f", network="float32", method="occlusion"),
    "why-occlusion-int8": _first(WHY, "animal", ".2f", network="int8 on ort:cpu", method="occlusion"),
    "attack-dogs": _first(EXPLAIN / "attack.csv", "dogs", budget="1"),
    "attack-float-1": _first(EXPLAIN / "attack.csv", "float_to_target", ".2f", budget="1"),
    "attack-int8-1": _first(EXPLAIN / "attack.csv", "int8_to_target", ".2f", budget="1"),
    "attack-float-4": _first(EXPLAIN / "attack.csv", "float_to_target", ".2f", budget="4"),
    "attack-int8-4": _first(EXPLAIN / "attack.csv", "int8_to_target", ".2f", budget="4"),
    "serve-ort-two": _workers("ort:cpu", "edgetl", 2, 1, 1, "per_second"),
    "serve-ov-two": _workers("openvino:CPU", "edgetl", 2, 1, 1, "per_second"),
    "serve-ort-one": _workers("ort:cpu", "edgetl", 1, 1, 1, "per_second"),
    "serve-ov-one": _workers("openvino:CPU", "edgetl", 1, 1, 1, "per_second"),
    "serve-ort-shared": _workers("ort:cpu", "edgetl", 1, 2, 8, "of_ideal"),
    "serve-ov-shared": _workers("openvino:CPU", "edgetl", 1, 2, 8, "of_ideal"),
    "int8-mb": lambda: f"{_pets_file('int8', 'ort:cpu')['file_mb']:.1f}",
    "float-mb": lambda: f"{_pets_file('float32', 'ort:cpu')['file_mb']:.1f}",
}


def _table(head: str, rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]], *below: str) -> str:
    names = head.split(" | ")
    lines = [f"| {head} |", "|" + "---|" * len(names)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, *(part for line in below for part in ("", line))]) + "\n"


def pets() -> str:
    """The ready-made model, arm by arm, and the machine it was measured on."""
    bench = _json(PETS)
    arms = [arm for arm in bench["arms"] if arm["status"] == "ok"]
    p50 = {(arm["precision"], arm["device"]): arm["latency_ms"]["p50"] for arm in arms}

    def row(arm: dict[str, Any]) -> tuple[str, ...]:
        accuracy, latency = arm["accuracy"], arm["latency_ms"]["p50"]
        base = p50.get(("float32", arm["device"]))
        faster = f"{base / latency:.1f} times as fast" if arm["precision"] == "int8" and base else ""
        top1 = f"{accuracy['top1']:.3f}"
        return arm["artifact"], arm["device"], top1, f"{latency:.2f}", faster, f"{arm['file_mb']:.1f}"

    machine, versions = bench["environment"], bench["environment"]["versions"]
    packages = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino", "PyTorch": "torch"}
    software = ", ".join(f"{name} {versions[package]}" for name, package in packages.items())
    return _table(
        "file | device | top-1 | p50 ms | against float | MB",
        [row(arm) for arm in arms],
        f"The ready-made model on {arms[0]['accuracy']['n']} official test photographs of the pets, batch 1, "
        f"{arms[0]['threads']} threads; {machine['cpu']} with {machine['flags'][-2]}; {software}." + _noise(bench),
    )


def _noise(bench: dict[str, Any]) -> str:
    """What a reader must know of a benchmark that was disturbed; nothing of a quiet one."""
    doubts = [remark.removeprefix("noisy: ") for remark in bench["remarks"] if remark.startswith("noisy: ")]
    return f" The machine was not at rest: {'; '.join(doubts)}." if bench["noisy"] else ""


def networks() -> str:
    """The networks of `models/*.toml`, by size within a family, and what they reach on the pets."""
    pets = {
        "mobilenet_v2": (_tutorial("pets-probe", "test_top1"), _finetune("edgetl", "test_top1")),
        "mobilenet_v3_small": (_tutorial("pets-probe-v3-small", "test_top1"), _tricks("default", "test_top1")),
    }

    def row(name: str) -> tuple[str, ...]:
        known = tomllib.loads((ROOT / "models" / f"{name}.toml").read_text(encoding="utf-8"))["network"]
        reached = [figure() for figure in pets.get(name, ())] or ["not measured", ""]
        return (
            name,
            f"{known['parameters'] / 1e6:.1f} M",
            f"{known['macs'] / 1e6:,.0f} M",
            f"{known['size_mb']:.1f} MB",
            f"{known['imagenet_top1']:.3f}",
            *reached,
        )

    return _table(
        "network | parameters | multiply-adds | file | ImageNet top-1 (published) | pets, linear probe | "
        "pets, fine-tuned",
        [row(name) for name in NETWORKS],
    )


def peers() -> str:
    """Training and the camera's loop beside others."""
    trained = RESULTS / "finetune-pets-mobilenet_v2.csv"
    names = {"edgetl": "edgetl", "plain": "plain PyTorch loop, untuned rate", "fastai": "fastai, untuned rate"}

    def row(tool: str) -> tuple[str, ...]:
        rows = _where(trained, tool=tool)
        top1 = _range([f"{float(one['test_top1']):.3f}" for one in rows])
        seconds = _range([f"{float(one['wall_s']):.0f}" for one in rows])
        run = _range([one["epochs"] for one in rows]), str(len(rows))
        return names[tool], *run, top1, seconds, f"{_mean(rows, 'peak_rss_mb') / 1000:.1f}"

    machine = _rows(trained)[0]["machine"].replace("(R)", "").replace(" Processor", "")
    return _table(
        "MobileNetV2 on 37 breeds | epochs | seeds | test top-1 | seconds | peak GB",
        [row(tool) for tool in names],
        f"{machine}. More epochs and a tuned rate will make the peers better; edgetl's recipe was chosen with a "
        "look at this test split ([how](benchmarks/finetune/README.md)).",
    )


def camera_peers(link: bool = False) -> str:
    """The camera's loop beside others; README links to how."""
    names = {"edgetl": "edgetl", "plain": "the usual loop", "ultralytics": "Ultralytics"}

    def cells(loop: str, slowed: str) -> Iterator[str]:
        rows = _where(CAMERA / "peers.csv", loop=loop, slowed=slowed)
        yield _range([f"{float(row['age_p50_ms']):.0f}" for row in rows])
        yield _range([f"{float(row['age_p95_ms']):.0f}" for row in rows])

    def row(loop: str) -> tuple[str, ...]:
        cores = _mean(_where(CAMERA / "peers.csv", loop=loop, slowed="1"), "cores")
        return names[loop], *cells(loop, "1"), f"{cores:.2f}", *cells(loop, "10")

    machine = _rows(CAMERA / "peers.csv")[0]["machine"].split(";")[0]
    return _table(
        "30 frames a second | age of an answer, p50 ms | p95 | cores | network 10 times slower: p50 | p95",
        [row(loop) for loop in names],
        f"{machine}; two rounds" + (" ([how](benchmarks/camera/README.md))." if link else "."),
    )


def tricks() -> str:
    """Training tricks: means over seeds, and the error of the mean of their differences."""
    runs: dict[str, list[Row]] = defaultdict(list)
    for row in _rows(RESULTS / "tricks-pets-mobilenet_v3_small.csv"):
        runs[row["arm"]].append(row)

    def line(arm: str, rows: list[Row]) -> tuple[str, ...]:
        difference = ""
        if arm != "default":
            error = math.sqrt(sum(float(row["error_pp"]) ** 2 for row in rows)) / len(rows)
            difference = f"{_mean(rows, 'difference_pp'):+.1f} ± {error:.1f}"
        top1, loss, nll = (_mean(rows, column) for column in ("test_top1", "train_loss", "val_nll"))
        return arm, f"{top1:.3f}", difference, f"{loss:.2f}", f"{nll:.3f}"

    first = runs["default"][0]
    return _table(
        "option | test top-1 | difference, points | training loss | validation NLL",
        [line(arm, rows) for arm, rows in runs.items()],
        f"Seeds {', '.join(row['seed'] for row in runs['default'])}; {first['epochs']} epochs; the linear probe "
        f"has {_mean(runs['default'], 'probe_test_top1'):.3f}; {first['machine']}; {first['versions']}.",
    )


def finetune_peers() -> str:
    """Everything that compare.py measured, tool by tool."""
    rows = _rows(RESULTS / "finetune-pets-mobilenet_v2.csv")

    def line(tool: str) -> tuple[str, ...]:
        mine = [row for row in rows if row["tool"] == tool]
        listed = [
            ", ".join(f"{float(row[name]):.3f}" for row in mine) for name in ("test_top1", "test_per_class_top1")
        ]
        ranges = [_range([f"{float(row[name]):.0f}" for row in mine]) for name in ("wall_s", "cpu_s")]
        speed = _range([f"{float(row['train_images_per_s']):.1f}" for row in mine])
        return tool, ", ".join(row["seed"] for row in mine), mine[0]["epochs"], *listed, *ranges, speed

    return _table(
        "tool | seeds | epochs | test top-1 | per class | wall s | CPU s | photographs/s in training",
        [line(tool) for tool in dict.fromkeys(row["tool"] for row in rows)],
    )


RULES = {"gate": "divergence, judged once", "labels": "labels, as before"}
"""The rules of `benchmarks/int8/gate.py`."""


def int8_promises() -> str:
    """int8 on photographs that had no say in it, on one thread."""
    rows = _where(RESULTS / "int8-promises.csv", threads="1")
    return _table(
        "network | seed | device | recipe | top-1 lost, points | agreement | times as fast as float, one thread",
        [(*(row[name] for name in PROMISED), f"{float(row['agreement']):.3f}", row["speed_up"]) for row in rows],
        f"{rows[0]['cpu']}; ONNX Runtime {rows[0]['onnxruntime']}, OpenVINO {rows[0]['openvino']}.",
    )


def int8_gate() -> str:
    """What the gate of `export --int8` lets through, on photographs that it has not seen."""
    rows = _where(RESULTS / "int8-gate.csv", best_recipes_left_out="0")
    shown = ("let_through", "kept_share", "mean_drop_pp", "p95_drop_pp", "agreement")
    return _table(
        "run | chosen by | let through of 300 | share that loses 0.5 points at most | mean drop, points | "
        "95th percentile | agreement",
        [(row["run"], RULES[row["rule"]], *(row[name] for name in shown)) for row in rows],
        f"{rows[0]['judged_by']} photographs judge, {rows[0]['unseen']} are unseen, in six views each.",
    )


def fidelity() -> str:
    """`edgetl bench` beside other ways to measure."""
    return _table(
        "file | device | threads | measured by | edgetl, ms | other, ms | ratio",
        [tuple(row.values()) for row in _rows(RESULTS / "fidelity-mobilenet_v2.csv")],
    )


def aa() -> str:
    """What `benchmarks/timing/aa.py` found: pairs of whole runs of the same file."""
    if not (RESULTS / "aa.csv").exists():
        return "Not measured yet.\n"
    rows = _rows(RESULTS / "aa.csv")
    found = runpy.run_path(str(ROOT / "benchmarks" / "timing" / "aa.py"))["summary"](rows)
    return _table(" | ".join(found), [tuple(found.values())], f"{rows[0]['machine']}.")


def road(data: str = "pets") -> str:
    """What recipe, teacher, refit and mirror averaging give: means over seeds."""
    path = RESULTS / f"road-{data}.csv"
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in _rows(path):
        groups[row["model"], row["teachers"]].append(row)
    steps = ("probe", "fine-tuned", "refit", "mirror average")

    def line(model: str, teachers: str, rows: list[Row]) -> tuple[str, ...]:
        mine = {step: [row for row in rows if row["step"] == step] for step in steps}
        seeds = ", ".join(row["seed"] for row in mine["probe"])
        last = [step for step in steps if mine[step]][-1]
        per_class = f"{_mean(mine[last], 'per_class_top1'):.3f}"
        top1 = [f"{_mean(mine[step], 'top1'):.3f}" if mine[step] else "–" for step in steps]
        return model, teachers or "none", seeds, *top1, per_class

    first = _rows(path)[0]
    return _table(
        "network | teachers | seeds | linear probe | fine-tuned | refit | mirror average | per class",
        [line(model, teachers, rows) for (model, teachers), rows in groups.items()],
        f"Top-1, means over seeds; {first['machine']}; {first['versions']}.",
    )


def gpu() -> str:
    """Answers on each device of an NVIDIA GPU, beside ONNX Runtime on the CPU."""
    found = json.loads((ROOT / "benchmarks" / "gpu" / "results" / "paths.json").read_text(encoding="utf-8"))

    def line(row: dict[str, Any]) -> tuple[str, ...]:
        if row["status"] == "missing":
            return row["device"], row["file"], "not here", "–"
        return row["device"], row["file"], f"{row['agreement']:.4f}", f"{row['relative_difference']:.1e}"

    versions = found["doctor"]["doctor"]["environment"]["versions"]
    return _table(
        "device | file | same answer | logits differ by (relative)",
        [line(row) for row in found["answers"]["rows"][1:]],
        f"{found['answers']['photographs']} test photographs of the pets; {found['train-bf16']['device']}; "
        + " ".join(f"{name} {version}" for name, version in versions.items() if version)
        + ".",
    )


def attack() -> str:
    """Dogs made Persians."""
    return _table(
        "largest change of a value | dogs | Persians in float | Persians in int8",
        [
            (f"{row['budget']} of 255", row["dogs"], row["float_to_target"], row["int8_to_target"])
            for row in _rows(EXPLAIN / "attack.csv")
        ],
    )


NETWORKS = ("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "resnet18", "resnet50", "vgg16", "vgg19")
PROMISED = ("network", "seed", "device", "recipe", "drop_pp")


def adopted() -> str:
    """Published networks on breeds that ImageNet has."""
    rows = _rows(ADOPT / "breeds.csv")
    return _table(
        "network | file | device | top-1 [95 %] | of the same name",
        [
            (
                row["network"],
                row["precision"],
                row["device"],
                f"{float(row['top1']):.3f} [{float(row['top1_low']):.3f}, {float(row['top1_high']):.3f}]",
                f"{float(row['named_top1']):.3f}",
            )
            for row in rows
        ],
        f"{rows[0]['n']} test photographs of {rows[0]['breeds_n']} breeds, {rows[0]['named_n']} of them of the 21 "
        f"that ImageNet has by the same name; {rows[0]['cpu']}.",
    )


def ideal() -> str:
    """The least probability of ideal pictures of published networks, for each kind of view."""
    rows = _rows(EXPLAIN / "ideal.csv")
    kinds = list(dict.fromkeys(row["view"] for row in rows))
    pictures = dict.fromkeys((row["network"], row["class"]) for row in rows)
    least = {(row["network"], row["class"], row["view"]): row["least"] for row in rows}
    return _table(
        " | ".join(["network", "class", *kinds]),
        [(*one, *(f"{float(least[(*one, kind)]):.3f}" for kind in kinds)) for one in pictures],
        f"The least probability over {max(int(row['n']) for row in rows)} views, of {rows[0]['classes']} classes.",
    )


def teach() -> str:
    """Networks that were taught three takes of each of five things."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in _rows(TEACH / "teach.csv"):
        found[row["things"], row["weights"]].append(row)

    def shown(rows: list[Row], column: str) -> str:
        values = [float(row[column]) for row in rows]
        return f"{statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"

    names = {"distinct": "unlike each other", "alike": "like each other"}
    columns = ("fourth_take", "told_by_take", "claimed_by_frame", "other_things_refused", "other_breeds_refused")
    return _table(
        "five breeds | features | rounds | a fourth take | told | claimed by frames | other things | other breeds",
        [
            (names[things], weights, str(len(rows)), *(shown(rows, column) for column in columns))
            for (things, weights), rows in sorted(found.items(), reverse=True)
        ],
        "Means, and the least and most of the rounds.",
    )


def litert() -> str:
    def line(row: Row) -> tuple[str, ...]:
        alike = f"{row['same_label']} of {row['photographs']}"
        faster = (
            "" if float(row["times_as_fast_as_float"]) == 1 else f"{float(row['times_as_fast_as_float']):.1f} times"
        )
        return row["network"], row["file"], alike, row["relative_difference"], row["litert_mb"], faster

    rows = list(_rows(RESULTS / "litert-parity.csv"))
    return _table(
        "network | file | same class as the ONNX file on ONNX Runtime | logits differ by | MB | as fast as float",
        map(line, rows),
        f"Processor time on one thread of {rows[0]['cpu']}, files in turns.",
    )


def browser() -> str:
    """What the page answers, beside `edgetl predict`."""
    rows = _rows(BROWSER / "summary.csv")
    n = rows[0]["photographs"]

    def line(row: Row) -> tuple[str, ...]:
        speed = float(row["times_as_fast_as_float"])
        return (
            row["precision"],
            row["threads"],
            f"{row['same_as_ort:cpu']} of {row['photographs']}",
            f"{row['same_as_openvino:CPU']} of {row['photographs']}",
            f"{float(row['probability_apart_ort:cpu']):.4f}",
            "" if row["precision"] == "float32" else f"{speed:.2f} times as fast",
        )

    seen = _rows(BROWSER / "camera.csv")
    same = sum(row["same_as_predict"] == "True" for row in seen)
    apart = max(int(row["pixels_apart"]) for row in rows)
    return _table(
        "file | threads | as predict on ort:cpu | on openvino:CPU | probability differs by at most | against float",
        [line(row) for row in rows],
        f"The ready-made network on {n} test photographs of the pets; pixels differ by at most {apart} of 255.",
        f"While the browser's camera showed {len(seen)} of them, the page named {same} as `predict` does. "
        "Files took turns, beside other work: only the ratio of their times means something. "
        f"{rows[0]['browser']}, {rows[0]['runtime']}; {rows[0]['cpu']}.",
    )


TABLES: dict[str, Callable[[], str]] = {
    "litert": litert,
    "pets": pets,
    "networks": networks,
    "peers": peers,
    "camera-peers-readme": lambda: camera_peers(link=True),
    "camera-peers": camera_peers,
    "tricks": tricks,
    "finetune-peers": finetune_peers,
    "int8-promises": int8_promises,
    "int8-gate": int8_gate,
    "fidelity": fidelity,
    "aa": aa,
    "road": road,
    "road-cats": partial(road, "cats-vs-dogs"),
    "gpu": gpu,
    "attack": attack,
    "adopted": adopted,
    "browser": browser,
    "ideal": ideal,
    "teach": teach,
}


if __name__ == "__main__":
    for page in documents():
        page.write_text(fresh(page.read_text(encoding="utf-8")), encoding="utf-8")
