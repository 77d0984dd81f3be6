"""Tables of the documents by their names, each from results files."""

from __future__ import annotations

import runpy
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from figures.results import (
    ADOPT,
    BROWSER,
    CAMERA,
    EXPLAIN,
    PETS,
    RESULTS,
    ROOT,
    TEACH,
    Row,
    json_of,
    mean,
    rows_of,
    span,
    table,
    where,
)
from figures.training import finetune_peers, networks, peers, road, teach, tricks


def pets() -> str:
    """The ready-made model, arm by arm, and the machine it was measured on."""
    bench = json_of(PETS)
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
    return table(
        "file | device | top-1 | p50 ms | against float | MB",
        [row(arm) for arm in arms],
        f"The ready-made model on {arms[0]['accuracy']['n']} official test photographs of the pets, batch 1, "
        f"{arms[0]['threads']} threads; {machine['cpu']} with {machine['flags'][-2]}; {software}." + _noise(bench),
    )


def _noise(bench: dict[str, Any]) -> str:
    """What a reader must know of a benchmark that was disturbed; nothing of a quiet one."""
    doubts = [remark.removeprefix("noisy: ") for remark in bench["remarks"] if remark.startswith("noisy: ")]
    return f" The machine was not at rest: {'; '.join(doubts)}." if bench["noisy"] else ""


def camera_peers(link: bool = False) -> str:
    """The camera's loop beside others; README links to how."""
    names = {"edgetl": "edgetl", "plain": "the usual loop", "ultralytics": "Ultralytics"}

    def cells(loop: str, slowed: str) -> Iterator[str]:
        rows = where(CAMERA / "peers.csv", loop=loop, slowed=slowed)
        yield span([f"{float(row['age_p50_ms']):.0f}" for row in rows])
        yield span([f"{float(row['age_p95_ms']):.0f}" for row in rows])

    def row(loop: str) -> tuple[str, ...]:
        cores = mean(where(CAMERA / "peers.csv", loop=loop, slowed="1"), "cores")
        return names[loop], *cells(loop, "1"), f"{cores:.2f}", *cells(loop, "10")

    machine = rows_of(CAMERA / "peers.csv")[0]["machine"].split(";")[0]
    return table(
        "30 frames a second | age of an answer, p50 ms | p95 | cores | network 10 times slower: p50 | p95",
        [row(loop) for loop in names],
        f"{machine}; two rounds" + (" ([how](benchmarks/camera/README.md))." if link else "."),
    )


RULES = {"gate": "divergence, judged once", "labels": "labels, as before"}
"""The rules of `benchmarks/int8/gate.py`."""


def int8_promises() -> str:
    """int8 on photographs that had no say in it, on one thread."""
    rows = where(RESULTS / "int8-promises.csv", threads="1")
    return table(
        "network | seed | file | device | recipe | top-1 lost, points | agreement | "
        "times as fast as float, one thread",
        [(*(row[name] for name in PROMISED), f"{float(row['agreement']):.3f}", row["speed_up"]) for row in rows],
        f"{rows[0]['cpu']}; ONNX Runtime {rows[0]['onnxruntime']}, OpenVINO {rows[0]['openvino']}.",
    )


def int8_ways() -> str:
    """float32, bfloat16 and int8 in every way of running them, on one thread."""
    rows = where(RESULTS / "int8-ways.csv", threads="1")
    return table(
        "network | file | way | ms | times as fast as float32 | at least",
        [
            (
                *(row[name] for name in ("network", "file", "device")),
                *(f"{float(row['p50_ms']):.2f}", row["times_float32"], row["least"]),
            )
            for row in rows
        ],
        f"One thread; {rows[0]['cpu']}; ONNX Runtime {rows[0]['onnxruntime']}, OpenVINO {rows[0]['openvino']}. "
        "mobilenet_v3_large had random weights and an epoch of drawn pictures: it is there for its speed.",
    )


def int8_recipes() -> str:
    """Every recipe of `benchmarks/int8/compare.py`, on both runtimes, on one thread."""
    rows = rows_of(ROOT / "benchmarks" / "int8" / "results" / "mobilenet_v2-pets.csv")
    floats = {row["device"]: float(row["p50_ms"]) for row in rows if row["recipe"] == "float32"}
    by_recipe: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_recipe[row["recipe"]].append(row)

    def line(recipe: str) -> Iterator[str]:
        yield recipe
        for row in by_recipe[recipe]:
            yield row["top1"]
            yield f"{float(row['agreement']):.3f}"
            yield f"{floats[row['device']] / float(row['p50_ms']):.2f}"
        yield f"{float(by_recipe[recipe][0]['file_mb']):.2f}"

    columns = " | ".join(f"{device}: top-1 | agreement | times as fast" for device in floats)
    return table(
        f"recipe | {columns} | MB",
        [tuple(line(recipe)) for recipe in by_recipe],
        f"{rows[0]['n']} test photographs of the pets, MobileNetV2, one thread of {rows[0]['cpu']}; "
        f"ONNX Runtime {rows[0]['onnxruntime']}, OpenVINO {rows[0]['openvino']}.",
    )


def int8_rounding() -> str:
    """What it gives to round the weights of a layer together, on validation photographs."""
    rows = rows_of(RESULTS / "int8-rounding.csv")
    dampings = list(dict.fromkeys(row["damping"] for row in rows))
    by_file: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        by_file[row["network"], row["seed"], row["recipe"], row["device"]].append(row)
    columns = " | ".join(f"damped by {float(damping):g}" if damping else "each alone" for damping in dampings)
    return table(
        f"network | seed | recipe | device | {columns}",
        [(*name, *(row["divergence"] for row in found)) for name, found in by_file.items()],
        f"Mean divergence from float, nats; {rows[0]['n']} validation photographs, also mirrored.",
    )


def int8_training() -> str:
    """What training gives integers that are far from the float network, on validation photographs."""
    rows = rows_of(RESULTS / "int8-training.csv")

    def line(row: Row) -> tuple[str, ...]:
        mixed = {"": "not trained", "1.0": "one at a time"}.get(row["mixed"], "two at once")
        return row["device"], mixed, row["rate"], row["epochs"], row["seconds"], row["divergence"], row["agreement"]

    return table(
        "device | photographs | rate | epochs | seconds | divergence, nats | agreement",
        map(line, rows),
        f"{rows[0]['network']}, seed {rows[0]['seed']}, {rows[0]['n']} validation photographs, also mirrored.",
    )


def int8_gate() -> str:
    """What the gate of `export --int8` lets through, on photographs that it has not seen."""
    rows = where(RESULTS / "int8-gate.csv", best_recipes_left_out="0")
    shown = ("let_through", "kept_share", "mean_drop_pp", "p95_drop_pp", "agreement")
    return table(
        "run | chosen by | let through of 300 | share that loses 0.5 points at most | mean drop, points | "
        "95th percentile | agreement",
        [(row["run"], RULES[row["rule"]], *(row[name] for name in shown)) for row in rows],
        f"{rows[0]['judged_by']} photographs judge, {rows[0]['unseen']} are unseen, in six views each.",
    )


def fidelity() -> str:
    """`edgetl bench` beside other ways to measure."""
    return table(
        "file | device | threads | measured by | edgetl, ms | other, ms | ratio",
        [tuple(row.values()) for row in rows_of(RESULTS / "fidelity-mobilenet_v2.csv")],
    )


def aa() -> str:
    """What `benchmarks/timing/aa.py` found: pairs of whole runs of the same file."""
    if not (RESULTS / "aa.csv").exists():
        return "Not measured yet.\n"
    rows = rows_of(RESULTS / "aa.csv")
    found = runpy.run_path(str(ROOT / "benchmarks" / "timing" / "aa.py"))["summary"](rows)
    return table(" | ".join(found), [tuple(found.values())], f"{rows[0]['machine']}.")


def gpu() -> str:
    """Answers on each device of an NVIDIA GPU, beside ONNX Runtime on the CPU."""
    found = json_of(ROOT / "benchmarks" / "gpu" / "results" / "paths.json")

    def line(row: dict[str, Any]) -> tuple[str, ...]:
        if row["status"] == "missing":
            return row["device"], row["file"], "not here", "–"
        return row["device"], row["file"], f"{row['agreement']:.4f}", f"{row['relative_difference']:.1e}"

    versions = found["doctor"]["doctor"]["environment"]["versions"]
    return table(
        "device | file | same answer | logits differ by (relative)",
        [line(row) for row in found["answers"]["rows"][1:]],
        f"{found['answers']['photographs']} test photographs of the pets; {found['train-bf16']['device']}; "
        + " ".join(f"{name} {version}" for name, version in versions.items() if version)
        + ".",
    )


def attack() -> str:
    """Dogs made Persians."""
    return table(
        "largest change of a value | dogs | Persians in float | Persians in int8",
        [
            (f"{row['budget']} of 255", row["dogs"], row["float_to_target"], row["int8_to_target"])
            for row in rows_of(EXPLAIN / "attack.csv")
        ],
    )


PROMISED = ("network", "seed", "file", "device", "recipe", "drop_pp")


def adopted() -> str:
    """Published networks on breeds that ImageNet has."""
    rows = rows_of(ADOPT / "breeds.csv")
    return table(
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
    rows = rows_of(EXPLAIN / "ideal.csv")
    kinds = list(dict.fromkeys(row["view"] for row in rows))
    pictures = dict.fromkeys((row["network"], row["class"]) for row in rows)
    least = {(row["network"], row["class"], row["view"]): row["least"] for row in rows}
    return table(
        " | ".join(["network", "class", *kinds]),
        [(*one, *(f"{float(least[(*one, kind)]):.3f}" for kind in kinds)) for one in pictures],
        f"The least probability over {max(int(row['n']) for row in rows)} views, of {rows[0]['classes']} classes.",
    )


def litert() -> str:
    def line(row: Row) -> tuple[str, ...]:
        alike = f"{row['same_label']} of {row['photographs']}"
        faster = (
            "" if float(row["times_as_fast_as_float"]) == 1 else f"{float(row['times_as_fast_as_float']):.1f} times"
        )
        return row["network"], row["file"], alike, row["relative_difference"], row["litert_mb"], faster

    rows = list(rows_of(RESULTS / "litert-parity.csv"))
    return table(
        "network | file | same class as the ONNX file on ONNX Runtime | logits differ by | MB | as fast as float",
        map(line, rows),
        f"Processor time on one thread of {rows[0]['cpu']}, files in turns.",
    )


def browser() -> str:
    """What the page answers, beside `edgetl predict`."""
    rows = rows_of(BROWSER / "summary.csv")
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

    seen = rows_of(BROWSER / "camera.csv")
    same = sum(row["same_as_predict"] == "True" for row in seen)
    apart = max(int(row["pixels_apart"]) for row in rows)
    return table(
        "file | threads | as predict on ort:cpu | on openvino:CPU | probability differs by at most | against float",
        [line(row) for row in rows],
        f"The ready-made network on {n} test photographs of the pets; pixels differ by at most {apart} of 255.",
        f"While the browser's camera showed {len(seen)} of them, the page named {same} as `predict` does. "
        "Files took turns, beside other work: only the ratio of their times means something. "
        f"{rows[0]['browser']}, {rows[0]['runtime']}; {rows[0]['cpu']}.",
    )


def devices() -> str:
    """How many photographs each two devices name alike, by files of the same precision."""
    rows = rows_of(BROWSER / "agreement.csv")
    precisions = list(dict.fromkeys(row["precision"] for row in rows if row["precision"] != "int8-weights"))
    pairs = list(dict.fromkeys((row["one"], row["other"]) for row in rows))
    alike = {
        (row["precision"], row["one"], row["other"]): f"{row['alike']} of {row['photographs']}" for row in rows
    }
    return table(
        f"devices | {' | '.join(precisions)}",
        [(f"{one}, {other}", *(alike.get((kind, one, other), "") for kind in precisions)) for one, other in pairs],
        '"Not sure" is an answer, too. The ready-made network on test photographs of the pets; ncnn takes no int8.',
    )


def suspects() -> str:
    """Wrong names that were planted among the pets, and how many of them are listed."""
    rows = rows_of(TEACH / "suspects.csv")

    def line(row: Row) -> tuple[str, ...]:
        some = int(row["planted"]) > 0
        return (
            f"{float(row['planted_share']):.0%}",
            row["planted"],
            row["found"],
            f"{row['planted_found']} of {row['planted']}" if some else "",
            f"{row['of_the_first_as_many']} of {row['planted']}" if some else "",
        )

    return table(
        "planted | wrong names | listed | of the wrong ones | among as many listed first",
        map(line, rows),
        f"{rows[0]['photographs']} photographs of the pets; a linear probe on {rows[0]['model']}.",
    )


def learning() -> str:
    """What naming frames of a clip gives on another clip: of unsure ones, and of any."""
    path = TEACH / "learning.csv"
    rows = rows_of(path)
    kinds = {"uncertain": "unsure frames", "regular": "frames at regular times"}
    rounds = len(where(path, asked="0"))

    def cell(arm: str, asked: str) -> str:
        found = where(path, arm=arm, asked=asked)
        return f"{mean(found, 'top1_other_clip'):.3f}" if len(found) == rounds else ""

    start = f"{mean(where(path, asked='0'), 'top1_other_clip'):.3f}"
    asked = sorted({row["asked"] for row in rows if row["arm"]}, key=int)
    return table(
        f"named, or all that were collected | {' | '.join(kinds.values())}",
        [("0", start, start), *((one, *(cell(arm, one) for arm in kinds)) for one in asked)],
        f"Means of {rounds} rounds. {rows[0]['breeds']} breeds, {rows[0]['first_each']} photographs of each to "
        f"begin with; {rows[0]['judged_frames']} frames of another clip. {rows[0]['model']}, a linear probe.",
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
    "int8-ways": int8_ways,
    "int8-gate": int8_gate,
    "int8-rounding": int8_rounding,
    "int8-training": int8_training,
    "int8-recipes": int8_recipes,
    "fidelity": fidelity,
    "aa": aa,
    "road": road,
    "road-cats": partial(road, "cats-vs-dogs"),
    "gpu": gpu,
    "attack": attack,
    "adopted": adopted,
    "browser": browser,
    "devices": devices,
    "suspects": suspects,
    "learning": learning,
    "ideal": ideal,
    "teach": teach,
}
